"""What the images, the compose file and the manifests start, started as it stands: on loopback, with paths, host names
and ports replaced, and TLS as `veridask certs` makes it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.topology import free_port
from service.cli.main import app
from service.crypto import cluster_certificates as certs
from tests.support.docker_files import DOCKER, SERVICES, environment_of, final_command, pods
from tests.support.places import ROOT
from workers.cluster import connect, labels
from workers.orphan import PARENT
from workers.placement import LABELS
from workers.transport import TlsFiles


def test_commands_of_the_api_image_are_the_command_lines() -> None:
    cli = typer.main.get_command(app)
    (api,), (autoscaler,) = pods()["api"]["containers"], pods()["autoscaler"]["containers"]
    started = [SERVICES["api"]["command"], api["args"], final_command(DOCKER / "api.Dockerfile"), autoscaler["args"]]
    for command in started:
        assert command[0] == "veridask"
        known = {option for parameter in cli.commands[command[1]].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert {word.split("=")[0] for word in command if word.startswith("--")} <= known
    assert [command[1] for command in started] == ["api", "api", "api", "autoscale"]


class Started:
    """Commands of the files as processes on this machine. Certificates are those in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], image: str, part: str, scheduler: str = "") -> int:
        """Start one as it stands but for paths, names and ports; gives the port that its health is asked at.

        image: whose ENV it gets; part: whose certificate lies at the container's path.
        """
        assert command[0] == "dask"
        health = free_port()
        places = {
            "/run/secrets": str(self.folder),
            "/certificates/ca.crt": str(self.folder / "ca.pem"),
            "/certificates/tls.crt": str(self.folder / f"{part}.pem"),
            "/certificates/tls.key": str(self.folder / f"{part}-key.pem"),
            "/scratch": str(self.folder / "scratch"),
            "$(DASK_WORKER_NAME)": f"pod-{len(self.processes)}",
            "--port=8786": "--port=0",
            "--worker-port=8789": f"--worker-port={free_port()}",
            "--nanny-port=8790": f"--nanny-port={free_port()}",
        }
        words = []
        for word in command:
            for there, here in places.items():
                word = word.replace(there, here)
            word = re.sub(r"^tls://[\w-]+:8786$", scheduler, word)
            words.append(re.sub(r"^--dashboard-address=:\d+$", f"--dashboard-address=127.0.0.1:{health}", word))
        more = ["--host=127.0.0.1", "--preload=workers.orphan"]
        more += (
            ["--preload-nanny=workers.orphan"] if scheduler else [f"--scheduler-file={self.folder / 'scheduler.json'}"]
        )
        image_environment = {k: v for k, v in environment_of(DOCKER / f"{image}.Dockerfile").items() if k != "PATH"}
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words, *more],
                cwd=ROOT,
                env={**os.environ, **image_environment, PARENT: str(os.getpid())},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return health

    def address(self) -> str:
        """Where the scheduler that was started last listens."""
        file = self.folder / "scheduler.json"
        while not (file.exists() and file.read_text().endswith("}")):
            assert self.processes[-1].poll() is None, (self.folder / f"{len(self.processes) - 1}.log").read_text()
            time.sleep(0.1)
        return str(json.loads(file.read_text())["address"])

    def stop(self) -> None:
        for process in reversed(self.processes):  # workers before their scheduler
            process.terminate()
            process.wait(30)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    certs.make(tmp_path, [], 1)
    (tmp_path / "scratch").mkdir()
    started = Started(tmp_path)
    yield started
    started.stop()


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def probe(test: list[str], port: int) -> int:
    """Run a health command of a file, its port replaced."""
    command = [sys.executable if word == "python" else re.sub(r":87\d\d", f":{port}", word) for word in test[1:]]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.cluster
async def test_scheduler_and_workers_start_as_they_stand_in_the_files(started: Started) -> None:
    """Compose's scheduler and CPU worker, and the GPU worker of the manifests with its fixed ports, join with TLS."""
    health = {"scheduler": started.start(SERVICES["scheduler"]["command"], "api", "scheduler")}
    address = started.address()
    assert address.startswith("tls://")
    health["cpu"] = started.start(SERVICES["cpu-worker"]["command"], "worker", "worker", address)
    (pod,) = pods()["gpu"]["containers"]
    health["gpu"] = started.start(pod["args"], "worker-cuda", "worker", address)
    api = TlsFiles(started.folder / "ca.pem", started.folder / "api.pem", started.folder / "api-key.pem")
    client = await connect(address, 30, api)
    try:
        while set((offered := await labels(client)).values()) != set(LABELS):
            assert not [p for p in started.processes if p.poll() is not None]
            await asyncio.sleep(0.1)
        assert len(offered) == 2
        for label in LABELS:
            assert await client.submit(sum, [1, 2], resources={label: 1}, pure=False) == 3
        scheduler: Any = client.scheduler
        workers = (await scheduler.identity(n_workers=-1))["workers"].values()
        assert {name: worker["nthreads"] for worker in workers for name in worker["resources"]} == {"CPU": 2, "GPU": 16}
        for part, port in health.items():
            path = "/info/main/workers.html" if part == "scheduler" else "/info/main.html"
            assert (status(port, "/health"), status(port, path)) == (200, 404), part
        assert probe(SERVICES["scheduler"]["healthcheck"]["test"], health["scheduler"]) == 0
        assert probe(SERVICES["scheduler"]["healthcheck"]["test"], free_port()) == 1
    finally:
        await client.close()


@pytest.mark.cluster
def test_the_manifests_scheduler_starts_as_it_stands(started: Started) -> None:
    (pod,) = pods()["scheduler"]["containers"]
    health = started.start(pod["args"], "api", "scheduler")
    assert started.address().startswith("tls://")
    assert status(health, "/health") == 200


def test_what_cannot_be_started_here_differs_in_numbers_alone() -> None:
    """The commands that no test starts are those that one starts, but for threads, memory and ports."""

    def shape(command: list[str]) -> list[str]:
        return [re.sub(r"\d+(MiB|GiB)?", "N", word.replace("CPU", "GPU")) for word in command]

    tested = shape(SERVICES["cpu-worker"]["command"])
    assert shape(SERVICES["gpu-worker"]["command"]) == shape(SERVICES["cuda-worker"]["command"]) == tested
    (cpu,), (gpu,) = pods()["cpu"]["containers"], pods()["gpu"]["containers"]
    assert shape(cpu["args"]) == shape(gpu["args"])
    for name in ("worker", "worker-cuda"):
        command = final_command(DOCKER / f"{name}.Dockerfile")
        pairs = {f"{a}={b}" for a, b in itertools.pairwise(command) if a.startswith("--")}
        assert {"--local-directory=/scratch", "--preload=workers.preload", "--dashboard-address=:8788"} <= pairs
