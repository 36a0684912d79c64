"""Runs the service as a child process (`LocalServer`), and finds the service that uses a data folder (`announced`).

For tools, tests, benchmarks and notebooks. The child runs `veridask serve`; `service.server.serve` has its code.
"""

from __future__ import annotations

import json
import os
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

from service.errors import ServerStartError
from service.server.announcement import announcement_path, announcements
from service.settings.settings import Settings
from service.store.api_keys import ApiKeys
from service.store.database import Database
from workers import orphan

_START_S = 180.0
"""Longest wait until a started server is ready."""
_STOP_S = 30.0
"""How long a server may take to stop before it is killed."""


@dataclass(frozen=True)
class Running:
    """A server that answers requests.

    processes: process ids by role. key: an API key with all scopes, if this process started the server; otherwise
    empty.
    """

    url: str
    scheduler: str
    processes: Mapping[str, int]
    key: str = field(default="", repr=False)


def announced(folder: Path) -> Running:
    """The service that uses a data folder, or one of its API processes. Raises ServerStartError if there is none."""
    for path in announcements(folder):
        return _read(path)
    raise ServerStartError(f"no service uses the data folder {folder}")


def _read(announcement: Path) -> Running:
    return Running(**json.loads(announcement.read_text("utf-8")))


def own_key(store_url: str) -> str:
    """Create an API key with all scopes, valid for one day, for a service that this process started."""
    database, now = Database(store_url), datetime.now(UTC)
    try:
        return ApiKeys(database).create("started here", ["admin"], now, now + timedelta(days=1))[1]
    finally:
        database.engine.dispose()


class LocalServer:
    """`veridask serve` as a child process on a free loopback port. A context manager; ends with this process.

    folder: the data folder; the log `server.log` is written there too. scheduler: address of a cluster to join; empty
    starts an embedded one. settings: further settings by name, such as `max_upload_bytes`. `start` raises
    ServerStartError.
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
        """Start the server and wait until `/readyz` reports that it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        announcement_path(self.folder).unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the parent, which stops the server
            )
        announcement = announcement_path(self.folder, self.process.pid if self._joins else None)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if announcement.exists():
                running = _read(announcement)
                if httpx.get(f"{running.url}/readyz", timeout=10).status_code == 200:
                    settings = Settings(data_dir=self.folder, database_url=self._database_url)
                    return replace(running, key=own_key(settings.store_url))
            time.sleep(0.1)
        status = self.process.poll()
        self.stop()
        tail = (self.folder / "server.log").read_text("utf-8", "replace")[-2000:]
        raise ServerStartError(f"the server did not become ready (status {status}):\n{tail}")

    def stop(self) -> None:
        """Ask the server to stop, and kill it if it has not stopped after 30 s."""
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
