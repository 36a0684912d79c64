"""Stores the results of a case after its decision: findings in the evidence, verdicts of shadow policies in the store.

The decision itself is recorded before, by `service.cases.reconciler`.
"""

from __future__ import annotations

import asyncio

import structlog
from distributed.client import FutureCancelledError

from graphs.case import CaseFutures, result_of
from graphs.findings import Findings
from graphs.records import CaseSpec
from service.errors import ForgottenError
from service.evidence.evidence import Evidence
from service.store.shadows import ShadowStore

log = structlog.get_logger()

_RESULT_TIMEOUT_S = 120.0
"""Longest wait for one result."""


class ResultArchive:
    """Stores findings and shadow verdicts. Storing the same result again changes nothing."""

    def __init__(self, evidence: Evidence, shadows: ShadowStore) -> None:
        self._evidence = evidence
        self._shadows = shadows

    async def store(self, spec: CaseSpec, futures: CaseFutures) -> None:
        """Wait for each result, up to two minutes, and store it. A result that cannot be stored is logged."""
        await self._store_findings(spec, futures)
        await self._store_shadows(spec, futures)

    async def _store_findings(self, spec: CaseSpec, futures: CaseFutures) -> None:
        for step, future in futures.findings.items():
            try:
                async with asyncio.timeout(_RESULT_TIMEOUT_S):
                    found = await result_of(future)
                if not isinstance(found, Findings):
                    continue  # the media was broken: there are no findings
                attempt = spec.attempts[step]
                await self._evidence.store_findings(spec.case_id, step, attempt, found.arrays, found.attributes)
            except FutureCancelledError:
                continue  # a retake came first; its findings replace these
            except ForgottenError:
                continue  # the case was redacted in the meantime
            except Exception as error:
                log.error("findings_not_kept", case_id=spec.case_id, step=step, error=type(error).__name__)

    async def _store_shadows(self, spec: CaseSpec, futures: CaseFutures) -> None:
        for name, future in futures.shadows.items():
            try:
                async with asyncio.timeout(_RESULT_TIMEOUT_S):
                    verdict = await result_of(future)
                await self._shadows.add(spec, verdict)
            except FutureCancelledError:
                continue  # a retake came first; its verdict is stored instead
            except Exception as error:
                log.error("shadow_not_kept", case_id=spec.case_id, shadow=name, error=type(error).__name__)
