"""The embedded cluster: the standard commands as child processes of one machine, and the connection to any cluster.

What `veridask serve` starts here is what an operator starts by hand on several machines: `dask scheduler`,
`dask worker --resources "CPU=…" --preload workers.preload` and the same with GPU. Does not scale and does not restart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import psutil
from distributed import Client

from workers.errors import ClusterError
from workers.orphan import PARENT
from workers.placement import CPU, GPU, LABELS
from workers.uploads import SEND_INTERVAL, UploadPlugin, require_tested_build

START_SECONDS = 120.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class EmbeddedCluster:
    """Scheduler, one CPU-labelled and one GPU-labelled worker, on loopback, as child processes.

    cpu_threads, gpu_threads: tasks at once on each worker, 1 or more. folder: for the scheduler's address file, the
    workers' spill files and the logs; made when absent. `processes` maps role to process id while running.
    """

    def __init__(self, cpu_threads: int, gpu_threads: int, folder: Path) -> None:
        self.cpu_threads = cpu_threads
        self.gpu_threads = gpu_threads
        self.folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by role, `cpu` and `gpu` being the workers' own, not their nannies'."""
        found = {}
        for role, child in self._children.items():
            family = psutil.Process(child.pid).children() if child.poll() is None else []
            workers = [p for p in family if "spawn_main" in " ".join(p.cmdline())]
            found[role] = workers[0].pid if role != "scheduler" and workers else child.pid
        return found

    def start(self) -> str:
        """Start all processes and wait until every worker is warm; gives the scheduler's address.

        Raises ClusterError with the tail of the log of the process that did not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        address_file = self.folder / "scheduler.json"
        address_file.unlink(missing_ok=True)
        self._spawn(
            "scheduler",
            [
                *("scheduler", "--host", "127.0.0.1", "--port", "0", "--preload", "workers.orphan"),
                *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
            ],
            address_file,
        )
        for label, threads in ((CPU, self.cpu_threads), (GPU, self.gpu_threads)):
            resources = ["--resources", f"{label}={threads}", "--nthreads", str(threads)]
            local = [
                "--host",
                "127.0.0.1",
                "--no-dashboard",
                "--dashboard-address",
                "127.0.0.1:0",
                "--local-directory",
                str(self.folder),
            ]
            name = ["--name", label.lower(), "--preload", "workers.preload", "--memory-limit", "0.4"]
            name += ["--preload", "workers.orphan", "--preload-nanny", "workers.orphan"]
            self._spawn(label.lower(), ["worker", *resources, *local, *name], address_file)
        try:
            return self._wait(address_file)
        except ClusterError:
            self.stop()
            raise

    def stop(self) -> None:
        """End the processes started here, each asked, then killed after ten seconds.

        The workers go first: one that loses its scheduler while it ends waits for it for eight seconds.
        """
        workers = [child for role, child in self._children.items() if role != "scheduler"]
        for group in (workers, [child for child in self._children.values() if child not in workers]):
            for child in group:
                child.terminate()
            for child in group:
                _ended(child)
        for log in self._logs:
            log.close()
        self._children.clear()
        self._logs.clear()

    def _spawn(self, role: str, command: list[str], address_file: Path) -> None:
        log = (self.folder / f"{role}.log").open("wb")
        self._logs.append(log)
        self._children[role] = subprocess.Popen(
            [sys.executable, "-m", "dask", *command, "--scheduler-file", str(address_file)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ONE_THREAD, PARENT: str(os.getpid())},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its children in order
        )

    def _wait(self, address_file: Path) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for role, child in self._children.items():
                if child.poll() is not None:
                    tail = (self.folder / f"{role}.log").read_text("utf-8", "replace")[-2000:]
                    raise ClusterError(f"the {role} process ended with status {child.returncode}:\n{tail}")
            if address_file.exists() and (text := address_file.read_text("utf-8")).endswith("}"):
                address = str(json.loads(text)["address"])
                if self._all_warm(address):
                    return address
            time.sleep(0.2)
        raise ClusterError(f"the cluster did not start within {START_SECONDS:.0f} s; see the logs in its folder")

    def _all_warm(self, address: str) -> bool:
        with Client(address, timeout=10, set_as_default=False) as client:
            offered: dict[str, str] = client.sync(labels, client)
            return set(offered.values()) == set(LABELS)


def _ended(child: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was asked to end, and kill it and its children when it does not."""
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        for orphan in psutil.Process(child.pid).children(recursive=True):
            orphan.kill()
        child.kill()
        child.wait()


async def labels(client: Client) -> dict[str, str]:
    """Address → label of the workers connected now; an asynchronous client's `scheduler_info` lists none."""
    scheduler: Any = client.scheduler
    workers = (await scheduler.identity(n_workers=-1))["workers"]
    return {
        address: label
        for address, worker in workers.items()
        for label in LABELS
        if worker["resources"].get(label, 0) > 0
    }


async def connect(address: str, timeout_s: float = 10.0) -> Client:
    """Connect to a cluster and make sure that it has the upload plugin. Raises ClusterError when it does not answer."""
    require_tested_build()
    try:
        client: Client = await Client(address, asynchronous=True, timeout=timeout_s, set_as_default=False)
        await client.register_plugin(UploadPlugin())
    except (OSError, TimeoutError) as error:
        raise ClusterError(f"no scheduler answers at {address}: {type(error).__name__}") from error
    if client.scheduler_comm is not None:
        client.scheduler_comm.interval = SEND_INTERVAL
    return client
