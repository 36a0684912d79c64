"""The graph of a case: keys, submission, retake, delivery of uploads.

The whole graph is submitted when the case is created and waits for its uploads (`workers.uploads` says how). Keys are
made from node, case and the attempts of the steps that the node depends on, so submitting the same case again runs
nothing twice, and after a retake only what the new attempt changes is new:

    pages_front-case_01-front1    match-case_01-front1.face2    verdict-case_01-front1.back1.face2
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.task_spec import List, Task, TaskRef
from distributed import Client, Future

from graphs.combine import combine
from graphs.decision import decide
from graphs.findings import Findings
from graphs.flow import kept_of, nodes_for, steps_of
from graphs.nodes import Node
from graphs.profile import Policy, Profile, profile
from graphs.records import CaseSpec, CheckResult, Step, Verdict
from graphs.run import run_node
from workers.cluster import labels
from workers.errors import ClusterError
from workers.placement import CPU, LATER, RETRIES
from workers.uploads import SUBMITTED, UPLOAD_RESOURCE, missing_upload

SUBMIT_SECONDS = 30.0


def verdict(results: list[CheckResult], policy: Policy, attempts: Mapping[Step, int]) -> Verdict:
    """The last task of the graph: combine all results, then decide."""
    tree = combine(results, policy)
    return Verdict(decide(tree, policy, attempts), tree)


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
    """The graph of a case, one layer for each kind of placement, because an annotation belongs to a layer."""
    held = profile(spec.profile)
    nodes = nodes_for(held)
    layers: dict[str, dict[str, Task]] = {"uploads": {}, "CPU": {}, "GPU": {}, "later": {}}
    for step in spec.attempts:
        key = node_key(f"upload_{step}", spec)
        layers["uploads"][key] = Task(key, missing_upload)
    for node in nodes.values():
        key = node_key(node.name, spec)
        layers["later" if node.placed.later else node.placed.label][key] = _task(key, node, spec, held)
    key = node_key("verdict", spec)
    checks = List(*[TaskRef(node_key(node.name, spec)) for node in nodes.values() if node.placed.is_check])
    layers["CPU"][key] = Task(key, verdict, checks, held.policy, dict(spec.attempts))
    annotations: dict[str, dict[str, Any]] = {
        "uploads": {"resources": {UPLOAD_RESOURCE: 1}},
        "CPU": {"resources": {CPU: 1}, "retries": RETRIES},
        "GPU": {"resources": {"GPU": 1}, "retries": RETRIES},
        "later": {"resources": {CPU: 1}, "retries": RETRIES, "priority": LATER},
    }
    filled = {name: MaterializedLayer(tasks, annotations[name]) for name, tasks in layers.items() if tasks}
    return HighLevelGraph(filled, {name: set() for name in filled})  # dask connects tasks by key, not by layer


def constants_of(node: Node, spec: CaseSpec, held: Profile) -> dict[str, Any]:
    """What the case itself gives to the parameters of a node."""
    policy = held.policy
    known: dict[str, Any] = {
        "thresholds": dict(policy.checks[node.name].thresholds) if node.name in policy.checks else {},
        "retakes": frozenset(code for code, effect in policy.effects.items() if effect == "retake"),
        "challenge": spec.challenge,
        "opened_on": spec.opened_on,
        "step": node.step,
    }
    return {name: known[name] for name in node.constants}


def _task(key: str, node: Node, spec: CaseSpec, held: Profile) -> Task:
    inputs: dict[str, Any] = {parameter: TaskRef(node_key(source, spec)) for parameter, source in node.inputs.items()}
    return Task(key, run_node, node.name, spec.case_id, constants_of(node, spec, held), **inputs)


@dataclass(frozen=True)
class CaseFutures:
    """What the service waits for: the Verdict; each step's quality (CheckResult) and what is kept of it (Findings)."""

    verdict: Future[Verdict]
    quality: Mapping[Step, Future[CheckResult]]
    findings: Mapping[Step, Future[Findings]]

    def release(self) -> None:
        """Let go of all of them; the cluster then forgets what no other holder wants."""
        held: tuple[Future[Any], ...] = (self.verdict, *self.quality.values(), *self.findings.values())
        for future in held:
            future.release()


class CaseGraphs:
    """Submits cases to one cluster and delivers their uploads. Holds nothing of a case but what its caller holds."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def submit(self, spec: CaseSpec) -> CaseFutures:
        """Submit the graph of a case or of a retake, and wait until the scheduler has it. Harmless when repeated.

        Raises ClusterError when the scheduler is away or does not take the graph within its time.
        """
        if self.client.status != "running":
            raise ClusterError("the scheduler is not connected")
        keys = {name: node_key(name, spec) for name in ("verdict", *nodes_for(profile(spec.profile)))}
        wanted = {step: (keys[f"quality_{step}"], keys[f"findings_{step}"]) for step in spec.attempts}
        flat = [keys["verdict"], *(key for pair in wanted.values() for key in pair)]
        futures = dict(zip(flat, self.client.get(build(spec), flat, sync=False), strict=True))
        try:
            await asyncio.wait_for(getattr(self.client.scheduler, SUBMITTED)(key=keys["verdict"]), SUBMIT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise ClusterError(f"the scheduler did not take the graph: {type(error).__name__}") from error
        return CaseFutures(
            verdict=futures[keys["verdict"]],
            quality={step: futures[pair[0]] for step, pair in wanted.items()},
            findings={step: futures[pair[1]] for step, pair in wanted.items()},
        )

    def keep(self, spec: CaseSpec, step: Step) -> tuple[Future[Any], ...]:
        """Hold what a step's upload will lead to, some megabytes at most, so that a retake of another step finds it.

        Asked for when the upload is there, not for every open case: a held future costs its holder about 1 KB.
        """
        keys = [node_key(name, spec) for name in kept_of(profile(spec.profile), step)]
        # A graph without tasks: it only says that this client wants keys of a graph which the scheduler has already.
        return tuple(self.client.get({}, keys, sync=False))

    async def deliver(self, case_id: str, step: Step, attempt: int, media: bytes) -> Future[bytes]:
        """Scatter the media of an upload under its key: this is the event that the case's graph waits for.

        The future must be held until the step's quality is known: an upload that overtakes its graph is plain data,
        which the scheduler forgets with its last holder. Raises ClusterError when no CPU worker is there.
        """
        key = upload_key(case_id, step, attempt)
        try:
            workers = [address for address, label in (await labels(self.client)).items() if label == CPU]
            if not workers:
                raise ClusterError("no worker with the label CPU is connected")
            held = await self.client.scatter({key: media}, workers=[random.choice(workers)], hash=False, direct=True)
        except (OSError, TimeoutError) as error:
            raise ClusterError(f"the upload could not be handed to a worker: {type(error).__name__}") from error
        future: Future[bytes] = held[key]
        return future
