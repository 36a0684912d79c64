"""Liveness and readiness."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The process responds."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether cases can be accepted and decided now, and what is missing if not."""

    ready: bool
    missing: list[str] = Field(
        description="What is missing, any of `store`, `evidence`, `scheduler`, `worker:CPU`, `worker:GPU`, `stopping`."
    )
