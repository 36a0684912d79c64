"""Runs the service in this process, until it is told to stop.

`serve` starts the embedded cluster if no scheduler is named, then the API. Once the API answers, it announces its
address and process ids in the data folder (`service.server.announcement`), and again whenever one of them changes. If
the settings allow more than one worker per label, it also scales the embedded cluster.

It does not build the parts of the service (`service.assembly`) or route requests (`service.http.app`).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
import signal
import socket
import sys
import time
from pathlib import Path

import structlog
import uvicorn
from sse_starlette.sse import AppStatus

from service.assembly import Service
from service.errors import SettingsError
from service.http.app import create_app
from service.observability import tracing
from service.observability.logs import configure
from service.server.announcement import announcement_path
from service.settings.settings import Settings
from workers import orphan
from workers.autoscale import Autoscaler, Bounds, EmbeddedGroups, Rules
from workers.cluster import EmbeddedCluster
from workers.placement import CPU, GPU

log = structlog.get_logger()

_STOP_S = 30.0
"""Time to stop the cluster and everything else, on top of the settings' `drain_s` and `stop_s`."""
_DRAIN_POLL_S = 0.1


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then shut down in order. Raises the errors of any part that cannot start."""
    configure(settings.log_level)
    with tracing.exported(os.environ):
        _serve(settings)


def _serve(settings: Settings) -> None:
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    joins = bool(settings.scheduler)
    folder_lock = _lock_folder(settings.data_dir, alone=not joins)
    announcement = announcement_path(settings.data_dir, os.getpid() if joins else None)
    listener = listen(settings.host, settings.port)
    cluster = None
    try:
        if not settings.scheduler:
            most = settings.max_cpu_workers + settings.max_gpu_workers
            threads = settings.cpu_threads, settings.gpu_threads
            cluster = EmbeddedCluster(*threads, settings.data_dir / "cluster", most)
            settings = settings.model_copy(update={"scheduler": cluster.start()})
        server = _AnnouncingServer(settings, cluster, announcement)
        server.run([listener])
    finally:
        listener.close()
        if cluster is not None:
            cluster.stop()
        announcement.unlink(missing_ok=True)
        os.close(folder_lock)


def _lock_folder(folder: Path, *, alone: bool) -> int:
    """Lock the data folder and return the descriptor that holds the lock.

    alone: take the folder for this service only; otherwise share it with other API processes that join a cluster.
    Raises SettingsError if the lock is taken: two services with a cluster each would take over each other's cases.
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

    Accepted connections inherit TCP_NODELAY from it. asyncio sets that option only on sockets that name their protocol,
    and these do not. Without it, the second packet of each answer waits 40 ms for the acknowledgement of the first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _exit_on_sigterm(_signal: int, _frame: object) -> None:
    # uvicorn raises the signal again after its shutdown. The default handler would end the process before `finally`.
    raise SystemExit(0)


def _autoscaler(settings: Settings, cluster: EmbeddedCluster | None) -> Autoscaler | None:
    """The autoscaler of the embedded cluster; None if the settings allow only one worker per label."""
    bounds = {CPU: Bounds(1, settings.max_cpu_workers), GPU: Bounds(1, settings.max_gpu_workers)}
    if cluster is None or all(bound.most == 1 for bound in bounds.values()):
        return None
    rules = Rules(wait_s=settings.scale_wait_s, quiet_s=settings.scale_quiet_s)
    return Autoscaler(settings.scheduler, EmbeddedGroups(cluster), bounds, rules)


KEEP_ALIVE_S = 75
"""Longer than clients and proxies keep an idle connection. uvicorn's default is 5 s, as is httpx's: a request could be
sent just as the server closed its connection, and the client reported that the server had disconnected.
"""


class _AnnouncingServer(uvicorn.Server):
    """A uvicorn server that announces its address once it listens, and runs the autoscaler of the embedded cluster."""

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
                access_log=False,  # it would log whole URLs; `service.http.middleware` logs route templates
                timeout_graceful_shutdown=math.ceil(settings.stop_s),
                timeout_keep_alive=KEEP_ALIVE_S,
                server_header=False,
                reset_contextvars=True,  # else a request may start in the context of another, with its ids and span
            )
        )
        AppStatus.enable_automatic_graceful_drain = False  # `shutdown` below ends the event streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then write the announcement."""
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
        if scaler := _autoscaler(self._settings, self._cluster):
            self._scaling = asyncio.create_task(scaler.run(), name="scaling")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down in order.

        Report not ready; stop the autoscaler, so that no worker is started or retired meanwhile; keep serving for
        `drain_s`, until load balancers send no more requests here; end the event streams; close the listener; and let
        requests in progress finish.
        """
        service: Service = self._app.state.service
        service.stopping.set()
        log.info("stopping", drain_s=self._settings.drain_s, stop_s=self._settings.stop_s)
        if self._scaling is not None:
            self._scaling.cancel()
            await asyncio.gather(self._scaling, return_exceptions=True)
        until = time.monotonic() + self._settings.drain_s
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(_DRAIN_POLL_S)
        service.board.close()
        await super().shutdown(sockets)

    def _announce(self, url: str) -> None:
        processes = {"api": os.getpid(), **(self._cluster.processes if self._cluster else {})}
        content = {"url": url, "scheduler": self._settings.scheduler, "processes": processes}
        part = self._announcement.with_suffix(".part")
        part.write_text(json.dumps(content), "utf-8")
        part.rename(self._announcement)
