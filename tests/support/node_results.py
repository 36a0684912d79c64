"""Runs the real nodes on media without a cluster and gives the results of the checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from graphs.local import run_here
from graphs.records import CaseSpec, CheckResult, Failed, Step

TODAY = date(2026, 6, 1)


def results(uploads: Mapping[Step, bytes], profile: str = "document") -> dict[str, CheckResult]:
    """The results of all checks. Asserts that no check is an error and that nodes fail only because of the media."""
    spec = CaseSpec("case_bad", profile, dict.fromkeys(uploads, 1), (), TODAY)
    values = run_here(spec, uploads)
    assert not [value for value in values.values() if isinstance(value, Failed) and not value.broken_media]
    found = {name: value for name, value in values.items() if isinstance(value, CheckResult)}
    assert not [name for name, value in found.items() if value.result == "error"]
    return found


def clear(found: Mapping[str, CheckResult]) -> set[str]:
    return {name for name, result in found.items() if result.result == "clear"}


def codes(result: CheckResult) -> list[str]:
    return [reason.code for reason in result.reasons]
