"""Views of webhook endpoints and their deliveries."""

from __future__ import annotations

import json

from service.schemas.webhooks import DeliveryView, EndpointSecretView, EndpointView
from service.store.webhooks import Delivery, Endpoint


def endpoint_view(endpoint: Endpoint) -> EndpointView:
    """The view of an endpoint, without its secret."""
    return EndpointView.model_validate(vars(endpoint))


def endpoint_secret_view(endpoint: Endpoint, secret: str) -> EndpointSecretView:
    """The view of an endpoint with its signing secret, which is shown only once."""
    return EndpointSecretView.model_validate({**vars(endpoint), "secret": secret})


def delivery_view(delivery: Delivery) -> DeliveryView:
    """The view of a delivery, with its body parsed."""
    return DeliveryView.model_validate({**vars(delivery), "payload": json.loads(delivery.body)})
