"""Helpers with which a check states its result, one line per outcome, so that its code reads like its rule.

Checks do not give their own name. The runner (`graphs.run`) adds it to the result and its reasons.
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
    """A result without the check's name, which the runner fills in.

    codes: each reason code with the step that it is about. properties: JSON-serialisable facts behind the result.
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
    """`rejected` with these reasons, or `clear` if there are none."""
    return judged("rejected" if codes else "clear", codes, **facts)


def with_retry(result: CheckResult, retakes: frozenset[str]) -> CheckResult:
    """Mark the reasons that a retake can resolve. The service asks for the retake before the case is decided."""
    reasons = tuple(replace(found, retryable=found.code in retakes) for found in result.reasons)
    return replace(result, reasons=reasons)


def judge_failed_upload(failed: Failed, step: Step, retakes: frozenset[str]) -> CheckResult:
    """The quality result of an upload that failed: a retake if its media is broken, otherwise `error`."""
    if not failed.broken_media:
        return judged("error", error=failed.code, node=failed.node)
    return with_retry(judged("rejected", {"undecodable_media": step}, error=failed.code), retakes)


def named(result: CheckResult, name: str) -> CheckResult:
    """The result with the check's name, also in its reasons."""
    return replace(result, name=name, reasons=tuple(replace(found, check=name) for found in result.reasons))
