"""The sending of webhooks, from a real store to a real HTTP receiver on loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.topology import free_port
from service.crypto import cluster_certificates as certs
from service.lifecycle.transitions import accept, cancel, decide
from service.store.cases import CaseStore
from service.store.webhooks import Delivery, Endpoint, WebhookStore
from service.webhooks.destinations import Destinations
from service.webhooks.sender import WebhookSender
from tests.support.case_stores import KEYS, VERDICT, created
from tests.support.receiver import DRIPS, ENDLESS, HANGS, Hook, Receiver

ORDER = ["case.requires_input", "case.processing", "case.completed"]


@dataclass(frozen=True)
class Sending:
    """A store and a sender on it."""

    store: CaseStore
    webhooks: WebhookStore

    async def endpoint(self, url: str) -> tuple[Endpoint, str]:
        return await self.webhooks.add(url, None, None, datetime.now(UTC))

    async def created(self) -> str:
        return (await created(self.store)).id

    async def decided(self) -> str:
        """A case from its creation to its decision: three webhooks, as in `ORDER`."""
        case_id, now = await self.created(), datetime.now(UTC)
        for step in ("front", "face"):
            await self.store.change(case_id, lambda case, s=step: accept(case, s, now, "replica_a"))  # type: ignore[misc]
        await self.store.change(case_id, lambda case: decide(case, case.attempts, VERDICT, now))
        return case_id

    async def all_ended(self, endpoint: Endpoint, count: int) -> list[Delivery]:
        """The endpoint's deliveries once so many are there and none waits; oldest first."""
        async with asyncio.timeout(60):
            while True:
                log = await self.webhooks.deliveries(endpoint.id, 100)
                if len(log) == count and all(delivery.state != "pending" for delivery in log):
                    return log[::-1]
                await asyncio.sleep(0.05)


@asynccontextmanager
async def sending(folder: Path, retries: int = 20, timeout_s: float = 5.0) -> AsyncIterator[Sending]:
    news = asyncio.Event()
    store = CaseStore(f"sqlite:///{folder / 'cases.sqlite'}", lambda _: news.set(), KEYS)
    await store.start()
    webhooks = WebhookStore(store.database, KEYS)
    destinations = Destinations(allow_private=False, allow_loopback=True)
    sender = WebhookSender(webhooks, destinations, news, [0.05] * retries, timeout_s)
    sender.start()
    try:
        yield Sending(store, webhooks)
    finally:
        await sender.close()
        destinations.close()
        await store.close()


async def came(receiver: Receiver, count: int, *, taken: bool = True) -> list[Hook]:
    return await asyncio.to_thread(receiver.wait, count, taken=taken)


def by_case(hooks: list[Hook]) -> dict[str, list[str]]:
    """The types that were taken of each case, in the order in which they came."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    for hook in hooks:
        payload = json.loads(hook.body)
        told[payload["data"]["id"]].append(payload["type"])
    return dict(told)


async def test_a_decision_comes_signed_and_in_order(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with sending(tmp_path) as parts:
            endpoint, secret = await parts.endpoint(f"{receiver.url}?token=1")
            case_id = await parts.decided()
            hooks = await came(receiver, 3)
            log = await parts.all_ended(endpoint, 3)
    assert [hook.checked(secret)["type"] for hook in hooks] == ORDER
    assert [hook.id for hook in hooks] == [delivery.id for delivery in log]
    assert {(d.case_id, d.state, d.attempts, d.last_status, d.last_error) for d in log} == {
        (case_id, "delivered", 1, 200, None)
    }
    assert {(hook.path, hook.headers["Content-Type"]) for hook in hooks} == {("/hooks?token=1", "application/json")}
    assert {hook.headers["Host"] for hook in hooks} == {f"127.0.0.1:{receiver.port}"}
    assert not any("Cookie" in hook.headers for hook in hooks), "what one answer leaves goes to nobody"


async def test_an_attempt_that_breaks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody foresaw left the delivery as it was, and it was tried for ever."""

    async def broken(_self: Destinations, _url: object) -> list[str]:
        raise LookupError("nobody foresaw this")

    monkeypatch.setattr(Destinations, "addresses", broken)
    async with sending(tmp_path, retries=2) as parts:
        endpoint, _ = await parts.endpoint("http://127.0.0.1:9/hooks")
        await parts.created()
        [delivery] = await parts.all_ended(endpoint, 1)
    assert (delivery.state, delivery.attempts, delivery.last_error) == ("failed", 3, "broke")


def every_second(number: int, _body: bytes) -> int:
    return 200 if number % 2 else 500


def only_after_eight(number: int, _body: bytes) -> int:
    return (500, 503, 404, 302)[number % 4] if number < 8 else 202


def hangs_at_first(number: int, _body: bytes) -> int:
    return HANGS if number in (0, 2) else 200


@pytest.mark.parametrize("answer", [every_second, only_after_eight, hangs_at_first])
async def test_a_receiver_that_fails_for_a_while_gets_all_in_order(
    tmp_path: Path, answer: Callable[[int, bytes], int]
) -> None:
    with Receiver(answer) as receiver:
        async with sending(tmp_path, timeout_s=0.5) as parts:
            endpoint, secret = await parts.endpoint(receiver.url)
            cases = [await parts.decided() for _ in range(3)]
            log = await parts.all_ended(endpoint, 9)
    assert by_case(receiver.taken) == dict.fromkeys(cases, ORDER)
    assert {delivery.state for delivery in log} == {"delivered"}
    for hook in receiver.hooks:
        hook.checked(secret)
    payloads = defaultdict(set)
    for hook in receiver.hooks:
        payloads[hook.id].add(hook.body)
    assert payloads.keys() == {delivery.id for delivery in log}, "an id stays the same over all attempts"
    assert all(len(bodies) == 1 for bodies in payloads.values())
    # On a busy machine half a second may be over before the receiver has the request.
    assert sum(delivery.attempts for delivery in log) >= len(receiver.hooks) > 9
    assert {hook.path for hook in receiver.hooks} == {"/hooks"}, "no redirect was followed"


async def test_a_closed_port_is_tried_until_it_opens(tmp_path: Path) -> None:
    port = free_port()
    async with sending(tmp_path) as parts:
        endpoint, secret = await parts.endpoint(f"http://localhost:{port}/hooks")
        case_id = await parts.decided()
        async with asyncio.timeout(30):
            while (waiting := (await parts.webhooks.deliveries(endpoint.id, 9))[-1]).attempts < 2:
                await asyncio.sleep(0.05)
        assert (waiting.state, waiting.last_status, waiting.last_error) == ("pending", None, "no_connection")
        with Receiver(port=port) as receiver:
            hooks = await came(receiver, 3)
            await parts.all_ended(endpoint, 3)
    assert by_case(hooks) == {case_id: ORDER}
    assert all(hook.checked(secret) for hook in hooks)
    assert {hook.headers["Host"] for hook in hooks} == {f"localhost:{port}"}


async def test_an_answer_that_drips_is_bounded_and_its_status_is_what_counts(tmp_path: Path) -> None:
    """Each byte comes in time; only the whole attempt does not. Once there is a status, the rest does not matter."""
    with Receiver(lambda number, _: DRIPS if number == 0 else ENDLESS) as receiver:
        async with sending(tmp_path, timeout_s=0.5) as parts:
            endpoint, _ = await parts.endpoint(receiver.url)
            await parts.created()
            (delivery,) = await parts.all_ended(endpoint, 1)
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 2, ENDLESS)


async def test_what_was_given_up_can_be_replayed_with_the_same_id(tmp_path: Path) -> None:
    with Receiver(lambda number, _: 500 if number < 2 else 200) as receiver:
        async with sending(tmp_path, retries=1) as parts:
            endpoint, _ = await parts.endpoint(receiver.url)
            case_id = await parts.created()
            (failed,) = await parts.all_ended(endpoint, 1)
            assert (failed.state, failed.attempts, failed.last_status) == ("failed", 2, 500)
            await parts.store.change(case_id, lambda case: cancel(case, datetime.now(UTC)))
            await came(receiver, 1)  # the next one of the case no longer waits
            for times in (1, 2):  # also one that was delivered
                await parts.webhooks.replay(endpoint.id, failed.id, datetime.now(UTC))
                hooks = await came(receiver, 1 + times)
    assert [hook.id for hook in receiver.hooks if hook.id != hooks[0].id] == [failed.id] * 4
    assert json.loads(hooks[0].body)["type"] == "case.canceled"


async def test_an_endpoint_that_says_it_is_gone_is_left_alone(tmp_path: Path) -> None:
    with Receiver(lambda _number, _body: 410) as gone, Receiver() as there:
        async with sending(tmp_path) as parts:
            endpoint, other = (await parts.endpoint(gone.url))[0], (await parts.endpoint(there.url))[0]
            await parts.decided()
            log = await parts.all_ended(other, 3)
            refused = (await parts.all_ended(endpoint, len(await parts.webhooks.deliveries(endpoint.id, 9))))[0]
            assert (refused.state, refused.attempts, refused.last_status) == ("failed", 1, 410)
            assert (await parts.webhooks.endpoint(endpoint.id)).disabled_at is not None
            before = len(gone.hooks)
            await parts.decided()
            await parts.all_ended(other, 6)
    assert len(gone.hooks) == before == 1
    assert len(there.hooks) == 2 * len(log)


async def test_a_slow_endpoint_holds_up_no_other(tmp_path: Path) -> None:
    """It keeps all its places for the whole of the test; the other one gets everything meanwhile."""
    with Receiver(lambda _number, _body: HANGS) as slow, Receiver() as quick:
        async with sending(tmp_path, timeout_s=60) as parts:
            await parts.endpoint(slow.url)
            endpoint, _ = await parts.endpoint(quick.url)
            cases = [await parts.decided() for _ in range(8)]
            await parts.all_ended(endpoint, 24)
            assert slow.taken == []
            assert len(slow.hooks) == 4, "its own places, and no more"
    assert by_case(quick.taken) == dict.fromkeys(cases, ORDER)


async def test_a_sender_that_ends_in_order_leaves_its_work_to_the_next_at_once(tmp_path: Path) -> None:
    with Receiver(lambda number, _: HANGS if number == 0 else 200) as receiver:
        async with sending(tmp_path, timeout_s=60) as parts:
            endpoint, _ = await parts.endpoint(receiver.url)
            await parts.created()
            (first,) = await came(receiver, 1, taken=False)
        async with sending(tmp_path) as parts:  # the claim would have held for more than a minute
            (delivery,) = await parts.all_ended(endpoint, 1)
    assert (delivery.state, delivery.attempts) == ("delivered", 2)
    assert [hook.id for hook in receiver.hooks] == [first.id, first.id]


async def test_two_senders_on_one_store_send_each_once(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with sending(tmp_path) as one, sending(tmp_path) as other:
            endpoint, _ = await one.endpoint(receiver.url)
            cases = [await parts.decided() for _ in range(6) for parts in (one, other)]
            await one.all_ended(endpoint, 36)
    assert by_case(receiver.hooks) == dict.fromkeys(cases, ORDER)


async def test_an_address_is_looked_at_again_before_each_sending(tmp_path: Path) -> None:
    """A row as it is left when the host's address, or the rules, changed after the endpoint was made."""
    with Receiver() as receiver:
        async with sending(tmp_path, retries=1) as parts:
            inside, _ = await parts.endpoint("https://169.254.169.254/latest/meta-data")
            plain, _ = await parts.endpoint("http://10.0.0.1/")
            named, _ = await parts.endpoint("https://nobody.invalid/")
            endpoint, _ = await parts.endpoint(receiver.url)
            await parts.created()
            await parts.all_ended(endpoint, 1)
            for refused in (inside, plain, named):
                (delivery,) = await parts.all_ended(refused, 1)
                assert (delivery.state, delivery.attempts) == ("failed", 2)
                assert (delivery.last_status, delivery.last_error) == (None, "unsafe_or_unknown_host")


@pytest.mark.parametrize(("name", "state"), [("localhost", "delivered"), ("other.example", "failed")])
async def test_a_certificate_is_checked_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, state: str
) -> None:
    """The connection goes to an address; the certificate is the name's all the same."""
    certs.make(tmp_path / "certs", [name], 2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certs" / "scheduler.pem", tmp_path / "certs" / "scheduler-key.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certs" / "ca.pem"))
    with Receiver(tls=context) as receiver:
        async with sending(tmp_path, retries=1) as parts:
            endpoint, _ = await parts.endpoint(receiver.url.replace("http://127.0.0.1", "https://localhost"))
            await parts.created()
            (delivery,) = await parts.all_ended(endpoint, 1)
    assert delivery.state == state
    assert len(receiver.hooks) == (1 if state == "delivered" else 0)


@pytest.mark.parametrize("turns", range(6))
async def test_a_sender_ends_although_news_come_at_that_moment(tmp_path: Path, turns: int) -> None:
    """`asyncio.wait_for` of Python 3.11 lost the cancellation then, and the service did not end."""
    news = asyncio.Event()
    store = CaseStore(f"sqlite:///{tmp_path / 'cases.sqlite'}", lambda _: None, KEYS)
    await store.start()
    destinations = Destinations(allow_private=False, allow_loopback=True)
    sender = WebhookSender(WebhookStore(store.database, KEYS), destinations, news, [1.0], 1.0)
    sender.start()
    await asyncio.sleep(0.3)  # it waits for news
    news.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(20):
            await sender.close()
    finally:
        destinations.close()
        await store.close()
