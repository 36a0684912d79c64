"""What travels between the tasks of a case and comes out of it. Frozen, small, picklable; pydantic only at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Step = Literal["front", "back", "face"]
ResultKind = Literal["clear", "caution", "rejected", "unidentified", "error", "not_run"]
Outcome = Literal["approved", "declined", "resubmission_requested", "review"]


@dataclass(frozen=True)
class Reason:
    """Why a check is not clear. `step` is the upload it speaks of; None when it speaks of the case as a whole."""

    code: str
    check: str
    message: str
    retryable: bool
    step: Step | None


@dataclass(frozen=True)
class CheckResult:
    """One judgement, with what it rests on.

    score and threshold share the unit that `properties` names; None where a check has no single number. duration_ms and
    worker are filled in by the runner. breakdown holds the parts of a check that judges several things.
    """

    name: str
    result: ResultKind
    reasons: tuple[Reason, ...] = ()
    score: float | None = None
    threshold: float | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    model_version: str = ""
    started_at: float = 0.0
    duration_ms: float = 0.0
    worker: str = ""
    breakdown: tuple[CheckResult, ...] = ()


@dataclass(frozen=True)
class TaskTime:
    """When and where one task of a case ran. started_at: seconds since 1970 by the worker's clock; result: of a check,
    otherwise empty.
    """

    node: str
    started_at: float
    duration_ms: float
    worker: str
    result: str = ""


@dataclass(frozen=True)
class Decision:
    """What is decided on a case. retake: the steps to upload again, only with `resubmission_requested`."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    policy_version: str
    retake: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the last task of the graph gives: the decision and all that it rests on."""

    decision: Decision
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True)
class Failed:
    """Takes the place of a value that could not be made, so that the graph runs on to a decision.

    broken_media: the cause is what was uploaded, which the person can mend; otherwise it is the system.
    """

    code: str
    node: str
    broken_media: bool


@dataclass(frozen=True)
class CaseSpec:
    """All that the graph of a case is made from. attempts: which attempt of each step the graph waits for, from 1.
    marker: in cases of sandbox profiles, what is to come out.
    """

    case_id: str
    profile: str
    attempts: Mapping[Step, int]
    challenge: tuple[str, ...]
    opened_on: date
    marker: str = ""
