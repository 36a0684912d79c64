"""What a reviewer sends."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from graphs.reasons import REASONS
from graphs.records import Step

_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
"""Printable text of several lines."""


class GivenReason(BaseModel):
    """A reason code, and the step that it is about, if it is about one."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(
        max_length=64,
        description="One of the reason codes that checks give.",
        json_schema_extra={"enum": [*sorted(REASONS)]},
    )
    step: Step | None = None

    @field_validator("code")
    @classmethod
    def _known(cls, code: str) -> str:
        if code not in REASONS:
            raise ValueError("Unknown reason code")
        return code


class ReviewBody(BaseModel):
    """A reviewer's decision on a case."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["approved", "declined", "resubmission_requested"]
    explanation: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=_TEXT)]
    reasons: list[GivenReason] = Field(
        default_factory=list, max_length=16, description="Shown to the person, like the reasons of the policy."
    )
    retake: list[Step] = Field(
        default_factory=list,
        max_length=3,
        description="With `resubmission_requested`: the steps to upload again. Each needs at least one reason.",
    )
    note: Annotated[str, StringConstraints(max_length=4000, pattern=_TEXT)] | None = Field(
        None, description="An internal note. It is not shown to the person."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        asks = self.outcome == "resubmission_requested"
        if asks != bool(self.retake):
            raise ValueError("Name steps in `retake` if the outcome is `resubmission_requested`, and only then")
        if any(all(given.step not in (step, None) for given in self.reasons) for step in self.retake):
            raise ValueError("Give at least one reason for each step in `retake`; the person is shown it")
        return self
