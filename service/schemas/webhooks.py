"""What the routes of webhooks take and show."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.schemas.cases import Reference
from service.vocabulary import DeliveryState, EventType


class NewEndpointBody(BaseModel):
    """An endpoint to make."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)] = Field(
        description="https:// and a host on the public Internet; http:// to this machine where the service binds "
        "loopback. Redirects are not followed.",
        json_schema_extra={"format": "uri"},
    )
    events: list[EventType] | None = Field(
        None, min_length=1, max_length=32, description="The types wanted; all of them, also later ones, by default."
    )
    description: Reference | None = None


class EndpointView(BaseModel):
    """Where webhooks go."""

    id: str
    url: str
    events: list[EventType] | None = Field(description="Null for all.")
    description: str | None
    created_at: datetime
    disabled_at: datetime | None = Field(description="When it answered 410; nothing is sent since.")


class EndpointSecretView(EndpointView):
    """An endpoint and its signing secret, which is not shown again."""

    secret: str = Field(description="`whsec_…`, for any library of Standard Webhooks.")


class DeliveryView(BaseModel):
    """One webhook for one endpoint, and how its sending stands."""

    id: str = Field(description="The `webhook-id`, the same at each attempt: what a receiver tells repetitions by.")
    endpoint_id: str
    case_id: str
    type: EventType
    payload: dict[str, Any] = Field(description="The body, as it is sent.")
    state: DeliveryState = Field(description="`failed` after the last retry, or when the endpoint is disabled.")
    attempts: int
    last_status: int | None = Field(description="Of the last answer; null when there was none.")
    last_error: str | None = Field(
        description="Of: `timeout`, `no_connection`, `unsafe_or_unknown_host`, `endpoint_disabled`, `broke` (a fault "
        "of the service)."
    )
    attempted_at: datetime | None = Field(description="When the last attempt ended.")
    next_at: datetime | None = Field(
        description="Not attempted before; one that waits for an earlier one of its case is later."
    )
    created_at: datetime


class DeliveriesView(BaseModel):
    """A part of an endpoint's deliveries, newest first."""

    data: list[DeliveryView]
    next_cursor: str | None = Field(description="The `cursor` of the next part; null at the end.")
