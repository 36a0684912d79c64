"""Measures how well each frame shows the page, and chooses the best few frames.

It only measures: the policy decides what is too dark or too blurred. Every measure is taken on the rectified page at
one fixed scale, so a value means the same for a phone's 4K video and for a browser's 720p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.page.quad import Quad, area, clipped, side_lengths
from models.sharpness import laplacian_variance, luma

Image = npt.NDArray[np.uint8]

_PAGE_SIZE = (506, 319)
"""Width and height in pixels at which the page is measured: 150 dpi on ID-1. Video compression leaves little beyond."""
_SATURATED = 250
"""All three channels at or above this have lost what was there; white after H.264 comes out at 250 to 255."""
_SMALLEST_GLARE = 5
"""Pixels at the measuring scale (0.85 mm); thinner bright strokes are print, not glare."""
_TOUCHING = 0.004
"""Part of the frame's longer side (5 px of 1280) within which a corner touches the border."""
_FILLING = 0.025
"""Part of the frame's longer side within which the corners of a scan lie from the frame's own."""


@dataclass(frozen=True)
class FrameQuality:
    """How well one frame shows the page.

    index: of the frame. sharpness: variance of the Laplacian (Pech-Pacheco et al. 2000) of the page's luma at
    506 × 319 pixels, 0 and up; contrast and print raise it too, so it ranks the frames of one document. brightness:
    mean luma, 0..255. contrast: luma between the 5th and the 95th percentile, 0..255. glare: part of the page, 0..1,
    that is saturated and colourless. coverage: part of the frame covered by the page, 0..1. cut_off: a corner lies
    outside the frame or touches its border. resolution: pixels of the page's longer side as filmed.
    """

    index: int
    sharpness: float
    brightness: float
    contrast: float
    glare: float
    coverage: float
    cut_off: bool
    resolution: float


def measure(page: Image, quad: Quad, frame_shape: tuple[int, int], index: int = 0) -> FrameQuality:
    """All measures of one frame. page: uint8 (H, W, 3), rectified with `quad`, at best at 506 × 319, to which it is
    brought; frame_shape: (height, width) of the frame that the quad lies in; index: of that frame.
    """
    if page.shape[1::-1] != _PAGE_SIZE:
        reduces = page.shape[1] > _PAGE_SIZE[0]
        scaled = cv2.resize(page, _PAGE_SIZE, interpolation=cv2.INTER_AREA if reduces else cv2.INTER_LINEAR)
        page = np.asarray(scaled, np.uint8)
    grey = luma(page)
    dark, bright = np.percentile(grey, (5, 95))
    height, width = frame_shape
    return FrameQuality(
        index=index,
        sharpness=laplacian_variance(grey),
        brightness=float(grey.mean()),
        contrast=float(bright - dark),
        glare=_glare(page),
        coverage=_coverage(quad, width, height),
        cut_off=_cut_off(quad, width, height),
        resolution=_longer_side(quad),
    )


def agreeing(pages: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Which pages of one film show the same thing: indices of the half, rounded up, that is nearest to all together.

    pages: uint8 (K, H, W, 3), rectified frames of one document. A page that was outlined wrongly is shifted or squeezed
    against the others, and sharp clutter beside the document would make it look like the sharpest. Measured as the
    correlation of a small grey picture with the median of all such pictures.
    """
    if not len(pages):
        return np.zeros(0, np.intp)
    small = np.stack([cv2.resize(luma(page), (64, 40), interpolation=cv2.INTER_AREA) for page in pages])
    flat = small.reshape(len(pages), -1).astype(np.float64)
    common = np.median(flat, axis=0)
    flat, common = flat - flat.mean(axis=1, keepdims=True), common - common.mean()
    norm = np.linalg.norm(flat, axis=1) * np.linalg.norm(common)
    likeness = flat @ common / np.maximum(norm, 1e-9)
    nearest = np.argsort(-likeness, kind="stable")[: (len(pages) + 1) // 2]
    return np.sort(nearest)


def best(measures: Sequence[FrameQuality], count: int) -> list[FrameQuality]:
    """The best `count` frames, best first. Whole pages go before cut-off ones; then sharpness decides, less what glare
    hides: a quarter of the page under glare is worth nothing.
    """
    return sorted(measures, key=lambda m: (m.cut_off, -m.sharpness * (1 - min(1.0, 4 * m.glare)), m.index))[:count]


def _glare(image: Image) -> float:
    saturated = (image.min(axis=2) >= _SATURATED).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_SMALLEST_GLARE, _SMALLEST_GLARE))
    return float(np.asarray(cv2.morphologyEx(saturated, cv2.MORPH_OPEN, kernel)).mean())


def _coverage(quad: Quad, width: int, height: int) -> float:
    frame = np.asarray([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - 0.5
    return min(1.0, area(clipped(quad.corners, frame.astype(np.float32))) / (width * height))


def _cut_off(quad: Quad, width: int, height: int) -> bool:
    """A page that fills the frame corner to corner is a scan, cropped on purpose, and not cut off."""
    margin = _TOUCHING * max(height, width)
    x, y = quad.corners.T
    at_border = (x < margin) | (x > width - 1 - margin) | (y < margin) | (y > height - 1 - margin)
    near = _FILLING * max(height, width)
    at_corner = (np.minimum(abs(x), abs(x - width + 1)) < near) & (np.minimum(abs(y), abs(y - height + 1)) < near)
    return bool(at_border.any() and not at_corner.all())


def _longer_side(quad: Quad) -> float:
    lengths = side_lengths(quad.corners)
    return float(max(lengths[0] + lengths[2], lengths[1] + lengths[3]) / 2)
