"""Results → check tree. Pure, without I/O, tested with tables.

The check tree lists every check that the policy names, in the order of the policy, the most important first. A check
without a result appears as `not_run`: what is missing stays visible, and never counts as `clear`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from graphs.profile import Policy
from graphs.records import CheckResult


def combine(results: Iterable[CheckResult], policy: Policy) -> tuple[CheckResult, ...]:
    """Order the results by the policy, add missing checks, and mark each reason that a retake can resolve."""
    found = {result.name: result for result in results}
    tree = [found.pop(name, CheckResult(name=name, result="not_run")) for name in policy.checks]
    return tuple(_with_retryable(result, policy) for result in [*tree, *found.values()])


def _with_retryable(result: CheckResult, policy: Policy) -> CheckResult:
    reasons = tuple(
        dataclasses.replace(reason, retryable=policy.effects.get(reason.code) == "retake") for reason in result.reasons
    )
    return dataclasses.replace(result, reasons=reasons)
