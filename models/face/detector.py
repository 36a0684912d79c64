"""Detects faces in frames: dlib's MMOD network in torch, batched over frames.

The network is dlib's `mmod_human_face_detector` (public domain; max-margin object detection, King 2015,
arXiv:1502.00046): a small convolutional net that scores one 80×80 window at every eighth pixel. It runs once over a
tiled pyramid of the frame, each level 5/6 of the size of the one before. The pyramid, the tiling, the mapping from
scores to boxes and the suppression of overlaps follow dlib step by step, so boxes and scores equal dlib's, at a
fraction of dlib's time per frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.errors import WeightsError
from models.face.dlib_format import MmodOptions, read_network
from models.face.dlib_layers import convolution
from models.networks.tensors import on_device

if TYPE_CHECKING:
    from pathlib import Path

MIN_FACE = 80
"""Pixels: the window of the network, so the smallest face that is seen without enlarging the frame."""

_LAYER_KINDS = (*("con", "affine", "relu") * 6, "con")
_STRIDE, _OFFSET = 8, 14
"""An output at (x, y) looks at the window centred on 8x+14, 8y+14: three unpadded 5×5 convolutions of stride 2."""
_SMALLEST_INPUT = 29
"""Pixels that give one output; a frame of a few pixels is filled up with the mean colour."""
_GAP, _BORDER = 10, 11
"""Pixels of the mean colour between the levels of the tiled pyramid, and around it."""
_MIN_LEVEL_HEIGHT = 5
_NEAR_SIDE, _NEAR_FACE, _NEAR_LEVELS = 192, 96, 3
"""Pixels of the square searched around a known face, and of that face in it: half a face of room on each side, and
levels for faces of 0.8 to 1.3 times its size. A sixth of the work of a whole frame at the sizes of a face scan."""
_TILE_PIXELS = {"cpu": 1_200_000, "cuda": 32_000_000}
"""Pixels of tiled pyramids in one pass. CPU: activations (80 bytes a pixel) past this leave the cache, and twelve
frames take 1.8 times as long in one pass as one by one. CUDA: bounds memory to 2.5 GB."""


@dataclass(frozen=True)
class Detection:
    """One face. box: float32 (4,) left, top, right, bottom in pixels of the frame, possibly over its edges.
    score: MMOD confidence, above 0; faces in good light score about 1.
    """

    box: npt.NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Tile:
    """Where each level of the pyramid lies in one image. levels: (left, top, width, height), largest first."""

    levels: tuple[tuple[int, int, int, int], ...]
    width: int
    height: int


class FaceDetector:
    """Finds faces. device: where the network lives; frames come as numpy arrays and boxes leave as such."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        """path: dlib's `.dat` file, digest already checked. Raises WeightsError when it holds another network."""
        network = read_network(
            path.read_bytes(), loss="loss_mmod_", source="input_rgb_image_pyramid", layers=_LAYER_KINDS
        )
        if network.mmod is None or network.mmod.window != (MIN_FACE, MIN_FACE):
            raise WeightsError(f"{path.name} is no detector with one window of {MIN_FACE}×{MIN_FACE} pixels")
        self._options = network.mmod
        modules: list[nn.Module] = []
        for index in range(0, len(network.layers) - 1, 3):
            modules += [convolution(*network.layers[index : index + 2]), nn.ReLU(inplace=True)]
        self._net = nn.Sequential(*modules, convolution(network.layers[-1])).eval().to(device)
        self._mean = torch.tensor(network.mean, device=device).view(1, 3, 1, 1)

    def detect(self, images: npt.NDArray[np.uint8], *, min_face: int = MIN_FACE) -> list[list[Detection]]:
        """The faces of each frame, the surest first.

        images: uint8 RGB (N, H, W, 3). min_face: smallest face wanted, in pixels of these frames; the frames are scaled
        by 80/min_face first, and the time goes with the square of that. Raises ValueError on other arrays.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or min_face < 1:
            raise ValueError(
                f"images are {images.dtype} {images.shape}, not uint8 (N, H, W, 3), or min_face {min_face}"
            )
        if images.size == 0:
            return [[] for _ in images]
        scale = MIN_FACE / min_face
        scaled = images if scale == 1 else np.stack([_resized(image, scale) for image in images])
        tile = _tiling(scaled.shape[2], scaled.shape[1])
        return [_detections(scores, tile, self._options, scale) for scores in self.scores(scaled, tile)]

    def detect_near(self, images: npt.NDArray[np.uint8], boxes: npt.NDArray[np.floating]) -> list[list[Detection]]:
        """The faces in and around a known place of each frame, of about its size, the surest first.

        images: uint8 RGB (N, H, W, 3); boxes: (N, 4), where a face is expected. Boxes and scores differ from those of
        `detect` as those of a frame differ that is shown at another size: by a step of the pyramid at most.
        """
        if len(images) != len(boxes):
            raise ValueError(f"{len(images)} images and {len(boxes)} boxes")
        if not len(images):
            return []
        tile = _tiling(_NEAR_SIDE, _NEAR_SIDE, _NEAR_LEVELS)
        cuts = [_cut(image, box) for image, box in zip(images, boxes, strict=True)]
        all_scores = self.scores(np.stack([cut for cut, _, _ in cuts]), tile)
        found: list[list[Detection]] = []
        for scores, (_, corner, scale) in zip(all_scores, cuts, strict=True):
            inside = _detections(scores, tile, self._options, scale)
            found.append([Detection(one.box + np.tile(corner, 2), one.score) for one in inside])
        return found

    def scores(self, images: npt.NDArray[np.uint8], tile: Tile) -> npt.NDArray[np.float32]:
        """Scores of all windows of the frames' tiled pyramids: the network's whole part in a search.

        images: uint8 RGB (N, H, W, 3) of the size that `tile` was laid out for. Gives float32 (N, h, w). No frame's
        scores depend on the others, so frames of several searches may come in one call. As many are taken in one pass
        as the device takes well.
        """
        batch = max(1, _TILE_PIXELS[self._mean.device.type] // (tile.width * tile.height))
        return np.concatenate(
            [self._one_pass(images[start : start + batch], tile) for start in range(0, len(images), batch)]
        )

    @torch.inference_mode()
    def _one_pass(self, images: npt.NDArray[np.uint8], tile: Tile) -> npt.NDArray[np.float32]:
        pixels = on_device(images, self._mean.device).permute(0, 3, 1, 2)
        level = (pixels.float() - self._mean) / 256
        tiled = torch.zeros((len(images), 3, tile.height, tile.width), device=level.device)
        tiled = tiled.contiguous(memory_format=torch.channels_last)
        for left, top, width, height in tile.levels:
            if level.shape[2:] != (height, width):
                level = functional.interpolate(level, (height, width), mode="bilinear", align_corners=True)
            tiled[:, :, top : top + height, left : left + width] = level
        scores: npt.NDArray[np.float32] = self._net(tiled)[:, 0].cpu().numpy()
        return scores


def _resized(image: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.uint8]:
    """The image at this scale, at least one pixel each way."""
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
    )


def _cut(
    image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], float]:
    """The square around a box, _NEAR_SIDE pixels wide; the corner of the frame that it starts at, and its scale."""
    face = max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)
    side = max(2, round(face * _NEAR_SIDE / _NEAR_FACE))
    corner = np.round(np.array([box[0] + box[2], box[1] + box[3]]) / 2 - side / 2).astype(np.int64)
    x, y = int(corner[0]), int(corner[1])
    height, width = image.shape[:2]
    # Beyond its edges the frame goes on as its outermost pixels do.
    rows, columns = (np.clip(np.arange(at, at + side), 0, size - 1) for at, size in ((y, height), (x, width)))
    method = cv2.INTER_AREA if side > _NEAR_SIDE else cv2.INTER_LINEAR
    cut = cv2.resize(image[rows[:, None], columns], (_NEAR_SIDE, _NEAR_SIDE), interpolation=method)
    return np.asarray(cut, np.uint8), corner.astype(np.float32), _NEAR_SIDE / side


def _tiling(width: int, height: int, most: int | None = None) -> Tile:
    """Lay out the pyramid of a frame: a first column of levels down the left, the smaller ones back up the right.

    most: levels at most.
    """
    sizes = [(width, height)]
    while most is None or len(sizes) < most:
        # Integers: 5·n//6 is the floor that dlib takes.
        width, height = 5 * width // 6, 5 * height // 6
        if width == 0 or height < _MIN_LEVEL_HEIGHT:
            break
        sizes.append((width, height))
    first_width, first_height = sizes[0]
    total = sum(h + _GAP for _, h in sizes) - 2 * _GAP
    column, previous = 0, 0
    for w, h in sizes:
        # The column ends where the next level fits beside the last one and half of the rest is placed.
        if w <= first_width - previous - _GAP and (column - first_height) * 2 >= total - first_height:
            break
        column, previous = column + h + _GAP, w
    column -= _GAP
    levels: list[tuple[int, int, int, int]] = []
    y = _BORDER
    while y < column + _BORDER and len(levels) < len(sizes):
        w, h = sizes[len(levels)]
        levels.append((_BORDER, y, w, h))
        y += h + _GAP
    y -= _GAP
    for w, h in sizes[len(levels) :]:
        left, top = _BORDER + first_width - w, y - h
        if top < _BORDER + first_height:  # it would cover the first level
            break
        levels.append((left, top, w, h))
        y -= h + _GAP
    width, height = first_width + 2 * _BORDER, column + 2 * _BORDER
    return Tile(tuple(levels), max(width, _SMALLEST_INPUT), max(height, _SMALLEST_INPUT))


def _detections(scores: npt.NDArray[np.float32], tile: Tile, options: MmodOptions, scale: float) -> list[Detection]:
    """Boxes of the windows that score above 0, without those that overlap a better one. scores: (h, w)."""
    rows, columns = np.nonzero(scores > 0)
    order = np.argsort(-scores[rows, columns], kind="stable")
    kept: list[Detection] = []
    boxes: list[tuple[float, float, float, float]] = []
    for row, column in zip(rows[order], columns[order], strict=True):
        box = _box(_STRIDE * column + _OFFSET, _STRIDE * row + _OFFSET, tile, options)
        if not any(_same_object(other, box, options) for other in boxes):
            # Rounded to whole pixels as dlib does, also for the comparison with later ones.
            rounded = tuple(math.floor(side + 0.5) for side in box)
            boxes.append((rounded[0], rounded[1], rounded[2], rounded[3]))
            in_frame = (np.array(rounded) + 0.5) / scale - 0.5  # pixels are scaled about their centres
            kept.append(Detection(in_frame.astype(np.float32), float(scores[row, column])))
    return kept


def _box(x: float, y: float, tile: Tile, options: MmodOptions) -> tuple[float, float, float, float]:
    """The window centred on a point of the tiled pyramid, as a box in the frame."""
    level = min(range(len(tile.levels)), key=lambda index: _distance(tile.levels[index], x, y))
    left, top = tile.levels[level][:2]
    half_width, half_height = (options.window[0] - 1) / 2, (options.window[1] - 1) / 2
    sides = [x - left - half_width, y - top - half_height, x - left + half_width, y - top + half_height]
    for _ in range(level):
        sides = [side * 6 / 5 + 0.3 for side in sides]  # dlib's pyramid_down<6>::point_up
    return sides[0], sides[1], sides[2], sides[3]


def _distance(level: tuple[int, int, int, int], x: float, y: float) -> float:
    left, top, width, height = level
    return math.hypot(max(left - x, 0, x - left - width + 1), max(top - y, 0, y - top - height + 1))


def _same_object(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float], options: MmodOptions
) -> bool:
    """Whether two boxes overlap too much to be two faces. Sides are inclusive, as dlib's areas are."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 1 or height <= 1:
        return False
    shared = width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0]) + 1) * (max(a[3], b[3]) - min(a[1], b[1]) + 1)
    smaller = min((side[2] - side[0] + 1) * (side[3] - side[1] + 1) for side in (a, b))
    return shared / hull > options.overlap or shared / smaller > options.covered
