"""Which network made an embedding, and what every embedder offers: embeddings of two networks are never compared.

An embedding travels with the record of its network (`faces.Face.embedder`), because the face and the portrait of a case
are embedded by different tasks, on workers that may be configured differently. `of_one_model` is where that shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from models.errors import EmbeddingError

if TYPE_CHECKING:
    from models.faces import Face


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
