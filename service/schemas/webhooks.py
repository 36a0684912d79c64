"""What the routes of webhooks take and show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.schemas.cases import Reference
from service.vocabulary import DeliveryState, EventType


class NewEndpointBody(BaseModel):
    """The webhook endpoint to create."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)] = Field(
        description="An https:// URL with a host on the public Internet. http:// is allowed to this machine if the "
        "service listens on loopback. Redirects are not followed.",
        json_schema_extra={"format": "uri"},
    )
    events: list[EventType] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="The event types to send. By default all types, including ones added later.",
    )
    description: Reference | None = None


class EndpointView(BaseModel):
    """A webhook endpoint."""

    id: str
    url: str
    events: list[EventType] | None = Field(description="The event types that are sent; null for all.")
    description: str | None
    created_at: datetime
    disabled_at: datetime | None = Field(description="When the endpoint answered with 410; nothing is sent since then.")


class EndpointSecretView(EndpointView):
    """A webhook endpoint with its signing secret, which is not shown again."""

    secret: str = Field(description="The signing secret, `whsec_…`. Use it with any Standard Webhooks library.")


class DeliveryView(BaseModel):
    """One webhook for one endpoint, with the state of its delivery."""

    id: str = Field(
        description="The `webhook-id`. It is the same for each attempt, so that receivers can recognise repetitions."
    )
    endpoint_id: str
    case_id: str
    type: EventType
    payload: dict[str, Any] = Field(description="The body as it is sent.")
    state: DeliveryState = Field(
        description="`pending`, `delivered`, or `failed` after the last retry or when the endpoint is disabled."
    )
    attempts: int
    last_status: int | None = Field(description="The HTTP status of the last answer; null if there was none.")
    last_error: str | None = Field(
        description="One of `timeout`, `no_connection`, `unsafe_or_unknown_host`, `endpoint_disabled`, or `broke` (a "
        "fault of the service)."
    )
    attempted_at: datetime | None = Field(description="When the last attempt ended.")
    next_at: datetime | None = Field(
        description="The earliest time of the next attempt. A delivery that waits for an earlier one of its case is "
        "sent later."
    )
    created_at: datetime


class DeliveriesView(BaseModel):
    """A page of deliveries, newest first."""

    data: list[DeliveryView]
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last one.")
