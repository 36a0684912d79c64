"""Settings for a face network provided by an operator, and workers and commands that use them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from graphs.errors import EvaluationError
from graphs.evaluation.face import FaceSuite
from graphs.evaluation.suite import Measured
from models.face.faces import EmbeddingModel
from models.face.onnx_embedder import EmbedderWeights, OnnxEmbedder
from service.cli.main import app
from tests.support.brought_embedder import portrait, variables
from tests.support.places import ROOT
from tests.support.small_clusters import fails_to_start, small_cluster
from workers.errors import WorkerSettingError
from workers.preload import EMBEDDER as METRIC
from workers.settings import EMBEDDER, EMBEDDER_SETTINGS, embedder_settings


def test_settings_come_from_the_environment(brought: EmbedderWeights) -> None:
    assert embedder_settings({}) is None
    assert embedder_settings({EMBEDDER: "", f"{EMBEDDER}_NAME": " "}) is None
    assert embedder_settings(variables(brought)) == brought
    more = embedder_settings(variables(brought, SIZE="160", MEAN="0", SCALE="255", CHANNELS="BGR"))
    assert more == replace(brought, size=160, mean=0.0, scale=255.0, channels="BGR")
    by_url = {**variables(brought), EMBEDDER: "file:///srv/some%20weights/faces.onnx"}
    assert embedder_settings(by_url) == replace(brought, path=Path("/srv/some weights/faces.onnx"))


@pytest.mark.parametrize("missing", ["", "_SHA256", "_NAME", "_LICENCE", "_MAX_DISTANCE"])
def test_an_embedder_with_something_missing_refuses_to_start(missing: str, brought: EmbedderWeights) -> None:
    given = variables(brought)
    del given[EMBEDDER + missing]
    with pytest.raises(WorkerSettingError, match=f"^{EMBEDDER}{missing} is not set, but .*its own threshold"):
        embedder_settings(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHA256", "0" * 63),
        ("SHA256", "g" * 64),
        ("MAX_DISTANCE", "0"),
        ("MAX_DISTANCE", "2"),
        ("MAX_DISTANCE", "nan"),
        ("MAX_DISTANCE", "-1"),
        ("SIZE", "31"),
        ("SIZE", "112.5"),
        ("SIZE", "1024"),
        ("MEAN", "256"),
        ("SCALE", "0"),
        ("CHANNELS", "rgb"),
        ("NAME", "n" * 61),
        ("NAME", "two\nlines"),
        ("LICENCE", "l" * 201),
    ],
)
def test_a_setting_out_of_bounds_refuses_to_start(name: str, value: str, brought: EmbedderWeights) -> None:
    with pytest.raises(WorkerSettingError, match=f"{EMBEDDER}_{name} is .*"):
        embedder_settings(variables(brought, **{name: value}))


@pytest.mark.parametrize("url", ["https://example.org/faces.onnx", "s3://bucket/faces.onnx", "file://host/faces.onnx"])
def test_nothing_is_fetched(url: str, brought: EmbedderWeights) -> None:
    with pytest.raises(WorkerSettingError, match="fetch the file"):
        embedder_settings({**variables(brought), EMBEDDER: url})


def test_the_documentation_lists_the_settings_of_the_code() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    rows = re.findall(rf"^\| `({EMBEDDER}\w*)` \| (.*) \|$", page, re.MULTILINE)
    assert dict(rows) == EMBEDDER_SETTINGS


def test_pictures_embedded_by_two_networks_are_no_measurement() -> None:
    measured = [
        Measured(name, "", (), 0.1, {"embedding": np.ones(4, np.float32), "embedder": f"{name} (0)"}) for name in "ab"
    ]
    with pytest.raises(EvaluationError, match=r"a \(0\), b \(0\)"):
        FaceSuite().report(measured)


def configured(monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)


@pytest.mark.cluster
def test_the_command_measures_the_network_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: EmbedderWeights
) -> None:
    """On its own workers, which read the same settings as those of a service."""
    for person in ("astronaut", "hopper"):
        for number, shift in enumerate((0, 9)):
            image = np.roll(portrait(person), shift, axis=1)
            cv2.imwrite(str(tmp_path / f"{person}_{number}.png"), image[..., ::-1])
    pairs = [("astronaut_0", "astronaut_1", 1), ("hopper_0", "hopper_1", 1), ("astronaut_0", "hopper_0", 0),
             ("astronaut_1", "hopper_1", 0)]  # fmt: skip
    with (tmp_path / "lfw_pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("a", "b", "same"))
        writer.writerows((f"{a}.png", f"{b}.png", same) for a, b, same in pairs)
    configured(monkeypatch, variables(brought))
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, ["evaluate", "face", "--data", str(tmp_path), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    assert f"Patches ({brought.sha256[:12]})" in ran.output
    told = json.loads((out / "face.json").read_text("utf-8"))
    assert {item["figures"]["embedder"] for item in told["items"]} == {f"Patches ({brought.sha256[:12]})"}
    assert told["figures"]["missed"] == 0
    assert told["figures"]["accuracy"] == 1


@pytest.mark.cluster
def test_workers_tell_the_scheduler_which_network_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: EmbedderWeights
) -> None:
    configured(monkeypatch, variables(brought))

    def told(dask_scheduler: Any) -> dict[str, Any]:
        return {worker.name: worker.metrics[METRIC] for worker in dask_scheduler.workers.values()}

    def embedded() -> EmbeddingModel:
        from workers.pool import models

        return models().face_embedder.model

    with small_cluster(tmp_path) as client:
        assert client.run_on_scheduler(told) == {"cpu-0": "", "gpu-0": f"Patches ({brought.sha256[:12]})"}
        model = client.submit(embedded, resources={"GPU": 1}).result()
        assert model == OnnxEmbedder(brought).model


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("changed", "said"),
    [({"SHA256": "0" * 64}, "has SHA-256"), ({"MAX_DISTANCE": ""}, "MAX_DISTANCE is not set")],
)
def test_a_worker_does_not_start_with_another_file_or_without_threshold(
    changed: Mapping[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brought: EmbedderWeights
) -> None:
    configured(monkeypatch, variables(brought, **changed))
    fails_to_start(tmp_path, said)
