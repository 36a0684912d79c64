"""A network for faces as an ONNX file: what it computes, which files refuse to start, how faces are aligned for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.errors import EmbeddingError, WeightsError
from models.face.landmarks import ARCFACE_SIZE, arcface_chip
from models.face.onnx_embedder import EmbedderWeights, OnnxEmbedder
from tests.support.brought_embedder import U8, face_of, portrait, weights_of
from tests.support.made_onnx import Size, patches
from workers.placement import GPU
from workers.pool import ModelPool


def chips(count: int, size: int = 112) -> U8:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def by_hand(chip: U8, mean: float = 127.5, scale: float = 127.5) -> npt.NDArray[np.float64]:
    means = chip.reshape(8, 14, 8, 14, 3).mean(axis=(1, 3))  # (8, 8, 3)
    vector = ((means - mean) / scale).transpose(2, 0, 1).reshape(-1)
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def test_embeddings_are_the_networks_at_length_one(brought: EmbedderWeights) -> None:
    found = OnnxEmbedder(brought).embed(chips(20))
    assert found.shape == (20, 192)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [by_hand(chip) for chip in chips(20)], atol=1e-5)


def test_normalisation_and_order_of_channels_are_followed(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(weights_of(tmp_path, patches(), mean=100.0, scale=50.0, channels="BGR"))
    expected = [by_hand(chip[..., ::-1], 100, 50) for chip in chips(3)]
    np.testing.assert_allclose(embedder.embed(chips(3)), expected, atol=1e-5)


def test_both_ways_is_the_direction_between_a_chip_and_its_mirror_image(brought: EmbedderWeights) -> None:
    embedder, given = OnnxEmbedder(brought), chips(3)
    both = embedder.embed(given) + embedder.embed(np.ascontiguousarray(given[:, :, ::-1]))
    expected = both / np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed_both_ways(given), expected, atol=1e-5)
    assert embedder.embed_both_ways(given[:0]).shape == (0, 192)


@pytest.mark.parametrize("shape", [(1, 3, 112, 112), ("N", 3, "H", "W")])
def test_networks_for_one_face_or_any_size_do(shape: Sequence[Size], brought: EmbedderWeights, tmp_path: Path) -> None:
    found = OnnxEmbedder(weights_of(tmp_path, patches(shape))).embed(chips(3))
    np.testing.assert_allclose(found, OnnxEmbedder(brought).embed(chips(3)), atol=1e-6)


@pytest.mark.parametrize("given", [chips(1, 150), chips(1).astype(np.float32), chips(1)[0]])
def test_other_arrays_are_refused(given: Any, brought: EmbedderWeights) -> None:
    with pytest.raises(ValueError, match="not uint8"):
        OnnxEmbedder(brought).embed(given)


def test_an_embedding_without_direction_is_an_error_and_no_distance(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(weights_of(tmp_path, patches(), mean=100.0))
    with pytest.raises(EmbeddingError, match="all zero"):
        embedder.embed(np.full((2, 112, 112, 3), 100, np.uint8))


def test_another_file_refuses_to_start(brought: EmbedderWeights, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"faces\.onnx has SHA-256 .*, on record is 0000"):
        ModelPool(embedder=replace(brought, sha256="0" * 64)).warm(GPU)
    with pytest.raises(WeightsError, match="is missing"):
        OnnxEmbedder(replace(brought, path=tmp_path / "away.onnx"))


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
