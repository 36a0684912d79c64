"""Runs the service: in this process (`serve`), or as a child process for tools that need one (`LocalServer`).

`serve` starts the embedded cluster when no scheduler is named, then the API, and writes `service.json` into the data
folder once it answers: its address and the process ids by role.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn

from service.app import create_app
from service.errors import ServerStartError
from service.logs import configure
from service.settings import Settings
from workers.cluster import EmbeddedCluster

_ANNOUNCEMENT = "service.json"
_START_S = 180.0
_STOP_S = 30.0


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order. Raises what the parts raise when they cannot start."""
    configure(settings.log_level)
    signal.signal(signal.SIGTERM, _terminated)
    listener = listen(settings.host, settings.port)
    cluster = None
    try:
        if not settings.scheduler:
            cluster = EmbeddedCluster(settings.cpu_threads, settings.gpu_threads, settings.data_dir / "cluster")
            settings = settings.model_copy(update={"scheduler": cluster.start()})
        processes = {"api": os.getpid(), **(cluster.processes if cluster else {})}
        server = _Announcing(settings, processes)
        server.run([listener])
    finally:
        (settings.data_dir / _ANNOUNCEMENT).unlink(missing_ok=True)
        listener.close()
        if cluster is not None:
            cluster.stop()


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


class _Announcing(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, settings: Settings, processes: Mapping[str, int]) -> None:
        self._settings = settings
        self._processes = processes
        super().__init__(
            uvicorn.Config(
                create_app(settings),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=10,
                server_header=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then announce it."""
        await super().startup(sockets)
        if not self.started or not sockets:
            return
        host, port = sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        content = {"url": url, "scheduler": self._settings.scheduler, "processes": dict(self._processes)}
        part = self._settings.data_dir / f"{_ANNOUNCEMENT}.part"
        part.write_text(json.dumps(content), "utf-8")
        part.rename(self._settings.data_dir / _ANNOUNCEMENT)
        sys.stderr.write(f"veridask listens on {url} (API page: {url}/docs)\n")


@dataclass(frozen=True)
class Running:
    """A server that answers. processes: process ids by role."""

    url: str
    scheduler: str
    processes: Mapping[str, int]


class LocalServer:
    """`veridask serve` as a child process on a free loopback port, as a context manager.

    folder: its data folder, also for its log `server.log`. scheduler: of a cluster to join; empty starts an embedded
    one. settings: further settings by name, such as `max_upload_bytes`. `start` raises ServerStartError.
    """

    def __init__(self, folder: Path, scheduler: str = "", **settings: Any) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "VERIDASK_DATA_DIR": str(folder),
            "VERIDASK_HOST": "127.0.0.1",
            "VERIDASK_PORT": "0",
            "VERIDASK_SCHEDULER": scheduler,
            **{f"VERIDASK_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Running:
        """Start it and wait until it answers and nothing is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        announcement = self.folder / _ANNOUNCEMENT
        announcement.unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if announcement.exists():
                running = Running(**json.loads(announcement.read_text("utf-8")))
                if httpx.get(f"{running.url}/readyz", timeout=10).status_code == 200:
                    return running
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
