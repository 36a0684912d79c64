"""Measures how well a frame shows a face. It only measures: the policy decides what is too dark or too blurred."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.sharpness import laplacian_variance, luma

Image = npt.NDArray[np.uint8]

_FACE_SIDE = 128
"""Side in pixels to which a face is scaled before it is measured; close to the 150 that the embedder sees."""


@dataclass(frozen=True)
class FaceQuality:
    """How well one frame shows a face. sharpness: variance of the Laplacian of the luma, face scaled to 128 × 128.
    brightness: mean luma, 0..255. size: pixels of the box's shorter side as filmed.
    """

    sharpness: float
    brightness: float
    size: float


def measure_face(image: Image, box: npt.NDArray[np.floating]) -> FaceQuality:
    """Measures of a face. image: uint8 (H, W, 3); box: (4,) left, top, right, bottom in pixels; only
    the part inside the frame is measured. For a box wholly outside the frame, sharpness, brightness and size are 0.
    """
    height, width = image.shape[:2]
    left, right = np.clip(np.round(box[[0, 2]]).astype(int), 0, width)
    top, bottom = np.clip(np.round(box[[1, 3]]).astype(int), 0, height)
    if right <= left or bottom <= top:
        return FaceQuality(0.0, 0.0, 0.0)
    face = image[top:bottom, left:right]
    smaller = min(face.shape[:2]) >= _FACE_SIDE
    scaled = cv2.resize(face, (_FACE_SIDE, _FACE_SIDE), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    grey = luma(np.asarray(scaled, np.uint8))
    return FaceQuality(laplacian_variance(grey), float(grey.mean()), float(min(face.shape[:2])))
