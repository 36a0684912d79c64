"""The FastAPI application. `service.server.serve` runs it; tests and other servers may too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig

from service.assembly import assembled
from service.http import openapi, problems
from service.http.gauges import Gauges
from service.http.middleware import RequestLog
from service.http.rate_limits import Limits
from service.http.routes import capture, cases, evidence, health, profiles, review, shadows, tus, uploads, webhooks
from service.observability.metrics import Metrics
from service.settings.settings import Settings
from service.uploads import tus_protocol

_ABOUT = """
Automatic identity verification. Create a case, upload a video or picture for each of its steps in any order, follow
its events, and read its decision.

**Authentication.** Send an API key as a bearer token: `Authorization: Bearer vd_…`. `veridask keys create` makes a
key with the scopes you choose. A new case comes with a `client_secret` for the person's device. It gives access to
that case alone, to its uploads, its state and its events, for one hour. Never send an API key to a device.
"""
_CORS: Mapping[str, Any] = {
    "allow_methods": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
    "allow_headers": (
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "Last-Event-ID",
        "X-Request-ID",
        *tus_protocol.REQUEST_HEADERS,
    ),
    "expose_headers": ("Location", "Retry-After", "X-Request-ID", *tus_protocol.RESPONSE_HEADERS),
    "max_age": 600,
}
"""What pages of the origins that are let in may send and read. No cookies: a credential is always a header."""


_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""FastAPI's own spans would hold paths, queries and addresses of clients; `service.observability.tracing` makes ours.
"""


_ROUTES = (cases, uploads, profiles, health, capture, evidence, review, shadows, tus, webhooks)


def create_app(settings: Settings) -> FastAPI:
    """The application with these settings. `settings.scheduler` must name a scheduler.

    Several processes may share a case store and an evidence store when they join the same clusters.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with assembled(settings, metrics) as service:
            app.state.service = service
            app.state.limits = Limits(settings.key_rate, settings.case_rate, metrics)
            app.state.gauges = Gauges(service)
            metrics.registry.register(app.state.gauges)
            yield

    app = FastAPI(
        title="veridask",
        version=version("veridask"),
        summary="Automatic identity verification",
        description=_ABOUT,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
        redirect_slashes=False,  # a redirect would name whatever host the request named
        telemetry=_NO_TELEMETRY,
    )
    for routes in _ROUTES:
        app.include_router(routes.router)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **_CORS)
    app.add_middleware(RequestLog, metrics=metrics)
    problems.install(app)
    openapi.install(app)
    return app
