"""What travels between the tasks of a case, and their results. Frozen, small, picklable; pydantic only at the HTTP
edge.
"""

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
    """Why a check is not clear. step: the upload that it is about; None if it is about the whole case."""

    code: str
    check: str
    message: str
    retryable: bool
    step: Step | None


@dataclass(frozen=True)
class CheckResult:
    """The result of one check, with the facts behind it.

    score, threshold: in the same unit; None if the check has no single number. properties: JSON-serialisable facts.
    started_at (seconds since 1970), duration_ms, worker: filled in by the runner. breakdown: the parts of a check that
    judges several things.
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
    """When and where one task of a case ran. started_at: seconds since 1970, by the worker's clock. result: that of a
    check, empty for other tasks.
    """

    node: str
    started_at: float
    duration_ms: float
    worker: str
    result: str = ""


@dataclass(frozen=True)
class Decision:
    """The decision on a case. retake: the steps to upload again; empty unless `resubmission_requested`."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    policy_version: str
    retake: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The result of the last task of the graph: the decision and the check tree behind it."""

    decision: Decision
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True)
class Failed:
    """Stands in for a value that could not be computed, so that the graph still reaches a decision.

    broken_media: true if the uploaded media is the cause, so that a retake can help; false if the system failed.
    """

    code: str
    node: str
    broken_media: bool


@dataclass(frozen=True)
class CaseSpec:
    """Everything that the graph of a case is built from.

    attempts: the attempt of each step that the graph waits for, counted from 1. challenge: the head movements asked
    for, in order. opened_on: the day the case was opened. marker: the wanted outcome in a case of a sandbox profile.
    """

    case_id: str
    profile: str
    attempts: Mapping[Step, int]
    challenge: tuple[str, ...]
    opened_on: date
    marker: str = ""
