"""Check tree → decision. Pure, without I/O, tested with tables.

The first rule that applies decides:

    declined                 a check is `rejected` for a reason with the effect `decline`
    resubmission_requested   a reason with the effect `retake`, and the step has attempts left
    review                   such a reason without attempts left, or a required check that is not `clear`
    approved                 every required check is `clear`

A step whose quality check asks for a retake cannot cause `declined`: a bad picture is no evidence of fraud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphs.profile import Effect, Policy
from graphs.reasons import reason
from graphs.records import CheckResult, Decision, Reason, Step


def decide(tree: Sequence[CheckResult], policy: Policy, attempts: Mapping[Step, int]) -> Decision:
    """Decide by a check tree. attempts: the attempt of each step that the tree was made from, counted from 1.

    The decision lists all reasons: first those that led to the outcome, then the others, each in the tree's order.
    """
    unusable = {
        found.step
        for result in tree
        if result.name.startswith("quality_") and result.result == "rejected"
        for found in result.reasons
        if found.retryable
    }

    def having(effect: Effect) -> list[Reason]:
        return [
            found
            for result in tree
            if result.result in ("rejected", "caution")
            for found in result.reasons
            if policy.effects.get(found.code, "review") == effect
        ]

    rejected = {result.name for result in tree if result.result == "rejected"}
    final = [found for found in having("decline") if found.check in rejected and found.step not in unusable]
    mendable = having("retake")
    retake = tuple(
        step
        for step in attempts
        if any(found.step == step for found in mendable) and attempts[step] < policy.max_attempts
    )
    unclear = [
        reason("check_not_clear", result.name, None)
        for result in tree
        if not result.reasons and result.result != "clear" and policy.checks[result.name].required
    ]
    doubtful = [
        found for result in tree if result.result != "clear" for found in result.reasons if _required(policy, result)
    ]
    others = [found for result in tree for found in result.reasons]
    if final:
        return Decision("declined", _ordered(final, others), policy.version)
    if retake:
        return Decision("resubmission_requested", _ordered(mendable, others), policy.version, retake)
    if mendable or unclear or doubtful:
        return Decision("review", _ordered(mendable + doubtful + unclear, others), policy.version)
    return Decision("approved", _ordered([], others), policy.version)


def _required(policy: Policy, result: CheckResult) -> bool:
    return result.name in policy.checks and policy.checks[result.name].required


def _ordered(leading: Sequence[Reason], others: Sequence[Reason]) -> tuple[Reason, ...]:
    """The leading reasons, then the rest, each once."""
    return tuple(dict.fromkeys([*leading, *others]))
