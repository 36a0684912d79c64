"""The graph of a case on the cluster: task keys, submission, retakes, delivery of uploads.

The whole graph is submitted when the case is created, and waits for its uploads (`workers.uploads` explains how). A
task's key names the node, the case, and the attempts of the steps that the node depends on. So submitting a case again
runs nothing twice, and a retake runs only what depends on the new attempt:

    pages_front-case_01-front1    match-case_01-front1.face2    verdict-case_01-front1.back1.face2
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import List, Task, TaskRef
from distributed import Client, Future

from graphs import sandbox
from graphs.combine import combine
from graphs.decision import decide
from graphs.findings import Findings
from graphs.flow import nodes_for, reusable_nodes, steps_of
from graphs.nodes import Node
from graphs.profile import get_profile, is_sandbox
from graphs.records import CaseSpec, CheckResult, Failed, Step, Verdict
from graphs.run import run_node
from graphs.shadow import ShadowVerdict, shadow_key, shadow_tasks
from workers.cluster import labels
from workers.errors import ClusterError
from workers.placement import CPU, LOW_PRIORITY, RETRIES, UPLOAD_RESOURCE
from workers.uploads import RetainedGraphs, missing_upload

T = TypeVar("T")


def verdict(results: list[CheckResult], spec: CaseSpec) -> Verdict:
    """The last task of the graph: combine the results of all checks, then decide."""
    if is_sandbox(spec.profile):
        sandbox.require_verdict(spec)
    policy = get_profile(spec.profile).policy
    tree = combine(results, policy)
    return Verdict(decide(tree, policy, spec.attempts), tree)


async def result_of(future: Future[T]) -> T:
    """The result of a future. Raises what its task raised, or FutureCancelledError if the cluster released it.

    Cancelling the caller does not cancel the transfer of the result. In `distributed` (2026.8, `Client._gather`) all
    callers that ask at the same moment share one transfer. If that is cancelled before it has begun, it is never
    replaced, and every later result of this client is cancelled as well.
    """
    await future.exception()  # wait until there is something to transfer; being cancelled here is harmless
    transfer = asyncio.ensure_future(future)
    transfer.add_done_callback(_retrieve_exception)
    return await asyncio.shield(transfer)


def _retrieve_exception(transfer: asyncio.Future[Any]) -> None:
    """Read the exception of a transfer that nobody may wait for any more; asyncio would log it as never retrieved."""
    if not transfer.cancelled():
        transfer.exception()


def upload_key(case_id: str, step: Step, attempt: int) -> str:
    """The key that the media of an upload is scattered under."""
    return f"upload-{case_id}-{step}{attempt}"


def node_key(name: str, spec: CaseSpec) -> str:
    """The key of a node. It changes exactly when a step that the node depends on gets a new attempt."""
    if name.startswith("upload_"):
        step: Any = name.removeprefix("upload_")
        return upload_key(spec.case_id, step, spec.attempts[step])
    needed = set(spec.attempts) if name == "verdict" else steps_of(name)
    return f"{name}-{spec.case_id}-" + ".".join(f"{s}{n}" for s, n in spec.attempts.items() if s in needed)


def build(spec: CaseSpec) -> HighLevelGraph:
    """The graph of a case. It has one layer for each kind of placement, because Dask annotates whole layers.

    Every task carries the same `spec` and looks up its thresholds on the worker. An open case has 34 tasks on the
    scheduler; passing each its own constants made them twice as large.
    """
    profile = get_profile(spec.profile)
    nodes = nodes_for(profile)
    layers: dict[str, dict[str, Task]] = {"uploads": {}, "CPU": {}, "GPU": {}, "low_priority": {}}
    for step in spec.attempts:
        key = node_key(f"upload_{step}", spec)
        layers["uploads"][key] = Task(key, missing_upload)
    for node in nodes.values():
        key = node_key(node.name, spec)
        layers["low_priority" if node.placement.low_priority else node.placement.label][key] = _task(key, node, spec)
    key = node_key("verdict", spec)
    checks = List(*[TaskRef(node_key(node.name, spec)) for node in nodes.values() if node.placement.is_check])
    layers["CPU"][key] = Task(key, verdict, checks, spec)
    annotations: dict[str, dict[str, Any]] = {
        "uploads": {"resources": {UPLOAD_RESOURCE: 1}},
        "CPU": {"resources": {CPU: 1}, "retries": RETRIES},
        "GPU": {"resources": {"GPU": 1}, "retries": RETRIES},
        "low_priority": {"resources": {CPU: 1}, "retries": RETRIES, "priority": LOW_PRIORITY},
    }
    for label, tasks in shadow_tasks(spec, lambda name: node_key(name, spec)).items():
        layers[f"{label} in shadow"] = tasks
        annotations[f"{label} in shadow"] = {**annotations[label], "priority": LOW_PRIORITY}
    filled = {name: MaterializedLayer(tasks, annotations[name]) for name, tasks in layers.items() if tasks}
    return HighLevelGraph(filled, {name: set() for name in filled})  # dask connects tasks by key, not by layer


def _task(key: str, node: Node, spec: CaseSpec) -> Task:
    inputs: dict[str, Any] = {parameter: TaskRef(node_key(source, spec)) for parameter, source in node.inputs.items()}
    return Task(key, run_node, node.name, spec, **inputs)


@dataclass(frozen=True)
class CaseFutures:
    """The results that the service waits for.

    verdict: the decision and all checks. quality: the quality check of each step. findings: what is stored of each
    step, or Failed if there is nothing. shadows: the verdict of each shadow policy of the profile.
    """

    verdict: Future[Verdict]
    quality: Mapping[Step, Future[CheckResult]]
    findings: Mapping[Step, Future[Findings | Failed]]
    shadows: Mapping[str, Future[ShadowVerdict]]

    def release(self) -> None:
        """Release all futures. The cluster then forgets every result that it does not retain itself."""
        futures: tuple[Future[Any], ...] = (
            self.verdict,
            *self.quality.values(),
            *self.findings.values(),
            *self.shadows.values(),
        )
        for future in futures:
            future.release()


class CaseGraphs:
    """Submits cases to one cluster, delivers their uploads and reads their results.

    The cluster retains the graph of an open case, so any client can continue a case that another client began.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._retained = RetainedGraphs(client)

    async def submit(self, spec: CaseSpec, uploaded: Collection[Step] = ()) -> None:
        """Submit the graph of a case, or of a retake. When this returns, the cluster has and retains the graph.

        Safe to repeat. A retake releases the results that it replaces. uploaded: the steps whose uploads have arrived;
        their results, a few megabytes at most, are retained too, so that a retake of another step can use them. Raises
        ClusterError if the scheduler is unreachable or does not accept the graph.
        """
        if self.client.status != "running":
            raise ClusterError("the scheduler is not connected")
        wanted = _results(spec)
        futures = self.client.get(build(spec), wanted, sync=False)
        try:
            if not await self._retain(spec, uploaded):
                raise ClusterError("the scheduler did not take the graph")
        finally:
            for future in futures:
                future.release()

    async def keep(self, spec: CaseSpec, uploaded: Collection[Step]) -> None:
        """Retain the results of these steps' uploads too. Raises ClusterError.

        Call it when the uploads have arrived, not for every open case: each retained key costs the scheduler memory.
        """
        if not await self._retain(spec, uploaded):
            raise ClusterError("the cluster does not know the case")

    async def _retain(self, spec: CaseSpec, uploaded: Collection[Step]) -> bool:
        used_again = [
            node_key(name, spec) for step in uploaded for name in reusable_nodes(get_profile(spec.profile), step)
        ]
        return await self._retained.retain(spec.case_id, list(dict.fromkeys([*_results(spec), *used_again])))

    async def let_go(self, case_id: str) -> None:
        """Stop retaining anything of a case. Safe to repeat. Raises ClusterError."""
        await self._retained.release(case_id)

    async def forget(self, case_id: str) -> None:
        """Make the cluster drop every task of a case, even if another client wants it.

        Raises ClusterError, also if tasks are left after `workers.uploads.FORGET_SECONDS`.
        """
        if left := await self._retained.forget(case_id):
            raise ClusterError(f"the cluster still has {left} tasks of the case")

    async def held(self) -> set[str]:
        """The ids of the cases that the cluster retains. Raises ClusterError."""
        return await self._retained.case_ids()

    async def count(self) -> int:
        """How many cases the cluster retains. Raises ClusterError."""
        return await self._retained.count()

    async def waiting(self, keys: Collection[str]) -> set[str]:
        """The given upload keys that the cluster still waits for. Raises ClusterError."""
        return await self._retained.waiting(list(keys))

    def results(self, spec: CaseSpec) -> CaseFutures:
        """The futures of a submitted case. They are cancelled if the cluster does not know the case."""
        # An empty graph: it only tells the scheduler that this client wants keys of a graph submitted before.
        wanted = _results(spec)
        futures = dict(zip(wanted, self.client.get({}, wanted, sync=False), strict=True))
        return CaseFutures(
            verdict=futures[node_key("verdict", spec)],
            quality={step: futures[node_key(f"quality_{step}", spec)] for step in spec.attempts},
            findings={step: futures[node_key(f"findings_{step}", spec)] for step in spec.attempts},
            shadows={name: futures[key] for name, key in _shadow_keys(spec).items()},
        )

    async def deliver(self, case_id: str, step: Step, attempt: int, media: bytes) -> None:
        """Scatter the media of an upload under its key. This is the event that the graph of the case waits for.

        Submit the graph first: without it the media is plain data, which the scheduler forgets at once. Raises
        ClusterError if no CPU worker is connected or the media cannot be handed over.
        """
        key = upload_key(case_id, step, attempt)
        try:
            workers = [address for address, label in (await labels(self.client)).items() if label == CPU]
            if not workers:
                raise ClusterError("no worker with the label CPU is connected")
            await self.client.scatter({key: media}, workers=[random.choice(workers)], hash=False, direct=True)
        except (OSError, TimeoutError) as error:
            raise ClusterError(f"the upload could not be handed to a worker: {type(error).__name__}") from error


def _results(spec: CaseSpec) -> list[str]:
    """The keys that the service waits for: verdict, quality and findings of each step, verdicts of the shadows."""
    names = [f"{name}_{step}" for step in spec.attempts for name in ("quality", "findings")]
    return [*(node_key(name, spec) for name in ("verdict", *names)), *_shadow_keys(spec).values()]


def _shadow_keys(spec: CaseSpec) -> dict[str, str]:
    return {name: shadow_key(node_key("verdict", spec), name) for name in get_profile(spec.profile).shadows}
