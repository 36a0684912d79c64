"""A small typed client of the REST API, used by the command line and the tests."""

from __future__ import annotations

import json
import mimetypes
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from graphs.records import Step
from models.errors import VeridaskError
from service.schemas import CasePage, CaseView, ClientSecretView, CreatedView, Problem, ProfileView, Readiness
from service.webhook_outbox import EventType
from service.webhook_schemas import DeliveriesView, DeliveryView, EndpointSecretView, EndpointView
from service.webhook_store import DeliveryState

_ENDPOINTS = "/v1/webhook_endpoints"

_WAIT_S = 0.05
_SILENCE_S = 5.0
"""Below the server's ping, which would otherwise keep a wait going past its deadline."""


class ProblemError(VeridaskError):
    """The service answered with a problem: the text of the document, and the HTTP status that came with it."""

    code = "problem"

    def __init__(self, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.args = (text, status)
        self.status = status
        try:
            self.problem: Problem | None = Problem.model_validate_json(text)
        except ValueError:  # something in front of the service answered
            self.problem = None
        self.detail = self.problem.detail if self.problem else text[:200]
        self.code = self.problem.code if self.problem else "problem"

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


@dataclass(frozen=True)
class CaseEvent:
    """One server-sent event of a case."""

    id: int
    type: str
    data: Mapping[str, Any]


class VeridaskClient:
    """The API at `url`. credential: an API key, or a case's client secret; timeout_s: for each answer.

    Every method raises ProblemError for a problem document and httpx.TransportError when nothing answers.
    """

    def __init__(self, url: str, credential: str = "", timeout_s: float = 60.0) -> None:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)
        self._seen: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ready(self) -> Readiness:
        """Whether cases can be taken, and what is missing if not."""
        return Readiness.model_validate(self._http.get("/readyz").json())

    def profiles(self) -> list[ProfileView]:
        """The profiles that cases can be created with."""
        return [ProfileView.model_validate(item) for item in _good(self._http.get("/v1/profiles")).json()]

    def create(
        self,
        profile: str = "standard",
        *,
        client_reference_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedView:
        """Create a case."""
        body = {"profile": profile, "client_reference_id": client_reference_id, "metadata": dict(metadata or {})}
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return CreatedView.model_validate(_good(self._http.post("/v1/cases", json=body, headers=headers)).json())

    def cases(self, *, limit: int = 20, cursor: str | None = None, **wanted: str | Sequence[str]) -> CasePage:
        """A page of cases, newest first. wanted: `status`, `outcome`, `profile`, `client_reference_id`, `created_from`,
        `created_before`, as the API takes them; cursor: `next_cursor` of the page before.
        """
        query: dict[str, str | int | Sequence[str]] = {"limit": limit, **wanted}
        if cursor is not None:
            query["cursor"] = cursor
        return CasePage.model_validate(_good(self._http.get("/v1/cases", params=query)).json())

    def client_secret(self, case_id: str) -> ClientSecretView:
        """Another secret for the person's device."""
        return ClientSecretView.model_validate(_good(self._http.post(f"/v1/cases/{case_id}/client_secret")).json())

    def upload(self, case_id: str, step: Step, media: Path | bytes, content_type: str | None = None) -> CaseView:
        """Upload a file, or bytes with their media type, for a step; durable when this returns.

        The media type of a file is told by its name when it is not given.
        """
        if isinstance(media, Path):
            content_type = content_type or mimetypes.guess_type(media.name)[0]
            media = media.read_bytes()
        headers = {"Content-Type": content_type or "application/octet-stream"}
        answer = self._http.put(f"/v1/cases/{case_id}/uploads/{step}", content=media, headers=headers)
        return CaseView.model_validate(_good(answer).json())

    def case(self, case_id: str) -> CaseView:
        """The case as it is now."""
        return CaseView.model_validate(_good(self._http.get(f"/v1/cases/{case_id}")).json())

    def cancel(self, case_id: str) -> CaseView:
        """End a case that is not decided yet."""
        return CaseView.model_validate(_good(self._http.post(f"/v1/cases/{case_id}/cancel")).json())

    def review(
        self,
        case_id: str,
        outcome: Literal["approved", "declined", "resubmission_requested"],
        explanation: str,
        *,
        reasons: Sequence[str | tuple[str, Step]] = (),
        retake: Sequence[Step] = (),
        note: str | None = None,
    ) -> CaseView:
        """Decide a case that is in review. reasons: codes, each with the step that it speaks of where it does; retake:
        the steps to upload again, with `resubmission_requested`.
        """
        given = [{"code": r} if isinstance(r, str) else {"code": r[0], "step": r[1]} for r in reasons]
        body = {"outcome": outcome, "explanation": explanation, "reasons": given, "retake": list(retake), "note": note}
        return CaseView.model_validate(_good(self._http.post(f"/v1/cases/{case_id}/review", json=body)).json())

    def report(self, case_id: str) -> str:
        """The case as a page that a person can read, in HTML."""
        return _good(self._http.get(f"/v1/cases/{case_id}/report")).text

    def wait(self, case_id: str, timeout_s: float = 120.0) -> CaseView:
        """Wait until the case wants something (a retake) or has ended; follows its events, so nothing is polled.

        A case that still wants its first uploads is waited for. Raises TimeoutError.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            case = self.case(case_id)
            if case.status not in ("processing", "requires_input") or any(s.state == "retake" for s in case.steps):
                return case
            self._follow(case_id, deadline)
            if time.monotonic() >= deadline:
                raise TimeoutError(f"case {case_id} is {case.status} after {timeout_s:.0f} s")

    def decided(self, case_id: str, timeout_s: float = 120.0) -> CaseView:
        """The case once there is a decision on it, be it that a step must be taken again. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while (case := self.case(case_id)).decision is None:
            self._follow(case_id, deadline)
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no decision on case {case_id} after {timeout_s:.0f} s")
        return case

    def _follow(self, case_id: str, deadline: float) -> None:
        """Read the events that were not read yet, until one that may end the waiting."""
        silence = min(_SILENCE_S, max(0.1, deadline - time.monotonic()))
        try:
            for event in self.events(case_id, self._seen.get(case_id, 0), timeout_s=silence):
                self._seen[case_id] = event.id
                ended = event.type == "status" and event.data["status"] not in ("requires_input", "processing")
                told = event.type == "decision" or event.data.get("state") == "retake"
                if ended or told or time.monotonic() >= deadline:
                    break
        except httpx.TransportError:
            time.sleep(_WAIT_S)  # the stream broke or was silent too long; look at the case and go on

    def events(self, case_id: str, after: int = 0, timeout_s: float = 60.0) -> Iterator[CaseEvent]:
        """The events of a case past the id `after`, until it is closed. timeout_s: longest silence."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        with self._http.stream("GET", f"/v1/cases/{case_id}/events", headers=headers, timeout=timeout_s) as answer:
            if answer.is_error:
                answer.read()
            fields: dict[str, str] = {}
            for line in _good(answer).iter_lines():
                if not line and "data" in fields:
                    data = json.loads(fields["data"])
                    yield CaseEvent(int(fields["id"]), fields["event"], data)
                    fields = {}
                elif not line.startswith(":") and ":" in line:
                    name, value = line.split(":", 1)
                    fields[name] = value.removeprefix(" ")

    # --- webhooks ---

    def create_webhook_endpoint(
        self, url: str, *, events: Sequence[EventType] | None = None, description: str | None = None
    ) -> EndpointSecretView:
        """Make an endpoint for these types of events, or all; its signing secret is shown here alone."""
        body = {"url": url, "events": None if events is None else list(events), "description": description}
        return EndpointSecretView.model_validate(_good(self._http.post(_ENDPOINTS, json=body)).json())

    def webhook_endpoints(self) -> list[EndpointView]:
        """All endpoints, oldest first."""
        return [EndpointView.model_validate(item) for item in _good(self._http.get(_ENDPOINTS)).json()]

    def webhook_endpoint(self, endpoint_id: str) -> EndpointView:
        """One endpoint."""
        return EndpointView.model_validate(_good(self._http.get(f"{_ENDPOINTS}/{endpoint_id}")).json())

    def delete_webhook_endpoint(self, endpoint_id: str) -> None:
        """Remove an endpoint, with its deliveries."""
        _good(self._http.delete(f"{_ENDPOINTS}/{endpoint_id}"))

    def rotate_webhook_secret(self, endpoint_id: str) -> EndpointSecretView:
        """Give an endpoint a new signing secret; the old one signs as well for a day."""
        answer = self._http.post(f"{_ENDPOINTS}/{endpoint_id}/rotate_secret")
        return EndpointSecretView.model_validate(_good(answer).json())

    def enable_webhook_endpoint(self, endpoint_id: str) -> EndpointView:
        """Send again to an endpoint that was disabled."""
        return EndpointView.model_validate(_good(self._http.post(f"{_ENDPOINTS}/{endpoint_id}/enable")).json())

    def webhook_deliveries(
        self, endpoint_id: str, *, limit: int = 20, cursor: str | None = None, state: DeliveryState | None = None
    ) -> DeliveriesView:
        """A part of an endpoint's log, newest first. cursor: the `next_cursor` of the part before."""
        given = {"limit": limit, "cursor": cursor, "state": state}
        asked = {name: value for name, value in given.items() if value is not None}
        answer = self._http.get(f"{_ENDPOINTS}/{endpoint_id}/deliveries", params=asked)
        return DeliveriesView.model_validate(_good(answer).json())

    def webhook_delivery(self, endpoint_id: str, delivery_id: str) -> DeliveryView:
        """One delivery."""
        answer = self._http.get(f"{_ENDPOINTS}/{endpoint_id}/deliveries/{delivery_id}")
        return DeliveryView.model_validate(_good(answer).json())

    def replay_webhook_delivery(self, endpoint_id: str, delivery_id: str) -> DeliveryView:
        """Send a delivery again, with the same id."""
        answer = self._http.post(f"{_ENDPOINTS}/{endpoint_id}/deliveries/{delivery_id}/replay")
        return DeliveryView.model_validate(_good(answer).json())


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise ProblemError(answer.text, answer.status_code)
    return answer
