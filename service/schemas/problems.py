"""Errors: problem documents (RFC 9457)."""

from __future__ import annotations

from pydantic import BaseModel, Field


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    at: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] | None = Field(None, description="With `invalid_request` only.")
