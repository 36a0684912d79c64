"""Embeds faces with a network that the operator supplies.

The network is an ONNX file like those that ArcFace's authors and others publish (Deng et al. 2019, arXiv:1801.07698),
together with a description of its input. Required input: one float32 tensor (N or 1, 3, size, size), pixels normalised
as (x − mean) / scale in the configured channel order, chips aligned as `landmarks.arcface_chip` does. The first output
is float32 (N, D). Embeddings are scaled to length 1, so distances are Euclidean, 0 to 2, and
`distance² = 2 − 2·cosine`.

It runs on the CPU by onnxruntime, even on a GPU worker: the installed wheel has no CUDA. dlib's threshold does not
apply: set one with `EmbedderWeights.max_distance`; `veridask evaluate face` measures its error rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from models.errors import EmbeddingError, WeightsError
from models.face.faces import EmbeddingModel
from models.face.landmarks import arcface_chip
from models.networks.onnx_session import session
from models.networks.weights import verified_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from models.face.faces import Face

Channels = Literal["RGB", "BGR"]

_BATCH = 16
"""Chips in one pass: bounds memory."""
_LEAST_DIMENSIONS, _MOST_DIMENSIONS = 16, 4096


@dataclass(frozen=True)
class EmbedderWeights:
    """A network for faces with what must be known about it.

    path: ONNX file; sha256: hexadecimal, its digest. name and licence: as shown to people. size: side of its chips in
    pixels. mean, scale: of the normalisation (x − mean) / scale, x from 0 to 255. max_distance: Euclidean between
    embeddings of length 1, from which on two faces are not of one person.
    """

    path: Path
    sha256: str
    name: str
    licence: str
    max_distance: float
    size: int = 112
    mean: float = 127.5
    scale: float = 127.5
    channels: Channels = "RGB"


class OnnxEmbedder:
    """See the module; several threads may embed at once. threads: of onnxruntime within one call."""

    def __init__(self, weights: EmbedderWeights, threads: int = 1) -> None:
        """Raises WeightsError: no such file, another digest, no ONNX file, or a network of another shape."""
        network = verified_bytes(weights.path, weights.sha256)
        self._weights = weights
        name = weights.path.name
        try:
            self._session = session(network, threads)
        except Exception as error:  # onnxruntime raises classes of its own, and RuntimeError
            raise WeightsError(f"{name} is no ONNX file that onnxruntime can run: {type(error).__name__}") from error
        self._input, self._batch = self._checked_input()
        self.chip_size = weights.size
        self._dimensions = 0
        self.model = EmbeddingModel(
            name=weights.name,
            version=weights.sha256[:12].lower(),
            input=f"{weights.size}×{weights.size} {weights.channels}, (x − {weights.mean:g}) / {weights.scale:g}, "
            "aligned as for ArcFace",
            max_distance=weights.max_distance,
        )
        try:
            tried = self.embed(np.full((1, weights.size, weights.size, 3), 128, np.uint8))
        except Exception as error:  # as above
            raise WeightsError(f"{name} cannot embed a chip: {type(error).__name__}: {error}") from error
        self._dimensions = tried.shape[1]
        if not _LEAST_DIMENSIONS <= self._dimensions <= _MOST_DIMENSIONS:
            raise WeightsError(
                f"{name} gives {self._dimensions} numbers for a face, not {_LEAST_DIMENSIONS} to {_MOST_DIMENSIONS}: "
                "is it an embedder?"
            )

    def _checked_input(self) -> tuple[str, int]:
        """The input's name, and how many chips it takes at once."""
        size, inputs = self._weights.size, self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or inputs[0].type != "tensor(float)":
            raise WeightsError(f"{self._weights.path.name} does not take one float32 tensor of four dimensions")
        batch, *rest = shape
        # A name in place of a number means any.
        if any(isinstance(has, int) and has != want for has, want in zip(rest, (3, size, size), strict=True)):
            raise WeightsError(f"{self._weights.path.name} takes {rest}, not [3, {size}, {size}]: is its size right?")
        if isinstance(batch, int) and batch != 1:
            raise WeightsError(
                f"{self._weights.path.name} takes {batch} faces at once: export it for 1 or for any number"
            )
        return str(inputs[0].name), 1 if batch == 1 else _BATCH

    def chip_of(self, image: npt.NDArray[np.uint8], face: Face) -> npt.NDArray[np.uint8]:
        """See `Embedder`: cut from the image, because this network wants more of it than dlib's chip shows."""
        return arcface_chip(image, face.landmarks, self.chip_size)

    def embed(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings of length 1, float32 (N, D), of chips, uint8 RGB (N, size, size, 3).

        Raises ValueError on another shape or dtype, EmbeddingError when the network gives what has no direction.
        """
        size = self.chip_size
        if chips.dtype != np.uint8 or chips.shape[1:] != (size, size, 3):
            raise ValueError(f"chips are {chips.dtype} {chips.shape}, not uint8 (N, {size}, {size}, 3)")
        if not len(chips):
            return np.empty((0, self._dimensions), np.float32)
        ordered = chips if self._weights.channels == "RGB" else chips[..., ::-1]
        found = []
        for start in range(0, len(chips), self._batch):
            pixels = ordered[start : start + self._batch].transpose(0, 3, 1, 2).astype(np.float32)
            normal = (pixels - np.float32(self._weights.mean)) / np.float32(self._weights.scale)
            output = np.asarray(self._session.run(None, {self._input: normal})[0])
            if output.dtype != np.float32 or output.ndim != 2 or len(output) != len(pixels):
                raise EmbeddingError(f"the network gives {output.dtype} {output.shape} for {len(pixels)} faces")
            found.append(output)
        return _unit(np.concatenate(found))

    def embed_both_ways(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Like `embed`, of the mean of each chip's embedding and its mirror image's, at twice the time."""
        both = self.embed(np.concatenate([chips, chips[:, :, ::-1]])).reshape(2, len(chips), self._dimensions)
        return _unit(both.mean(axis=0))


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors scaled to length 1. One that cannot be must not become a distance, which would be a mismatch."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise EmbeddingError("the network gave numbers that are not finite, or all zero")
    return np.asarray(vectors / lengths, np.float32)
