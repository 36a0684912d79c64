"""What the API shows of shadows."""

from __future__ import annotations

from pydantic import BaseModel, Field

from graphs.records import Outcome, ResultKind


class OutcomeCount(BaseModel):
    """How often the live policy and the shadow came to these outcomes."""

    live: Outcome
    shadow: Outcome
    count: int


class ReviewCount(BaseModel):
    """How often a person decided so what the live policy had left to a person, and the shadow so."""

    reviewer: Outcome
    shadow: Outcome
    count: int


class CheckCount(BaseModel):
    """Of decisions that differ: how often this check had these results."""

    check: str
    live: ResultKind
    shadow: ResultKind
    count: int


class DifferingView(BaseModel):
    """A case of which live policy and shadow came to different outcomes, with the codes of their reasons."""

    case_id: str
    live_outcome: Outcome
    live_reasons: list[str]
    outcome: Outcome
    reasons: list[str]


class ShadowView(BaseModel):
    """A shadow beside the live policy of its profile."""

    profile: str
    shadow: str
    policy_version: str = Field(description="The shadow's own.")
    compared: int = Field(description="Decisions of both on the same uploads; a retake is another one.")
    failed: int = Field(description="Times the shadow failed. Counted nowhere else.")
    agreeing: int
    agreement: tuple[float, float] | None = Field(
        description="95 % interval of the share that agrees (Wilson); null of none."
    )
    outcomes: list[OutcomeCount]
    reviewed: list[ReviewCount]
    checks: list[CheckCount]
    differing: list[DifferingView] = Field(description="The newest twenty.")
