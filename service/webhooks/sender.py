"""Sends the webhooks that are due: signed by the Standard Webhooks scheme, at least once, in order for each case and
endpoint, with retries over about a day. Each API process runs one of these on the store that they share.

A delivery is claimed before it is sent, and its outcome recorded after; a process that dies in between leaves it to the
next one when the claim is over, so a receiver may see one twice, with the same `webhook-id`. What is due, and to whom,
is not decided here (`service.store.outbox`), nor which URLs are safe (`service.webhooks.destinations`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import httpx
import structlog
from standardwebhooks import Webhook

from service.errors import ServiceError, WebhookUrlError
from service.observability.telemetry import Telemetry
from service.store.webhooks import AttemptResult, Claim, WebhookStore
from service.webhooks.destinations import Destinations

log = structlog.get_logger()

_OTHERS_S = 1.0
"""How often it is looked what other processes left, and what is due for another attempt."""
_AT_ONCE = 4
"""Deliveries under way to one endpoint. Endpoints have places of their own, so that none waits for a slow one."""
_RECORDING_S = 5.0
"""What a claim outlasts its attempt by."""
_CLOSING_S = 2.0
_ANSWER_BYTES = 64 * 1024
_JITTER = 0.2
_KEPT = timedelta(days=30)
_TIDY_S = 3600.0
_GONE = 410


class WebhookSender:
    """The sender of one API process. news: is set when something may be due; retries_s: the waits between attempts;
    timeout_s: the longest attempt.
    """

    def __init__(
        self,
        store: WebhookStore,
        destinations: Destinations,
        news: asyncio.Event,
        retries_s: Sequence[float],
        timeout_s: float,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or Telemetry()
        self._store = store
        self._destinations = destinations
        self._news = news
        self._retries_s = retries_s
        self._timeout_s = timeout_s
        # The transport alone: no redirects, no cookies that one endpoint leaves for another, no proxy that would
        # connect where it likes. No connection is kept, because hosts that share an address would share it.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncHTTPTransport(verify=httpx.create_ssl_context(), trust_env=False, limits=limits)
        self._under_way: dict[asyncio.Task[None], Claim] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._send_due(), name="webhooks"), asyncio.create_task(self._tidy())]

    async def close(self) -> None:
        """Claim nothing more, give what is under way a moment, and leave the rest to other processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_CLOSING_S)
        left = dict(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if left:
            with contextlib.suppress(ServiceError):
                await self._store.release(list(left.values()))
        await self._http.aclose()

    async def _send_due(self) -> None:
        while True:
            self._news.clear()
            busy = Counter(claim.delivery.endpoint_id for claim in self._under_way.values())
            now = datetime.now(UTC)
            until = now + timedelta(seconds=self._timeout_s + _RECORDING_S)
            try:
                claims = await self._store.claim(now, until, _AT_ONCE, busy)
            except ServiceError as error:
                log.warning("webhooks_not_claimed", error=type(error).__name__)
                claims = []
            for claim in claims:
                task = asyncio.create_task(self._attempt(claim))
                self._under_way[task] = claim
                task.add_done_callback(self._ended)
            with contextlib.suppress(TimeoutError):
                # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the news (cpython 86296).
                async with asyncio.timeout(_OTHERS_S):
                    await self._news.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._news.set()  # there is a place, and the case's next may be due
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_attempt_broke", exc_info=error)

    async def _attempt(self, claim: Claim) -> None:
        sent = claim.delivery
        with self._telemetry.webhook(sent.case_id, sent.endpoint_id, sent.id) as ended:
            status, error = await self._answer(claim)
            now = datetime.now(UTC)
            outcome = judged(status, error, claim.tries, self._retries_s, now, random.uniform(-_JITTER, _JITTER))
            ended(outcome.state, status)
        said = {"delivery_id": sent.id, "endpoint_id": sent.endpoint_id, "case_id": sent.case_id, "try": claim.tries}
        try:
            recorded = await self._store.record(claim, outcome, now)
        except ServiceError as failure:  # the claim ends, and the delivery is sent again
            log.warning("webhook_not_recorded", error=type(failure).__name__, **said)
            return
        log.info("webhook_attempt", state=outcome.state, status=status, error=error, recorded=recorded, **said)
        if outcome.disables:
            log.warning("webhook_endpoint_disabled", endpoint_id=sent.endpoint_id)

    async def _answer(self, claim: Claim) -> tuple[int | None, str | None]:
        """The status of the endpoint's answer, or why there is none."""
        status = None
        try:
            async with asyncio.timeout(self._timeout_s):
                url = self._destinations.parsed(claim.url)
                async with contextlib.aclosing(await self._sent(url, claim)) as answer:
                    status = answer.status_code
                    await _read_some(answer)
        except WebhookUrlError:
            return None, "unsafe_or_unknown_host"
        except (TimeoutError, httpx.TimeoutException):
            return status, None if status else "timeout"
        except (httpx.HTTPError, OSError):
            return status, None if status else "no_connection"
        except Exception:  # a fault of ours, or of a library: it counts as an attempt, or it would be tried for ever
            log.exception("webhook_attempt_broke", delivery_id=claim.delivery.id)
            return status, None if status else "broke"
        return status, None

    async def _sent(self, url: httpx.URL, claim: Claim) -> httpx.Response:
        """Send to the first address of the URL's host that takes a connection; gives the answer, its body unread."""
        addresses = await self._destinations.addresses(url)
        connect_s = self._timeout_s / len(addresses)
        for address in addresses[:-1]:
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._http.handle_async_request(self._request(claim, url, address, connect_s))
        return await self._http.handle_async_request(self._request(claim, url, addresses[-1], connect_s))

    def _request(self, claim: Claim, url: httpx.URL, address: str, connect_s: float) -> httpx.Request:
        message, now = claim.delivery, datetime.now(UTC)
        headers = {
            "Host": url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": f"veridask/{version('veridask')}",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(Webhook(key).sign(message.id, now, message.body) for key in claim.secrets),
        }
        extensions = {
            "timeout": httpx.Timeout(self._timeout_s, connect=connect_s).as_dict(),
            # The connection goes to the address that was looked at, the certificate is checked against the name.
            "sni_hostname": url.raw_host.decode(),
        }
        to, body = url.copy_with(host=address), message.body.encode()
        return httpx.Request("POST", to, headers=headers, content=body, extensions=extensions)

    async def _tidy(self) -> None:
        """For ever: let go of what ended long ago."""
        while True:
            await asyncio.sleep(_TIDY_S)
            try:
                await self._store.delete_ended(datetime.now(UTC) - _KEPT)
            except ServiceError as error:
                log.warning("webhooks_not_tidied", error=type(error).__name__)


def judged(
    status: int | None, error: str | None, tries: int, retries_s: Sequence[float], now: datetime, jitter: float
) -> AttemptResult:
    """What an attempt comes to. tries: attempts so far, this one among them; jitter: part of the wait that is added."""
    if status is not None and 200 <= status < 300:
        return AttemptResult("delivered", status)
    if status == _GONE:
        return AttemptResult("failed", status, disables=True)
    if tries > len(retries_s):
        return AttemptResult("failed", status, error)
    return AttemptResult("pending", status, error, next_at=now + timedelta(seconds=retries_s[tries - 1] * (1 + jitter)))


async def _read_some(answer: httpx.Response) -> None:
    """Let the endpoint end its answer, within bounds. Nothing that it says but the status matters."""
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > _ANSWER_BYTES:
            return
