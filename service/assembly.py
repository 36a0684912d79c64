"""The parts of a running service, put together in order and taken apart in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from graphs.profile import profiles
from service.cases import Cases
from service.errors import EvidenceUnavailableError, StoreUnavailableError
from service.events import EventBoard
from service.evidence import Evidence
from service.evidence_store import EvidenceBucket, EvidenceFolder, EvidenceStore
from service.identifiers import Secrets, service_key, time_ordered
from service.limits import Limits
from service.probing import Prober
from service.replica import Replica
from service.runs import CaseRuns
from service.schemas import CaseView
from service.settings import Settings
from service.store import Store
from service.webhook_store import WebhookStore
from service.webhook_urls import Destinations
from service.webhooks import WebhookSender
from workers.uploads import require_tested_build

log = structlog.get_logger()


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    settings: Settings
    store: Store
    evidence: Evidence
    board: EventBoard
    runs: CaseRuns
    cases: Cases
    secrets: Secrets
    limits: Limits
    webhooks: WebhookStore
    destinations: Destinations
    webhook_news: asyncio.Event

    async def missing(self) -> list[str]:
        """What keeps cases from being taken and decided now; empty when nothing does."""
        missing = []
        try:
            await self.store.check()
        except StoreUnavailableError:
            missing.append("store")
        try:
            await self.evidence.require_usable()
        except EvidenceUnavailableError:
            missing.append("evidence")
        return missing + await self.runs.cells.missing()


def evidence_store(settings: Settings) -> EvidenceStore:
    """The place that the settings name for the evidence. Raises EvidenceUnavailableError."""
    if settings.evidence_url:
        return EvidenceBucket(settings.evidence_url, settings.evidence_endpoint)
    return EvidenceFolder(settings.data_dir.resolve() / "evidence")


def webhook_destinations(settings: Settings) -> Destinations:
    """The rules for webhook URLs; this machine itself may be named where nobody else reaches the service."""
    return Destinations(allow_private=settings.webhook_allow_private, allow_loopback=settings.binds_loopback)


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Service]:
    """A running service. Raises SettingsError, ProfileError, or what the store and the evidence raise at start.

    A cluster that is away does not keep the service from starting: it says so in `readyz` and goes on trying.
    """
    profiles()  # a broken profile refuses to start, and so does a build of Dask that was not tested
    require_tested_build()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        board, webhook_news = EventBoard(), asyncio.Event()

        def told(case_id: str) -> None:
            board.told(case_id)
            webhook_news.set()

        store = Store(settings.store_url, told)
        stack.push_async_callback(store.close)
        await store.start()
        webhooks = WebhookStore(store.database)
        destinations = webhook_destinations(settings)
        stack.callback(destinations.close)
        sender = WebhookSender(
            webhooks, destinations, webhook_news, settings.webhook_retries_s, settings.webhook_timeout_s
        )
        stack.push_async_callback(sender.close)  # after all that tells of cases, so that the last is sent as well
        sender.start()
        evidence = Evidence(settings.data_dir.resolve() / "evidence", settings.min_free_bytes, evidence_store(settings))
        if removed := await asyncio.to_thread(evidence.start, await store.evidence_keys()):
            log.warning("unacknowledged_media_removed", count=len(removed))
        stack.callback(evidence.close)
        prober = Prober(
            settings.probe_processes, settings.probe_timeout_s, settings.media_limits, settings.probe_memory_bytes
        )
        stack.push_async_callback(prober.close)
        await prober.start()
        me = time_ordered("replica")
        addresses, places = settings.cells, settings.max_decoding
        runs = CaseRuns(store, evidence, me, addresses, settings.cluster_timeout_s, places, settings.cluster_tls)
        stack.push_async_callback(runs.close)
        replica = Replica(me, store, runs)
        stack.push_async_callback(replica.close)
        await replica.start()
        await runs.start()
        stack.callback(asyncio.create_task(board.watch(store), name="events").cancel)
        secrets = Secrets(
            settings.service_key_file.read_bytes() if settings.service_key_file else service_key(settings.data_dir)
        )
        cases = Cases(
            settings, store, evidence, prober, runs, me, secrets, lambda c: CaseView.of(c).model_dump(mode="json")
        )
        sweep = asyncio.create_task(cases.sweep(), name="sweep")
        stack.callback(sweep.cancel)
        limits = Limits(settings.key_rate, settings.case_rate)
        yield Service(
            settings, store, evidence, board, runs, cases, secrets, limits, webhooks, destinations, webhook_news
        )
