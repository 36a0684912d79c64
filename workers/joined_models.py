"""Face models whose forward passes are joined across the tasks of a worker.

Each is the original model, except that the step which runs the network goes through a batcher. The steps before
(cropping, scaling) and after (boxes, suppression) run in each task's own thread. Inputs of the same size can be joined:
crops around known faces and chips always, whole frames if they are scaled to the same size.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from models.face.detector import MIN_FACE, FaceDetector
from models.face.embedder import FaceEmbedder

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from models.face.detector import Detection, Tile
    from workers.batching import Batcher


class JoinedDetector(FaceDetector):
    """Finds the same faces as FaceDetector; scores differ at most by float32 rounding."""

    def __init__(self, path: Path, device: str, batcher: Batcher) -> None:
        super().__init__(path, device)
        self._batcher = batcher

    def detect(self, images: npt.NDArray[np.uint8], *, min_face: int = MIN_FACE) -> list[list[Detection]]:
        """See FaceDetector."""
        with self._batcher.expected():
            return super().detect(images, min_face=min_face)

    def detect_near(self, images: npt.NDArray[np.uint8], boxes: npt.NDArray[np.floating]) -> list[list[Detection]]:
        """See FaceDetector."""
        with self._batcher.expected():
            return super().detect_near(images, boxes)

    def scores(self, images: npt.NDArray[np.uint8], tile: Tile) -> npt.NDArray[np.float32]:
        """See FaceDetector; joined with frames of other threads that have the same size and layout."""
        return self._batcher.run((images.shape[1:], tile), images, partial(super().scores, tile=tile))


class JoinedEmbedder(FaceEmbedder):
    """Gives the same embeddings as FaceEmbedder, up to float32 rounding."""

    def __init__(self, path: Path, device: str, batcher: Batcher) -> None:
        super().__init__(path, device)
        self._batcher = batcher

    def embed(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See FaceEmbedder; joined with the chips of other threads."""
        # An invalid chip has another key, so it fails alone.
        return self._batcher.run((chips.dtype.str, chips.shape[1:]), chips, super().embed)

    def embed_both_ways(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See FaceEmbedder."""
        with self._batcher.expected():
            return super().embed_both_ways(chips)
