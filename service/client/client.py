"""A small typed client of the REST API, for Python programs; the command line, the demo and the tests use it too."""

from __future__ import annotations

import json
import mimetypes
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx

from graphs.records import Step
from service.client.transport import Content, ProblemError
from service.client.webhooks import WebhookCalls
from service.schemas.cases import CasePage, CaseView, ClientSecretView, CreatedView, ListedCaseView
from service.schemas.health import Readiness
from service.schemas.profiles import ProfileView
from service.schemas.shadows import ShadowView

__all__ = ["CaseEvent", "ProblemError", "VeridaskClient"]

UNTOLD = "application/octet-stream"
_WAIT_S, _BUSY_S = 0.05, 1.0
_SILENCE_S = 5.0
"""Below the server's ping, which would otherwise keep a wait going past its deadline."""


@dataclass(frozen=True)
class CaseEvent:
    """One server-sent event of a case."""

    id: int
    type: str
    data: Mapping[str, Any]


class VeridaskClient(WebhookCalls):
    """The API at `url`. credential: an API key, or a case's client secret; timeout_s: for each answer; patience_s: how
    long a call is tried again, without doing anything twice, when the connection fails or the service answers 429 or
    503 (after the time that it names).

    Every method raises ProblemError for a problem document and httpx.TransportError when nothing answers.
    """

    def __init__(self, url: str, credential: str = "", timeout_s: float = 60.0, patience_s: float = 30.0) -> None:
        super().__init__(url, credential, timeout_s, patience_s)
        self._seen: dict[str, int] = {}

    def ready(self) -> Readiness:
        """Whether cases can be taken, and what is missing if not."""
        return Readiness.model_validate(self._http.get("/readyz").json())

    def profiles(self) -> list[ProfileView]:
        """The profiles that cases can be created with."""
        return [ProfileView.model_validate(item) for item in self._ask("GET", "/v1/profiles").json()]

    def shadows(self, *, profile: str | None = None) -> list[ShadowView]:
        """What the shadows of profiles would have decided, beside the live policy."""
        query = {} if profile is None else {"profile": profile}
        return [ShadowView.model_validate(item) for item in self._ask("GET", "/v1/shadow", params=query).json()]

    def create(
        self,
        profile: str = "standard",
        *,
        client_reference_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedView:
        """Create a case. A repeated idempotency_key (by default one is made) gives the case that it first made."""
        body = {"profile": profile, "client_reference_id": client_reference_id, "metadata": dict(metadata or {})}
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return CreatedView.model_validate(self._ask("POST", "/v1/cases", json=body, headers=headers).json())

    def cases(self, *, limit: int = 20, cursor: str | None = None, **wanted: str | Sequence[str]) -> CasePage:
        """A page of cases, newest first. wanted: `status`, `outcome`, `profile`, `client_reference_id`, `created_from`,
        `created_before`, as the API takes them; cursor: `next_cursor` of the page before.
        """
        query: dict[str, str | int | Sequence[str]] = {"limit": limit, **wanted}
        if cursor is not None:
            query["cursor"] = cursor
        return CasePage.model_validate(self._ask("GET", "/v1/cases", params=query).json())

    def all_cases(self, *, limit: int = 100, **wanted: str | Sequence[str]) -> Iterator[ListedCaseView]:
        """All such cases, newest first; asks for `limit` at a time, as they are taken."""
        cursor: str | None = None
        while True:
            page = self.cases(limit=limit, cursor=cursor, **wanted)
            yield from page.data
            if (cursor := page.next_cursor) is None:
                return

    def client_secret(self, case_id: str) -> ClientSecretView:
        """Another secret for the person's device."""
        return ClientSecretView.model_validate(self._ask("POST", f"/v1/cases/{case_id}/client_secret").json())

    def upload(self, case_id: str, step: Step, media: Path | Content, content_type: str | None = None) -> CaseView:
        """Upload the media of a step; durable when this returns.

        media: a file's path, or its bytes, or an open binary file (from its beginning), or an iterator of bytes, which
        is not sent a second time. content_type: a path's is told by its name; without one the service looks.
        """
        if isinstance(media, Path):
            with media.open("rb") as file:
                return self.upload(case_id, step, file, content_type or mimetypes.guess_type(media.name)[0])
        path, headers = f"/v1/cases/{case_id}/uploads/{step}", {"Content-Type": content_type or UNTOLD}
        deadline, again = time.monotonic() + self._patience_s, isinstance(media, bytes | IOBase)
        before, lost = self.case(case_id) if again and self._patience_s else None, False
        while True:
            try:
                answer = self._ask("PUT", path, content=media, headers=headers, repeatable=False)
                return CaseView.model_validate(answer.json())
            except (httpx.TransportError, ProblemError) as error:
                refused = isinstance(error, ProblemError) and error.status != 503 and not (lost and error.status == 409)
                if before is None or refused or time.monotonic() > deadline:
                    raise
                time.sleep(error.retry_after_s if isinstance(error, ProblemError) else _WAIT_S)
                # It may have been taken when its answer was lost, and judged since: sent again it would be a retake.
                now, lost = self.case(case_id), True
                if _attempts(now, step) > _attempts(before, step):
                    return now

    def case(self, case_id: str) -> CaseView:
        """The case as it is now."""
        return CaseView.model_validate(self._ask("GET", f"/v1/cases/{case_id}").json())

    def cancel(self, case_id: str) -> CaseView:
        """End a case that is not decided yet."""
        return CaseView.model_validate(self._ask("POST", f"/v1/cases/{case_id}/cancel").json())

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
        return CaseView.model_validate(self._ask("POST", f"/v1/cases/{case_id}/review", json=body).json())

    def report(self, case_id: str) -> str:
        """The case as a page that a person can read, in HTML."""
        return self._ask("GET", f"/v1/cases/{case_id}/report").text

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
        except ProblemError as error:
            if error.status not in (429, 503):
                raise
            time.sleep(_BUSY_S)

    def events(self, case_id: str, after: int = 0, timeout_s: float = 60.0) -> Iterator[CaseEvent]:
        """The events of a case past the id `after`, until it is closed. timeout_s: longest silence."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        with self._http.stream("GET", f"/v1/cases/{case_id}/events", headers=headers, timeout=timeout_s) as answer:
            if answer.is_error:
                raise ProblemError(answer.read().decode("utf-8", "replace"), answer.status_code)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if not line and "data" in fields:
                    data = json.loads(fields["data"])
                    yield CaseEvent(int(fields["id"]), fields["event"], data)
                    fields = {}
                elif not line.startswith(":") and ":" in line:
                    name, value = line.split(":", 1)
                    fields[name] = value.removeprefix(" ")


def _attempts(case: CaseView, step: Step) -> int:
    return sum(its.attempts for its in case.steps if its.step == step)
