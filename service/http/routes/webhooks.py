"""The routes of webhooks: endpoints, the log of their deliveries, and sending one again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from service.http.access import REFUSED, Parts, caller, needs
from service.http.openapi import problems
from service.schemas.cases import PRINTABLE
from service.schemas.webhooks import DeliveriesView, DeliveryView, EndpointSecretView, EndpointView, NewEndpointBody
from service.views.webhooks import delivery_view, endpoint_secret_view, endpoint_view
from service.vocabulary import DeliveryState

router = APIRouter(
    prefix="/v1/webhook_endpoints",
    tags=["webhooks"],
    responses=problems(*REFUSED),
    dependencies=[Depends(needs("admin"))],
)

EndpointId = Annotated[str, Path(description="The id of the endpoint: `endpoint_` and 26 characters.", max_length=64)]
DeliveryId = Annotated[
    str, Path(description="The id of the delivery, which is its `webhook-id`: `msg_` and 26 characters.", max_length=64)
]


@router.post("", status_code=201, responses=problems(409, 422, 503))
async def create_webhook_endpoint(request: Request, parts: Parts, body: NewEndpointBody) -> EndpointSecretView:
    """Create a webhook endpoint. It receives the events of cases from now on. Its signing secret is shown only in this
    answer.
    """
    await parts.destinations.addresses(parts.destinations.parsed(body.url))
    made = await parts.webhooks.add(body.url, body.events, body.description, datetime.now(UTC), by=caller(request))
    return endpoint_secret_view(*made)


@router.get("", responses=problems(503))
async def get_webhook_endpoints(parts: Parts) -> list[EndpointView]:
    """List all webhook endpoints, oldest first."""
    return [endpoint_view(endpoint) for endpoint in await parts.webhooks.endpoints()]


@router.get("/{endpoint_id}", responses=problems(404, 422, 503))
async def get_webhook_endpoint(parts: Parts, endpoint_id: EndpointId) -> EndpointView:
    """Get a webhook endpoint."""
    return endpoint_view(await parts.webhooks.endpoint(endpoint_id))


@router.delete("/{endpoint_id}", status_code=204, responses=problems(404, 422, 503))
async def delete_webhook_endpoint(request: Request, parts: Parts, endpoint_id: EndpointId) -> None:
    """Delete a webhook endpoint and its deliveries. Pending deliveries are not sent."""
    await parts.webhooks.remove(endpoint_id, datetime.now(UTC), by=caller(request))


@router.post("/{endpoint_id}/rotate_secret", responses=problems(404, 422, 503))
async def rotate_webhook_secret(request: Request, parts: Parts, endpoint_id: EndpointId) -> EndpointSecretView:
    """Replace the signing secret of an endpoint. For 24 hours, deliveries are signed with both secrets."""
    return endpoint_secret_view(*await parts.webhooks.rotate(endpoint_id, datetime.now(UTC), by=caller(request)))


@router.post("/{endpoint_id}/enable", responses=problems(404, 422, 503))
async def enable_webhook_endpoint(request: Request, parts: Parts, endpoint_id: EndpointId) -> EndpointView:
    """Enable an endpoint that was disabled. Deliveries that failed in the meantime can be replayed."""
    return endpoint_view(await parts.webhooks.enable(endpoint_id, datetime.now(UTC), by=caller(request)))


@router.get("/{endpoint_id}/deliveries", responses=problems(404, 422, 503))
async def get_webhook_deliveries(
    parts: Parts,
    endpoint_id: EndpointId,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[
        str | None, Query(max_length=64, pattern=PRINTABLE, description="The `next_cursor` of the previous page.")
    ] = None,
    state: DeliveryState | None = None,
) -> DeliveriesView:
    """List the deliveries of an endpoint, newest first: those of the last 30 days, and all that are still pending."""
    found = await parts.webhooks.deliveries(endpoint_id, limit + 1, cursor, state)
    views = [delivery_view(delivery) for delivery in found[:limit]]
    return DeliveriesView(data=views, next_cursor=views[-1].id if len(found) > limit else None)


@router.get("/{endpoint_id}/deliveries/{delivery_id}", responses=problems(404, 422, 503))
async def get_webhook_delivery(parts: Parts, endpoint_id: EndpointId, delivery_id: DeliveryId) -> DeliveryView:
    """Get a delivery."""
    return delivery_view(await parts.webhooks.delivery(endpoint_id, delivery_id))


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay", status_code=202, responses=problems(404, 409, 422, 503))
async def replay_webhook_delivery(parts: Parts, endpoint_id: EndpointId, delivery_id: DeliveryId) -> DeliveryView:
    """Send a delivery again with the same `webhook-id` and a new series of retries. A delivery that waits for a retry
    is sent at once.
    """
    replayed = await parts.webhooks.replay(endpoint_id, delivery_id, datetime.now(UTC))
    parts.webhook_news.set()
    return delivery_view(replayed)
