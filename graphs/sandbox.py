"""Sandbox profiles, for integrators' own tests: a check finds what the case's marker says, whatever was uploaded.

Only the judgement is another one. The case has the same graph on the same workers, its media are probed, decoded and
looked at, `combine` and `decide` follow the profile's policy, and retakes, reviews, events and webhooks come of it as
they always do. A marker in a case of another profile is metadata like any other.

    metadata: {"sandbox": "blurred_photo@quality_back*2, selfie_face_mismatch"}

A mark is an outcome, a reason code, `error` or `timeout`; `@` names the check that gives it (by default the first that
can), or `verdict` for a case that comes to no end; `*` says in how many attempts of the upload. By default that is one
for a reason that the person can mend, so that a retake mends it, and all of them for others.
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
from graphs.profile import Policy, is_sandbox, profile
from graphs.records import CaseSpec, CheckResult, Outcome, ResultKind, Step

MARKER = "sandbox"
"""The key of a marker among a case's metadata."""
VERDICT = "verdict"
MOST = 16
_MARK = re.compile(r"([a-z_]+)(?:@([a-z_]+))?(?:\*([1-9]))?")

_RESERVED: Mapping[str, Mapping[str, ResultKind]] = {
    "quality_front": {"incorrect_side": "rejected"},
    "quality_back": {"incorrect_side": "rejected"},
}
"""Reasons that profiles have rules for and no check gives yet; integrators can prepare for them."""
SAYS: Mapping[str, Mapping[str, ResultKind]] = {
    name: {**node.placed.reasons, **_RESERVED.get(name, {})} for name, node in NODES.items() if node.placed.is_check
}
"""What each check can give as a reason, and the result that comes with it."""
_WORST: tuple[ResultKind, ...] = ("rejected", "caution", "unidentified")
_SPEAKS_OF: Mapping[str, Step] = {"consistency": "front", "match": "face"}
_OUTCOMES: Mapping[Outcome, str | None] = {
    "approved": None,
    "declined": "selfie_face_mismatch",
    "resubmission_requested": "mrz_unreadable",
    "review": "no_hologram_seen",
}
_FAILURES: Mapping[str, type[Exception]] = {
    "error": ForcedError,
    "timeout": TimeoutError,  # as a check ends that runs too long, without the wait
    "check_not_clear": ForcedError,
}


@dataclass(frozen=True)
class Mark:
    """What is forced: a reason or a failure of one check. attempts: up to which of its upload; None for all."""

    check: str
    code: str | None
    failure: type[Exception] | None
    attempts: int | None


def marker_of(profile_name: str, metadata: Mapping[str, str]) -> str:
    """The marker of a case; empty in those of any other profile."""
    return metadata.get(MARKER, "") if is_sandbox(profile_name) else ""


def parse(marker: str, policy: Policy) -> tuple[Mark, ...]:
    """The marks of a marker. Raises MarkerError for one that means nothing in that policy; what it says is not quoted,
    because it may be anything.
    """
    parts = [part.strip() for part in marker.split(",") if part.strip()]
    if len(parts) > MOST:
        raise MarkerError(f"The sandbox marker has more than {MOST} marks. Remove some.")
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
    able = [name for name, says in SAYS.items() if name in policy.checks and (failure or what in says)]
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
    """The check of a sandbox case: in its place of the graph, finding what the marker says."""

    def function() -> CheckResult:
        return _result(node.name, spec)

    return replace(node, function=function, inputs={}, constants=(), wants_models=False)


def _result(name: str, spec: CaseSpec) -> CheckResult:
    policy = profile(spec.profile).policy
    attempt = max(spec.attempts[step] for step in steps_of(name))
    marks = [
        mark for mark in parse(spec.marker, policy) if mark.check == name and attempt <= (mark.attempts or attempt)
    ]
    for mark in marks:
        if mark.failure is not None:
            raise mark.failure("the marker of this sandbox case says so")
    codes = [mark.code for mark in marks if mark.code is not None]
    step = _SPEAKS_OF.get(name) or next(iter(steps_of(name)))
    kinds = {SAYS[name][code] for code in codes}
    kind: ResultKind = next((worst for worst in _WORST if worst in kinds), "clear")
    retakes = frozenset(code for code, effect in policy.effects.items() if effect == "retake")
    return with_retry(judged(kind, dict.fromkeys(codes, step), sandbox=True), retakes)


def require_verdict(spec: CaseSpec) -> None:
    """Raises ForcedError or TimeoutError where the marker says that the case comes to no end."""
    for mark in parse(spec.marker, profile(spec.profile).policy):
        if mark.check == VERDICT and mark.failure is not None:
            raise mark.failure("the marker of this sandbox case says so")
