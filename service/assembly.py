"""The parts of a running service, put together in order and taken apart in the reverse order."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from graphs.profile import profiles
from service.cases import Cases
from service.errors import EvidenceUnavailableError, SettingsError, StoreUnavailableError
from service.events import EventBoard
from service.evidence import Evidence
from service.identifiers import Secrets, service_key
from service.link import ClusterLink
from service.probing import Prober
from service.runs import CaseRuns
from service.schemas import CaseView
from service.settings import Settings
from service.store import Store
from workers.errors import ClusterError
from workers.uploads import require_tested_build

log = structlog.get_logger()


@dataclass(frozen=True)
class Service:
    """What the routes work with."""

    settings: Settings
    store: Store
    evidence: Evidence
    board: EventBoard
    link: ClusterLink
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
            self.evidence.check()
        except EvidenceUnavailableError:
            missing.append("evidence")
        try:
            missing += [f"worker:{label}" for label in await self.link.missing_labels()]
        except ClusterError:
            missing.append("scheduler")
        return missing


@asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Service]:
    """A running service. Raises SettingsError, ProfileError, or what the store and the evidence raise at start.

    A cluster that is away does not keep the service from starting: it says so in `readyz` and goes on trying.
    """
    profiles()  # a broken profile refuses to start, and so does a build of Dask that was not tested
    require_tested_build()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        lock = _locked(settings.data_dir / "lock")
        stack.callback(os.close, lock)
        board = EventBoard()
        store = Store(settings.store_url, board.told)
        stack.push_async_callback(store.close)
        await store.start()
        evidence = Evidence(settings.data_dir.resolve() / "evidence", settings.min_free_bytes)
        if removed := evidence.start(await store.evidence_keys()):
            log.warning("unacknowledged_media_removed", count=len(removed))
        prober = Prober(settings.probe_processes, settings.probe_timeout_s, settings.media_limits)
        stack.push_async_callback(prober.close)
        await prober.start()
        runs = CaseRuns(store, evidence)
        link = runs.link = ClusterLink(settings.scheduler, settings.cluster_timeout_s, runs.up, runs.down)
        stack.push_async_callback(link.close)
        stack.push_async_callback(runs.close)
        runs.start()
        await link.start()
        secrets = Secrets(service_key(settings.data_dir))
        cases = Cases(
            settings, store, evidence, prober, runs, secrets, lambda c: CaseView.of(c).model_dump(mode="json")
        )
        sweep = asyncio.create_task(cases.sweep(), name="sweep")
        stack.callback(sweep.cancel)
        yield Service(settings, store, evidence, board, link, runs, cases)


def _locked(path: Path) -> int:
    """Hold the data folder: a second process would remove the first one's uploads in progress as leftovers."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SettingsError(f"another service uses the data folder {path.parent}") from error
    return descriptor
