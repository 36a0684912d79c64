"""Photographs that come with scikit-image and matplotlib: examples of frames without a page that are not drawn.

Trained on drawn scenes alone, the network took any photograph for a page: it found one in 92 of 100 portraits.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

from models.specimens.head import load_portrait
from models.specimens.person import PORTRAITS

Image = npt.NDArray[np.uint8]

_NAMES = ("chelsea", "coffee", "rocket", "hubble_deep_field", "brick", "grass", "gravel", "moon")
"""In the public domain or CC0; all lie inside the installed package, none is downloaded."""


@cache
def photographs() -> tuple[Image, ...]:
    """Objects, textures and the two portraits, uint8 (H, W, 3), shorter side 512 at most; the portraits come three
    times, because a person is what stands before a camera most often.
    """
    pictures = [np.asarray(getattr(skimage.data, name)(), np.uint8) for name in _NAMES]
    pictures += 3 * [load_portrait(name) for name in PORTRAITS]
    return tuple(_small(picture if picture.ndim == 3 else np.stack([picture] * 3, axis=2)) for picture in pictures)


def draw_photograph(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """A part of one, mirrored, turned and tinted at random: float32 (height, width, 3), 0..255."""
    pictures = photographs()
    picture = pictures[int(rng.integers(len(pictures)))]
    rows, columns = picture.shape[:2]
    # The largest part of the wanted shape, or down to a quarter of its sides.
    largest = min(columns / width, rows / height)
    share = largest * rng.uniform(0.25, 1)
    w, h = int(width * share), int(height * share)
    x, y = int(rng.integers(0, columns - w + 1)), int(rng.integers(0, rows - h + 1))
    part = cv2.resize(picture[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
    part = part[:, :: int(rng.choice((-1, 1)))]
    shifted = (part.astype(np.float32) - 128) * rng.uniform(0.5, 1.1) + 128 + rng.uniform(-40, 40, 3)
    return np.asarray(np.clip(shifted, 0, 255), np.float32)


def _small(picture: Image) -> Image:
    scale = 512 / min(picture.shape[:2])
    if scale >= 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
