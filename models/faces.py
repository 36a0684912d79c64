"""Faces seen in a run of frames: the record that detection, alignment and embedding fill together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.embedding import of_one_model

if TYPE_CHECKING:
    from models.embedding import EmbeddingModel


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


def joined(early: FaceTrack, late: FaceTrack) -> FaceTrack:
    """One track of two that follow each other, of frames of one shape.

    Raises EmbeddingError when their faces were embedded by different networks.
    """
    of_one_model((*early.faces, *late.faces))
    moved = (replace(face, frame=face.frame + len(early.timestamps)) for face in late.faces)
    return FaceTrack((*early.faces, *moved), np.concatenate([early.timestamps, late.timestamps]), early.shape)
