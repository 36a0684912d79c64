"""Locates five landmarks of a face and cuts the aligned chip that the embedder takes.

The landmarks come from dlib's shape predictor (regression trees, Kazemi and Sullivan, CVPR 2014; the five-point model
is public domain, the 68-point one is not). The chip is cut as dlib's `get_face_chip(size=150, padding=0.25)` does,
because the embedder was trained on such chips: the similarity transform that best maps the landmarks to a mean face,
then bilinear sampling from the level of a 2:1 pyramid that is not much larger than the chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import cv2
import dlib
import numpy as np
import numpy.typing as npt

from models.face.embedder import CHIP_SIZE

if TYPE_CHECKING:
    from pathlib import Path

_FINE_SIDE = 360
"""Pixels to which smaller boxes are enlarged before their landmarks are sought: they then come in steps of 1/360."""
_ROOM = 0.25
"""Around the box, in sides of it, that is enlarged with it: as far as dlib's trees look."""
_PADDING = 0.25
_MEAN_FACE = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)
"""dlib's mean face for five points, in the unit square."""
_CHIP_LANDMARKS = (_PADDING + _MEAN_FACE) / (2 * _PADDING + 1) * CHIP_SIZE

ARCFACE_SIZE = 112
_ARCFACE_EYES = np.array([[73.5318, 51.5014], [38.2946, 51.6963]])
"""Where ArcFace's reference of 112×112 pixels has the middles of the eyes: on the image's right, on its left."""


class LandmarkFinder:
    """Finds the five landmarks of a face whose box is known. Safe to share between threads: it keeps no state."""

    def __init__(self, path: Path) -> None:
        """path: dlib's `shape_predictor_5_face_landmarks.dat`, digest already checked."""
        self._predictor = dlib.shape_predictor(str(path))

    def find(self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Landmarks, float32 (5, 2) in pixels, in the order that `faces.Face` describes.

        image: uint8 RGB (H, W, 3). box: (4,) left, top, right, bottom; it may reach over the image's edges. dlib knows
        whole pixels only, a hundredth of a small face: so that is enlarged first (0.8 ms), and its landmarks are found
        to a fraction.
        """
        left, top, right, bottom = (math.floor(side + 0.5) for side in box.tolist())
        factor = _FINE_SIDE / max(right - left, 1)
        room = round(_ROOM * (right - left))
        x, y = max(left - room, 0), max(top - room, 0)
        part = image[y : max(bottom + room, y), x : max(right + room, x)]
        if factor <= 1 or not part.size:
            return self._whole(image, (left, top, right, bottom))
        grey = cv2.transform(part, np.full((1, 3), 1 / 3))  # dlib's grey
        enlarged = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        # Pixels are squares: the middle of the first one is at 0, its outer edge at -0.5.
        sides = (np.array([left, top, right, bottom]) - (x, y, x, y) + 0.5) * factor - 0.5
        found = self._whole(np.asarray(enlarged, np.uint8), sides.round().astype(int).tolist())
        return np.asarray((found + 0.5) / factor - 0.5 + (x, y), np.float32)

    def _whole(self, image: npt.NDArray[np.uint8], sides: Iterable[int]) -> npt.NDArray[np.float32]:
        shape = self._predictor(image, dlib.rectangle(*sides))
        return np.array([(part.x, part.y) for part in shape.parts()], np.float32)


def face_chip(image: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The aligned face, uint8 RGB (150, 150, 3); black where it reaches over the image's edges.

    image: uint8 RGB (H, W, 3). landmarks: (5, 2) pixels, not all at one point. Within 2 grey levels of dlib's chip on
    average: dlib rounds to whole levels of grey at each pyramid step.
    """
    return _cut(image, _chip_to_image(landmarks), CHIP_SIZE)


def arcface_chip(
    image: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32], size: int = ARCFACE_SIZE
) -> npt.NDArray[np.uint8]:
    """The face as networks trained like ArcFace want it (Deng et al. 2019, arXiv:1801.07698), uint8 RGB
    (size, size, 3); black where it reaches over the image's edges. image, landmarks: as for `face_chip`.

    Those networks were trained on chips fitted to the middles of the eyes, the tip of the nose and the corners of the
    mouth. Only the eyes are among the landmarks here, so dlib's mean face is laid onto their two places of the
    reference, and its five points are what is fitted to. On a turned head the two differ a little.
    """
    return _cut(image, _similarity(_ARCFACE_LANDMARKS * (size / ARCFACE_SIZE), landmarks.astype(np.float64)), size)


def _cut(image: npt.NDArray[np.uint8], to_image: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.uint8]:
    """A chip of `size` pixels a side. to_image: 2×3, from pixels of the chip to those of the image."""
    # Only what the chip can touch is halved; the margin keeps the pyramid's border out of it.
    corners = to_image @ np.array([[0, size, 0, size], [0, 0, size, size], [1, 1, 1, 1]], float)
    side = size * math.hypot(to_image[0, 0], to_image[1, 0])
    levels = 0
    while side / 2 ** (levels + 1) > size:
        levels += 1
    margin = 2 ** (levels + 2)
    left, top = np.maximum(np.floor(corners.min(axis=1)).astype(int) - margin, 0)
    right, bottom = np.ceil(corners.max(axis=1)).astype(int) + margin
    level = np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)])
    if level.size == 0:
        return np.zeros((size, size, 3), np.uint8)
    to_level = to_image.copy()
    to_level[:, 2] -= left, top
    for _ in range(levels):
        level = np.asarray(cv2.pyrDown(level), np.uint8)
        # dlib maps a point p to p/2 − (1.25, 0.75) in its halved image, whose pixel 0 is pixel 1 of pyrDown's.
        to_level = to_level / 2
        to_level[:, 2] -= 0.25, -0.25
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(level, to_level, (size, size), flags=flags), np.uint8)


def _chip_to_image(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The 2×3 transform from pixels of the chip to pixels of the image.

    dlib goes by way of a rectangle: its centre is the image of (75, 75), its sides are 150 scaled, and the centres of
    its corner pixels fall on those of the chip. So the chip's middle, (74.5, 74.5), shows what (75, 75) should.
    """
    transform = _similarity(_CHIP_LANDMARKS, landmarks.astype(np.float64))
    centre = transform @ (CHIP_SIZE / 2, CHIP_SIZE / 2, 1)
    scale = math.hypot(transform[0, 0], transform[1, 0])
    transform[:, :2] *= (CHIP_SIZE * scale - 1) / ((CHIP_SIZE - 1) * scale)
    transform[:, 2] = centre - transform[:, :2].sum(axis=1) * (CHIP_SIZE - 1) / 2
    return transform


def _similarity(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The 2×3 rotation, scale and shift that takes source nearest to target in least squares (Umeyama 1991)."""
    # In the plane the least-squares similarity has a closed form: complex regression target ≈ factor·source + shift.
    a, b = source @ np.array([1, 1j]), target @ np.array([1, 1j])
    a0, b0 = a.mean(), b.mean()
    factor = np.vdot(a - a0, b - b0) / np.vdot(a - a0, a - a0).real
    shift = b0 - factor * a0
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


_ARCFACE_LANDMARKS = (
    np.hstack([_MEAN_FACE, np.ones((5, 1))])
    @ _similarity(_MEAN_FACE[:4].reshape(2, 2, 2).mean(axis=1), _ARCFACE_EYES).T
)
"""dlib's mean face with its eyes where ArcFace's reference has them."""
