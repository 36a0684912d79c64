"""What a reviewer sends."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from graphs.reasons import REASONS
from graphs.records import Step

_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
"""Printable text of several lines."""


class GivenReason(BaseModel):
    """A reason code of the API, and the step that it speaks of, where it speaks of one."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(
        max_length=64, description="One of those that checks give.", json_schema_extra={"enum": [*sorted(REASONS)]}
    )
    step: Step | None = None

    @field_validator("code")
    @classmethod
    def _known(cls, code: str) -> str:
        if code not in REASONS:
            raise ValueError("no such reason code")
        return code


class ReviewBody(BaseModel):
    """A person's decision on a case."""

    model_config = ConfigDict(extra="forbid")

    outcome: Literal["approved", "declined", "resubmission_requested"]
    explanation: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=_TEXT)]
    reasons: list[GivenReason] = Field(
        default_factory=list, max_length=16, description="Shown like those of the policy, to the person as well."
    )
    retake: list[Step] = Field(
        default_factory=list,
        max_length=3,
        description="With `resubmission_requested`: the steps to upload again. There is a reason for each of them.",
    )
    note: Annotated[str, StringConstraints(max_length=4000, pattern=_TEXT)] | None = Field(
        None, description="For your own people."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        asks = self.outcome == "resubmission_requested"
        if asks != bool(self.retake):
            raise ValueError("retake names steps with resubmission_requested, and with that alone")
        if any(all(given.step not in (step, None) for given in self.reasons) for step in self.retake):
            raise ValueError("each step of retake needs a reason, which the person is shown")
        return self
