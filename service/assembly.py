"""Builds the parts of a running service, starts them in order and stops them in reverse order.

It holds no logic of its own: each part is in its room. `service.http.app` uses this, and `service.server` runs that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from graphs.flow import require_runnable
from graphs.profile import profiles
from service.cases.commands import MEDIA_TYPES, Cases
from service.cases.events import EventBoard
from service.cases.reconciler import CaseReconciler
from service.cases.redaction import Redaction
from service.cases.takeover import Replica
from service.crypto.client_secrets import Secrets, service_key
from service.crypto.keyring import Keyring, keyring_of
from service.errors import EvidenceUnavailableError, StoreUnavailableError
from service.evidence.audited import AuditedEvidence
from service.evidence.backends import EvidenceBackend, FolderBackend, ObjectStorageBackend
from service.evidence.evidence import Evidence
from service.evidence.prober import Prober
from service.lifecycle.identifiers import time_ordered
from service.observability.metrics import Metrics
from service.observability.telemetry import Telemetry
from service.pages.report.page import Reports
from service.periodic import start_periodic
from service.settings.settings import Settings
from service.store.cases import CaseStore
from service.store.counts import StoreCounts
from service.store.resumable import ResumableStore
from service.store.shadows import ShadowStore
from service.store.webhooks import WebhookStore
from service.uploads.resumable import ResumableUploads
from service.views.cases import case_view
from service.webhooks.destinations import Destinations
from service.webhooks.sender import WebhookSender
from workers.uploads import require_tested_build

log = structlog.get_logger()

_LAG_POLL_S = 0.25
_AUDIT_HEAD_S = 60.0
"""Interval at which the hash of the newest audit line is logged."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """The parts that the routes use. stopping: set once the process was asked to stop."""

    settings: Settings
    store: CaseStore
    evidence: Evidence
    audited_evidence: AuditedEvidence
    reports: Reports
    board: EventBoard
    reconciler: CaseReconciler
    replica: Replica
    cases: Cases
    redaction: Redaction
    resumable: ResumableUploads
    secrets: Secrets
    webhooks: WebhookStore
    destinations: Destinations
    webhook_news: asyncio.Event
    metrics: Metrics
    counts: StoreCounts
    shadows: ShadowStore
    stopping: asyncio.Event

    async def missing(self) -> list[str]:
        """What is missing to accept and decide cases now; empty if the service is ready."""
        missing = ["stopping"] if self.stopping.is_set() else []
        try:
            await self.store.check()
            readable = True
        except StoreUnavailableError:
            readable = False
        # The store may be readable but not writable: locked, or its disk full. Then heartbeats fail.
        if not (readable and self.replica.is_alive_in_store):
            missing.append("store")
        try:
            await self.evidence.require_usable()
        except EvidenceUnavailableError:
            missing.append("evidence")
        return missing + await self.reconciler.cells.missing()


def keyring(settings: Settings) -> Keyring:
    """The keyring of the settings, or the one that is created in the data folder. Raises SettingsError."""
    return keyring_of(settings.encryption_keys_file, settings.data_dir)


def evidence_backend(settings: Settings) -> EvidenceBackend:
    """The evidence backend of the settings. Raises EvidenceUnavailableError."""
    if settings.evidence_url:
        return ObjectStorageBackend(settings.evidence_url, settings.evidence_endpoint)
    return FolderBackend(settings.data_dir.resolve() / "evidence")


def webhook_destinations(settings: Settings) -> Destinations:
    """The rules for webhook URLs. Loopback is allowed only if the service itself listens on loopback."""
    return Destinations(allow_private=settings.webhook_allow_private, allow_loopback=settings.binds_loopback)


@asynccontextmanager
async def opened_stores(settings: Settings) -> AsyncIterator[tuple[CaseStore, Evidence]]:
    """Case store and evidence for maintenance commands, whether or not a service is running.

    Raises SettingsError, StoreRevisionError, StoreUnavailableError, EvidenceUnavailableError.
    """
    store = CaseStore(settings.store_url, lambda _: None, keyring(settings), settings.migrations)
    try:
        await store.start()
        yield store, Evidence(settings.data_dir.resolve() / "evidence", store, backend=evidence_backend(settings))
    finally:
        await store.close()


@asynccontextmanager
async def opened_to_read(settings: Settings) -> AsyncIterator[tuple[CaseStore, AuditedEvidence]]:
    """As `opened_stores`, for analysts: each access to evidence is written to the audit log. Raises the same errors."""
    async with opened_stores(settings) as (store, evidence):
        yield store, AuditedEvidence(store, evidence)


@asynccontextmanager
async def assembled(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Service]:
    """A running service. Raises SettingsError, ProfileError, and the errors of store and evidence at start.

    The service also starts if a cluster is unavailable: `/readyz` reports it, and the connection is retried.
    """
    for profile in profiles().values():  # a broken profile refuses to start, and so does an untested version of Dask
        require_runnable(profile)
    require_tested_build()
    if settings.sandbox:
        log.warning("sandbox_is_on", detail="cases of sandbox profiles are accepted; nothing is checked in them")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    telemetry = Telemetry(metrics, MEDIA_TYPES)
    board, webhook_news = EventBoard(), asyncio.Event()

    def on_event(case_id: str) -> None:
        board.notify(case_id)
        webhook_news.set()

    async with AsyncExitStack() as stack:
        stack.callback(asyncio.create_task(_watch_loop(telemetry.metrics), name="loop lag").cancel)
        store = await stack.enter_async_context(_store(settings, on_event))
        # Stopped after everything that writes events, so that the last webhooks are sent too.
        webhooks, destinations = await stack.enter_async_context(_webhooks(settings, store, webhook_news, telemetry))
        evidence, prober = await stack.enter_async_context(_evidence(settings, store, telemetry))
        shadows = ShadowStore(store.database)
        reconciler, replica = await stack.enter_async_context(
            _reconciler(settings, store, evidence, shadows, telemetry)
        )
        stack.callback(asyncio.create_task(board.watch(store), name="events").cancel)
        secrets = _client_secrets(settings)
        cases = Cases(
            settings=settings,
            store=store,
            evidence=evidence,
            prober=prober,
            reconciler=reconciler,
            replica=replica.id,
            secrets=secrets,
            view=lambda case: case_view(case).model_dump(mode="json"),
            telemetry=telemetry,
        )
        redaction = Redaction(store.erasures, evidence, reconciler, profiles(), telemetry.metrics)
        resumable = ResumableUploads(settings, store, ResumableStore(store.database), evidence, cases)
        for name, every_s, turn in (
            ("overdue cases", settings.sweep_interval_s, cases.sweep),
            ("redaction", settings.sweep_interval_s, redaction.sweep),
            ("resumable uploads", settings.sweep_interval_s, resumable.sweep),
        ):
            stack.callback(start_periodic(name, every_s, turn).cancel)
        stack.callback(start_periodic("audit head", _AUDIT_HEAD_S, store.audit.log_head, at_once=True).cancel)
        audited = AuditedEvidence(store, evidence)
        yield Service(
            settings=settings,
            store=store,
            evidence=evidence,
            audited_evidence=audited,
            reports=Reports(store, audited),
            board=board,
            reconciler=reconciler,
            replica=replica,
            cases=cases,
            redaction=redaction,
            resumable=resumable,
            secrets=secrets,
            webhooks=webhooks,
            destinations=destinations,
            webhook_news=webhook_news,
            metrics=telemetry.metrics,
            counts=StoreCounts(store.database),
            shadows=shadows,
            stopping=asyncio.Event(),
        )


@asynccontextmanager
async def _store(settings: Settings, on_event: Callable[[str], None]) -> AsyncIterator[CaseStore]:
    store = CaseStore(settings.store_url, on_event, keyring(settings), settings.migrations)
    try:
        await store.start()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _webhooks(
    settings: Settings, store: CaseStore, news: asyncio.Event, telemetry: Telemetry
) -> AsyncIterator[tuple[WebhookStore, Destinations]]:
    """The webhook store and the rules for URLs, with a running sender."""
    webhooks = WebhookStore(store.database, keyring(settings))
    destinations = webhook_destinations(settings)
    sender = WebhookSender(
        store=webhooks,
        destinations=destinations,
        news=news,
        retries_s=settings.webhook_retries_s,
        timeout_s=settings.webhook_timeout_s,
        telemetry=telemetry,
    )
    sender.start()
    try:
        yield webhooks, destinations
    finally:
        await sender.close()
        destinations.close()


@asynccontextmanager
async def _evidence(
    settings: Settings, store: CaseStore, telemetry: Telemetry
) -> AsyncIterator[tuple[Evidence, Prober]]:
    """The evidence, after removal of media that were never acknowledged, and the running probe processes."""
    evidence = Evidence(
        settings.data_dir.resolve() / "evidence",
        store,
        min_free=settings.min_free_bytes,
        backend=evidence_backend(settings),
    )
    prober = Prober(
        processes=settings.probe_processes,
        timeout_s=settings.probe_timeout_s,
        limits=settings.media_limits,
        memory_bytes=settings.probe_memory_bytes,
        telemetry=telemetry,
    )
    async with AsyncExitStack() as stack:
        if removed := await asyncio.to_thread(evidence.start, await store.evidence_keys()):
            log.warning("unacknowledged_media_removed", count=len(removed))
        stack.callback(evidence.close)
        stack.push_async_callback(prober.close)
        await prober.start()
        yield evidence, prober


@asynccontextmanager
async def _reconciler(
    settings: Settings, store: CaseStore, evidence: Evidence, shadows: ShadowStore, telemetry: Telemetry
) -> AsyncIterator[tuple[CaseReconciler, Replica]]:
    """The reconciler and the heartbeat of this process, connected to the clusters."""
    replica_id = time_ordered("replica")
    reconciler = CaseReconciler(
        store=store,
        evidence=evidence,
        shadows=shadows,
        replica=replica_id,
        addresses=settings.cells,
        timeout_s=settings.cluster_timeout_s,
        places=settings.max_decoding,
        tls=settings.cluster_tls,
        telemetry=telemetry,
    )
    replica = Replica(replica_id, store, reconciler)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(reconciler.close)
        stack.push_async_callback(replica.close)
        await replica.start()
        await reconciler.start()
        yield reconciler, replica


def _client_secrets(settings: Settings) -> Secrets:
    key_file = settings.service_key_file
    return Secrets(key_file.read_bytes() if key_file else service_key(settings.data_dir))


async def _watch_loop(metrics: Metrics) -> None:
    """Run until cancelled: measure the lag of the event loop. Whatever blocks it delays every request."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_POLL_S
        await asyncio.sleep(_LAG_POLL_S)
        metrics.loop_lag_s.observe(max(0.0, loop.time() - due))
