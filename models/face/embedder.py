"""Embeds aligned faces as 128-dimensional vectors: dlib's ResNet-29 in torch.

The network is dlib's `dlib_face_recognition_resnet_model_v1` (public domain, trained on about 3 million faces, 99.38 %
on LFW as published): residual blocks of two 3×3 convolutions after He et al. 2016 (arXiv:1512.03385). Two faces belong
to the same person when the Euclidean distance of their embeddings is small; dlib publishes 0.6 as the threshold. The
weights are read from dlib's own `.dat` file. It runs in torch because dlib's wheel has no BLAS and takes many times as
long for the same result: `benchmarks/checks/face_speed.py` measures both.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.face.dlib_format import DlibLayer, read_network
from models.face.dlib_layers import convolution
from models.face.faces import EmbeddingModel
from models.networks.tensors import on_device
from models.networks.weights import table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.face.faces import Face

WEIGHTS = "dlib_face_recognition_resnet_model_v1"
CHIP_SIZE = 150
DIMENSIONS = 128

_STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
"""Channels, blocks, and whether the first block halves the size."""
_BATCH = {"cpu": 32, "cuda": 256}
"""Chips in one pass. CPU: past this a chip takes no less time, and memory grows (55 MB here). CUDA: bounds memory."""


class FaceEmbedder:
    """Embeds chips. device: where the network lives; chips come and embeddings leave as numpy arrays."""

    model = EmbeddingModel("dlib ResNet", table()[WEIGHTS].sha256[:12], f"{CHIP_SIZE}×{CHIP_SIZE}, aligned as by dlib")
    chip_size = CHIP_SIZE

    def __init__(self, path: Path, device: str = "cpu") -> None:
        """path: dlib's `.dat` file, digest already checked. Raises WeightsError when it holds another network."""
        network = read_network(
            path.read_bytes(), loss="loss_metric_2", source="input_rgb_image_sized", layers=_layer_kinds()
        )
        self._net = _ResNet(network.layers).eval().to(device)
        self._mean = torch.tensor(network.mean, device=device).view(1, 3, 1, 1)

    def chip_of(self, image: npt.NDArray[np.uint8], face: Face) -> npt.NDArray[np.uint8]:  # noqa: ARG002  `Embedder`'s
        """The chip that every face has: it was cut for this network."""
        return face.chip

    @torch.inference_mode()
    def embed(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings, float32 (N, 128), of chips, uint8 RGB (N, 150, 150, 3) as `landmarks.face_chip` cuts them.

        Raises ValueError on another shape or dtype.
        """
        if chips.dtype != np.uint8 or chips.shape[1:] != (CHIP_SIZE, CHIP_SIZE, 3):
            raise ValueError(f"chips are {chips.dtype} {chips.shape}, not uint8 (N, {CHIP_SIZE}, {CHIP_SIZE}, 3)")
        embeddings = np.empty((len(chips), DIMENSIONS), np.float32)
        device = self._mean.device
        size = _BATCH[device.type]
        for start in range(0, len(chips), size):
            # (B, 150, 150, 3) seen as (B, 3, 150, 150) is already channels_last: no copy.
            pixels = on_device(chips[start : start + size], device).permute(0, 3, 1, 2).float()
            embeddings[start : start + size] = self._net((pixels - self._mean) / 256).cpu().numpy()
        return embeddings

    def embed_both_ways(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Like `embed`, but the mean of each chip's embedding and its mirror image's.

        Twice the time, and worth it: on the LFW pairs of `veridask evaluate face` a third fewer people are refused at
        a false match rate of 1e-3 (7.0 % instead of 10.3 %, with landmarks in whole pixels). Compare such embeddings
        only with each other.
        """
        mirrored = chips[:, :, ::-1]
        both = self.embed(np.concatenate([chips, mirrored])).reshape(2, len(chips), DIMENSIONS)
        return np.asarray(both.mean(axis=0), np.float32)


class _ResNet(nn.Module):
    """Shapes for one chip: 3×150×150 → 32×72×72 → pool 32×35×35 → 64×17×17 → 128×8×8 → 256×4×4 → 256×2×2 → 128."""

    def __init__(self, layers: tuple[DlibLayer, ...]) -> None:
        super().__init__()
        convolutions = _convolutions(layers)
        self.stem = next(convolutions)
        self.blocks = nn.Sequential(
            *(
                _Block(next(convolutions), next(convolutions), halve=halves and index == 0)
                for _, blocks, halves in _STAGES
                for index in range(blocks)
            )
        )
        last = layers[-1]
        self.last = nn.Parameter(torch.from_numpy(last.params.reshape(last.shape)), requires_grad=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(pixels)), 3, 2)
        embeddings: torch.Tensor = self.blocks(x).mean(dim=(2, 3)) @ self.last
        return embeddings


class _Block(nn.Module):
    """Two convolutions beside a shortcut; a halving block averages 2×2 in its shortcut."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, *, halve: bool) -> None:
        super().__init__()
        self.first, self.second, self.halve = first, second, halve

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(functional.relu(self.first(x)))
        if self.halve:
            x = functional.avg_pool2d(x, 2)
        # dlib adds tensors of different sizes by extending both with zeros: the shortcut lacks channels where they
        # double, the convolutions lack a row and a column where the size was even (8 → 3, the shortcut 8 → 4).
        shape = [max(a, b) for a, b in zip(x.shape, y.shape, strict=True)]
        return functional.relu(_extended(y, shape) + _extended(x, shape))


def _extended(x: torch.Tensor, shape: list[int]) -> torch.Tensor:
    _, channels, rows, columns = (wanted - has for wanted, has in zip(shape, x.shape, strict=True))
    return functional.pad(x, (0, columns, 0, rows, 0, channels)) if channels or rows or columns else x


def _layer_kinds() -> list[str]:
    """The network as dlib stores it, from the input to the output."""
    kinds = ["con", "affine", "relu", "max_pool"]
    for _, blocks, halves in _STAGES:
        for index in range(blocks):
            kinds += ["tag", "con", "affine", "relu", "con", "affine"]
            kinds += ["tag", "tag", "avg_pool"] if halves and index == 0 else []
            kinds += ["add_prev", "relu"]
    return [*kinds, "avg_pool", "fc"]


def _convolutions(layers: tuple[DlibLayer, ...]) -> Iterator[nn.Conv2d]:
    for layer, after in pairwise(layers):
        if layer.kind == "con":
            yield convolution(layer, after)
