"""A client that does not give up: what is not answered, or answered with 503, it asks again, of another API process.

It plays one case. Retrying is safe: creation carries an Idempotency-Key, and an upload that was taken, but whose answer
was lost, is answered with 409 the next time.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx

from graphs.records import Step
from service.client import ProblemError, VeridaskClient
from service.schemas.cases import CaseView

T = TypeVar("T")
STEPS: tuple[Step, ...] = ("front", "back", "face")
GIVE_UP_S = 150.0
"""A case that is not decided by then is stuck."""
_PAUSE_S = 0.2


class PatientClient:
    """Plays one case with these films, against API processes at `urls` in turn, with an API key. moments: for the order
    of the steps.
    """

    def __init__(self, urls: Mapping[str, str], key: str, films: Mapping[Step, bytes], moments: random.Random) -> None:
        self.films = films
        self.case_id = ""
        self.retried = 0
        self.acknowledged = 0
        """Uploads whose acknowledgement arrived here."""
        self.acknowledged_at = 0.0
        self._moments = moments
        self._urls, self._credential = urls, key
        self._clients = [VeridaskClient(url, key, timeout_s=30, patience_s=0) for url in urls.values()]
        self._key = hashlib.sha256(moments.randbytes(16)).hexdigest()

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def create(self) -> None:
        """Create the case."""
        self.case_id = self._patiently(lambda client: client.create("recorded", idempotency_key=self._key)).id

    def upload(self, step: Step) -> None:
        """Upload the film of a step, until it is acknowledged."""
        self._patiently(lambda client: self._taken(client, step))
        self.acknowledged_at = time.monotonic()

    def upload_at_once(self, step: Step, times: int) -> int:
        """Upload a step several times at once; gives how many were acknowledged."""
        with ThreadPoolExecutor(times) as pool:
            urls = [self._moments.choice(list(self._urls.values())) for _ in range(times)]
            clients = [VeridaskClient(url, self._credential, patience_s=0) for url in urls]
            jobs = [pool.submit(client.upload, self.case_id, step, self.films[step], "video/mp4") for client in clients]
            refused = [error for job in jobs if (error := job.exception()) is not None]
        for client in clients:
            client.close()
        assert all(isinstance(error, ProblemError) and error.status == 409 for error in refused), refused
        self.acknowledged_at = time.monotonic()
        self.acknowledged += times - len(refused)
        return times - len(refused)

    def decided(self) -> CaseView:
        """The case with its decision. Raises TimeoutError when it is stuck."""
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            case = self._patiently(self._look)
            if case.decision is not None:
                return case
            if time.monotonic() > deadline:
                raise TimeoutError(f"case is {case.status} without a decision after {GIVE_UP_S:.0f} s")

    def play(self) -> CaseView:
        """Create, upload in a random order, wait for the decision."""
        self.create()
        for step in self._moments.sample(STEPS, len(STEPS)):
            self.upload(step)
        return self.decided()

    def _look(self, client: VeridaskClient) -> CaseView:
        try:
            return client.decided(self.case_id, 2.0)
        except TimeoutError:
            return client.case(self.case_id)

    def _taken(self, client: VeridaskClient, step: Step) -> None:
        try:
            client.upload(self.case_id, step, self.films[step], "video/mp4")
            self.acknowledged += 1
        except ProblemError as error:
            if error.status != 409:
                raise

    def _patiently(self, call: Callable[[VeridaskClient], T]) -> T:
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            client = self._moments.choice(self._clients)
            try:
                return call(client)
            except (httpx.TransportError, ProblemError) as error:
                temporary = not isinstance(error, ProblemError) or error.status == 503
                if not temporary or time.monotonic() > deadline:
                    raise
                self.retried += 1
                time.sleep(_PAUSE_S)
