"""The parts of a running service, put together in order and taken apart in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from graphs.profile import profiles
from service.cases import MEDIA_TYPES, Cases
from service.census import Census
from service.errors import EvidenceUnavailableError, StoreUnavailableError
from service.events import EventBoard
from service.evidence import Evidence
from service.evidence_reader import EvidenceReader
from service.evidence_store import EvidenceBucket, EvidenceFolder, EvidenceStore
from service.identifiers import Secrets, service_key, time_ordered
from service.keyring import Keyring, keyring_of
from service.limits import Limits
from service.metrics import Metrics
from service.probing import Prober
from service.redaction import Redaction
from service.replica import Replica
from service.report import Reports
from service.resumable import ResumableUploads
from service.resumable_store import ResumableStore
from service.runs import CaseRuns
from service.schemas import CaseView
from service.settings import Settings
from service.shadow_store import ShadowStore
from service.store import Store
from service.telemetry import Telemetry
from service.webhook_store import WebhookStore
from service.webhook_urls import Destinations
from service.webhooks import WebhookSender
from workers.uploads import require_tested_build

log = structlog.get_logger()

_LAG_LOOK_S = 0.25
_ANCHORS_S = 60.0
"""How often the newest line of the audit log is logged."""


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    settings: Settings
    store: Store
    evidence: Evidence
    evidence_reader: EvidenceReader
    reports: Reports
    board: EventBoard
    runs: CaseRuns
    replica: Replica
    cases: Cases
    redaction: Redaction
    resumable: ResumableUploads
    secrets: Secrets
    limits: Limits
    webhooks: WebhookStore
    destinations: Destinations
    webhook_news: asyncio.Event
    metrics: Metrics
    census: Census
    shadows: ShadowStore
    ending: asyncio.Event

    async def missing(self) -> list[str]:
        """What keeps cases from being taken and decided now; empty when nothing does."""
        missing = ["stopping"] if self.ending.is_set() else []
        try:
            await self.store.check()
            readable = True
        except StoreUnavailableError:
            readable = False
        if not (readable and self.replica.is_seen):  # it may be readable and take nothing: locked, or the disk full
            missing.append("store")
        try:
            await self.evidence.require_usable()
        except EvidenceUnavailableError:
            missing.append("evidence")
        return missing + await self.runs.cells.missing()


def keyring(settings: Settings) -> Keyring:
    """The encryption keys that the settings name, or those made in the data folder. Raises SettingsError."""
    return keyring_of(settings.encryption_keys_file, settings.data_dir)


def evidence_store(settings: Settings) -> EvidenceStore:
    """The place that the settings name for the evidence. Raises EvidenceUnavailableError."""
    if settings.evidence_url:
        return EvidenceBucket(settings.evidence_url, settings.evidence_endpoint)
    return EvidenceFolder(settings.data_dir.resolve() / "evidence")


def webhook_destinations(settings: Settings) -> Destinations:
    """The rules for webhook URLs; this machine itself may be named where nobody else reaches the service."""
    return Destinations(allow_private=settings.webhook_allow_private, allow_loopback=settings.binds_loopback)


@asynccontextmanager
async def opened_stores(settings: Settings) -> AsyncIterator[tuple[Store, Evidence]]:
    """Case store and evidence, beside a running service or without one, for what keeps them in order.

    Raises SettingsError, StoreRevisionError, StoreUnavailableError, EvidenceUnavailableError.
    """
    store = Store(settings.store_url, lambda _: None, keyring(settings), settings.migrations)
    try:
        await store.start()
        yield store, Evidence(settings.data_dir.resolve() / "evidence", store, store=evidence_store(settings))
    finally:
        await store.close()


@asynccontextmanager
async def opened_to_read(settings: Settings) -> AsyncIterator[tuple[Store, EvidenceReader]]:
    """The same for who analyses cases: what is read of the evidence is written to the audit log. Raises as above."""
    async with opened_stores(settings) as (store, evidence):
        yield store, EvidenceReader(store, evidence)


@asynccontextmanager
async def assembled(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Service]:
    """A running service. Raises SettingsError, ProfileError, or what the store and the evidence raise at start.

    A cluster that is away does not keep the service from starting: it says so in `readyz` and goes on trying.
    """
    profiles()  # a broken profile refuses to start, and so does a build of Dask that was not tested
    require_tested_build()
    if settings.sandbox:
        log.warning("sandbox_is_on", detail="cases of sandbox profiles are taken; nothing is checked in them")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(metrics, MEDIA_TYPES)
        metrics = telemetry.metrics
        stack.callback(asyncio.create_task(_watch_loop(metrics), name="loop lag").cancel)
        board, webhook_news, keys = EventBoard(), asyncio.Event(), keyring(settings)

        def told(case_id: str) -> None:
            board.told(case_id)
            webhook_news.set()

        store = Store(settings.store_url, told, keys, settings.migrations)
        stack.push_async_callback(store.close)
        await store.start()
        webhooks = WebhookStore(store.database, keys)
        destinations = webhook_destinations(settings)
        stack.callback(destinations.close)
        sender = WebhookSender(
            webhooks, destinations, webhook_news, settings.webhook_retries_s, settings.webhook_timeout_s, telemetry
        )
        stack.push_async_callback(sender.close)  # after all that tells of cases, so that the last is sent as well
        sender.start()
        folder = settings.data_dir.resolve() / "evidence"
        evidence = Evidence(folder, store, settings.min_free_bytes, evidence_store(settings))
        if removed := await asyncio.to_thread(evidence.start, await store.evidence_keys()):
            log.warning("unacknowledged_media_removed", count=len(removed))
        stack.callback(evidence.close)
        prober = Prober(
            settings.probe_processes,
            settings.probe_timeout_s,
            settings.media_limits,
            settings.probe_memory_bytes,
            telemetry,
        )
        stack.push_async_callback(prober.close)
        await prober.start()
        me = time_ordered("replica")
        addresses, places = settings.cells, settings.max_decoding
        tls, timeout_s = settings.cluster_tls, settings.cluster_timeout_s
        shadows = ShadowStore(store.database)
        runs = CaseRuns(store, evidence, shadows, me, addresses, timeout_s, places, tls, telemetry)
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
            settings,
            store,
            evidence,
            prober,
            runs,
            me,
            secrets,
            lambda c: CaseView.of(c).model_dump(mode="json"),
            telemetry,
        )
        redaction = Redaction(store.erasures, evidence, runs, profiles(), settings.sweep_interval_s, metrics)
        resumable = ResumableUploads(settings, store, ResumableStore(store.database), evidence, cases)
        for work in (cases.sweep(), redaction.sweep(), resumable.sweep(), store.audit.tell_heads(_ANCHORS_S)):
            stack.callback(asyncio.create_task(work).cancel)
        limits = Limits(settings.key_rate, settings.case_rate, metrics)
        reader = EvidenceReader(store, evidence)
        yield Service(
            settings,
            store,
            evidence,
            reader,
            Reports(store, reader),
            board,
            runs,
            replica,
            cases,
            redaction,
            resumable,
            secrets,
            limits,
            webhooks,
            destinations,
            webhook_news,
            metrics,
            Census(store.database),
            shadows,
            asyncio.Event(),
        )


async def _watch_loop(metrics: Metrics) -> None:
    """For ever: measure how late the event loop comes. What blocks it makes every request wait as long."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_LOOK_S
        await asyncio.sleep(_LAG_LOOK_S)
        metrics.loop_lag_s.observe(max(0.0, loop.time() - due))
