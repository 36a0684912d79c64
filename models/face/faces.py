"""The faces seen in a run of frames, and the network that made their embeddings.

`Face` and `FaceTrack` are the record that detection, alignment and embedding fill step by step. An embedding carries
the identity of its network, because the face and the portrait of a case are embedded by different tasks, on workers
whose configuration may differ. Embeddings of two networks are never compared (`of_one_model`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.errors import EmbeddingError


@dataclass(frozen=True)
class EmbeddingModel:
    """What must be equal for two embeddings to be comparable.

    name: as results show it. version: first 12 hexadecimal digits of the SHA-256 of its weights. input: size, alignment
    and normalisation in words. max_distance: the threshold that belongs to it, Euclidean; None where the policy's does,
    which was fitted on the network that comes with this project.
    """

    name: str
    version: str
    input: str
    max_distance: float | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.version})"


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    frame: index into the frames. box: float32 (4,) left, top, right, bottom in pixels. score: MMOD confidence.
    landmarks: float32 (5, 2) in dlib's 5-point order: for the eye on the image's right its outer then inner corner,
    for the eye on the image's left its outer then inner corner, base of the nose. chip: uint8 (150, 150, 3) RGB
    aligned as dlib's `get_face_chip(size=150, padding=0.25)`. embedding: float32 (D,), or empty when not computed.
    embedder: the network that computed it, None when none did.
    """

    frame: int
    box: npt.NDArray[np.float32]
    score: float
    landmarks: npt.NDArray[np.float32]
    chip: npt.NDArray[np.uint8]
    embedding: npt.NDArray[np.float32]
    embedder: EmbeddingModel | None = None


@dataclass(frozen=True)
class FaceTrack:
    """All faces of all sampled frames. timestamps: float64 (N,) seconds; shape: (height, width) of the frames."""

    faces: tuple[Face, ...]
    timestamps: npt.NDArray[np.float64]
    shape: tuple[int, int]

    def per_frame(self) -> tuple[tuple[Face, ...], ...]:
        """The faces of each frame, largest first; an empty tuple for a frame without one."""
        grouped: list[list[Face]] = [[] for _ in self.timestamps]
        for face in self.faces:
            grouped[face.frame].append(face)
        return tuple(tuple(sorted(g, key=lambda f: -float(f.box[3] - f.box[1]))) for g in grouped)


class Embedder(Protocol):
    """A network that turns aligned faces into embeddings."""

    @property
    def model(self) -> EmbeddingModel:
        """Which one it is."""

    @property
    def chip_size(self) -> int:
        """Side of its chips in pixels."""

    def chip_of(self, image: npt.NDArray[np.uint8], face: Face) -> npt.NDArray[np.uint8]:
        """A face as this network wants it, uint8 RGB (chip_size, chip_size, 3). image: what the face was found in."""

    def embed(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings, float32 (N, D), of chips, uint8 RGB (N, chip_size, chip_size, 3). ValueError on other arrays."""

    def embed_both_ways(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Like `embed`, of each chip and its mirror image together. Compare such embeddings only with each other."""


def of_one_model(faces: Iterable[Face]) -> EmbeddingModel | None:
    """The network that embedded these faces; None when none of them is embedded.

    Raises EmbeddingError when there are several, or an embedding does not say: workers of one cluster are configured
    differently, and their distances mean nothing. That is no outcome about a person.
    """
    found = {face.embedder for face in faces if face.embedding.size}
    if None in found:
        raise EmbeddingError("an embedding does not say which network made it")
    if len(found) > 1:
        told = ", ".join(sorted(f"{model} of {model.input}" for model in found if model is not None))
        raise EmbeddingError(f"embeddings of different networks: {told}; configure all GPU workers alike")
    return next(iter(found), None)


def joined(early: FaceTrack, late: FaceTrack) -> FaceTrack:
    """One track of two that follow each other, of frames of one shape.

    Raises EmbeddingError when their faces were embedded by different networks.
    """
    of_one_model((*early.faces, *late.faces))
    moved = (replace(face, frame=face.frame + len(early.timestamps)) for face in late.faces)
    return FaceTrack((*early.faces, *moved), np.concatenate([early.timestamps, late.timestamps]), early.shape)
