"""Profiles: the configurations that cases can be created with."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from graphs.records import Step


class ProfileView(BaseModel):
    """A profile: a named configuration that cases can be created with."""

    name: str
    title: str
    livemode: bool
    steps: list[Step]
    accepts: dict[Step, list[Literal["video", "image"]]]
    challenge_actions: int
    open_seconds: int
    retention_days: int | None = Field(
        description="Days after the end of a case until it is redacted automatically; null means never."
    )
    max_attempts: int
    policy_version: str
