"""Settings for a worker's device and joined calls: invalid ones refuse to start; the figures reach the scheduler."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_clusters import fails_to_start, small_cluster
from workers.errors import WorkerSettingError
from workers.load import BATCHES
from workers.settings import BATCH_ITEMS, BATCH_WAIT_MS, DEVICE, TorchSettings, _device, torch_settings


@pytest.mark.parametrize(
    ("wanted", "gpus", "device"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_the_device_is_the_one_set_or_the_gpu_that_is_there(wanted: str, gpus: int, device: str) -> None:
    assert _device(wanted, gpus) == device


@pytest.mark.parametrize(
    ("wanted", "gpus", "advice"),
    [
        ("gpu", 1, "set it to auto, cpu, cuda or cuda:N"),
        ("cuda:", 1, "set it to"),
        ("cuda:-1", 1, "set it to"),
        ("cuda:1x", 1, "set it to"),
        ("CUDA", 1, "set it to"),
        ("mps", 1, "set it to"),
        ("cuda", 0, "set it to auto or cpu"),
        ("cuda:0", 0, "install a torch with CUDA"),
        ("cuda:2", 2, "numbered from 0"),
    ],
)
def test_a_device_that_is_not_there_refuses_to_start(wanted: str, gpus: int, advice: str) -> None:
    with pytest.raises(WorkerSettingError, match=advice) as raised:
        _device(wanted, gpus)
    assert DEVICE in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (BATCH_ITEMS, "-1"),
        (BATCH_ITEMS, "1"),
        (BATCH_ITEMS, "2.5"),
        (BATCH_ITEMS, "257"),
        (BATCH_ITEMS, "nan"),
        (BATCH_ITEMS, "many"),
        (BATCH_WAIT_MS, "-0.1"),
        (BATCH_WAIT_MS, "101"),
        (BATCH_WAIT_MS, "inf"),
        (BATCH_WAIT_MS, "2 ms"),
    ],
)
def test_a_number_out_of_bounds_refuses_to_start(name: str, value: str) -> None:
    with pytest.raises(WorkerSettingError, match=f"{name} is .*set it to"):
        torch_settings({DEVICE: "cpu", name: value})


def test_settings_come_from_the_environment() -> None:
    assert torch_settings({DEVICE: "cpu"}) == TorchSettings("cpu", 0, 0.002)
    assert torch_settings({DEVICE: "cpu", BATCH_ITEMS: "", BATCH_WAIT_MS: ""}) == TorchSettings("cpu", 0, 0.002)
    assert torch_settings({DEVICE: "cpu", BATCH_ITEMS: "32", BATCH_WAIT_MS: "0.5"}) == TorchSettings("cpu", 32, 0.0005)


@pytest.mark.cluster
def test_a_worker_that_cannot_have_its_device_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """distributed logs what a preload raises and starts the worker all the same: it once took tasks cold and without
    its settings, and a wrong label or wrong weights would have passed likewise.
    """
    monkeypatch.setenv(DEVICE, "cuda:99")
    fails_to_start(tmp_path, "VERIDASK_DEVICE is cuda:99, but")


@pytest.mark.cluster
def test_what_was_joined_reaches_the_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They arrive with the next heartbeat as a worker metric, for the service or an operator."""
    monkeypatch.setenv(DEVICE, "cpu")
    monkeypatch.setenv(BATCH_ITEMS, "16")

    def embed(count: int) -> tuple[int, ...]:
        import numpy as np

        from workers.pool import models

        return models().face_embedder.embed(np.full((count, 150, 150, 3), 10 * count, np.uint8)).shape

    def figures() -> dict[str, Any]:
        from workers.pool import models

        return models().figures()

    def metrics(dask_scheduler: Any) -> dict[str, Any]:
        return {worker.name: worker.metrics[BATCHES] for worker in dask_scheduler.workers.values()}

    with small_cluster(tmp_path, gpu_threads=4) as client:
        found = client.run_on_scheduler(metrics)
        assert found["cpu-0"] == {}
        assert found["gpu-0"]["face_embedder"]["calls"] == 0, "warming up is no work"
        tasks = client.map(embed, range(1, 9), resources={"GPU": 1}, pure=False)
        assert client.gather(tasks) == [(count, 128) for count in range(1, 9)]
        deadline = time.monotonic() + 60
        ended = client.submit(figures, resources={"GPU": 1}, pure=False).result()
        while found["gpu-0"] != ended and time.monotonic() < deadline:  # one heartbeat came half way
            time.sleep(0.1)
            found = client.run_on_scheduler(metrics)
    assert found["gpu-0"] == ended
    embedder = ended["face_embedder"]
    assert (embedder["calls"], embedder["items"], embedder["fallbacks"]) == (8, 36, 0)
    assert 1 <= embedder["passes"] <= 8
    assert embedder["mean_batch"] == round(36 / embedder["passes"], 2)
    assert embedder["max_batch"] <= 16
    assert ended["face_detector"]["calls"] == 0
