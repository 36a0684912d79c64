"""Asks the service over HTTP: what fails for a moment is asked again, what the service refuses is an error."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from io import IOBase
from types import TracebackType
from typing import BinaryIO, Self

import httpx

from models.errors import VeridaskError
from service.schemas.problems import Problem

_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)

Content = bytes | BinaryIO | Iterable[bytes]


class ProblemError(VeridaskError):
    """The service answered with a problem: the text of the document, and the HTTP status that came with it.

    retry_after_s: when to come again, where the service says so; else 0.
    """

    code = "problem"

    def __init__(self, text: str, status: int = 500, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.args = (text, status, retry_after_s)
        self.status = status
        self.retry_after_s = retry_after_s
        try:
            self.problem: Problem | None = Problem.model_validate_json(text)
        except ValueError:  # something in front of the service answered
            self.problem = None
        self.detail = self.problem.detail if self.problem else text[:200]
        self.code = self.problem.code if self.problem else "problem"

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


class Calls:
    """Calls to the API at `url`. credential: an API key, or a case's client secret; timeout_s: for each answer;
    patience_s: how long a call is tried again when the connection fails or the service answers 429 or 503. 0: not once.
    """

    def __init__(self, url: str, credential: str = "", timeout_s: float = 60.0, patience_s: float = 30.0) -> None:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)
        self._patience_s = patience_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        json: object = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int | Sequence[str]] | None = None,
    ) -> httpx.Response:
        """A good answer. repeatable: sent twice it does no more than sent once; else it is sent again only where it
        surely was not taken. Raises ProblemError, httpx.TransportError.
        """
        deadline, pause = time.monotonic() + self._patience_s, _PAUSE_S
        while True:
            if isinstance(content, IOBase):
                content.seek(0)
            try:
                answer = self._http.request(method, path, json=json, content=content, headers=headers, params=params)
            except httpx.TransportError as error:
                if not (repeatable or isinstance(error, _NOT_SENT)) or time.monotonic() + pause > deadline:
                    raise
                wait = pause
            else:
                if answer.is_success:
                    return answer
                again = answer.status_code == 429 or (answer.status_code == 503 and repeatable)
                told = _retry_after(answer)
                wait = max(pause, told)
                if not again or time.monotonic() + wait > deadline:
                    raise ProblemError(answer.text, answer.status_code, told)
            time.sleep(wait * random.uniform(1.0, 1.2))
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _retry_after(answer: httpx.Response) -> float:
    given = answer.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else 0.0
