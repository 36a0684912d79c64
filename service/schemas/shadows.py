"""What the API shows of shadows."""

from __future__ import annotations

from pydantic import BaseModel, Field

from graphs.records import Outcome, ResultKind


class OutcomeCount(BaseModel):
    """How often the live policy and the shadow had these outcomes."""

    live: Outcome
    shadow: Outcome
    count: int


class ReviewCount(BaseModel):
    """How often a reviewer decided this where the live policy asked for a review, and the shadow decided that."""

    reviewer: Outcome
    shadow: Outcome
    count: int


class CheckCount(BaseModel):
    """Among differing decisions: how often this check had these results."""

    check: str
    live: ResultKind
    shadow: ResultKind
    count: int


class DifferingView(BaseModel):
    """A case for which the live policy and the shadow decided differently, with the codes of their reasons."""

    case_id: str
    live_outcome: Outcome
    live_reasons: list[str]
    outcome: Outcome
    reasons: list[str]


class ShadowView(BaseModel):
    """A shadow policy compared with the live policy of its profile."""

    profile: str
    shadow: str
    policy_version: str = Field(description="The version of the shadow policy.")
    compared: int = Field(description="Number of compared decisions. Each retake counts as one.")
    failed: int = Field(description="How often the shadow failed. These are not counted elsewhere.")
    agreeing: int
    agreement: tuple[float, float] | None = Field(
        description="95 % confidence interval (Wilson) of the share that agrees; null if nothing was compared."
    )
    outcomes: list[OutcomeCount]
    reviewed: list[ReviewCount]
    checks: list[CheckCount]
    differing: list[DifferingView] = Field(description="The newest twenty differing cases.")
