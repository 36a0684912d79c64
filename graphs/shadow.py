"""Shadows: alternative policies of a profile, tried on the same cases beside the live policy. They decide nothing.

A shadow runs those checks again that its policy could change, on the same pages, faces and embeddings. It then decides
by its own rules, over its own results and the live results of all other checks. All other work goes before its tasks,
and nobody waits for them. A shadow that fails is reported as failed and never counts as agreeing.

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
from graphs.profile import Policy, Profile, get_profile
from graphs.records import CaseSpec, CheckResult, Outcome, ResultKind
from graphs.run import run_in_shadow
from workers.placement import Label


@dataclass(frozen=True)
class Difference:
    """A check whose result differs between the shadow and the live policy."""

    check: str
    live: ResultKind
    shadow: ResultKind


@dataclass(frozen=True)
class ShadowVerdict:
    """The outcome of one case under the live policy and under a shadow.

    version: that of the shadow's policy. live_reasons, reasons: reason codes in order of importance. failed: a check
    run by the shadow ended in an error that the live check did not have, so the outcome says nothing about its policy.
    """

    shadow: str
    version: str
    live_outcome: Outcome
    live_reasons: tuple[str, ...]
    outcome: Outcome
    reasons: tuple[str, ...]
    differences: tuple[Difference, ...]
    failed: bool


def judged_again(profile: Profile, shadow: Policy) -> tuple[str, ...]:
    """The checks to run again: those whose result can change with the shadow's thresholds or its effects `retake`."""
    other_retakes = _retakes(profile.policy) != _retakes(shadow)
    return tuple(
        node.name
        for node in nodes_for(profile).values()
        if node.placement.is_check
        and (
            (
                "thresholds" in node.constants
                and shadow.checks[node.name].thresholds != profile.policy.checks[node.name].thresholds
            )
            or ("retakes" in node.constants and other_retakes)
        )
    )


def _retakes(policy: Policy) -> set[str]:
    return {code for code, effect in policy.effects.items() if effect == "retake"}


def shadow_key(key: str, shadow: str) -> str:
    """The key of a shadow's task, made from the key of the live task."""
    name, _, rest = key.partition("-")
    return f"{name}~{shadow}-{rest}"


def shadow_tasks(spec: CaseSpec, key_of: Callable[[str], str]) -> dict[Label, dict[str, Task]]:
    """The tasks of all shadows of a case's profile, by worker label; empty if the profile has no shadows.

    key_of: gives the key of a live node.
    """
    profile = get_profile(spec.profile)
    nodes = nodes_for(profile)
    checks = [node.name for node in nodes.values() if node.placement.is_check]
    tasks: dict[Label, dict[str, Task]] = {"CPU": {}, "GPU": {}}
    for shadow, policy in profile.shadows.items():
        again = judged_again(profile, policy)
        for name in again:
            key, node = shadow_key(key_of(name), shadow), nodes[name]
            inputs: dict[str, Any] = {parameter: TaskRef(key_of(source)) for parameter, source in node.inputs.items()}
            tasks[node.placement.label][key] = Task(key, run_in_shadow, name, shadow, spec, **inputs)
        live = List(*[TaskRef(key_of(name)) for name in checks])
        own = List(*[TaskRef(shadow_key(key_of(name), shadow)) for name in again])
        key = shadow_key(key_of("verdict"), shadow)
        tasks["CPU"][key] = Task(key, shadow_verdict, live, own, shadow, spec)
    return tasks


def shadow_verdict(
    live: Sequence[CheckResult], own: Sequence[CheckResult], shadow: str, spec: CaseSpec
) -> ShadowVerdict:
    """Decide under both policies. live: the results that decide the case. own: those of the shadow's own checks."""
    profile = get_profile(spec.profile)
    shadow_policy = profile.shadows[shadow]
    known: Mapping[str, CheckResult] = {result.name: result for result in live}
    mixed = {**known, **{result.name: result for result in own}}
    live_decision = decide(combine(live, profile.policy), profile.policy, spec.attempts)
    shadow_decision = decide(combine(mixed.values(), shadow_policy), shadow_policy, spec.attempts)
    return ShadowVerdict(
        shadow,
        shadow_policy.version,
        live_decision.outcome,
        tuple(dict.fromkeys(found.code for found in live_decision.reasons)),
        shadow_decision.outcome,
        tuple(dict.fromkeys(found.code for found in shadow_decision.reasons)),
        tuple(
            Difference(result.name, known[result.name].result, result.result)
            for result in own
            if result.result != known[result.name].result
        ),
        any(result.result == "error" and known[result.name].result != "error" for result in own),
    )
