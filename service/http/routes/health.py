"""For load balancers and Prometheus: liveness, readiness, figures."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder
from starlette.responses import PlainTextResponse

from service.http.access import REFUSED, Parts, needs
from service.http.openapi import problems
from service.schemas.health import Health, Readiness

router = APIRouter()


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """Liveness: the process responds. Says nothing about the cluster or the store."""
    return Health()


@router.get("/readyz", tags=["health"], responses={503: {"model": Readiness, "description": "Something is missing"}})
async def readyz(parts: Parts, response: Response) -> Readiness:
    """Readiness: whether cases can be accepted and decided now, and what is missing if not."""
    missing = await parts.missing()
    response.status_code = 503 if missing else 200
    return Readiness(ready=not missing, missing=missing)


@router.get(
    "/metrics",
    tags=["health"],
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "The text format of Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problems(*REFUSED, 503),
    },
    dependencies=[Depends(needs("metrics:read"))],
)
async def get_metrics(request: Request, parts: Parts) -> Response:
    """Metrics of this process, the case store and the clusters, in the text format of Prometheus. They contain nothing
    about a person or a single case.
    """
    await request.app.state.gauges.update()
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(parts.metrics.registry), media_type=media_type)
