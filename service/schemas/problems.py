"""Errors: problem documents (RFC 9457)."""

from __future__ import annotations

from pydantic import BaseModel, Field


class FieldProblem(BaseModel):
    """One field of a request that is not valid."""

    at: str
    message: str


class Problem(BaseModel):
    """An error as a problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] | None = Field(
        None, description="The fields that are not valid; only with the code `invalid_request`."
    )
