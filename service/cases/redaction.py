"""Redaction: everything that speaks of a person goes, from the store, the evidence, and the clusters' memory.

The store goes first, in one transaction that erases the data key: from then on nothing sealed can be opened. What is
left elsewhere goes next; where that fails (a scheduler or a bucket that is away), the sweep goes on with it until the
case says `erased_at`. The same is done, unasked, with cases whose profile's retention is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from graphs.profile import Profile
from service.cases.reconciler import CaseReconciler
from service.errors import CaseOpenError, ConflictError, ServiceError, UnknownCaseError
from service.evidence.evidence import Evidence
from service.lifecycle.case import Case
from service.observability import tracing
from service.observability.metrics import Metrics
from service.store.audit import SERVICE
from service.store.erasure import Erasures
from workers.errors import ClusterError

log = structlog.get_logger()

_AT_ONCE = 100
"""Cases in one turn of the sweep: a backlog of retention must not keep a turn for minutes."""


class Redaction:
    """Erases cases, at a customer's wish or when their time is over."""

    def __init__(
        self,
        erasures: Erasures,
        evidence: Evidence,
        reconciler: CaseReconciler,
        profiles: Mapping[str, Profile],
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._erasures = erasures
        self._evidence = evidence
        self._reconciler = reconciler
        self._retention = {
            name: timedelta(days=held.retention_days) for name, held in profiles.items() if held.retention_days
        }

    async def redact(self, case_id: str, by: str) -> Case:
        """Erase what speaks of the person of a case; harmless when repeated. by: who asked for it.

        Gives the case with `erased_at` when nothing is left, without it when the sweep must go on. Raises
        UnknownCaseError, CaseOpenError, ConflictError, StoreUnavailableError.
        """
        case = await self._erasures.redact(case_id, datetime.now(UTC), by)
        log.info("case_redacted", case_id=case.id)
        return case if case.erased_at is not None else await self._finish(case)

    async def _finish(self, case: Case) -> Case:
        try:
            with tracing.span("erase", veridask__case_id=case.id):
                await self._reconciler.forget(case)
                await self._evidence.erase(case.id)
                now = datetime.now(UTC)
                erased_at = await self._erasures.erased(case.id, now)
        except (ServiceError, ClusterError) as error:
            log.warning("redaction_unfinished", case_id=case.id, error=type(error).__name__)
            return case
        if erased_at == now:  # else the sweep, or a request, was faster with the same case
            self._metrics.erased.inc()
            log.info("case_erased", case_id=case.id)
        return replace(case, erased_at=erased_at)

    async def sweep(self, now: datetime) -> None:
        """Go on with unfinished redactions, and redact cases whose retention is over. Raises StoreUnavailableError."""
        for case in await self._erasures.unfinished(_AT_ONCE):
            await self._finish(case)
        ended_before = {name: now - kept for name, kept in self._retention.items()}
        for case_id in await self._erasures.past_retention(ended_before, _AT_ONCE):
            try:
                await self.redact(case_id, SERVICE)
            except (UnknownCaseError, CaseOpenError, ConflictError):
                continue  # another process was faster
