"""Luma and sharpness of pictures, measured in the same way for pages and faces."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def luma(image: Image) -> Image:
    """Luma of a picture, 0..255. image: uint8 (H, W, 3) RGB. Returns uint8 (H, W)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def laplacian_variance(luma: Image) -> float:
    """Sharpness as the variance of the Laplacian (Pech-Pacheco et al. 2000), 0 and up. luma: uint8 (H, W).

    The value depends on the picture's scale: compare only pictures that were scaled to the same size.
    """
    return float(np.asarray(cv2.Laplacian(luma, cv2.CV_32F)).var())
