"""Keeps the clusters in step with the open cases in the store, and records their results.

There is one operation, `_reconcile`: read a case, submit its graph if the attempts changed, deliver the uploads that
the cluster waits for, and watch for results. It runs after each upload, after a lost connection or worker, and for the
cases of an API process that died. Repeating it is harmless, because keys are deterministic and transitions apply once.
The clusters hold the open cases, so a case without uploads needs no memory in this process.

Which process owns a case is decided in `service.cases.takeover`; what a result changes, in
`service.lifecycle.transitions`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from distributed import Client
from distributed.client import FutureCancelledError

from graphs.case import result_of
from graphs.profile import get_profile
from graphs.records import CheckResult, Step, TaskTime, Verdict
from graphs.run import CHECK_TOPIC, ON, TASK_TOPIC
from service.cases.admission import Admission
from service.cases.background import BackgroundTasks
from service.cases.progress import CheckProgress
from service.cases.results import ResultArchive
from service.cases.tracked_case import TrackedCase
from service.cluster.cells import Cells
from service.errors import ForgottenError, ServiceError, UnknownCaseError
from service.evidence.evidence import Evidence
from service.lifecycle.case import Case, Change
from service.lifecycle.transitions import decide, judge_quality, without_result
from service.observability.telemetry import Telemetry
from service.store.cases import CaseStore
from service.store.shadows import ShadowStore
from workers.errors import ClusterError
from workers.transport import TlsFiles

log = structlog.get_logger()

_RETRY_S = 0.5
_MAX_RETRY_S = 5.0
_LOST_POLL_S = 0.5
_SUBMISSIONS = 4
"""How often the graph of a case is submitted before the case is decided without a result."""


class CaseReconciler:
    """The cases that this API process works on.

    replica: its id. places: uploads in progress per cell at the same time.
    """

    def __init__(
        self,
        store: CaseStore,
        evidence: Evidence,
        shadows: ShadowStore,
        replica: str,
        addresses: Mapping[str, str],
        timeout_s: float,
        places: int,
        tls: TlsFiles | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or Telemetry()
        self.cells = Cells(addresses, timeout_s, self._on_connected, self._on_disconnected, tls)
        self._store = store
        self._evidence = evidence
        self._archive = ResultArchive(evidence, shadows)
        self._replica = replica
        self._tracked: dict[str, TrackedCase] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._queued: set[str] = set()
        self._cancellations: Counter[str] = Counter()
        self._background = BackgroundTasks()
        self._checks = CheckProgress(store)
        self._admission = {name: Admission(places) for name in addresses}

    async def start(self) -> None:
        """Connect to the cells, and start to redeliver lost uploads and to store check events."""
        self._background.run(self._redeliver_lost())
        self._background.run(self._checks.publish_forever())
        await self.cells.start()

    async def close(self) -> None:
        """Stop all work here. The clusters hold the open cases; another process, or the next start, continues them."""
        for tracked in self._tracked.values():
            tracked.stop()
        tasks = [*self._background.tasks, *(task for tracked in self._tracked.values() for task in tracked.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tracked.clear()
        await self.cells.close()

    @property
    def tracked_case_ids(self) -> list[str]:
        """The ids of the cases that this process works on."""
        return list(self._tracked)

    # --- called by other parts ---

    async def open(self, case: Case) -> None:
        """Submit the graph of a new case. Raises ClusterError; then the cluster holds nothing of the case."""
        await self.cells.graphs(case.cell).submit(case.spec)

    def changed(self, case_id: str, *, last: bool = False) -> None:
        """Reconcile a case in the background, because it changed in the store.

        last: it has all its uploads, so its client waits for the decision.
        """
        if last:
            for admission in self._admission.values():
                admission.prioritize(case_id)
        if case_id not in self._queued:  # one that is queued already will read this change too
            self._queued.add(case_id)
            self._background.run(self._reconcile_until_done(case_id))

    def untrack(self, case_id: str) -> None:
        """Stop work on a case and forget its state, without touching its cluster. Another process owns it, or it is
        closed.
        """
        tracked = self._tracked.pop(case_id, None)
        self._locks.pop(case_id, None)
        self._cancellations.pop(case_id, None)
        for admission in self._admission.values():
            admission.deprioritize(case_id)
        if tracked is not None:
            self._free_places(tracked)
            tracked.release()

    async def forget(self, case: Case) -> None:
        """Remove a redacted case from this process and from its cluster. Raises ClusterError."""
        self.untrack(case.id)
        self._checks.take(case.id)
        if case.cell in self.cells.links:
            await self.cells.graphs(case.cell).forget(case.id)

    async def finish(self, case: Case) -> None:
        """Store the findings of a closed case and release its graph. Raises ClusterError."""
        graphs = self.cells.graphs(case.cell)
        if case.recorded is not None:
            futures = graphs.results(case.spec)
            await self._archive.store(case.spec, futures)
            futures.release()
        await graphs.let_go(case.id)

    async def _on_connected(self, cell: str, client: Client) -> None:
        """After each connection: subscribe to checks and task times, and resume this process's cases on that cell."""
        client.subscribe_topic(CHECK_TOPIC, self._on_check_event)
        client.subscribe_topic(TASK_TOPIC, self._on_task_event)
        self._background.run(self._resume(cell))

    def _on_disconnected(self, cell: str) -> None:
        """After a lost connection: stop all work on the cases of that cell. Their futures are lost."""
        for case_id, tracked in list(self._tracked.items()):
            if tracked.cell == cell:
                tracked.stop()
                self._free_places(tracked)
                del self._tracked[case_id]

    async def _resume(self, cell: str) -> None:
        """Reconcile this process's open cases of a cell: those with uploads, and those that the cell does not hold.

        One after the other: ten thousand open cases must not delay those that are being decided.
        """
        try:
            on_cell = await self.cells.graphs(cell).held()
            cases = await self._store.replicas.owned_by(self._replica, cell)
            to_resume = [case for case in cases if case.uploaded or case.id not in on_cell]
            for case in to_resume:
                await self._reconcile_until_done(case.id)
            if to_resume:
                log.info("cases_resumed", cell=cell, count=len(to_resume))
        except (ClusterError, ServiceError) as error:
            log.warning("cases_not_resumed", cell=cell, error=type(error).__name__)
            self.cells.check_now(cell)

    # --- reconciliation ---

    async def _reconcile_until_done(self, case_id: str) -> None:
        delay, cell = _RETRY_S, ""
        while True:
            try:
                async with self._locks.setdefault(case_id, asyncio.Lock()):
                    self._queued.discard(case_id)
                    case = await self._store.get(case_id)
                    cell = case.cell
                    await self._reconcile(case)
                return
            except (UnknownCaseError, ForgottenError):
                # Its creation failed but may have reached a cluster, or it was redacted.
                await self.cells.release(case_id)
                return
            except (ClusterError, ServiceError, OSError, FutureCancelledError) as error:
                if cell and cell not in self.cells.up:
                    return  # not connected: `_resume` reconciles it after the next connection
                log.warning("case_not_delivered", case_id=case_id, error=type(error).__name__, detail=str(error))
                self.cells.check_now(cell)
                self._queued.add(case_id)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _MAX_RETRY_S)

    async def _reconcile(self, case: Case) -> None:
        graphs = self.cells.graphs(case.cell)
        if not case.is_open:
            self.untrack(case.id)
            await graphs.let_go(case.id)
            return
        tracked = self._tracked.get(case.id)
        if tracked is None or tracked.spec.attempts != case.attempts:
            await graphs.submit(case.spec, case.uploaded)
            if not case.uploaded:
                return  # without an upload there can be no result
            tracked = self._track(case, tracked)
        elif case.uploaded - tracked.uploaded:
            await graphs.keep(case.spec, case.uploaded)
        tracked.uploaded = case.uploaded
        await self._deliver(case, tracked)
        for step in case.uploaded:
            self._start_watcher(tracked, f"quality_{step}", self._watch_quality(tracked, step))
        if len(case.uploaded) == len(case.steps):
            self._start_watcher(tracked, "verdict", self._watch_verdict(tracked))

    def _track(self, case: Case, old: TrackedCase | None) -> TrackedCase:
        tracked = TrackedCase(case.spec, case.cell, self.cells.graphs(case.cell).results(case.spec))
        self._tracked[case.id] = tracked
        if old is not None:
            # A retake. Tasks in both graphs do not run again, because the old results are held until here.
            tracked.times = dict(old.times)
            tracked.delivered = {step for step in old.delivered if old.spec.attempts[step] == case.attempts[step]}
            for step in old.spec.attempts:
                if step not in tracked.delivered:
                    self._admission[old.cell].leave(old.key(step))
            old.release()
        return tracked

    async def _deliver(self, case: Case, tracked: TrackedCase) -> None:
        """Deliver the uploads that the cluster waits for, each as soon as it has a place."""
        graphs = self.cells.graphs(case.cell)
        waiting = await graphs.waiting([tracked.key(step) for step in case.uploaded])
        tracked.delivered |= {step for step in case.uploaded if tracked.key(step) not in waiting}
        newest = {upload.step: upload for upload in await self._store.uploads(case.id)} if waiting else {}
        for step, upload in newest.items():
            if tracked.key(step) not in waiting:
                continue
            await self._admission[tracked.cell].enter(tracked.key(step), case.id, upload.received_at)
            media = await self._evidence.read(upload.evidence_key)
            await graphs.deliver(case.id, step, upload.attempt, media)
            tracked.delivered.add(step)

    def _free_places(self, tracked: TrackedCase) -> None:
        for step in tracked.spec.attempts:
            self._admission[tracked.cell].leave(tracked.key(step))

    def _start_watcher(self, tracked: TrackedCase, name: str, watcher: Coroutine[Any, Any, None]) -> None:
        if name in tracked.watched:
            watcher.close()
            return
        tracked.watched.add(name)
        task = asyncio.create_task(watcher)
        tracked.tasks.add(task)
        task.add_done_callback(tracked.tasks.discard)

    # --- results ---

    async def _watch_quality(self, tracked: TrackedCase, step: Step) -> None:
        case_id = tracked.spec.case_id
        try:
            result: CheckResult = await result_of(tracked.futures.quality[step])
        except FutureCancelledError:
            return  # `_watch_verdict` gets the same error and submits the graph again
        except Exception as error:
            log.error("quality_failed", case_id=case_id, step=step, error=type(error).__name__)
            return
        finally:
            self._admission[tracked.cell].leave(tracked.key(step))
        attempt = tracked.spec.attempts[step]
        await self._store_with_retry(
            case_id,
            lambda: self._store.change(
                case_id, lambda case: judge_quality(case, step, attempt, result, datetime.now(UTC))
            ),
        )

    async def _watch_verdict(self, tracked: TrackedCase) -> None:
        case_id = tracked.spec.case_id
        try:
            verdict: Verdict = await result_of(tracked.futures.verdict)
        except FutureCancelledError:
            await self._resubmit(tracked)
            return
        except Exception as error:
            log.error("verdict_failed", case_id=case_id, error=type(error).__name__)
            verdict = without_result(get_profile(tracked.spec.profile).policy.version)
        await self._decide(tracked, verdict)

    async def _resubmit(self, tracked: TrackedCase) -> None:
        """Submit a graph again that the cluster dropped. Does nothing without a connection: then `_resume` does it."""
        case_id = tracked.spec.case_id
        if tracked.cell not in self.cells.up or self._tracked.get(case_id) is not tracked:
            return
        self._cancellations[case_id] += 1
        log.warning("graph_cancelled", case_id=case_id, times=self._cancellations[case_id])
        if self._cancellations[case_id] >= _SUBMISSIONS:
            await self._decide(tracked, without_result(get_profile(tracked.spec.profile).policy.version))
            return
        await asyncio.sleep(_RETRY_S)
        if self._tracked.get(case_id) is tracked:
            del self._tracked[case_id]
            self._free_places(tracked)
            tracked.release()
            self.changed(case_id)

    async def _decide(self, tracked: TrackedCase, verdict: Verdict) -> None:
        case_id = tracked.spec.case_id
        checks = self._checks.take(case_id)
        attempts = dict(tracked.spec.attempts)
        change = await self._store_with_retry(
            case_id,
            lambda: self._store.change(
                case_id, lambda case: decide(case, attempts, verdict, datetime.now(UTC)), before=checks
            ),
        )
        if change is not None:
            log.info("decided", case_id=case_id, outcome=verdict.decision.outcome, status=change.case.status)
            self._telemetry.decided(change.case, tracked.times.values())
        self._background.run(self._archive_and_release(tracked))

    async def _store_with_retry(self, case_id: str, write: Callable[[], Awaitable[Change | None]]) -> Change | None:
        """Write to the store, and retry while it is unavailable: a decision must not be lost because a disk is full."""
        while True:
            try:
                return await write()
            except UnknownCaseError:
                return None
            except ServiceError as error:
                log.error("result_not_stored", case_id=case_id, error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _archive_and_release(self, tracked: TrackedCase) -> None:
        """After the decision: store findings and shadow verdicts. Release the graph unless a retake was requested."""
        await self._archive.store(tracked.spec, tracked.futures)
        case_id = tracked.spec.case_id
        case = await self._store.get(case_id)
        if not case.is_open and self._tracked.get(case_id) is tracked:
            self.changed(case_id)

    # --- events of the clusters, lost uploads ---

    def _on_check_event(self, event: tuple[float, dict[str, Any]]) -> None:
        data = dict(event[1])
        data["worker"] = data.pop(ON, "")
        if data.get("case_id", "") in self._tracked:
            self._checks.add(data)
            times = (data["started_at"], data["duration_ms"], data["worker"])
            self._telemetry.ran(TaskTime(data["check"], *times, data["result"]))

    def _on_task_event(self, event: tuple[float, dict[str, Any]]) -> None:
        data = dict(event[1])
        data["worker"] = data.pop(ON, "")
        tracked = self._tracked.get(data.pop("case_id", ""))
        if tracked is not None:
            tracked.times[data["node"]] = task = TaskTime(**data)
            self._telemetry.ran(task)

    async def _redeliver_lost(self) -> None:
        """Run until cancelled: reconcile cases whose upload was lost with a worker, so that it is delivered again."""
        while True:
            await asyncio.sleep(_LOST_POLL_S)
            for cell in self.cells.up:
                keys = {
                    tracked.key(step): case_id
                    for case_id, tracked in self._tracked.items()
                    if tracked.cell == cell
                    for step in tracked.delivered
                }
                try:
                    lost = await self.cells.graphs(cell).waiting(keys) if keys else set()
                except ClusterError:
                    self.cells.check_now(cell)
                    continue
                for key in lost:
                    log.warning("upload_lost", case_id=keys[key])
                    self.changed(keys[key])
