"""Runs the service: in this process (`serve`), or as a child process for tools that need one (`LocalServer`).

`serve` starts the embedded cluster when no scheduler is named, then the API. Once that answers it writes a file into
the data folder with its address and the process ids by role, again whenever one of them has changed: `service.json`, or
`api-<process id>.json` for one of several API processes that join a cluster. With more than one worker allowed for a
label, the embedded cluster is held to its load from here.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import structlog
import uvicorn
from sse_starlette.sse import AppStatus

from service.assembly import Service
from service.errors import ServerStartError, SettingsError
from service.http.app import create_app
from service.observability import tracing
from service.observability.logs import configure
from service.settings.settings import Settings
from service.store.api_keys import ApiKeys
from service.store.database import Database
from workers import orphan
from workers.autoscale import Autoscaler, Bounds, EmbeddedGroups, Rules
from workers.cluster import EmbeddedCluster
from workers.placement import CPU, GPU

log = structlog.get_logger()

_ANNOUNCEMENT, _REPLICA_ANNOUNCEMENT = "service.json", "api-{}.json"
_START_S = 180.0
_STOP_S = 30.0
_DRAIN_LOOK_S = 0.1


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order. Raises what the parts raise when they cannot start."""
    configure(settings.log_level)
    with tracing.exported(os.environ):
        _serve(settings)


def _serve(settings: Settings) -> None:
    signal.signal(signal.SIGTERM, _terminated)
    joins = bool(settings.scheduler)
    folder = _held(settings.data_dir, alone=not joins)
    announcement = settings.data_dir / (_REPLICA_ANNOUNCEMENT.format(os.getpid()) if joins else _ANNOUNCEMENT)
    listener = listen(settings.host, settings.port)
    cluster = None
    try:
        if not settings.scheduler:
            most = settings.max_cpu_workers + settings.max_gpu_workers
            threads = settings.cpu_threads, settings.gpu_threads
            cluster = EmbeddedCluster(*threads, settings.data_dir / "cluster", most)
            settings = settings.model_copy(update={"scheduler": cluster.start()})
        server = _Announcing(settings, cluster, announcement)
        server.run([listener])
    finally:
        listener.close()
        if cluster is not None:
            cluster.stop()
        announcement.unlink(missing_ok=True)
        os.close(folder)


def _held(folder: Path, *, alone: bool) -> int:
    """A descriptor that holds the data folder: for this service alone, or together with others that join a cluster.

    Raises SettingsError: with a cluster of its own beside it, each would believe the other's cases to be abandoned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SettingsError(
            f"another service uses the data folder {folder}; only API processes that all join a cluster (--scheduler) "
            "can share one"
        ) from None
    return descriptor


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Connections inherit TCP_NODELAY from it. asyncio sets it only on sockets whose protocol is named, which accepted
    ones here do not; without it the second packet of each answer waits 40 ms for the first one's acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _terminated(_signal: int, _frame: object) -> None:
    # uvicorn raises the signal again when it has shut down; by default that would end the process before `finally`.
    raise SystemExit(0)


def _scaling(settings: Settings, cluster: EmbeddedCluster | None) -> Autoscaler | None:
    """What holds the embedded cluster to its load; None where one worker of each label is all there may be."""
    bounds = {CPU: Bounds(1, settings.max_cpu_workers), GPU: Bounds(1, settings.max_gpu_workers)}
    if cluster is None or all(held.most == 1 for held in bounds.values()):
        return None
    rules = Rules(wait_s=settings.scale_wait_s, quiet_s=settings.scale_quiet_s)
    return Autoscaler(settings.scheduler, EmbeddedGroups(cluster), bounds, rules)


KEEP_ALIVE_S = 75
"""Longer than clients and proxies keep an idle connection. By uvicorn's default of 5 s, which is httpx's too, a request
could meet the end of its connection: the client was told that the server had disconnected.
"""


class _Announcing(uvicorn.Server):
    """Says where it listens once it does, and runs the scaling of the embedded cluster meanwhile."""

    def __init__(self, settings: Settings, cluster: EmbeddedCluster | None, announcement: Path) -> None:
        self._settings = settings
        self._announcement = announcement
        self._cluster = cluster
        self._scaling: asyncio.Task[None] | None = None
        self._app = create_app(settings)
        super().__init__(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,  # it would log whole URLs; `service.http.middleware` logs templates of routes
                timeout_graceful_shutdown=math.ceil(settings.stop_s),
                timeout_keep_alive=KEEP_ALIVE_S,
                server_header=False,
                reset_contextvars=True,  # else a request may begin in the context of another, with its ids and its span
            )
        )
        AppStatus.enable_automatic_graceful_drain = False  # `shutdown` below ends the event streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then announce it."""
        await super().startup(sockets)
        if not self.started or not sockets:
            return
        orphan.watch(self._settings.drain_s + self._settings.stop_s + _STOP_S)
        host, port = sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._announce(url)
        log.info("listening", url=url)
        if sys.stderr.isatty():
            sys.stderr.write(f"veridask listens on {url} (API page: {url}/docs)\n")
        if self._cluster is not None:
            self._cluster.changed = lambda: self._announce(url)
        if scaler := _scaling(self._settings, self._cluster):
            self._scaling = asyncio.create_task(scaler.run(), name="scaling")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End in order: say that this process is not ready, serve on until nobody is sent here any more, end the event
        streams, take no more connections, and give what is under way its time.

        Scaling stops first: nothing is started or retired any more while the rest ends.
        """
        service: Service = self._app.state.service
        service.stopping.set()
        log.info("stopping", drain_s=self._settings.drain_s, stop_s=self._settings.stop_s)
        if self._scaling is not None:
            self._scaling.cancel()
            await asyncio.gather(self._scaling, return_exceptions=True)
        until = time.monotonic() + self._settings.drain_s
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(_DRAIN_LOOK_S)
        service.board.end()
        await super().shutdown(sockets)

    def _announce(self, url: str) -> None:
        processes = {"api": os.getpid(), **(self._cluster.processes if self._cluster else {})}
        content = {"url": url, "scheduler": self._settings.scheduler, "processes": processes}
        part = self._announcement.with_suffix(".part")
        part.write_text(json.dumps(content), "utf-8")
        part.rename(self._announcement)


@dataclass(frozen=True)
class Running:
    """A server that answers. processes: process ids by role. key: an API key that may do everything, for who started it
    here; empty for others.
    """

    url: str
    scheduler: str
    processes: Mapping[str, int]
    key: str = field(default="", repr=False)


def announced(folder: Path) -> Running:
    """The service that uses a data folder, or one of its API processes. Raises ServerStartError when none is there."""
    for path in (folder / _ANNOUNCEMENT, *sorted(folder.glob(_REPLICA_ANNOUNCEMENT.format("*")))):
        if path.exists():
            return Running(**json.loads(path.read_text("utf-8")))
    raise ServerStartError(f"no service uses the data folder {folder}")


def own_key(store_url: str) -> str:
    """A key that may do everything for a day, for a service that this process started."""
    database, now = Database(store_url), datetime.now(UTC)
    try:
        return ApiKeys(database).create("started here", ["admin"], now, now + timedelta(days=1))[1]
    finally:
        database.engine.dispose()


class LocalServer:
    """`veridask serve` as a child process on a free loopback port, as a context manager. It ends with this process.

    folder: its data folder, also for its log `server.log`. scheduler: of a cluster to join; empty starts an embedded
    one. settings: further settings by name, such as `max_upload_bytes`. `start` raises ServerStartError.
    """

    def __init__(self, folder: Path, scheduler: str = "", **settings: Any) -> None:
        self.folder = folder
        self._joins = bool(scheduler)
        self._database_url = str(settings.get("database_url", os.environ.get("VERIDASK_DATABASE_URL", "")))
        self._environment = {
            **os.environ,
            "VERIDASK_DATA_DIR": str(folder),
            "VERIDASK_HOST": "127.0.0.1",
            "VERIDASK_PORT": "0",
            "VERIDASK_SCHEDULER": scheduler,
            orphan.PARENT: str(os.getpid()),
            **{f"VERIDASK_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Running:
        """Start it and wait until it answers and nothing is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _ANNOUNCEMENT).unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
            )
        name = _REPLICA_ANNOUNCEMENT.format(self.process.pid) if self._joins else _ANNOUNCEMENT
        announcement = self.folder / name
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if announcement.exists():
                running = Running(**json.loads(announcement.read_text("utf-8")))
                if httpx.get(f"{running.url}/readyz", timeout=10).status_code == 200:
                    settings = Settings(data_dir=self.folder, database_url=self._database_url)
                    return replace(running, key=own_key(settings.store_url))
            time.sleep(0.1)
        status = self.process.poll()
        self.stop()
        tail = (self.folder / "server.log").read_text("utf-8", "replace")[-2000:]
        raise ServerStartError(f"the server did not become ready (status {status}):\n{tail}")

    def stop(self) -> None:
        """Ask it to stop; kill it if it does not."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
