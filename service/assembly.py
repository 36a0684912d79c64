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
from service.keyring import Keyring, keyring_of
from service.probing import Prober
from service.replica import Replica
from service.runs import CaseRuns
from service.schemas import CaseView
from service.settings import Settings
from service.store import Store
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


def keyring(settings: Settings) -> Keyring:
    """The encryption keys that the settings name, or those made in the data folder. Raises SettingsError."""
    return keyring_of(settings.encryption_keys_file, settings.data_dir)


def evidence_store(settings: Settings) -> EvidenceStore:
    """The place that the settings name for the evidence. Raises EvidenceUnavailableError."""
    if settings.evidence_url:
        return EvidenceBucket(settings.evidence_url, settings.evidence_endpoint)
    return EvidenceFolder(settings.data_dir.resolve() / "evidence")


@asynccontextmanager
async def opened_stores(settings: Settings) -> AsyncIterator[tuple[Store, Evidence]]:
    """Case store and evidence, to be read by who analyses cases, beside a running service or without one.

    Raises SettingsError, StoreUnavailableError, EvidenceUnavailableError.
    """
    store = Store(settings.store_url, lambda _: None, keyring(settings))
    try:
        await store.start()
        yield store, Evidence(settings.data_dir.resolve() / "evidence", store, store=evidence_store(settings))
    finally:
        await store.close()


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Service]:
    """A running service. Raises SettingsError, ProfileError, or what the store and the evidence raise at start.

    A cluster that is away does not keep the service from starting: it says so in `readyz` and goes on trying.
    """
    profiles()  # a broken profile refuses to start, and so does a build of Dask that was not tested
    require_tested_build()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        board = EventBoard()
        store = Store(settings.store_url, board.told, keyring(settings))
        stack.push_async_callback(store.close)
        await store.start()
        folder = settings.data_dir.resolve() / "evidence"
        evidence = Evidence(folder, store, settings.min_free_bytes, evidence_store(settings))
        if removed := await asyncio.to_thread(evidence.start, await store.evidence_keys()):
            log.warning("unacknowledged_media_removed", count=len(removed))
        stack.callback(evidence.close)
        prober = Prober(settings.probe_processes, settings.probe_timeout_s, settings.media_limits)
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
        yield Service(settings, store, evidence, board, runs, cases)
