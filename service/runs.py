"""Brings what the store says about open cases and what the cluster does about them together.

`reconcile` is the one operation: it reads a case, submits its graph if the attempts changed, delivers the uploads that
the cluster does not have, and watches for results. It is run after each upload, after a lost connection, after a lost
worker and at start; repeating it is harmless because keys are deterministic and transitions apply once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from distributed import Client, Future
from distributed.client import FutureCancelledError

from graphs.case import CaseFutures
from graphs.findings import Findings
from graphs.profile import profile
from graphs.records import CaseSpec, CheckResult, Step, Verdict
from graphs.run import CHECK_TOPIC
from service.errors import ServiceError, UnknownCaseError
from service.evidence import Evidence
from service.findings import write_step
from service.lifecycle import Case, Change, Event, decide, judge_quality, without_result
from service.link import ClusterLink
from service.store import Store
from workers.errors import ClusterError

log = structlog.get_logger()

_RETRY_S = 0.5
_LONGEST_RETRY_S = 5.0
_LOST_LOOK_S = 0.5
_SUBMISSIONS = 4
_FINDINGS_S = 120.0
_TELL_S = 0.1
_DELIVERIES = 4
"""Uploads that are read and handed over at once: each is a few megabytes of this process's memory."""


@dataclass
class _Run:
    """An open case on the cluster. held: the scattered uploads, kept alive until they have been used; kept: what came
    of them, for the case that another step must be taken again.
    """

    spec: CaseSpec
    futures: CaseFutures
    held: dict[Step, Future[Any]] = field(default_factory=dict)
    kept: dict[Step, tuple[Future[Any], ...]] = field(default_factory=dict)
    watched: set[str] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def stop(self) -> None:
        for task in self.tasks - {asyncio.current_task()}:
            task.cancel()

    def release(self) -> None:
        self.stop()
        self.futures.release()
        for future in (*self.held.values(), *(future for kept in self.kept.values() for future in kept)):
            future.release()


class CaseRuns:
    """All open cases of this process on one cluster. `link` is set before `start`."""

    link: ClusterLink

    def __init__(self, store: Store, evidence: Evidence) -> None:
        self._store = store
        self._evidence = evidence
        self._runs: dict[str, _Run] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._cancellations: Counter[str] = Counter()
        self._background: set[asyncio.Task[None]] = set()
        self._told: list[tuple[str, Event]] = []
        self._deliveries = asyncio.Semaphore(_DELIVERIES)

    def start(self) -> None:
        """Begin to look after lost uploads and to store check events."""
        self._spawn(self._look_for_lost())
        self._spawn(self._tell_checks())

    async def close(self) -> None:
        """Stop everything here. Open cases are submitted again at the next start."""
        for run in self._runs.values():
            run.stop()
        tasks = [*self._background, *(task for run in self._runs.values() for task in run.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._runs.clear()

    # --- what others tell ---

    async def open(self, case: Case) -> None:
        """Submit the graph of a new case. Raises ClusterError; nothing is left behind then."""
        futures = await self.link.graphs.submit(case.spec)
        self._runs[case.id] = _Run(case.spec, futures)

    def changed(self, case_id: str) -> None:
        """The store has something new about the case: bring the cluster up to it, in the background."""
        self._spawn(self._reconcile_until_done(case_id))

    async def up(self, client: Client) -> None:
        """A new connection: submit all open cases again, deliver their uploads again, and listen for checks."""
        client.subscribe_topic(CHECK_TOPIC, self._heard)
        cases = await self._store.open_cases()
        for case in cases:
            self.changed(case.id)
        if cases:
            log.info("cases_resumed", count=len(cases))

    def down(self) -> None:
        """The connection is gone, and all futures with it."""
        for run in self._runs.values():
            run.stop()
        self._runs.clear()

    # --- bringing together ---

    async def _reconcile_until_done(self, case_id: str) -> None:
        wait = _RETRY_S
        while self.link.is_up:
            try:
                async with self._locks.setdefault(case_id, asyncio.Lock()):
                    await self._reconcile(case_id)
                return
            except UnknownCaseError:
                return
            except (ClusterError, ServiceError, OSError, FutureCancelledError) as error:
                log.warning("case_not_delivered", case_id=case_id, error=type(error).__name__, detail=str(error))
                self.link.suspect()
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_RETRY_S)
        # Without a connection there is nothing to do: `up` comes here again for every open case.

    async def _reconcile(self, case_id: str) -> None:
        case = await self._store.get(case_id)
        run = self._runs.get(case_id)
        if not case.is_open:
            self._forget(case_id)
            return
        if run is None:
            run = self._runs[case_id] = _Run(case.spec, await self.link.graphs.submit(case.spec))
        elif run.spec.attempts != case.attempts:
            run = await self._resubmit(case, run)
        newest = {upload.step: upload for upload in await self._store.uploads(case_id)}
        for step, upload in newest.items():
            future = run.held.get(step)
            if future is None or future.status == "lost":
                async with self._deliveries:
                    media = await self._evidence.read(upload.evidence_key)
                    run.kept[step] = self.link.graphs.keep(run.spec, step)
                    run.held[step] = await self.link.graphs.deliver(case_id, step, upload.attempt, media)
            self._watch(run, f"quality_{step}", self._quality(case_id, run, step))
        if all(state.attempts for state in case.steps.values()):
            self._watch(run, "verdict", self._verdict(case_id, run))

    async def _resubmit(self, case: Case, old: _Run) -> _Run:
        """Submit the graph of a retake before the old one is let go, so that what both share is not run again."""
        run = _Run(case.spec, await self.link.graphs.submit(case.spec))
        for step in [step for step in old.held if old.spec.attempts[step] == case.attempts[step]]:
            run.held[step], run.kept[step] = old.held.pop(step), old.kept.pop(step, ())
        self._runs[case.id] = run
        old.release()
        return run

    def _watch(self, run: _Run, name: str, watcher: Coroutine[Any, Any, None]) -> None:
        if name in run.watched:
            watcher.close()
            return
        run.watched.add(name)
        task = asyncio.create_task(watcher)
        run.tasks.add(task)
        task.add_done_callback(run.tasks.discard)

    def _forget(self, case_id: str) -> None:
        run = self._runs.pop(case_id, None)
        self._locks.pop(case_id, None)
        self._cancellations.pop(case_id, None)
        if run is not None:
            run.release()

    # --- results ---

    async def _quality(self, case_id: str, run: _Run, step: Step) -> None:
        try:
            result: CheckResult = await run.futures.quality[step]
        except FutureCancelledError:
            return  # the verdict's watcher sees the same and submits again
        except Exception as error:
            log.error("quality_failed", case_id=case_id, step=step, error=type(error).__name__)
            return
        attempt = run.spec.attempts[step]
        await self._stored(
            case_id,
            lambda: self._store.change(
                case_id, lambda case: judge_quality(case, step, attempt, result, datetime.now(UTC))
            ),
        )

    async def _verdict(self, case_id: str, run: _Run) -> None:
        try:
            verdict: Verdict = await run.futures.verdict
        except FutureCancelledError:
            await self._submit_again(case_id, run)
            return
        except Exception as error:
            log.error("verdict_failed", case_id=case_id, error=type(error).__name__)
            verdict = without_result(profile(run.spec.profile).policy.version)
        await self._decide(case_id, run, verdict)

    async def _submit_again(self, case_id: str, run: _Run) -> None:
        """The cluster dropped the graph though the connection stands (or it does not, and `up` will do this)."""
        if not self.link.is_up or self._runs.get(case_id) is not run:
            return
        self._cancellations[case_id] += 1
        log.warning("graph_cancelled", case_id=case_id, times=self._cancellations[case_id])
        if self._cancellations[case_id] >= _SUBMISSIONS:
            await self._decide(case_id, run, without_result(profile(run.spec.profile).policy.version))
            return
        await asyncio.sleep(_RETRY_S)
        if self._runs.get(case_id) is run:
            del self._runs[case_id]
            run.release()
            self.changed(case_id)

    async def _decide(self, case_id: str, run: _Run, verdict: Verdict) -> None:
        mine = [event for told, event in self._told if told == case_id]
        self._told = [pair for pair in self._told if pair[0] != case_id]
        attempts = dict(run.spec.attempts)
        change = await self._stored(
            case_id,
            lambda: self._store.change(
                case_id, lambda case: decide(case, attempts, verdict, datetime.now(UTC)), before=mine
            ),
        )
        if change is not None:
            log.info("decided", case_id=case_id, outcome=verdict.decision.outcome, status=change.case.status)
        self._spawn(self._keep_findings(case_id, run))

    async def _stored(self, case_id: str, write: Callable[[], Awaitable[Change | None]]) -> Change | None:
        """Write to the store, again and again while it is away: a decision must not be lost to a full disk."""
        while True:
            try:
                return await write()
            except UnknownCaseError:
                return None
            except ServiceError as error:
                log.error("result_not_stored", case_id=case_id, error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _keep_findings(self, case_id: str, run: _Run) -> None:
        """Fetch what is kept of the case and write it, when nobody waits any more; then let the graph go."""
        for step, future in run.futures.findings.items():
            try:
                async with asyncio.timeout(_FINDINGS_S):
                    found = await future
                if not isinstance(found, Findings):
                    continue  # the media was broken: there is nothing to keep but the media itself
                arguments = (self._evidence.root, case_id, step, run.spec.attempts[step])
                await asyncio.to_thread(write_step, *arguments, found.arrays, found.attributes)
            except FutureCancelledError:
                continue  # a retake came first, and its findings take the place of these
            except Exception as error:
                log.error("findings_not_kept", case_id=case_id, step=step, error=type(error).__name__)
        case = await self._store.get(case_id)
        if not case.is_open and self._runs.get(case_id) is run:
            self._forget(case_id)

    # --- beside the cases ---

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        _, data = event
        case_id = data.get("case_id", "")
        if case_id in self._runs:
            self._told.append((case_id, Event("check", {k: v for k, v in data.items() if k != "case_id"})))

    async def _tell_checks(self) -> None:
        """Store check events a few times a second, many in one transaction: each commit waits for the disk."""
        while True:
            await asyncio.sleep(_TELL_S)
            events, self._told = self._told, []
            if events:
                with contextlib.suppress(ServiceError):  # best effort: the decision holds all checks again
                    await self._store.tell(events, datetime.now(UTC))

    async def _look_for_lost(self) -> None:
        """An upload that died with its worker is delivered again from the evidence."""
        while True:
            await asyncio.sleep(_LOST_LOOK_S)
            for case_id, run in list(self._runs.items()):
                if any(future.status == "lost" for future in run.held.values()):
                    log.warning("upload_lost", case_id=case_id)
                    self.changed(case_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background_failed", exc_info=error)
