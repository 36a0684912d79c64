"""What is kept of a case when nobody waits any more: its findings, and what the shadows of its profile came to."""

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

_LONGEST_S = 120.0


class ResultKeeper:
    """Keeps findings in the evidence and shadows' verdicts in the case store, each once however often it is asked."""

    def __init__(self, evidence: Evidence, shadows: ShadowStore) -> None:
        self._evidence = evidence
        self._shadows = shadows

    async def keep(self, spec: CaseSpec, futures: CaseFutures) -> None:
        """Wait for what is not there yet, two minutes for each, and keep it. What cannot be kept is logged."""
        await self._keep_findings(spec, futures)
        await self._keep_shadows(spec, futures)

    async def _keep_findings(self, spec: CaseSpec, futures: CaseFutures) -> None:
        for step, future in futures.findings.items():
            try:
                async with asyncio.timeout(_LONGEST_S):
                    found = await result_of(future)
                if not isinstance(found, Findings):
                    continue  # the media was broken: there is nothing to keep but the media itself
                attempt = spec.attempts[step]
                await self._evidence.keep_findings(spec.case_id, step, attempt, found.arrays, found.attributes)
            except FutureCancelledError:
                continue  # a retake came first, and its findings take the place of these
            except ForgottenError:
                continue  # the case was redacted meanwhile
            except Exception as error:
                log.error("findings_not_kept", case_id=spec.case_id, step=step, error=type(error).__name__)

    async def _keep_shadows(self, spec: CaseSpec, futures: CaseFutures) -> None:
        for name, future in futures.shadows.items():
            try:
                async with asyncio.timeout(_LONGEST_S):
                    verdict = await result_of(future)
                await self._shadows.add(spec, verdict)
            except FutureCancelledError:
                continue  # a retake came first, and is compared in its turn
            except Exception as error:
                log.error("shadow_not_kept", case_id=spec.case_id, shadow=name, error=type(error).__name__)
