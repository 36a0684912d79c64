"""A cluster of real processes, started by the standard commands and started again when they die, on loopback.

    dask scheduler        dask worker --resources "CPU=2"        veridask api --scheduler …   (two of them)
                          dask worker --resources "GPU=2"

A supervisor starts what has died again after half a second, as `restart: always` and Kubernetes do. Each process is the
leader of a group of its own, so that a machine's death can be played: the nanny and its worker at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from service.server.local import own_key
from service.settings.settings import Settings
from workers.children import ONE_THREAD

RESTART_S = 0.5
START_S = 180.0
API = ("api-0", "api-1")
WORKERS = ("cpu", "gpu")


class Topology:
    """Scheduler, a CPU-labelled and a GPU-labelled worker and two API processes, as a context manager.

    folder: data folder of the API processes, and the logs. threads: tasks at once on each worker. settings: of the API
    processes, by name, such as `decision_timeout_s`. `start` raises TimeoutError when something does not come up.
    """

    def __init__(self, folder: Path, threads: int = 2, **settings: Any) -> None:
        self.folder = folder
        self.key = ""
        """An API key, once it has started."""
        self._ports = {role: free_port() for role in ("scheduler", *API)}
        self._commands = self._made(threads)
        self._settings = {f"VERIDASK_{name.upper()}": str(value) for name, value in settings.items()}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    @property
    def urls(self) -> dict[str, str]:
        """Addresses of the API processes by role."""
        return {role: f"http://127.0.0.1:{self._ports[role]}" for role in API}

    @property
    def scheduler(self) -> str:
        """Address of the scheduler."""
        return f"tcp://127.0.0.1:{self._ports['scheduler']}"

    def start(self) -> None:
        """Start all of it, and wait until both API processes say that nothing is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for role in self._commands:
            self._spawn(role)
        self._supervisor.start()
        self.until_ready()
        self.key = own_key(Settings(data_dir=self.folder / "data").store_url)

    def until_ready(self, timeout_s: float = START_S) -> float:
        """Wait until both API processes say that nothing is missing; gives the seconds. Raises TimeoutError."""
        began = time.monotonic()
        for url in self.urls.values():
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                        break
                if time.monotonic() - began > timeout_s:
                    raise TimeoutError(f"not ready after {timeout_s:.0f} s: {self._missing(url)}")
                time.sleep(0.1)
        return time.monotonic() - began

    def kill(self, *roles: str) -> None:
        """SIGKILL to these processes and what they started; the supervisor brings them back."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            for role in roles:
                os.killpg(self._children[role].pid, signal.SIGKILL)

    def stop(self) -> None:
        """End all processes that were started here, the workers first."""
        self._stopped.set()
        if self._supervisor.ident is not None:
            self._supervisor.join()
        for roles in (WORKERS, API, ("scheduler",)):
            children = [self._children[role] for role in roles if role in self._children]
            for child in children:
                child.terminate()
            for child in children:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(10)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _made(self, threads: int) -> Mapping[str, list[str]]:
        python, quiet = [sys.executable, "-m"], ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        scheduler = ["--host", "127.0.0.1", "--port", str(self._ports["scheduler"])]
        commands = {"scheduler": [*python, "dask", "scheduler", *scheduler, *quiet]}
        for role in WORKERS:
            commands[role] = [*python, "dask", "worker", self.scheduler, "--host", "127.0.0.1", "--name", role]
            commands[role] += ["--resources", f"{role.upper()}={threads}", "--nthreads", str(threads), *quiet]
            commands[role] += ["--preload", "workers.preload", "--local-directory", str(self.folder / role)]
        for role in API:
            commands[role] = [*python, "service.cli", "api", "--scheduler", self.scheduler]
            commands[role] += ["--port", str(self._ports[role]), "--data-dir", str(self.folder / "data")]
        return commands

    def _spawn(self, role: str) -> None:
        with (self.folder / f"{role}.log").open("ab") as log:
            self._children[role] = subprocess.Popen(
                self._commands[role],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **ONE_THREAD, **self._settings},
                start_new_session=True,
            )

    def _supervise(self) -> None:
        while not self._stopped.wait(RESTART_S):
            with self._lock:
                for role, child in list(self._children.items()):
                    if child.poll() is not None:
                        self._spawn(role)

    def _missing(self, url: str) -> Any:
        try:
            return httpx.get(f"{url}/readyz", timeout=5).json()
        except (httpx.TransportError, json.JSONDecodeError) as error:
            return type(error).__name__


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
