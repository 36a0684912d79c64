"""Brings what the store says about open cases and what the clusters do about them together.

`reconcile` is the one operation: it reads a case, submits its graph if the attempts changed, delivers the uploads that
the cluster waits for, and watches for results. It is run after each upload, after a lost connection, after a lost
worker, and for the cases of an API process that died; repeating it is harmless because keys are deterministic and
transitions apply once. The cluster holds open cases itself, so nothing is kept here of one that waits for its uploads.
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
from service.cases.progress import CheckProgress
from service.cases.results import ResultKeeper
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
_LONGEST_RETRY_S = 5.0
_LOST_LOOK_S = 0.5
_SUBMISSIONS = 4


class CaseReconciler:
    """The cases that this process, `replica`, works on. places: uploads on their way through one cell at once."""

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
        self.cells = Cells(addresses, timeout_s, self._up, self._down, tls)
        self._store = store
        self._evidence = evidence
        self._keeper = ResultKeeper(evidence, shadows)
        self._replica = replica
        self._tracked: dict[str, TrackedCase] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._due: set[str] = set()
        self._cancellations: Counter[str] = Counter()
        self._background: set[asyncio.Task[None]] = set()
        self._checks = CheckProgress(store)
        self._admission = {name: Admission(places) for name in addresses}

    async def start(self) -> None:
        """Connect to the cells; begin to look after lost uploads and to store check events."""
        self._spawn(self._look_for_lost())
        self._spawn(self._checks.tell())
        await self.cells.start()

    async def close(self) -> None:
        """Stop everything here. The clusters hold open cases; another process, or this one's next start, goes on."""
        for run in self._tracked.values():
            run.stop()
        tasks = [*self._background, *(task for run in self._tracked.values() for task in run.tasks)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tracked.clear()
        await self.cells.close()

    @property
    def working_on(self) -> list[str]:
        """The ids of the cases that something is kept of here."""
        return list(self._tracked)

    # --- what others tell ---

    async def open(self, case: Case) -> None:
        """Submit the graph of a new case. Raises ClusterError; nothing is left behind then."""
        await self.cells.graphs(case.cell).submit(case.spec)

    def changed(self, case_id: str, *, last: bool = False) -> None:
        """The store has something new about the case: bring the cluster up to it, in the background. last: somebody
        waits for the decision now.
        """
        if last:
            for admission in self._admission.values():
                admission.hurry(case_id)
        if case_id not in self._due:  # one that has not looked yet will see this as well
            self._due.add(case_id)
            self._spawn(self._reconcile_until_done(case_id))

    def drop(self, case_id: str) -> None:
        """Another process looks after the case now: keep nothing of it here. Its cluster goes on holding it."""
        run = self._tracked.pop(case_id, None)
        self._locks.pop(case_id, None)
        self._cancellations.pop(case_id, None)
        for admission in self._admission.values():
            admission.calm(case_id)
        if run is not None:
            self._leave(run)
            run.release()

    async def forget(self, case: Case) -> None:
        """Keep nothing of a redacted case here or on its cluster, whoever wants it. Raises ClusterError."""
        self.drop(case.id)
        self._checks.taken(case.id)
        if case.cell in self.cells.links:
            await self.cells.graphs(case.cell).forget(case.id)

    async def finish(self, case: Case) -> None:
        """Keep the findings of a closed case and let its graph go. Raises ClusterError."""
        graphs = self.cells.graphs(case.cell)
        if case.recorded is not None:
            futures = graphs.results(case.spec)
            await self._keeper.keep(case.spec, futures)
            futures.release()
        await graphs.let_go(case.id)

    async def _up(self, cell: str, client: Client) -> None:
        """A new connection: submit the cases that this cluster does not hold, and listen for checks."""
        client.subscribe_topic(CHECK_TOPIC, self._heard)
        client.subscribe_topic(TASK_TOPIC, self._timed)
        self._spawn(self._resume(cell))

    def _down(self, cell: str) -> None:
        """The connection is gone, and all futures with it."""
        for case_id, run in list(self._tracked.items()):
            if run.cell == cell:
                run.stop()
                self._leave(run)
                del self._tracked[case_id]

    async def _resume(self, cell: str) -> None:
        """One after the other: ten thousand open cases must not keep the loop from those that are being decided."""
        try:
            held = await self.cells.graphs(cell).held()
            cases = await self._store.looked_after(self._replica, cell)
            wanted = [case for case in cases if case.uploaded or case.id not in held]
            for case in wanted:
                await self._reconcile_until_done(case.id)
            if wanted:
                log.info("cases_resumed", cell=cell, count=len(wanted))
        except (ClusterError, ServiceError) as error:
            log.warning("cases_not_resumed", cell=cell, error=type(error).__name__)
            self.cells.suspect(cell)

    # --- bringing together ---

    async def _reconcile_until_done(self, case_id: str) -> None:
        wait, cell = _RETRY_S, ""
        while True:
            try:
                async with self._locks.setdefault(case_id, asyncio.Lock()):
                    self._due.discard(case_id)
                    case = await self._store.get(case_id)
                    cell = case.cell
                    await self._reconcile(case)
                return
            except (UnknownCaseError, ForgottenError):
                await self.cells.let_go(case_id)  # its creation failed but may have reached a cluster; or it was erased
                return
            except (ClusterError, ServiceError, OSError, FutureCancelledError) as error:
                if cell and cell not in self.cells.up:
                    return  # without a connection there is nothing to do: `_resume` comes here again
                log.warning("case_not_delivered", case_id=case_id, error=type(error).__name__, detail=str(error))
                self.cells.suspect(cell)
                self._due.add(case_id)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_RETRY_S)

    async def _reconcile(self, case: Case) -> None:
        graphs = self.cells.graphs(case.cell)
        if not case.is_open:
            self.drop(case.id)
            await graphs.let_go(case.id)
            return
        run = self._tracked.get(case.id)
        if run is None or run.spec.attempts != case.attempts:
            await graphs.submit(case.spec, case.uploaded)
            if not case.uploaded:
                return  # nothing can come of it before its first upload
            run = self._begin(case, run)
        elif case.uploaded - run.uploaded:
            await graphs.keep(case.spec, case.uploaded)
        run.uploaded = case.uploaded
        await self._deliver(case, run)
        for step in case.uploaded:
            self._watch(run, f"quality_{step}", self._quality(run, step))
        if len(case.uploaded) == len(case.steps):
            self._watch(run, "verdict", self._verdict(run))

    def _begin(self, case: Case, old: TrackedCase | None) -> TrackedCase:
        run = TrackedCase(case.spec, case.cell, self.cells.graphs(case.cell).results(case.spec))
        self._tracked[case.id] = run
        if old is not None:  # the graph of a retake: what both share is not run again, because it is still held
            run.times = dict(old.times)
            run.delivered = {step for step in old.delivered if old.spec.attempts[step] == case.attempts[step]}
            for step in old.spec.attempts:
                if step not in run.delivered:
                    self._admission[old.cell].leave(old.key(step))
            old.release()
        return run

    async def _deliver(self, case: Case, run: TrackedCase) -> None:
        """Hand over the uploads that the cluster waits for, each when it has a place."""
        graphs = self.cells.graphs(case.cell)
        waiting = await graphs.waiting([run.key(step) for step in case.uploaded])
        run.delivered |= {step for step in case.uploaded if run.key(step) not in waiting}
        newest = {upload.step: upload for upload in await self._store.uploads(case.id)} if waiting else {}
        for step, upload in newest.items():
            if run.key(step) not in waiting:
                continue
            await self._admission[run.cell].enter(run.key(step), case.id, upload.received_at)
            media = await self._evidence.read(upload.evidence_key)
            await graphs.deliver(case.id, step, upload.attempt, media)
            run.delivered.add(step)

    def _leave(self, run: TrackedCase) -> None:
        for step in run.spec.attempts:
            self._admission[run.cell].leave(run.key(step))

    def _watch(self, run: TrackedCase, name: str, watcher: Coroutine[Any, Any, None]) -> None:
        if name in run.watched:
            watcher.close()
            return
        run.watched.add(name)
        task = asyncio.create_task(watcher)
        run.tasks.add(task)
        task.add_done_callback(run.tasks.discard)

    # --- results ---

    async def _quality(self, run: TrackedCase, step: Step) -> None:
        case_id = run.spec.case_id
        try:
            result: CheckResult = await result_of(run.futures.quality[step])
        except FutureCancelledError:
            return  # the verdict's watcher sees the same and submits again
        except Exception as error:
            log.error("quality_failed", case_id=case_id, step=step, error=type(error).__name__)
            return
        finally:
            self._admission[run.cell].leave(run.key(step))
        attempt = run.spec.attempts[step]
        await self._stored(
            case_id,
            lambda: self._store.change(
                case_id, lambda case: judge_quality(case, step, attempt, result, datetime.now(UTC))
            ),
        )

    async def _verdict(self, run: TrackedCase) -> None:
        case_id = run.spec.case_id
        try:
            verdict: Verdict = await result_of(run.futures.verdict)
        except FutureCancelledError:
            await self._submit_again(run)
            return
        except Exception as error:
            log.error("verdict_failed", case_id=case_id, error=type(error).__name__)
            verdict = without_result(get_profile(run.spec.profile).policy.version)
        await self._decide(run, verdict)

    async def _submit_again(self, run: TrackedCase) -> None:
        """The cluster dropped the graph though the connection stands (or it does not, and `_resume` will do this)."""
        case_id = run.spec.case_id
        if run.cell not in self.cells.up or self._tracked.get(case_id) is not run:
            return
        self._cancellations[case_id] += 1
        log.warning("graph_cancelled", case_id=case_id, times=self._cancellations[case_id])
        if self._cancellations[case_id] >= _SUBMISSIONS:
            await self._decide(run, without_result(get_profile(run.spec.profile).policy.version))
            return
        await asyncio.sleep(_RETRY_S)
        if self._tracked.get(case_id) is run:
            del self._tracked[case_id]
            self._leave(run)
            run.release()
            self.changed(case_id)

    async def _decide(self, run: TrackedCase, verdict: Verdict) -> None:
        case_id = run.spec.case_id
        mine = self._checks.taken(case_id)
        attempts = dict(run.spec.attempts)
        change = await self._stored(
            case_id,
            lambda: self._store.change(
                case_id, lambda case: decide(case, attempts, verdict, datetime.now(UTC)), before=mine
            ),
        )
        if change is not None:
            log.info("decided", case_id=case_id, outcome=verdict.decision.outcome, status=change.case.status)
            self._telemetry.decided(change.case, run.times.values())
        self._spawn(self._after(run))

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

    async def _after(self, run: TrackedCase) -> None:
        """When nobody waits any more: keep the findings and what shadows came to, then, unless a retake was asked for,
        let the graph go.
        """
        await self._keeper.keep(run.spec, run.futures)
        case_id = run.spec.case_id
        case = await self._store.get(case_id)
        if not case.is_open and self._tracked.get(case_id) is run:
            self.changed(case_id)

    # --- beside the cases ---

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        told = dict(event[1])
        told["worker"] = told.pop(ON, "")
        if told.get("case_id", "") in self._tracked:
            self._checks.heard(told)
            times = (told["started_at"], told["duration_ms"], told["worker"])
            self._telemetry.ran(TaskTime(told["check"], *times, told["result"]))

    def _timed(self, event: tuple[float, dict[str, Any]]) -> None:
        told = dict(event[1])
        told["worker"] = told.pop(ON, "")
        run = self._tracked.get(told.pop("case_id", ""))
        if run is not None:
            run.times[told["node"]] = task = TaskTime(**told)
            self._telemetry.ran(task)

    async def _look_for_lost(self) -> None:
        """An upload that died with its worker is waited for again, and delivered again from the evidence."""
        while True:
            await asyncio.sleep(_LOST_LOOK_S)
            for cell in self.cells.up:
                keys = {
                    run.key(step): case_id
                    for case_id, run in self._tracked.items()
                    if run.cell == cell
                    for step in run.delivered
                }
                try:
                    lost = await self.cells.graphs(cell).waiting(keys) if keys else set()
                except ClusterError:
                    self.cells.suspect(cell)
                    continue
                for key in lost:
                    log.warning("upload_lost", case_id=keys[key])
                    self.changed(keys[key])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background_failed", exc_info=error)
