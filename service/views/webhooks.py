"""Webhook endpoints and their deliveries as the API shows them."""

from __future__ import annotations

import json

from service.schemas.webhooks import DeliveryView, EndpointSecretView, EndpointView
from service.store.webhooks import Delivery, Endpoint


def endpoint_view(endpoint: Endpoint) -> EndpointView:
    """An endpoint, without its secret."""
    return EndpointView.model_validate(vars(endpoint))


def endpoint_secret_view(endpoint: Endpoint, secret: str) -> EndpointSecretView:
    """An endpoint with its signing secret, which is shown this once."""
    return EndpointSecretView.model_validate({**vars(endpoint), "secret": secret})


def delivery_view(delivery: Delivery) -> DeliveryView:
    """One delivery, with the body as it is sent."""
    return DeliveryView.model_validate({**vars(delivery), "payload": json.loads(delivery.body)})
