"""Test doubles for a face network that an operator provides: its weights and settings, pictures, faces."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import matplotlib.cbook
import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from models.face.faces import Face, FaceTrack
from models.face.onnx_embedder import EmbedderWeights
from models.face.track import largest_face, track
from tests.support.made_onnx import patches
from workers.placement import GPU
from workers.pool import ModelPool
from workers.settings import EMBEDDER

U8 = npt.NDArray[np.uint8]
THRESHOLD = 0.31


def weights_of(folder: Path, network: bytes, **options: Any) -> EmbedderWeights:
    path = folder / "faces.onnx"
    path.write_bytes(network)
    known: dict[str, Any] = {"name": "Patches", "licence": "made in a test", "max_distance": THRESHOLD, **options}
    return EmbedderWeights(path, hashlib.sha256(network).hexdigest(), **known)


@pytest.fixture(scope="session")
def brought(tmp_path_factory: pytest.TempPathFactory) -> EmbedderWeights:
    return weights_of(tmp_path_factory.mktemp("weights"), patches())


@pytest.fixture(scope="session")
def brought_pool(brought: EmbedderWeights) -> ModelPool:
    pool = ModelPool(embedder=brought)
    pool.warm(GPU)
    return pool


@pytest.fixture(scope="session")
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


def variables(weights: EmbedderWeights, **others: str) -> dict[str, str]:
    return {
        EMBEDDER: str(weights.path),
        f"{EMBEDDER}_SHA256": weights.sha256,
        f"{EMBEDDER}_NAME": weights.name,
        f"{EMBEDDER}_LICENCE": weights.licence,
        f"{EMBEDDER}_MAX_DISTANCE": str(weights.max_distance),
    } | {f"{EMBEDDER}_{name}": value for name, value in others.items()}
