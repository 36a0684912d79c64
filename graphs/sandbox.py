"""Sandbox profiles, for the tests of integrators: each check gives the result that the case's marker asks for.

Only the checks are replaced. The case has the same graph on the same workers, its media are probed, decoded and
processed, `combine` and `decide` follow the profile's policy, and retakes, reviews, events and webhooks work as usual.
In a case of any other profile the marker is ordinary metadata.

    metadata: {"sandbox": "blurred_photo@quality_back*2, selfie_face_mismatch"}

A marker is a list of marks, separated by commas. Each mark is an outcome, a reason code, `error` or `timeout`:

- `@` names the check that gives it; by default the first check that can. `@verdict` makes the decision itself fail.
- `*` limits it to that many attempts of the upload. The default is one attempt for a reason that a retake can resolve,
  so that a retake resolves it, and all attempts for any other reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from graphs.errors import ForcedError, MarkerError
from graphs.flow import NODES, steps_of
from graphs.judge import judged, with_retry
from graphs.nodes import Node
from graphs.profile import Policy, get_profile, is_sandbox
from graphs.records import CaseSpec, CheckResult, Outcome, ResultKind, Step

MARKER = "sandbox"
"""The metadata key of a case that holds its marker."""
VERDICT = "verdict"
MAX_MARKS = 16
_MARK = re.compile(r"([a-z_]+)(?:@([a-z_]+))?(?:\*([1-9]))?")

_RESERVED: Mapping[str, Mapping[str, ResultKind]] = {
    "quality_front": {"incorrect_side": "rejected"},
    "quality_back": {"incorrect_side": "rejected"},
}
"""Reasons that policies have rules for but no check gives yet, so that integrators can prepare for them."""
POSSIBLE_REASONS: Mapping[str, Mapping[str, ResultKind]] = {
    name: {**node.placement.reasons, **_RESERVED.get(name, {})}
    for name, node in NODES.items()
    if node.placement.is_check
}
"""The reason codes that each check can give, with the result that each comes with."""
_WORST_FIRST: tuple[ResultKind, ...] = ("rejected", "caution", "unidentified")
_STEP_OF_CHECK: Mapping[str, Step] = {"consistency": "front", "match": "face"}
_OUTCOMES: Mapping[Outcome, str | None] = {
    "approved": None,
    "declined": "selfie_face_mismatch",
    "resubmission_requested": "mrz_unreadable",
    "review": "no_hologram_seen",
}
_FAILURES: Mapping[str, type[Exception]] = {
    "error": ForcedError,
    "timeout": TimeoutError,  # the same error as a check that exceeds its time limit, without the wait
    "check_not_clear": ForcedError,
}


@dataclass(frozen=True)
class Mark:
    """One forced reason or failure of one check. attempts: the last attempt that it applies to; None for all."""

    check: str
    code: str | None
    failure: type[Exception] | None
    attempts: int | None


def marker_of(profile_name: str, metadata: Mapping[str, str]) -> str:
    """The marker of a sandbox case; empty if the profile is not a sandbox."""
    return metadata.get(MARKER, "") if is_sandbox(profile_name) else ""


def parse(marker: str, policy: Policy) -> tuple[Mark, ...]:
    """The marks of a marker. Raises MarkerError for a mark that is invalid under this policy.

    The error does not quote the marker, which may contain anything.
    """
    parts = [part.strip() for part in marker.split(",") if part.strip()]
    if len(parts) > MAX_MARKS:
        raise MarkerError(f"The sandbox marker has more than {MAX_MARKS} marks. Remove some.")
    marks: list[Mark] = []
    for number, part in enumerate(parts, 1):
        found = _MARK.fullmatch(part)
        if found is None:
            raise MarkerError(
                f"Mark {number} cannot be read. Write for example `declined` or `blurred_photo@quality_back*2`."
            )
        what, check, count = found.groups()
        if what in get_args(Outcome):
            if check or count:
                raise MarkerError(f"Mark {number} is an outcome. An outcome takes no check (@) and no number (*).")
            what = next(code for outcome, code in _OUTCOMES.items() if outcome == what)
        if what is not None:
            marks.append(_mark(number, what, check, int(count) if count else None, policy))
    return tuple(marks)


def _mark(number: int, what: str, check: str | None, attempts: int | None, policy: Policy) -> Mark:
    failure = _FAILURES.get(what)
    able = [name for name, says in POSSIBLE_REASONS.items() if name in policy.checks and (failure or what in says)]
    if not able:
        raise MarkerError(
            f"Mark {number} is neither an outcome nor a reason code that a check of this profile can give."
        )
    if failure is not None:
        able.append(VERDICT)
    if check is not None and check not in able:
        raise MarkerError(f"Mark {number} names a check that cannot give this. Checks that can: {', '.join(able)}.")
    if failure is not None:
        return Mark(check or able[0], None, failure, attempts)
    if attempts is None and policy.effects[what] == "retake":
        attempts = 1
    return Mark(check or able[0], what, None, attempts)


def marked(node: Node, spec: CaseSpec) -> Node:
    """The same node with a function that gives the result asked for by the marker."""

    def function() -> CheckResult:
        return _result(node.name, spec)

    return replace(node, function=function, inputs={}, constants=(), wants_models=False)


def _result(name: str, spec: CaseSpec) -> CheckResult:
    policy = get_profile(spec.profile).policy
    attempt = max(spec.attempts[step] for step in steps_of(name))
    marks = [
        mark for mark in parse(spec.marker, policy) if mark.check == name and attempt <= (mark.attempts or attempt)
    ]
    for mark in marks:
        if mark.failure is not None:
            raise mark.failure("the marker of this sandbox case says so")
    codes = [mark.code for mark in marks if mark.code is not None]
    step = _STEP_OF_CHECK.get(name) or next(iter(steps_of(name)))
    kinds = {POSSIBLE_REASONS[name][code] for code in codes}
    kind: ResultKind = next((worst for worst in _WORST_FIRST if worst in kinds), "clear")
    retakes = frozenset(code for code, effect in policy.effects.items() if effect == "retake")
    return with_retry(judged(kind, dict.fromkeys(codes, step), sandbox=True), retakes)


def require_verdict(spec: CaseSpec) -> None:
    """Raise ForcedError or TimeoutError if the marker asks for a failing verdict."""
    for mark in parse(spec.marker, get_profile(spec.profile).policy):
        if mark.check == VERDICT and mark.failure is not None:
            raise mark.failure("the marker of this sandbox case says so")
