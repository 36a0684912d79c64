"""Measures optically variable elements on a front tilted in front of the camera: where hue changes, not just light.

The idea is MIDV-Holo's (L. I. Koliaskina et al., "MIDV-Holo: a dataset for ID document hologram detection in a video
stream", ICDAR 2023): on the registered pages of a film, such an element shows as saturated pixels whose hue changes.
Here a pixel's colour is a point on the chromaticity plane. The points of print, paper and shadows stay still. White
glare moves a point along the straight line towards grey and back. Only a diffractive element leaves that line. So the
measure of a pixel is its spread *across* the line along which it spreads most.

Pure functions on rectified pages. They do not decide what is a forgery: the threshold belongs to the policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

MIN_FRAMES = 6
"""Fewer registered pages do not show whether a colour moves or is noise."""

_SIZE = (256, 160)
"""Width and height in pixels at which colours are compared: a third of a millimetre on ID-1, so that errors of
registration and the codec's blocks of colour (two pixels of the film) average out."""

_CELL = 8
"""Pixels of that picture to a cell of the map."""

_SPREAD = 0.022
"""Least spread across the line, standard deviation in units of chromaticity (0..1), of a pixel that counts. Noise and
compression stay under 0.01 on printed specimens; a saturated hue that turns by a third of the wheel gives 0.05."""

_STEADY = 0.004
"""Most unrest of a page on which an element can be told from the rest: between filmed specimens (0.0015 at most) and
the same on a screen (0.012 at least), by their geometric mean, seeds 1000–1009."""

_DARK, _BRIGHT = 24.0, 242.0
"""Levels (mean of the channels, highest channel) outside which chromaticity says nothing: noise, and clipped glare."""

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hologram:
    """What was seen.

    score: share of the page whose colour moves as a diffractive element's does, 0..1. area: float32 (20, 32) 0..1, the
    same share for each cell of the page. unrest: median spread of colour over the page, 0..1: about 0.001 for print,
    over 0.005 where moiré swims over it, as on a screen. frames: how many pages could be registered. judged: whether
    they were enough and the page's own colour stood still; if not, score is 0 and says nothing.
    """

    score: float
    area: Plane
    unrest: float
    frames: int
    judged: bool


def hologram(pages: npt.NDArray[np.uint8]) -> Hologram:
    """Look for optically variable elements.

    pages: uint8 (N, H, W, 3) RGB, the same page rectified in N frames of a film, all the same way up, of any size; 12
    to 16 of them over two or three seconds are meant. About 15 ms a page.
    """
    colours = _registered(pages)
    empty = np.zeros((_SIZE[1] // _CELL, _SIZE[0] // _CELL), np.float32)
    if len(colours) < MIN_FRAMES:
        return Hologram(0.0, empty, 0.0, len(colours), judged=False)
    spread = _spread_across(colours)
    unrest = float(np.median(spread))
    if unrest > _STEADY:
        return Hologram(0.0, empty, unrest, len(colours), judged=False)
    # A lone pixel is an edge of print that registration missed by a fraction; an element is an area.
    moving = cv2.morphologyEx((spread > _SPREAD).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    area = cv2.resize(moving.astype(np.float32), empty.shape[::-1], interpolation=cv2.INTER_AREA)
    return Hologram(float(moving.mean()), np.asarray(area, np.float32), unrest, len(colours), judged=True)


def _registered(pages: npt.NDArray[np.uint8]) -> list[Plane]:
    """Pages at _SIZE, float32 (H, W, 3), moved onto the sharpest; those that do not fit it are left out."""
    small = [cv2.resize(page, _SIZE, interpolation=cv2.INTER_AREA) for page in pages]
    greys = [cv2.cvtColor(page, cv2.COLOR_RGB2GRAY) for page in small]
    if not small:
        return []
    reference = int(np.argmax([cv2.Laplacian(grey, cv2.CV_32F).var() for grey in greys]))
    template = _relief(greys[reference])
    out = []
    for index, (page, grey) in enumerate(zip(small, greys, strict=True)):
        warp = np.eye(2, 3, dtype=np.float32)
        if index != reference:
            try:
                fit, found = cv2.findTransformECC(template, _relief(grey), warp, cv2.MOTION_AFFINE, _STEPS, _ALL, 5)
                warp = np.asarray(found, np.float32)
            except cv2.error:  # it did not converge
                continue
            if fit < _LEAST_FIT:
                continue
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(page, warp, _SIZE, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        out.append(cv2.GaussianBlur(moved, (0, 0), 0.8).astype(np.float32))
    return out


_ALL = np.full(_SIZE[::-1], 255, np.uint8)  # no part of the page is left out of the registration
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)

_LEAST_FIT = 0.4
"""Correlation after registration under which a page is another one, upside down, or badly rectified."""


def _relief(grey: npt.NDArray[np.uint8]) -> Plane:
    """Local contrast: what stays the same when the light moves (float32, same size)."""
    level = grey.astype(np.float32)
    mean = cv2.GaussianBlur(level, (0, 0), 6)
    deviation = np.sqrt(cv2.GaussianBlur((level - mean) ** 2, (0, 0), 6))
    return np.asarray((level - mean) / (deviation + 6), np.float32)


def _spread_across(colours: list[Plane]) -> Plane:
    """Per pixel, the standard deviation of its chromaticity across its main direction: float32 (H, W).

    White balance that drifts moves all pixels alike and is taken off frame by frame. A pixel that is dark or clipped in
    a frame is left out there, and does not count when that leaves fewer than MIN_FRAMES.
    """
    stack = np.stack(colours)
    total = stack.sum(axis=3)
    valid = (total > 3 * _DARK) & (stack.max(axis=3) < _BRIGHT)
    points = np.stack([stack[..., 0] - stack[..., 1], (stack[..., 0] + stack[..., 1]) / 2 - stack[..., 2]], axis=-1)
    points /= np.maximum(total, 1.0)[..., None]
    middle = np.median(points, axis=0)
    points -= np.median(points - middle, axis=(1, 2), keepdims=True)
    weight = valid.astype(np.float32)[..., None]
    count = weight.sum(axis=0)
    mean = (points * weight).sum(axis=0) / np.maximum(count, 1)
    off = (points - mean) * weight
    xx, yy = (off**2).sum(axis=0).transpose(2, 0, 1) / np.maximum(count[..., 0], 1)
    xy = (off[..., 0] * off[..., 1]).sum(axis=0) / np.maximum(count[..., 0], 1)
    least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)  # smaller eigenvalue of the covariance
    spread = np.sqrt(np.maximum(least, 0))
    return np.where(count[..., 0] >= MIN_FRAMES, spread, 0).astype(np.float32)
