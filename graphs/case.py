"""The graph of a case: keys, submission, retake, delivery of uploads.

The whole graph is submitted when the case is created and waits for its uploads (`workers.uploads` says how). Keys are
made from node, case and the attempts of the steps that the node depends on, so submitting the same case again runs
nothing twice, and after a retake only what the new attempt changes is new:

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
from graphs.flow import kept_of, nodes_for, steps_of
from graphs.nodes import Node
from graphs.profile import is_sandbox, profile
from graphs.records import CaseSpec, CheckResult, Failed, Step, Verdict
from graphs.run import run_node
from graphs.shadow import ShadowVerdict, shadow_key, shadow_tasks
from workers.cluster import labels
from workers.errors import ClusterError
from workers.placement import CPU, LATER, RETRIES, UPLOAD_RESOURCE
from workers.uploads import RetainedGraphs, missing_upload

T = TypeVar("T")


def verdict(results: list[CheckResult], spec: CaseSpec) -> Verdict:
    """The last task of the graph: combine all results, then decide."""
    if is_sandbox(spec.profile):
        sandbox.require_verdict(spec)
    policy = profile(spec.profile).policy
    tree = combine(results, policy)
    return Verdict(decide(tree, policy, spec.attempts), tree)


async def result_of(future: Future[T]) -> T:
    """What a future comes to. Raises what its task raised, and FutureCancelledError when the cluster let it go.

    Its transfer is not cancelled with who waits for it: `distributed` (2026.8, `Client._gather`) has all who ask for
    results at the same moment wait for one transfer, and a transfer that is cancelled before it has begun stays in its
    place. Every result of that client would be cancelled from then on.
    """
    await future.exception()  # until there is something to transfer: whoever stops waiting here leaves nothing behind
    transfer = asyncio.ensure_future(future)
    transfer.add_done_callback(_looked_at)
    return await asyncio.shield(transfer)


def _looked_at(transfer: asyncio.Future[Any]) -> None:
    """Nobody need wait for it any more, and then asyncio would log what it ended with."""
    if not transfer.cancelled():
        transfer.exception()


def upload_key(case_id: str, step: Step, attempt: int) -> str:
    """The key under which the media of an upload is scattered."""
    return f"upload-{case_id}-{step}{attempt}"


def node_key(name: str, spec: CaseSpec) -> str:
    """The key of a node: it changes exactly when the attempt of a step that the node depends on does."""
    if name.startswith("upload_"):
        step: Any = name.removeprefix("upload_")
        return upload_key(spec.case_id, step, spec.attempts[step])
    needed = set(spec.attempts) if name == "verdict" else steps_of(name)
    return f"{name}-{spec.case_id}-" + ".".join(f"{s}{n}" for s, n in spec.attempts.items() if s in needed)


def build(spec: CaseSpec) -> HighLevelGraph:
    """The graph of a case, one layer for each kind of placement, because an annotation belongs to a layer.

    Every task carries the same `spec` and looks its thresholds up where it runs: an open case costs its scheduler 34
    tasks, and constants of their own made them twice as large.
    """
    held = profile(spec.profile)
    nodes = nodes_for(held)
    layers: dict[str, dict[str, Task]] = {"uploads": {}, "CPU": {}, "GPU": {}, "later": {}}
    for step in spec.attempts:
        key = node_key(f"upload_{step}", spec)
        layers["uploads"][key] = Task(key, missing_upload)
    for node in nodes.values():
        key = node_key(node.name, spec)
        layers["later" if node.placed.later else node.placed.label][key] = _task(key, node, spec)
    key = node_key("verdict", spec)
    checks = List(*[TaskRef(node_key(node.name, spec)) for node in nodes.values() if node.placed.is_check])
    layers["CPU"][key] = Task(key, verdict, checks, spec)
    annotations: dict[str, dict[str, Any]] = {
        "uploads": {"resources": {UPLOAD_RESOURCE: 1}},
        "CPU": {"resources": {CPU: 1}, "retries": RETRIES},
        "GPU": {"resources": {"GPU": 1}, "retries": RETRIES},
        "later": {"resources": {CPU: 1}, "retries": RETRIES, "priority": LATER},
    }
    for label, tasks in shadow_tasks(spec, lambda name: node_key(name, spec)).items():
        layers[f"{label} in shadow"] = tasks
        annotations[f"{label} in shadow"] = {**annotations[label], "priority": LATER}
    filled = {name: MaterializedLayer(tasks, annotations[name]) for name, tasks in layers.items() if tasks}
    return HighLevelGraph(filled, {name: set() for name in filled})  # dask connects tasks by key, not by layer


def _task(key: str, node: Node, spec: CaseSpec) -> Task:
    inputs: dict[str, Any] = {parameter: TaskRef(node_key(source, spec)) for parameter, source in node.inputs.items()}
    return Task(key, run_node, node.name, spec, **inputs)


@dataclass(frozen=True)
class CaseFutures:
    """What the service waits for: the Verdict; each step's quality (CheckResult) and what is kept of it
    (Findings, or why there are none); what each shadow of the profile comes to.
    """

    verdict: Future[Verdict]
    quality: Mapping[Step, Future[CheckResult]]
    findings: Mapping[Step, Future[Findings | Failed]]
    shadows: Mapping[str, Future[ShadowVerdict]]

    def release(self) -> None:
        """Let go of all of them; the cluster forgets what it does not hold itself."""
        held: tuple[Future[Any], ...] = (
            self.verdict,
            *self.quality.values(),
            *self.findings.values(),
            *self.shadows.values(),
        )
        for future in held:
            future.release()


class CaseGraphs:
    """Submits cases to one cluster, delivers their uploads, gives their results. The cluster holds an open case, so
    that any client of it can go on with one that another began.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._retained = RetainedGraphs(client)

    async def submit(self, spec: CaseSpec, uploaded: Collection[Step] = ()) -> None:
        """Submit the graph of a case or of a retake; the cluster has and holds it when this returns. Harmless when
        repeated. What a retake changes is let go.

        uploaded: the steps whose uploads are there. What comes of them, some megabytes at most, is held as well, so
        that a retake of another step finds it. Raises ClusterError when the scheduler is away or does not take it.
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
        """Retain also what comes of these steps' uploads. Asked for when they are there, not for every open case: each
        key retained costs the scheduler. Raises ClusterError.
        """
        if not await self._retain(spec, uploaded):
            raise ClusterError("the cluster does not know the case")

    async def _retain(self, spec: CaseSpec, uploaded: Collection[Step]) -> bool:
        used_again = [node_key(name, spec) for step in uploaded for name in kept_of(profile(spec.profile), step)]
        return await self._retained.retain(spec.case_id, list(dict.fromkeys([*_results(spec), *used_again])))

    async def let_go(self, case_id: str) -> None:
        """Retain nothing of a case any more. Harmless when repeated. Raises ClusterError."""
        await self._retained.release(case_id)

    async def forget(self, case_id: str) -> None:
        """Have the cluster drop all that it has of a case, whoever wants it. Raises ClusterError, also when something
        is still there after a while.
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
        """Those of these upload keys that the cluster waits for. Raises ClusterError."""
        return await self._retained.waiting(list(keys))

    def results(self, spec: CaseSpec) -> CaseFutures:
        """What will come of a submitted case. The futures of one that the cluster does not know are cancelled."""
        # A graph without tasks: it only says that this client wants keys of a graph which the scheduler has already.
        wanted = _results(spec)
        futures = dict(zip(wanted, self.client.get({}, wanted, sync=False), strict=True))
        return CaseFutures(
            verdict=futures[node_key("verdict", spec)],
            quality={step: futures[node_key(f"quality_{step}", spec)] for step in spec.attempts},
            findings={step: futures[node_key(f"findings_{step}", spec)] for step in spec.attempts},
            shadows={name: futures[key] for name, key in _shadow_keys(spec).items()},
        )

    async def deliver(self, case_id: str, step: Step, attempt: int, media: bytes) -> None:
        """Scatter the media of an upload under its key: this is the event that the case's graph waits for.

        The graph must be there: without one the media is plain data, which the scheduler forgets at once. Raises
        ClusterError when no CPU worker is there.
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
    """The keys that are waited for: verdict, each step's quality and findings, and the shadows' verdicts."""
    names = [f"{name}_{step}" for step in spec.attempts for name in ("quality", "findings")]
    return [*(node_key(name, spec) for name in ("verdict", *names)), *_shadow_keys(spec).values()]


def _shadow_keys(spec: CaseSpec) -> dict[str, str]:
    return {name: shadow_key(node_key("verdict", spec), name) for name in profile(spec.profile).shadows}
