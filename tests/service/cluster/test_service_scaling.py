"""`veridask serve` on its own cluster: a killed scheduler costs no case; a burst brings a worker, and quiet ends it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from graphs.records import Step
from service.client import VeridaskClient
from service.server.local import LocalServer, Running
from service.settings.settings import Settings
from tests.support.waiting import until

STEPS: tuple[Step, ...] = ("front", "back", "face")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Running]]:
    """A server with its own cluster of one thread a worker, that may have a second CPU worker; and its folder."""
    folder = tmp_path_factory.mktemp("scaled")
    settings: dict[str, Any] = {
        "cpu_threads": 1,
        "gpu_threads": 1,
        "max_cpu_workers": 2,
        "scale_wait_s": 0.5,
        "scale_quiet_s": 3,
    }
    with LocalServer(folder, scheduler="", **settings) as local:
        yield folder, local.start()


def processes(folder: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "service.json").read_text())["processes"]
    return found


def test_a_killed_scheduler_comes_back_and_the_cases_are_decided(served: tuple[Path, Running], video: bytes) -> None:
    """The scheduler was the one process whose death the service did not survive."""
    folder, running = served
    assert set(processes(folder)) == {"api", "scheduler", "cpu-0", "gpu-0"}
    with VeridaskClient(running.url, running.key) as client:
        cases = [client.create("recorded") for _ in range(3)]
        for case in cases[:2]:
            for step in STEPS:
                client.upload(case.id, step, video, "video/mp4")
        os.kill(running.processes["scheduler"], signal.SIGKILL)
        until(lambda: client.ready().ready and processes(folder)["scheduler"] != running.processes["scheduler"], 150)
        for step in STEPS:
            client.upload(cases[2].id, step, video, "video/mp4")
        for case in cases:
            assert client.decided(case.id, 150).decision is not None
    assert json.loads((folder / "service.json").read_text())["scheduler"] == running.scheduler


def test_a_burst_brings_a_second_worker_and_the_quiet_takes_it_back(served: tuple[Path, Running], video: bytes) -> None:
    """The burst goes on until the worker is there: eight cases were done too soon on a machine with time to spare."""
    folder, running = served
    with VeridaskClient(running.url, running.key) as client:
        cases: list[str] = []

        def one_more() -> str:
            case = client.create("recorded")
            for step in STEPS:
                client.upload(case.id, step, video, "video/mp4")
            return case.id

        def grown() -> bool:
            with ThreadPoolExecutor(4) as pool:
                cases.extend(future.result() for future in [pool.submit(one_more) for _ in range(8)])
            return "cpu-1" in processes(folder)

        until(grown, 150, pause_s=0)
        assert "gpu-1" not in processes(folder), "only the label that may have two"
        for case in cases:
            assert client.decided(case, 150).decision is not None
        until(lambda: len(processes(folder)) == 4, 150)  # whichever of the two was idle for longer has gone
        assert client.ready().ready


def test_the_workers_of_another_cluster_are_not_scaled_from_here() -> None:
    with pytest.raises(ValidationError, match="veridask autoscale"):
        Settings(scheduler="tcp://127.0.0.1:1", max_cpu_workers=2)
    assert Settings(scheduler="tcp://127.0.0.1:1").max_cpu_workers == 1
