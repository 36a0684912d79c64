"""Sends webhooks: signed by the Standard Webhooks scheme, delivered at least once, in order for each case and endpoint,
with retries over about a day. Each API process runs one sender on the shared store.

A sender claims a delivery before it sends it and records the result afterwards. If the process dies in between, another
one sends it again when the claim expires, so a receiver may get a delivery twice, with the same `webhook-id`. The
sender does not decide what is due (`service.store.outbox`) or which URLs are safe (`service.webhooks.destinations`).
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

_POLL_S = 1.0
"""Time between polls of the store for expired claims of other processes and retries that are due."""
_AT_ONCE = 4
"""Most concurrent deliveries to one endpoint. Each endpoint has its own limit, so none waits for a slow one."""
_RECORDING_S = 5.0
"""A claim lasts this much longer than its attempt may, so that the result can be recorded."""
_CLOSING_S = 2.0
_ANSWER_BYTES = 64 * 1024
_JITTER = 0.2
_RETENTION = timedelta(days=30)
_TIDY_S = 3600.0
_GONE = 410


class WebhookSender:
    """The sender of one API process. news: set when a delivery may be due; retries_s: waits between attempts;
    timeout_s: longest duration of one attempt.
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
        # Only the transport: no redirects, no cookies shared between endpoints, and no proxy, which would choose its
        # own address. Connections are not reused, because hosts with the same address would share them.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncHTTPTransport(verify=httpx.create_ssl_context(), trust_env=False, limits=limits)
        self._under_way: dict[asyncio.Task[None], Claim] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start sending."""
        self._tasks = [asyncio.create_task(self._send_due(), name="webhooks"), asyncio.create_task(self._tidy())]

    async def close(self) -> None:
        """Claim nothing more, wait shortly for running attempts, and release the rest to other processes."""
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
                # Not wait_for: in Python 3.11 it swallows a cancellation that coincides with the event (cpython 86296).
                async with asyncio.timeout(_POLL_S):
                    await self._news.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._news.set()  # a slot is free, and the case's next delivery may be due
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_attempt_broke", exc_info=error)

    async def _attempt(self, claim: Claim) -> None:
        sent = claim.delivery
        with self._telemetry.webhook(sent.case_id, sent.endpoint_id, sent.id) as ended:
            status, error = await self._answer(claim)
            now = datetime.now(UTC)
            outcome = judged(status, error, claim.tries, self._retries_s, now, random.uniform(-_JITTER, _JITTER))
            ended(outcome.state, status)
        context = {"delivery_id": sent.id, "endpoint_id": sent.endpoint_id, "case_id": sent.case_id, "try": claim.tries}
        try:
            recorded = await self._store.record(claim, outcome, now)
        except ServiceError as failure:  # the claim will expire, and the delivery is sent again
            log.warning("webhook_not_recorded", error=type(failure).__name__, **context)
            return
        log.info("webhook_attempt", state=outcome.state, status=status, error=error, recorded=recorded, **context)
        if outcome.disables:
            log.warning("webhook_endpoint_disabled", endpoint_id=sent.endpoint_id)

    async def _answer(self, claim: Claim) -> tuple[int | None, str | None]:
        """The HTTP status of the endpoint's answer, or the reason why there is none."""
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
        except Exception:  # an error of the service or a library counts as an attempt, or it would be retried forever
            log.exception("webhook_attempt_broke", delivery_id=claim.delivery.id)
            return status, None if status else "broke"
        return status, None

    async def _sent(self, url: httpx.URL, claim: Claim) -> httpx.Response:
        """Send to the first address of the URL's host that accepts a connection. Returns the answer, body unread."""
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
            # The connection goes to the address that was checked; the certificate is verified against the name.
            "sni_hostname": url.raw_host.decode(),
        }
        to, body = url.copy_with(host=address), message.body.encode()
        return httpx.Request("POST", to, headers=headers, content=body, extensions=extensions)

    async def _tidy(self) -> None:
        """Delete old finished deliveries, forever."""
        while True:
            await asyncio.sleep(_TIDY_S)
            try:
                await self._store.delete_ended(datetime.now(UTC) - _RETENTION)
            except ServiceError as error:
                log.warning("webhooks_not_tidied", error=type(error).__name__)


def judged(
    status: int | None, error: str | None, tries: int, retries_s: Sequence[float], now: datetime, jitter: float
) -> AttemptResult:
    """The result of an attempt. tries: attempts so far, including this one; jitter: fraction of the wait to add."""
    if status is not None and 200 <= status < 300:
        return AttemptResult("delivered", status)
    if status == _GONE:
        return AttemptResult("failed", status, disables=True)
    if tries > len(retries_s):
        return AttemptResult("failed", status, error)
    return AttemptResult("pending", status, error, next_at=now + timedelta(seconds=retries_s[tries - 1] * (1 + jitter)))


async def _read_some(answer: httpx.Response) -> None:
    """Read the answer's body up to a limit and discard it: only the status matters."""
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > _ANSWER_BYTES:
            return
