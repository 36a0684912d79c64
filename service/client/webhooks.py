"""The part of the client that looks after webhooks."""

from __future__ import annotations

from collections.abc import Sequence

from service.client.transport import Calls
from service.schemas.webhooks import DeliveriesView, DeliveryView, EndpointSecretView, EndpointView
from service.vocabulary import DeliveryState, EventType

_ENDPOINTS = "/v1/webhook_endpoints"


class WebhookCalls(Calls):
    """Endpoints, the log of their deliveries, and sending one again. What comes there is checked by the library of
    Standard Webhooks.
    """

    def create_webhook_endpoint(
        self, url: str, *, events: Sequence[EventType] | None = None, description: str | None = None
    ) -> EndpointSecretView:
        """Make an endpoint for these types of events, or all; its signing secret is shown here alone."""
        body = {"url": url, "events": None if events is None else list(events), "description": description}
        return EndpointSecretView.model_validate(self._ask("POST", _ENDPOINTS, json=body, repeatable=False).json())

    def webhook_endpoints(self) -> list[EndpointView]:
        """All endpoints, oldest first."""
        return [EndpointView.model_validate(item) for item in self._ask("GET", _ENDPOINTS).json()]

    def webhook_endpoint(self, endpoint_id: str) -> EndpointView:
        """One endpoint."""
        return EndpointView.model_validate(self._ask("GET", f"{_ENDPOINTS}/{endpoint_id}").json())

    def delete_webhook_endpoint(self, endpoint_id: str) -> None:
        """Remove an endpoint, with its deliveries."""
        self._ask("DELETE", f"{_ENDPOINTS}/{endpoint_id}", repeatable=False)

    def rotate_webhook_secret(self, endpoint_id: str) -> EndpointSecretView:
        """Give an endpoint a new signing secret; the old one signs as well for a day."""
        answer = self._ask("POST", f"{_ENDPOINTS}/{endpoint_id}/rotate_secret", repeatable=False)
        return EndpointSecretView.model_validate(answer.json())

    def enable_webhook_endpoint(self, endpoint_id: str) -> EndpointView:
        """Send again to an endpoint that was disabled."""
        return EndpointView.model_validate(self._ask("POST", f"{_ENDPOINTS}/{endpoint_id}/enable").json())

    def webhook_deliveries(
        self, endpoint_id: str, *, limit: int = 20, cursor: str | None = None, state: DeliveryState | None = None
    ) -> DeliveriesView:
        """A part of an endpoint's log, newest first. cursor: the `next_cursor` of the part before."""
        given = {"limit": limit, "cursor": cursor, "state": state}
        asked = {name: value for name, value in given.items() if value is not None}
        answer = self._ask("GET", f"{_ENDPOINTS}/{endpoint_id}/deliveries", params=asked)
        return DeliveriesView.model_validate(answer.json())

    def webhook_delivery(self, endpoint_id: str, delivery_id: str) -> DeliveryView:
        """One delivery."""
        answer = self._ask("GET", f"{_ENDPOINTS}/{endpoint_id}/deliveries/{delivery_id}")
        return DeliveryView.model_validate(answer.json())

    def replay_webhook_delivery(self, endpoint_id: str, delivery_id: str) -> DeliveryView:
        """Send a delivery again, with the same id."""
        answer = self._ask("POST", f"{_ENDPOINTS}/{endpoint_id}/deliveries/{delivery_id}/replay")
        return DeliveryView.model_validate(answer.json())
