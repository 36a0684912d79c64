"""Results → evidence tree: pure, without I/O, tested with tables.

The tree lists every check that the profile's policy names, in the order of the policy (weightiest first). A check that
gave no result is there as `not_run`: missing evidence is shown, and never counts as clear.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from graphs.profile import Policy
from graphs.records import CheckResult


def combine(results: Iterable[CheckResult], policy: Policy) -> tuple[CheckResult, ...]:
    """Order the results by the policy, add what is missing, and say of each reason whether the person can mend it."""
    found = {result.name: result for result in results}
    tree = [found.pop(name, CheckResult(name=name, result="not_run")) for name in policy.checks]
    return tuple(_with_retryable(result, policy) for result in [*tree, *found.values()])


def _with_retryable(result: CheckResult, policy: Policy) -> CheckResult:
    reasons = tuple(
        dataclasses.replace(reason, retryable=policy.effects.get(reason.code) == "retake") for reason in result.reasons
    )
    return dataclasses.replace(result, reasons=reasons)
