"""How a check states its result: one line per outcome, so that a check reads as its rule.

The name of the check is not given here: the runner (`graphs.run`) writes it into the result and its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphs.reasons import reason
from graphs.records import CheckResult, Failed, ResultKind, Step


def judged(
    kind: ResultKind,
    codes: Mapping[str, Step | None] | None = None,
    *,
    score: float | None = None,
    threshold: float | None = None,
    model: str = "",
    model_version: str = "",
    **properties: Any,
) -> CheckResult:
    """A result; the runner fills in the check's name. codes: each reason code with the step that it speaks of.
    properties: JSON-able facts behind it.
    """
    return CheckResult(
        name="",
        result=kind,
        reasons=tuple(reason(code, "", step) for code, step in (codes or {}).items()),
        score=None if score is None else round(float(score), 4),
        threshold=threshold,
        properties=properties,
        model=model,
        model_version=model_version,
    )


def clear_unless(codes: Mapping[str, Step | None], **facts: Any) -> CheckResult:
    """`rejected` with these reasons, or `clear` when there are none."""
    return judged("rejected" if codes else "clear", codes, **facts)


def with_retry(result: CheckResult, retakes: frozenset[str]) -> CheckResult:
    """Mark the reasons that the policy lets the person mend: the service acts on this before a decision is made."""
    reasons = tuple(replace(found, retryable=found.code in retakes) for found in result.reasons)
    return replace(result, reasons=reasons)


def judged_unseen(failed: Failed, step: Step, retakes: frozenset[str]) -> CheckResult:
    """The quality of an upload that came to nothing: the person's to mend when its media is broken, else an error."""
    if not failed.broken_media:
        return judged("error", error=failed.code, node=failed.node)
    return with_retry(judged("rejected", {"undecodable_media": step}, error=failed.code), retakes)


def named(result: CheckResult, name: str) -> CheckResult:
    """The result with the name of its check, also in its reasons."""
    return replace(result, name=name, reasons=tuple(replace(found, check=name) for found in result.reasons))
