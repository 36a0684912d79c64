"""Makes the OpenAPI page say what is true: every error is a problem document, also where FastAPI has its own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.schemas import Problem

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer with these error statuses."""
    return {status: {"description": _phrase(status), "content": _PROBLEM} for status in statuses}


def _phrase(status: int) -> str:
    return "Checksum Mismatch" if status == 460 else HTTPStatus(status).phrase  # 460 is known to tus alone


def install(app: FastAPI) -> None:
    """Replace the page that FastAPI generates with one that knows problem documents."""

    def page() -> dict[str, Any]:
        if app.openapi_schema is None:
            spec = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=None
            )
            schemas = spec.setdefault("components", {}).setdefault("schemas", {})
            own = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(own.pop("$defs", {}))
            schemas["Problem"] = own
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for operations in spec["paths"].values():
                for operation in operations.values():
                    if "422" in operation["responses"]:
                        operation["responses"]["422"] = {"description": "Unprocessable Content", "content": _PROBLEM}
            app.openapi_schema = spec
        return app.openapi_schema

    app.openapi = page  # type: ignore[method-assign]
