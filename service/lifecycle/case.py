"""The records of a case: steps, decision, review, and the events of a change.

`transitions` changes a case; `service.store.rows` stores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from graphs.profile import is_sandbox
from graphs.records import CaseSpec, CheckResult, Decision, Outcome, Reason, Step
from graphs.sandbox import marker_of
from service.vocabulary import OPEN, Status, StepStatus


@dataclass(frozen=True)
class StepState:
    """The state of a step. attempts: uploads accepted so far; reasons: why it must be retaken."""

    state: StepStatus = "wanted"
    attempts: int = 0
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """A recorded decision. decided_by: `policy`, `deadline`, or the id of the reviewer's API key. attempts: the attempt
    of each step that it is based on. review: the review, if a person decided.
    """

    decision: Decision
    decided_at: datetime
    decided_by: str
    attempts: Mapping[Step, int]
    review: Review | None = None


@dataclass(frozen=True)
class Opinion:
    """A reviewer's decision on a case in review. explanation, note: in the reviewer's own words. retake: the steps to
    upload again; set if and only if the outcome is `resubmission_requested`.
    """

    outcome: Outcome
    explanation: str
    note: str | None = None
    reasons: tuple[Reason, ...] = ()
    retake: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Review:
    """A reviewer's decision, and the decision that it replaced."""

    opinion: Opinion
    replaced: Recorded


@dataclass(frozen=True)
class Case:
    """One person's verification. Times are UTC. checks: the results behind the recorded decision. cell: the cluster
    that runs its graph. replica: its owner, the API process that received its newest upload. erased_at: when the last
    personal data of a redacted case was removed.
    """

    id: str
    profile: str
    status: Status
    client_reference_id: str | None
    metadata: Mapping[str, str]
    challenge: tuple[str, ...]
    max_attempts: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    steps: Mapping[Step, StepState]
    last_received_at: datetime | None = None
    recorded: Recorded | None = None
    checks: tuple[CheckResult, ...] = ()
    cell: str = ""
    replica: str = ""
    erased_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the case still waits for uploads or checks."""
        return self.status in OPEN

    @property
    def livemode(self) -> bool:
        """Whether anything is checked: false for a sandbox case."""
        return not is_sandbox(self.profile)

    @property
    def attempts(self) -> dict[Step, int]:
        """For each step, the attempt that the graph waits for or works on."""
        return {name: max(1, step.attempts) for name, step in self.steps.items()}

    @property
    def spec(self) -> CaseSpec:
        """The input from which the case's graph is built."""
        marker = marker_of(self.profile, self.metadata)
        return CaseSpec(self.id, self.profile, self.attempts, self.challenge, self.created_at.date(), marker)

    @property
    def uploaded(self) -> frozenset[Step]:
        """The steps with at least one accepted upload."""
        return frozenset(name for name, step in self.steps.items() if step.attempts)


@dataclass(frozen=True)
class Event:
    """An event of a case: `status`, `step`, `check` or `decision`, with data that JSON can represent. once: a key under
    which the event is stored only once, although several processes receive it.
    """

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    once: str | None = None


@dataclass(frozen=True)
class Change:
    """A case after a transition, and the events to publish."""

    case: Case
    events: tuple[Event, ...]
