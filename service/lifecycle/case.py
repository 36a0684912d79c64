"""A case as records: its steps, its decision, what a reviewer said, and the events that a change of it causes.

How a case changes is in `transitions`; how it is stored in `service.store.rows`.
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
    """Where a step stands. attempts: uploads accepted so far; reasons: why it must be retaken."""

    state: StepStatus = "wanted"
    attempts: int = 0
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """A decision as it was recorded. decided_by: `policy`, `deadline`, or the id of the API key of who reviewed it.
    attempts: the uploads that it speaks of. review: what a person said, where it is a person's decision.
    """

    decision: Decision
    decided_at: datetime
    decided_by: str
    attempts: Mapping[Step, int]
    review: Review | None = None


@dataclass(frozen=True)
class Opinion:
    """What a person says of a case that was given to one. explanation and note: in his own words; retake: the steps to
    upload again, with `resubmission_requested` alone and always.
    """

    outcome: Outcome
    explanation: str
    note: str | None = None
    reasons: tuple[Reason, ...] = ()
    retake: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Review:
    """A person's opinion, and the decision that it took the place of."""

    opinion: Opinion
    replaced: Recorded


@dataclass(frozen=True)
class Case:
    """One person's verification. Times are UTC. checks: all that the recorded decision rests on. cell: the cluster that
    its graph is on. replica: the API process that looks after it: the one that took its newest upload. erased_at: since
    when nothing of the person of a redacted case is left anywhere.
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
        """Whether the case can still change by itself."""
        return self.status in OPEN

    @property
    def livemode(self) -> bool:
        """Whether something is checked: false in a sandbox."""
        return not is_sandbox(self.profile)

    @property
    def attempts(self) -> dict[Step, int]:
        """For each step the attempt that the graph waits for or works on."""
        return {name: max(1, step.attempts) for name, step in self.steps.items()}

    @property
    def spec(self) -> CaseSpec:
        """What the case's graph is made from."""
        marker = marker_of(self.profile, self.metadata)
        return CaseSpec(self.id, self.profile, self.attempts, self.challenge, self.created_at.date(), marker)

    @property
    def uploaded(self) -> frozenset[Step]:
        """The steps whose attempt that the graph waits for was uploaded."""
        return frozenset(name for name, step in self.steps.items() if step.attempts)


@dataclass(frozen=True)
class Event:
    """Something to tell about a case: `status`, `step`, `check` or `decision`, with data that JSON can hold. once: a
    name under which it is told once although several processes hear of it.
    """

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
    once: str | None = None


@dataclass(frozen=True)
class Change:
    """A case after a transition, and what to tell."""

    case: Case
    events: tuple[Event, ...]
