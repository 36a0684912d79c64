"""The FastAPI application. `service.server` runs it; tests and other servers may too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service import api, evidence_routes, openapi, problems, review_routes, tus_routes, webhook_routes
from service.assembly import assembled
from service.requests import RequestLog
from service.settings import Settings

_ABOUT = """
Automatic identity verification. Create a case, upload the media of its steps in any order, follow its events, read its
decision.

**Access.** Send an API key as a bearer token (`Authorization: Bearer vd_…`); `veridask keys create` makes one with the
scopes that are wanted. The `client_secret` that comes with a new case opens that case alone, for its uploads, its state
and its events, and for an hour: it is for the person's device, which must never see a key.
"""


def create_app(settings: Settings) -> FastAPI:
    """The application with these settings. `settings.scheduler` must name a scheduler.

    Several processes may share a case store and an evidence store when they join the same clusters.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with assembled(settings) as service:
            app.state.service = service
            yield

    app = FastAPI(title="veridask", version=version("veridask"), description=_ABOUT, lifespan=lifespan)
    app.include_router(api.router)
    app.include_router(evidence_routes.router)
    app.include_router(review_routes.router)
    app.include_router(tus_routes.router)
    app.include_router(webhook_routes.router)
    app.add_middleware(RequestLog)
    problems.install(app)
    openapi.install(app)
    return app
