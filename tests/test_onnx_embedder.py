"""A network for faces that an operator brings: its digest, its shape, its alignment and its threshold are held to, and
its embeddings are never compared with another's.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import matplotlib.cbook
import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from distributed import Client
from made_media import sample
from made_onnx import Size, patches
from typer.testing import CliRunner

from graphs.case import verdict
from graphs.errors import EvaluationError
from graphs.evaluation.face import FaceSuite
from graphs.evaluation.suite import Measured
from graphs.face import findings
from graphs.records import CaseSpec, CheckResult, Failed
from graphs.run import run_node
from models.embedding import EmbeddingModel, of_one_model
from models.errors import EmbeddingError, WeightsError
from models.face_embedder import FaceEmbedder
from models.face_match import match
from models.face_track import largest_face, track
from models.faces import Face, FaceTrack, joined
from models.landmarks import ARCFACE_SIZE, arcface_chip
from models.onnx_embedder import EmbedderWeights, OnnxEmbedder
from service.cli import app
from workers.cluster import EmbeddedCluster
from workers.errors import ClusterError, WorkerSettingError
from workers.placement import GPU
from workers.pool import ModelPool
from workers.preload import EMBEDDER as METRIC
from workers.settings import EMBEDDER, EMBEDDER_SETTINGS, TorchSettings, embedder_settings

U8 = npt.NDArray[np.uint8]
THRESHOLD = 0.31


def weights_of(folder: Path, network: bytes, **options: Any) -> EmbedderWeights:
    path = folder / "faces.onnx"
    path.write_bytes(network)
    known: dict[str, Any] = {"name": "Patches", "licence": "made in a test", "max_distance": THRESHOLD, **options}
    return EmbedderWeights(path, hashlib.sha256(network).hexdigest(), **known)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> EmbedderWeights:
    return weights_of(tmp_path_factory.mktemp("weights"), patches())


@pytest.fixture(scope="module")
def pool(weights: EmbedderWeights) -> ModelPool:
    pool = ModelPool(embedder=weights)
    pool.warm(GPU)
    return pool


@pytest.fixture(scope="module")
def dlibs() -> ModelPool:
    return ModelPool()


def portrait(name: str) -> U8:
    if name == "astronaut":
        return np.asarray(skimage.data.astronaut(), np.uint8)[:320, :360]  # type: ignore[no-untyped-call]
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return np.asarray(cv2.resize(matplotlib.image.imread(path), None, fx=0.6, fy=0.6), np.uint8)


def face_of(name: str, pool: ModelPool) -> Face:
    face = largest_face(portrait(name), pool.face_detector, pool.landmarks, pool.face_embedder)
    assert face is not None
    return face


def scan_of(name: str, pool: ModelPool) -> FaceTrack:
    image = portrait(name)
    frames = np.stack([np.roll(image, step, axis=1) for step in (-4, 0, 4, 8)])
    return track(frames, np.arange(4) / 8, pool.face_detector, pool.landmarks, pool.face_embedder, embed_best=4)


def chips(count: int, size: int = 112) -> U8:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


# --- what it computes ---


def by_hand(chip: U8, mean: float = 127.5, scale: float = 127.5) -> npt.NDArray[np.float64]:
    means = chip.reshape(8, 14, 8, 14, 3).mean(axis=(1, 3))  # (8, 8, 3)
    vector = ((means - mean) / scale).transpose(2, 0, 1).reshape(-1)
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def test_embeddings_are_the_networks_at_length_one(weights: EmbedderWeights) -> None:
    found = OnnxEmbedder(weights).embed(chips(20))
    assert found.shape == (20, 192)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [by_hand(chip) for chip in chips(20)], atol=1e-5)


def test_normalisation_and_order_of_channels_are_followed(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(weights_of(tmp_path, patches(), mean=100.0, scale=50.0, channels="BGR"))
    expected = [by_hand(chip[..., ::-1], 100, 50) for chip in chips(3)]
    np.testing.assert_allclose(embedder.embed(chips(3)), expected, atol=1e-5)


def test_both_ways_is_the_direction_between_a_chip_and_its_mirror_image(weights: EmbedderWeights) -> None:
    embedder, given = OnnxEmbedder(weights), chips(3)
    both = embedder.embed(given) + embedder.embed(np.ascontiguousarray(given[:, :, ::-1]))
    expected = both / np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed_both_ways(given), expected, atol=1e-5)
    assert embedder.embed_both_ways(given[:0]).shape == (0, 192)


@pytest.mark.parametrize("shape", [(1, 3, 112, 112), ("N", 3, "H", "W")])
def test_networks_for_one_face_or_any_size_do(shape: Sequence[Size], weights: EmbedderWeights, tmp_path: Path) -> None:
    found = OnnxEmbedder(weights_of(tmp_path, patches(shape))).embed(chips(3))
    np.testing.assert_allclose(found, OnnxEmbedder(weights).embed(chips(3)), atol=1e-6)


@pytest.mark.parametrize("given", [chips(1, 150), chips(1).astype(np.float32), chips(1)[0]])
def test_other_arrays_are_refused(given: Any, weights: EmbedderWeights) -> None:
    with pytest.raises(ValueError, match="not uint8"):
        OnnxEmbedder(weights).embed(given)


def test_an_embedding_without_direction_is_an_error_and_no_distance(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(weights_of(tmp_path, patches(), mean=100.0))
    with pytest.raises(EmbeddingError, match="all zero"):
        embedder.embed(np.full((2, 112, 112, 3), 100, np.uint8))


# --- what refuses to start ---


def test_another_file_refuses_to_start(weights: EmbedderWeights, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"faces\.onnx has SHA-256 .*, on record is 0000"):
        ModelPool(embedder=replace(weights, sha256="0" * 64)).warm(GPU)
    with pytest.raises(WeightsError, match="is missing"):
        OnnxEmbedder(replace(weights, path=tmp_path / "away.onnx"))


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        (b"no network", {}, "no ONNX file"),
        (patches(("N", 3, 160, 160)), {}, "is its size right"),
        (patches(("N", 112, 112, 3)), {}, "is its size right"),
        (patches((4, 3, 112, 112)), {}, "4 faces at once"),
        (patches((3, 112, 112), side=0), {}, "four dimensions"),
        (patches(side=56), {}, "gives 12 numbers"),
        (patches(side=0), {}, "gives 37632 numbers"),
        (patches(then=["Neg", "Log"]), {}, "cannot embed a chip: EmbeddingError"),
        (patches(then=["Sub"]), {}, "cannot embed a chip: EmbeddingError"),
    ],
)
def test_other_networks_refuse_to_start(network: bytes, options: Mapping[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=said):
        OnnxEmbedder(weights_of(tmp_path, network, **options))


# --- alignment ---


def test_eyes_come_to_their_places_of_the_reference() -> None:
    """A dot in the middle of each eye of a face that is large, turned and off the middle."""
    to_image = np.array([[1.9, -0.6, 300.0], [0.6, 1.9, 120.0]])
    ends = {"right": (73.5318, 51.5014), "left": (38.2946, 51.6963)}
    reference = np.array([(79.3, 50.9), (67.8, 52.1), (32.5, 52.0), (44.1, 51.4), (56.0, 78.9)])
    landmarks = (np.hstack([reference, np.ones((5, 1))]) @ to_image.T).astype(np.float32)
    image = np.zeros((600, 800, 3), np.uint8)
    for x, y in ends.values():
        cv2.circle(image, tuple(map(round, to_image @ (x, y, 1))), 8, (255, 255, 255), -1)
    for size in (112, 224):
        chip = arcface_chip(image, landmarks, size)
        assert chip.shape == (size, size, 3)
        for x, y in ends.values():
            spot = np.argwhere(chip[..., 0] > 128)
            near = spot[np.abs(spot - np.array([y, x]) * size / ARCFACE_SIZE).max(axis=1) < 8 * size / ARCFACE_SIZE]
            assert near.mean(axis=0)[::-1] == pytest.approx(np.array([x, y]) * size / ARCFACE_SIZE, abs=size / 60)


@pytest.mark.parametrize("name", ["astronaut", "hopper"])
def test_a_real_face_lies_as_in_the_reference(name: str, dlibs: ModelPool) -> None:
    face = face_of(name, dlibs)
    chip = arcface_chip(portrait(name), face.landmarks)
    found = dlibs.landmarks.find(chip, np.array([16, 20, 96, 100], np.float32))
    middles = found[:4].reshape(2, 2, 2).mean(axis=1)
    np.testing.assert_allclose(middles, [[73.5, 51.5], [38.3, 51.7]], atol=3)


# --- settings ---


def variables(weights: EmbedderWeights, **others: str) -> dict[str, str]:
    return {
        EMBEDDER: str(weights.path),
        f"{EMBEDDER}_SHA256": weights.sha256,
        f"{EMBEDDER}_NAME": weights.name,
        f"{EMBEDDER}_LICENCE": weights.licence,
        f"{EMBEDDER}_MAX_DISTANCE": str(weights.max_distance),
    } | {f"{EMBEDDER}_{name}": value for name, value in others.items()}


def test_settings_come_from_the_environment(weights: EmbedderWeights) -> None:
    assert embedder_settings({}) is None
    assert embedder_settings({EMBEDDER: "", f"{EMBEDDER}_NAME": " "}) is None
    assert embedder_settings(variables(weights)) == weights
    more = embedder_settings(variables(weights, SIZE="160", MEAN="0", SCALE="255", CHANNELS="BGR"))
    assert more == replace(weights, size=160, mean=0.0, scale=255.0, channels="BGR")
    by_url = {**variables(weights), EMBEDDER: "file:///srv/some%20weights/faces.onnx"}
    assert embedder_settings(by_url) == replace(weights, path=Path("/srv/some weights/faces.onnx"))


@pytest.mark.parametrize("missing", ["", "_SHA256", "_NAME", "_LICENCE", "_MAX_DISTANCE"])
def test_an_embedder_with_something_missing_refuses_to_start(missing: str, weights: EmbedderWeights) -> None:
    given = variables(weights)
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
def test_a_setting_out_of_bounds_refuses_to_start(name: str, value: str, weights: EmbedderWeights) -> None:
    with pytest.raises(WorkerSettingError, match=f"{EMBEDDER}_{name} is .*"):
        embedder_settings(variables(weights, **{name: value}))


@pytest.mark.parametrize("url", ["https://example.org/faces.onnx", "s3://bucket/faces.onnx", "file://host/faces.onnx"])
def test_nothing_is_fetched(url: str, weights: EmbedderWeights) -> None:
    with pytest.raises(WorkerSettingError, match="fetch the file"):
        embedder_settings({**variables(weights), EMBEDDER: url})


def test_the_readme_lists_the_settings_of_the_code() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    rows = re.findall(rf"^\| `({EMBEDDER}\w*)` \| (.*) \|$", readme, re.MULTILINE)
    assert dict(rows) == EMBEDDER_SETTINGS


# --- in a case ---


def test_faces_carry_the_network_that_embedded_them(pool: ModelPool, weights: EmbedderWeights) -> None:
    scan = scan_of("astronaut", pool)
    embedded = [face for face in scan.faces if face.embedding.size]
    assert {face.embedder for face in embedded} == {pool.face_embedder.model}
    assert {face.embedding.shape for face in embedded} == {(192,)}
    assert {face.chip.shape for face in embedded} == {(150, 150, 3)}, "what all else is judged by"
    model = of_one_model(scan.faces)
    assert model is not None
    assert (model.name, model.version, model.max_distance) == ("Patches", weights.sha256[:12], THRESHOLD)


SPEC = CaseSpec("case_e", "standard", {"front": 1, "back": 1, "face": 1}, (), date(2026, 6, 1))


def test_the_threshold_is_the_networks_own(pool: ModelPool) -> None:
    results = {}
    for name in ("astronaut", "hopper"):
        results[name] = run_node(
            "match", SPEC, faces_face=scan_of("astronaut", pool), portrait_face_front=face_of(name, pool)
        )
    same, other = results["astronaut"], results["hopper"]
    assert (same.result, other.result) == ("clear", "rejected")
    assert [reason.code for reason in other.reasons] == ["selfie_face_mismatch"]
    for found in results.values():
        assert found.threshold == THRESHOLD
        assert (found.model, found.model_version) == ("Patches", pool.face_embedder.model.version)


def test_dlibs_threshold_is_the_policys(dlibs: ModelPool) -> None:
    found = run_node("match", SPEC, faces_face=scan_of("hopper", dlibs), portrait_face_front=face_of("hopper", dlibs))
    assert (found.result, found.threshold, found.model) == ("clear", 0.54, "dlib ResNet")
    assert found.model_version == FaceEmbedder.model.version == "55533b28a958"


def test_distances_of_two_networks_are_an_error_of_the_system(pool: ModelPool, dlibs: ModelPool) -> None:
    """The scan on a worker with the one, the portrait on a worker with the other: neither a match nor a mismatch."""
    for one, other in ((pool, dlibs), (dlibs, pool)):
        scan, face = scan_of("astronaut", one), face_of("astronaut", other)
        with pytest.raises(EmbeddingError, match="configure all GPU workers alike"):
            match(scan, face)
        found = run_node("match", SPEC, faces_face=scan, portrait_face_front=face)
        assert found.result == "error"
        assert found.properties["error"] == "EmbeddingError"
        assert not found.reasons
        decision = verdict([found], SPEC).decision
        assert decision.outcome == "review"


@pytest.mark.parametrize("difference", [{"max_distance": 0.4}, {"mean": 100.0}, {"channels": "BGR"}])
def test_the_same_file_configured_otherwise_is_another_network(
    difference: Mapping[str, Any], pool: ModelPool, weights: EmbedderWeights
) -> None:
    other = ModelPool(embedder=replace(weights, **difference))
    with pytest.raises(EmbeddingError):
        match(scan_of("hopper", pool), face_of("hopper", other))


def test_two_halves_of_a_scan_by_two_networks_are_an_error(pool: ModelPool, dlibs: ModelPool) -> None:
    early, late = scan_of("astronaut", pool), scan_of("astronaut", dlibs)
    with pytest.raises(EmbeddingError):
        joined(early, late)
    found = run_node("faces_face", SPEC, faces_early=early, faces_late=late)
    assert isinstance(found, Failed)
    assert not found.broken_media, "nobody is asked to film again what they filmed well"
    again = run_node("match", SPEC, faces_face=found, portrait_face_front=face_of("astronaut", pool))
    assert again == CheckResult(
        name="match", result="not_run", started_at=again.started_at, duration_ms=again.duration_ms
    )


def test_an_embedding_that_says_nothing_of_its_network_is_an_error(pool: ModelPool) -> None:
    scan = scan_of("hopper", pool)
    with pytest.raises(EmbeddingError, match="does not say"):
        match(scan, replace(face_of("hopper", pool), embedder=None))


def test_what_is_kept_names_the_network(pool: ModelPool) -> None:
    scan = scan_of("hopper", pool)
    _, png = cv2.imencode(".png", portrait("hopper"))
    frames = sample(bytes(png))
    kept = findings(frames, scan)
    assert (
        kept.attributes["embedder"] == str(pool.face_embedder.model) == f"Patches ({pool.face_embedder.model.version})"
    )
    assert kept.arrays["embeddings"].shape == (4, 192)
    empty = findings(frames, FaceTrack((), scan.timestamps, scan.shape))
    assert empty.arrays["embeddings"].shape == (0, 0)
    assert empty.attributes["embedder"] == ""


def test_calls_of_another_network_are_not_joined(weights: EmbedderWeights) -> None:
    assert set(ModelPool(TorchSettings(batch_items=8), weights).figures()) == {"face_detector"}


# --- measured, and on a cluster ---


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: EmbedderWeights
) -> None:
    """On workers of its own, which read the same settings as those of a service."""
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
    configured(monkeypatch, variables(weights))
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, ["evaluate", "face", "--data", str(tmp_path), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    assert f"Patches ({weights.sha256[:12]})" in ran.output
    told = json.loads((out / "face.json").read_text("utf-8"))
    assert {item["figures"]["embedder"] for item in told["items"]} == {f"Patches ({weights.sha256[:12]})"}
    assert told["figures"]["missed"] == 0
    assert told["figures"]["accuracy"] == 1


@pytest.mark.cluster
def test_workers_tell_the_scheduler_which_network_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: EmbedderWeights
) -> None:
    configured(monkeypatch, variables(weights))

    def told(dask_scheduler: Any) -> dict[str, Any]:
        return {worker.name: worker.metrics[METRIC] for worker in dask_scheduler.workers.values()}

    def embedded() -> EmbeddingModel:
        from workers.pool import models

        return models().face_embedder.model

    cluster = EmbeddedCluster(cpu_threads=1, gpu_threads=1, folder=tmp_path)
    try:
        with Client(cluster.start(), set_as_default=False) as client:
            assert client.run_on_scheduler(told) == {"cpu-0": "", "gpu-0": f"Patches ({weights.sha256[:12]})"}
            model = client.submit(embedded, resources={"GPU": 1}).result()
            assert model == OnnxEmbedder(weights).model
    finally:
        cluster.stop()


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("changed", "said"),
    [({"SHA256": "0" * 64}, "has SHA-256"), ({"MAX_DISTANCE": ""}, "MAX_DISTANCE is not set")],
)
def test_a_worker_does_not_start_with_another_file_or_without_threshold(
    changed: Mapping[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: EmbedderWeights
) -> None:
    configured(monkeypatch, variables(weights, **changed))
    cluster = EmbeddedCluster(cpu_threads=1, gpu_threads=1, folder=tmp_path)
    try:
        with pytest.raises(ClusterError, match=f"gpu-0 process ended with status 1:\n.*{said}"):
            cluster.start()
    finally:
        cluster.stop()
