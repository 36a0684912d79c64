"""Shadows: other policies of a profile, tried on the same cases beside the live one. They decide nothing.

A shadow judges again what its thresholds change, from the same pages, faces and embeddings, and decides by its own
rules over its own results and the live ones of all other checks. Its tasks yield to all other work and nobody waits for
them; a shadow that fails is told as one that failed, and never counts as agreeing.

    match ─────────────┬─→ verdict
    match~strict ──────┴─→ verdict~strict
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask.task_spec import List, Task, TaskRef

from graphs.combine import combine
from graphs.decision import decide
from graphs.flow import nodes_for
from graphs.profile import Policy, Profile, profile
from graphs.records import CaseSpec, CheckResult, Outcome, ResultKind
from graphs.run import run_in_shadow
from workers.placement import Label


@dataclass(frozen=True)
class Difference:
    """A check of which the shadow has another result than the live policy."""

    check: str
    live: ResultKind
    shadow: ResultKind


@dataclass(frozen=True)
class ShadowVerdict:
    """What the live policy and a shadow come to of one case. live_reasons, reasons: codes, in the order of importance;
    failed: a check of the shadow's own ended in an error, so that the outcome says nothing of its policy.
    """

    shadow: str
    version: str
    live_outcome: Outcome
    live_reasons: tuple[str, ...]
    outcome: Outcome
    reasons: tuple[str, ...]
    differences: tuple[Difference, ...]
    failed: bool


def judged_again(held: Profile, shadow: Policy) -> tuple[str, ...]:
    """The checks whose results the shadow's thresholds, or its choice of what is retaken, may change."""
    other_retakes = _retakes(held.policy) != _retakes(shadow)
    return tuple(
        node.name
        for node in nodes_for(held).values()
        if node.placed.is_check
        and (
            (
                "thresholds" in node.constants
                and shadow.checks[node.name].thresholds != held.policy.checks[node.name].thresholds
            )
            or ("retakes" in node.constants and other_retakes)
        )
    )


def _retakes(policy: Policy) -> set[str]:
    return {code for code, effect in policy.effects.items() if effect == "retake"}


def shadow_key(key: str, shadow: str) -> str:
    """The key of a shadow's task beside that of the live one."""
    name, _, rest = key.partition("-")
    return f"{name}~{shadow}-{rest}"


def shadow_tasks(spec: CaseSpec, key_of: Callable[[str], str]) -> dict[Label, dict[str, Task]]:
    """The tasks of all shadows of a case's profile, by the label of the workers that may run them; none without one.

    key_of: gives the key of a live node.
    """
    held = profile(spec.profile)
    nodes = nodes_for(held)
    checks = [node.name for node in nodes.values() if node.placed.is_check]
    tasks: dict[Label, dict[str, Task]] = {"CPU": {}, "GPU": {}}
    for shadow, policy in held.shadows.items():
        again = judged_again(held, policy)
        for name in again:
            key, node = shadow_key(key_of(name), shadow), nodes[name]
            inputs: dict[str, Any] = {parameter: TaskRef(key_of(source)) for parameter, source in node.inputs.items()}
            tasks[node.placed.label][key] = Task(key, run_in_shadow, name, shadow, spec, **inputs)
        live = List(*[TaskRef(key_of(name)) for name in checks])
        own = List(*[TaskRef(shadow_key(key_of(name), shadow)) for name in again])
        key = shadow_key(key_of("verdict"), shadow)
        tasks["CPU"][key] = Task(key, shadow_verdict, live, own, shadow, spec)
    return tasks


def shadow_verdict(
    live: Sequence[CheckResult], own: Sequence[CheckResult], shadow: str, spec: CaseSpec
) -> ShadowVerdict:
    """What both come to. live: the results that the case is decided by; own: of what the shadow judged again."""
    held = profile(spec.profile)
    other = held.shadows[shadow]
    known: Mapping[str, CheckResult] = {result.name: result for result in live}
    mixed = {**known, **{result.name: result for result in own}}
    decision = decide(combine(live, held.policy), held.policy, spec.attempts)
    beside = decide(combine(mixed.values(), other), other, spec.attempts)
    return ShadowVerdict(
        shadow,
        other.version,
        decision.outcome,
        tuple(dict.fromkeys(found.code for found in decision.reasons)),
        beside.outcome,
        tuple(dict.fromkeys(found.code for found in beside.reasons)),
        tuple(
            Difference(result.name, known[result.name].result, result.result)
            for result in own
            if result.result != known[result.name].result
        ),
        any(result.result == "error" and known[result.name].result != "error" for result in own),
    )
