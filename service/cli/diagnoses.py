"""What `veridask doctor` looks at of that which the settings name: key files, case store, encryption keys, evidence,
clusters, the service itself, traces. Changes nothing, but for one object in object storage that it removes again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx
from distributed import Client
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from service.assembly import evidence_backend
from service.crypto.keyring import DEFAULT_FILE, Keyring, keyring_of
from service.crypto.sealing import KEY_BYTES
from service.errors import (
    EvidenceUnavailableError,
    KeyMissingError,
    ServerStartError,
    SettingsError,
    StoreRevisionError,
    StoreUnavailableError,
)
from service.observability.tracing import is_enabled
from service.server.local import announced
from service.settings.settings import Settings
from service.store.data_keys import require_openable
from service.store.database import Database, database_errors
from service.store.revisions import newest, revision_of
from workers.cluster import labels
from workers.errors import CertificateError
from workers.placement import LABELS
from workers.transport import TlsFiles, security

_CLUSTER_S = 10.0
CLOCK_S = 1.0
"""Difference of clocks above which what one process says is misread by another: they take one for dead after five."""


@dataclass(frozen=True)
class Finding:
    """One row. advice is empty when all is well; `slow` is a warning, `missing` and `unsafe` have to be mended."""

    what: str
    verdict: Literal["ok", "slow", "missing", "unsafe"]
    detail: str
    advice: str = ""


def keys(settings: Settings) -> Iterator[Finding]:
    """Who may read the files that hold secrets: of those that are made in the data folder their owner alone, of those
    that settings name a group as well, as a mounted secret has one.
    """
    named = (settings.service_key_file, settings.encryption_keys_file, settings.tls_key)
    found = dict.fromkeys((path for path in named if path is not None), stat.S_IRWXO)
    made = sorted(path for path in settings.data_dir.glob("*key*") if path.is_file())
    found = dict.fromkeys(made, stat.S_IRWXG | stat.S_IRWXO) | found
    for path, closed in found.items():
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            yield Finding(f"key {path.name}", "missing", error.strerror or "", f"{path} cannot be read")
            continue
        others = mode & closed
        advice = f"other users can access {path}: run chmod 600 on it" if others else ""
        yield Finding(f"key {path.name}", "unsafe" if others else "ok", f"{mode:03o}", advice)
    if not found:
        yield Finding("key files", "ok", "none yet: created at the first start")


def store(settings: Settings) -> Iterator[Finding]:
    """Whether the case store answers, has this build's tables or gets them at the start, and tells the same time."""
    url = make_url(settings.store_url)
    kind = url.get_backend_name()
    if not _has_store(settings):
        yield Finding("case store", "ok", "none yet: created at the first start")
        return
    database = Database(settings.store_url)
    try:
        with database_errors(), database.engine.connect() as connection:
            began = time.time()
            told: datetime | None = None
            if kind == "postgresql":
                told = connection.execute(select(func.clock_timestamp())).scalar_one()
            ended = time.time()
            revision = revision_of(connection)
    except StoreUnavailableError as error:
        yield Finding("case store", "missing", kind, f"{error.detail} Check VERIDASK_DATABASE_URL.")
        return
    except StoreRevisionError as error:
        yield Finding("case store", "missing", kind, error.detail)
        return
    finally:
        database.engine.dispose()
    tables = f"{kind}, revision {revision}"
    if revision == newest():
        yield Finding("case store", "ok", tables)
    elif settings.migrations == "by_command":
        yield Finding(
            "case store", "missing", tables, f"this release needs revision {newest()}: run `veridask db upgrade`"
        )
    else:
        yield Finding("case store", "ok", f"{tables}: upgraded to {newest()} at the next start")
    if told is not None:
        ahead = told.timestamp() - (began + ended) / 2
        apart = abs(ahead) > CLOCK_S
        advice = (
            "API processes take over each other's cases, and cases expire early or late; run NTP on both machines"
            if apart
            else ""
        )
        yield Finding("clock of the case store", "unsafe" if apart else "ok", f"{ahead:+.2f} s", advice)


def encryption(settings: Settings) -> Iterator[Finding]:
    """Whether the encryption keys can be read, and open what is sealed in the case store."""
    what, path = "encryption keys", settings.encryption_keys_file or settings.data_dir / DEFAULT_FILE
    made = path.exists() or settings.encryption_keys_file is not None
    try:
        # Where the file is not made yet, a key that sealed nothing stands for it.
        held = keyring_of(path, settings.data_dir) if made else Keyring({"none": secrets.token_bytes(KEY_BYTES)})
    except SettingsError as error:
        yield Finding(what, "missing", path.name, error.detail)
        return
    if _has_store(settings):
        database = Database(settings.store_url)
        try:
            with database.reading() as session:
                require_openable(session, held)
        except KeyMissingError as error:
            yield Finding(what, "missing", path.name, f"{error.detail} Put that key into {path}.")
            return
        except StoreUnavailableError:
            yield Finding(what, "ok", "the case store cannot be read, so it is unknown which keys are needed")
            return
        finally:
            database.engine.dispose()
    yield Finding(what, "ok", "they open the encrypted data" if made else "none yet: created at the first start")


def _has_store(settings: Settings) -> bool:
    url = make_url(settings.store_url)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


def evidence(settings: Settings) -> Iterator[Finding]:
    """Whether the evidence can be written, and whether the disk has more than the reserve."""
    where = settings.evidence_url or str(settings.data_dir.resolve() / "evidence")
    try:
        place = evidence_backend(settings)
        if settings.evidence_url:
            key = f"doctor/{secrets.token_hex(8)}"
            with tempfile.TemporaryDirectory(prefix="veridask-doctor-") as folder:
                source = Path(folder) / "probe"
                source.write_bytes(b"veridask doctor")
                place.store(source, key)
            place.remove(key)
        elif Path(where).exists():
            place.require_usable()
        yield Finding("evidence", "ok", where if Path(where).exists() or settings.evidence_url else "none yet")
    except EvidenceUnavailableError as error:
        yield Finding("evidence", "missing", where, error.detail)
    free = shutil.disk_usage(settings.data_dir if settings.data_dir.exists() else Path.cwd()).free
    if free < settings.min_free_bytes:
        advice = "uploads are refused with 503: free some space, or lower VERIDASK_MIN_FREE_BYTES"
        yield Finding("disk reserve", "missing", f"{free / 2**20:.0f} MiB are free", advice)


def clusters(settings: Settings) -> Iterator[Finding]:
    """Whether each scheduler answers and has a worker of each label, of this build."""
    if not settings.scheduler:
        yield Finding("cluster", "ok", "started by veridask serve")
        return
    for cell, address in settings.cells.items():
        what = "cluster" if len(settings.cells) == 1 else f"cluster {cell}"
        try:
            offered = asyncio.run(_labels(address, settings.cluster_tls))
        except (OSError, TimeoutError, CertificateError) as error:
            advice = f"no scheduler answers at {address}: start it, or correct VERIDASK_SCHEDULER"
            yield Finding(what, "missing", type(error).__name__, advice)
            continue
        counts = {label: sum(each == label for each in offered.values()) for label in LABELS}
        detail = ", ".join(f"{count} {label}" for label, count in counts.items())
        absent = [label for label, count in counts.items() if not count]
        advice = f"start a worker of this release with --resources {absent[0]}=…" if absent else ""
        yield Finding(what, "missing" if absent else "ok", f"workers: {detail}", advice)


async def _labels(address: str, tls: TlsFiles | None) -> dict[str, str]:
    """Without the plugins that `workers.cluster.connect` brings: to look changes nothing."""
    given = None if tls is None else security(tls)
    client: Client = await Client(address, asynchronous=True, timeout=_CLUSTER_S, set_as_default=False, security=given)
    try:
        return await asyncio.wait_for(labels(client), _CLUSTER_S)
    finally:
        await client.close(timeout=2)


def service(settings: Settings) -> Iterator[Finding]:
    """What a service that runs on the data folder says of itself, and whether traces can be sent."""
    try:
        url = announced(settings.data_dir).url
        ready = httpx.get(f"{url}/readyz", timeout=_CLUSTER_S).json()
        missing = ", ".join(ready["missing"])
        advice = "see /readyz and the logs of the service" if missing else ""
        yield Finding("service", "missing" if missing else "ok", missing or f"ready at {url}", advice)
    except ServerStartError:
        yield Finding("service", "ok", "none runs with this data folder")
    except (httpx.HTTPError, ValueError, KeyError) as error:
        yield Finding("service", "missing", type(error).__name__, f"the service at {url} does not answer: restart it")
    try:
        yield Finding("traces", "ok", "sent by OTLP" if is_enabled(os.environ) else "off")
    except SettingsError as error:
        yield Finding("traces", "missing", "", error.detail)
    yield Finding("clock", "ok", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
