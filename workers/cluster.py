"""The embedded cluster: the standard Dask commands as child processes on one machine. Also connects to any cluster.

`veridask serve` starts here what an operator would start on several machines: `dask scheduler`,
`dask worker --resources "CPU=…" --preload workers.preload` and the same with GPU. This module keeps the processes
running; `workers.autoscale` decides how many workers there should be.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from distributed import Client

from workers.build import METRIC, build
from workers.children import Child
from workers.errors import ClusterError
from workers.load import LoadPlugin
from workers.placement import CPU, GPU, LABELS, Label
from workers.transport import TlsFiles, security
from workers.uploads import SEND_INTERVAL, UploadPlugin, require_tested_build

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
LOOK_S = 0.5
MEMORY_SHARE = 0.8
"""Share of the machine's memory for all workers together. A nanny restarts a worker that exceeds its part."""
SCHEDULER = "scheduler"


class EmbeddedCluster:
    """A scheduler and at first one worker of each label, on loopback, as supervised child processes.

    cpu_threads, gpu_threads: concurrent tasks on each worker of the label, 1 or more. folder: for the scheduler's
    address file, the workers' folders and the logs; created if missing. most_workers: how many workers share the
    memory.

    A process that dies is restarted, with a delay of at most 30 s if it dies early (`workers.children`). A scheduler
    restarts at the same port, and all workers are restarted with it: their data belongs to the old scheduler, and a
    worker without a scheduler takes long to end. `changed` is called from a thread after a process id has changed. All
    methods may be called from any thread.
    """

    def __init__(self, cpu_threads: int, gpu_threads: int, folder: Path, most_workers: int = 2) -> None:
        self.folder = folder
        self.changed: Callable[[], None] = lambda: None
        self._threads: dict[Label, int] = {CPU: cpu_threads, GPU: gpu_threads}
        self._memory_share = MEMORY_SHARE / max(2, most_workers)
        self._file = folder / "scheduler.json"
        self._children: dict[str, Child] = {}
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by role: `scheduler`, `cpu-0`, `gpu-0`… For workers, the ids of the workers, not their nannies.

        A role whose process is about to be restarted is missing.
        """
        with self._lock:
            found = {role: child.pid for role, child in self._children.items()}
        return {role: pid for role, pid in found.items() if pid is not None}

    def start(self) -> str:
        """Start all processes and wait until every worker is warm. Returns the scheduler's address.

        Raises ClusterError if a process does not start, with the reason it gave or otherwise the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file.unlink(missing_ok=True)
        with self._lock:
            self._children[SCHEDULER] = Child(self._scheduler_command(0), self.folder / "scheduler.log")
            for label in LABELS:
                self._add(label)
            for child in self._children.values():
                child.start(time.monotonic())
        try:
            address = self._wait()
        except ClusterError:
            self.stop()
            raise
        self._children[SCHEDULER].command = self._scheduler_command(int(address.rsplit(":", 1)[1]))
        self._ending.clear()
        self._watcher = threading.Thread(target=self._watch, name="embedded-cluster", daemon=True)
        self._watcher.start()
        return address

    def stop(self) -> None:
        """Stop all processes. Those that do not end within ten seconds are killed.

        Workers are stopped first: a worker that loses its scheduler while ending waits eight seconds for it.
        """
        self._ending.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        with self._lock:
            scheduler = self._children.pop(SCHEDULER, None)
            workers, self._children = self._children, {}
        for group in (list(workers.values()), [scheduler] if scheduler else []):
            for child in group:
                child.ask_to_end()
            for child in group:
                child.wait()

    def workers(self, label: Label) -> int:
        """How many workers of a label run or are about to be restarted."""
        with self._lock:
            return sum(role.startswith(f"{label.lower()}-") for role in self._children)

    def add_worker(self, label: Label) -> str:
        """Start one more worker. Returns its role, which is also its name in the cluster. Does not wait for it."""
        with self._lock:
            role = self._add(label)
            self._children[role].start(time.monotonic())
            return role

    def end_worker(self, role: str) -> None:
        """Stop one worker for good and wait until it is gone. Raises ClusterError if no worker has this role."""
        with self._lock:
            if role == SCHEDULER or role not in self._children:
                raise ClusterError(f"the embedded cluster has no worker {role}")
            child = self._children.pop(role)
        child.ask_to_end()
        child.wait()

    def _add(self, label: Label) -> str:
        role = next(name for i in count() if (name := f"{label.lower()}-{i}") not in self._children)
        self._children[role] = Child(self._worker_command(label, role), self.folder / f"{role}.log")
        return role

    def _scheduler_command(self, port: int) -> list[str]:
        return [
            *("scheduler", "--host", "127.0.0.1", "--port", str(port), "--preload", "workers.orphan"),
            *("--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(self._file)),
        ]

    def _worker_command(self, label: Label, role: str) -> list[str]:
        threads = self._threads[label]
        return [
            *("worker", "--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
            *("--name", role, "--resources", f"{label}={threads}", "--nthreads", str(threads)),
            *("--memory-limit", f"{self._memory_share:.3f}", "--local-directory", str(self.folder)),
            *("--preload", "workers.preload", "--preload", "workers.orphan", "--preload-nanny", "workers.orphan"),
            *("--scheduler-file", str(self._file)),
        ]

    def _wait(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for role, child in self._children.items():
                if (status := child.status()) is not None:
                    raise ClusterError(f"the {role} process ended with status {status}:\n{child.reason()}")
            if self._file.exists() and (text := self._file.read_text("utf-8")).endswith("}"):
                address = str(json.loads(text)["address"])
                if self._all_warm(address):
                    return address
            time.sleep(0.2)
        raise ClusterError(f"the cluster did not start within {START_SECONDS:.0f} s; see the logs in its folder")

    def _all_warm(self, address: str) -> bool:
        with Client(address, timeout=10, set_as_default=False) as client:
            offered: dict[str, str] = client.sync(labels, client)
            return set(offered.values()) == set(LABELS)

    # --- supervision ---

    def _watch(self) -> None:
        reported = self.processes
        while not self._ending.wait(LOOK_S):
            try:
                with self._lock:
                    self._look(time.monotonic())
                    found = self.processes
                if found != reported:
                    self.changed()
                    reported = found
            except Exception:  # keep watching the other processes whatever happens
                logger.exception("the embedded cluster could not be supervised")

    def _look(self, now: float) -> None:
        """Record deaths and start the processes that are due. Workers start only when the scheduler runs."""
        scheduler = self._children[SCHEDULER]
        for role, child in self._children.items():
            if child.due is None and (status := child.status()) is not None:
                delay = child.died(now)
                logger.warning("process %s ended with status %s; it restarts in %.1f s", role, status, delay)
                if child is scheduler:
                    self._end_workers(now)
        if scheduler.due is not None and scheduler.due <= now:
            self._file.unlink(missing_ok=True)  # workers wait for the new file before they connect
            scheduler.start(now)
        for role, child in self._children.items():
            if child.due is not None and child.due <= now and scheduler.due is None:
                child.start(now)
                logger.warning("process %s was restarted", role)

    def _end_workers(self, now: float) -> None:
        for role, child in self._children.items():
            if role != SCHEDULER:
                child.kill()
                child.due = now


async def labels(client: Client) -> dict[str, str]:
    """Address → label of the connected workers that may run tasks of this build.

    Workers that are being retired are left out, because data given to them would be lost. Asks the scheduler, because
    `scheduler_info` of an asynchronous client lists no workers.
    """
    scheduler: Any = client.scheduler
    workers = (await scheduler.identity(n_workers=-1))["workers"]
    return {
        address: label
        for address, worker in workers.items()
        for label in LABELS
        if worker["resources"].get(label, 0) > 0
        and worker["status"] in ("running", "paused")
        and worker["metrics"].get(METRIC, build()) == build()
    }


async def connect(address: str, timeout_s: float = 10.0, tls: TlsFiles | None = None) -> Client:
    """Connect to a cluster and register the scheduler plugins. tls: for a `tls://` address.

    Raises ClusterError if the scheduler does not answer or refuses, CertificateError if the files of `tls` cannot be
    used, UntestedBuildError for an untested version of `distributed`.
    """
    require_tested_build()
    given = None if tls is None else security(tls)
    try:
        client: Client = await Client(
            address, asynchronous=True, timeout=timeout_s, set_as_default=False, security=given
        )
        await client.register_plugin(UploadPlugin())
        await client.register_plugin(LoadPlugin())
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"no scheduler answers at {address}: {type(error).__name__}") from error
    if client.scheduler_comm is not None:
        client.scheduler_comm.interval = SEND_INTERVAL
    return client
