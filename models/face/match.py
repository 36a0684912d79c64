"""Compares the face of the scan with the face of the portrait: the distance between embeddings, over the best pairs.

Pure functions; the networks have already run. dlib publishes 0.6 as the threshold on the Euclidean distance of one pair
(99.38 % on LFW). The threshold in use comes from the policy, or from the embedding network where one is configured.
`veridask evaluate face` measures the false matches and false non-matches of this pipeline at each threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.face.faces import of_one_model

if TYPE_CHECKING:
    from models.face.faces import EmbeddingModel, Face, FaceTrack

PUBLISHED_THRESHOLD = 0.6
"""dlib's own, for one pair: fitted by its author on LFW, not by us."""
BEST_PAIRS = 3
"""How many pairs the mean takes: one could be luck, and turned or blurred faces would only blur the answer."""


@dataclass(frozen=True)
class FacePair:
    """One face of the scan against the portrait. frame: index into the scan's frames. distance: Euclidean, 0 to 2."""

    frame: int
    distance: float


@dataclass(frozen=True)
class FaceMatch:
    """distance: mean of the BEST_PAIRS smallest, or of all if there are fewer. pairs: all of them, nearest first.
    embedder: the network whose distances these are.
    """

    distance: float
    pairs: tuple[FacePair, ...]
    embedder: EmbeddingModel


def match(track: FaceTrack, portrait: Face) -> FaceMatch | None:
    """Compare the embedded faces of a scan with that of a portrait.

    None when either has no embedding: no face found is never a match. Raises EmbeddingError when they were not embedded
    by one network, ValueError on embeddings of another size.
    """
    embedded = [face for face in track.faces if face.embedding.size]
    if not embedded or not portrait.embedding.size:
        return None
    embedder = of_one_model((*embedded, portrait))
    if embedder is None or any(face.embedding.shape != portrait.embedding.shape for face in embedded):
        raise ValueError(f"embeddings of the scan are not of the portrait's shape {portrait.embedding.shape}")
    pairs = [FacePair(face.frame, float(np.linalg.norm(face.embedding - portrait.embedding))) for face in embedded]
    pairs.sort(key=lambda pair: pair.distance)
    return FaceMatch(float(np.mean([pair.distance for pair in pairs[:BEST_PAIRS]])), tuple(pairs), embedder)
