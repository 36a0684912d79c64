"""Redaction: erases all personal data of a case from the store, the evidence and the memory of the clusters.

The store comes first: one transaction erases the data key, and from then on no sealed data of the case can be opened.
The evidence and the cluster follow. If they are unavailable, the sweep tries again until the case has `erased_at`. The
sweep also redacts cases whose profile's retention period has passed.

What exactly is erased from the tables is in `service.store.erasure`.
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
"""Cases per run of the sweep: with a large backlog a run must not take minutes."""


class Redaction:
    """Redacts cases, on request or when their retention period has passed."""

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
            name: timedelta(days=profile.retention_days) for name, profile in profiles.items() if profile.retention_days
        }

    async def redact(self, case_id: str, by: str) -> Case:
        """Erase the personal data of a case. Can be repeated. by: the actor, for the audit log.

        Returns the case: with `erased_at` if everything is erased, without it if the sweep has to continue. Raises
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
                erased_at = await self._erasures.mark_erased(case.id, now)
        except (ServiceError, ClusterError) as error:
            log.warning("redaction_unfinished", case_id=case.id, error=type(error).__name__)
            return case
        if erased_at == now:  # else the sweep or another request finished the same case first
            self._metrics.erased.inc()
            log.info("case_erased", case_id=case.id)
        return replace(case, erased_at=erased_at)

    async def sweep(self, now: datetime) -> None:
        """Continue unfinished redactions, and redact cases past their retention. Raises StoreUnavailableError."""
        for case in await self._erasures.unfinished(_AT_ONCE):
            await self._finish(case)
        ended_before = {name: now - retention for name, retention in self._retention.items()}
        for case_id in await self._erasures.past_retention(ended_before, _AT_ONCE):
            try:
                await self.redact(case_id, SERVICE)
            except (UnknownCaseError, CaseOpenError, ConflictError):
                continue  # another process redacted or changed it first
