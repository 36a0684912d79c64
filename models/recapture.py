"""Is the page itself before the camera, or a picture of it? Signs of a screen and of a grey copy on rectified pages.

A colour print shows neither sign at the resolution of a phone's film: what gives it away is that nothing on it moves
with the light (`models.hologram`). Pure measures; thresholds are policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from models.page import ID1_SIZE

_TILE = 256
"""Side in pixels of the squares whose spectra are taken; of a page at ID1_SIZE, so about 22 mm."""

_BAND = (0.03, 0.45)
"""Cycles per pixel that are looked at: under it lie portrait and shading, above it the codec keeps nothing."""

_CROSS = 0.012
"""Cycles per pixel about both axes that are left out: lines of text and edges of print put their energy there."""

_STRONGEST = 99.9
"""Percentile of the band taken as its peak: a dozen neighbouring frequencies, because perspective smears peaks."""

_RINGS = 17
"""Rings that the band is cut into; each is measured against its own median: all pictures fade with frequency."""

_FLOOR = 20.0
"""Magnitude added to all bins: less than the noise of a phone's film, more than that of a rendered picture."""

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recapture:
    """Signs over several pages of one film, the median of each; higher is more suspicious.

    screen: see `screen_score`; grey: see `grey_score`; pages: how many were measured; without any, grey is 0 and screen
    minus infinity.
    """

    screen: float
    grey: float
    pages: int


def recapture(pages: Sequence[npt.NDArray[np.uint8]]) -> Recapture:
    """Measure rectified pages of one document, uint8 (H, W, 3) RGB at about ID1_SIZE; 75 ms a page."""
    if not pages:
        return Recapture(float("-inf"), 0.0, 0)
    screen = float(np.median([screen_score(page) for page in pages]))
    return Recapture(screen, float(np.median([grey_score(page) for page in pages])), len(pages))


def screen_score(page: npt.NDArray[np.uint8]) -> float:
    """Moiré and pixel grid: two signs in decades, added. Filmed specimens: fronts -1.3 to -0.5, the same on a screen
    over 1.4; backs -2.3 to -1.7, on a screen over -0.6. Sides want thresholds of their own.

    A display's red, green and blue stripes meet the camera's pixels at different phases, so their beat (moiré) is green
    against magenta, in narrow bands of frequency, all over the page. Measured in the spectrum of green less the mean
    of red and blue: how far its peak stands out of its ring, and the band's energy against that of lightness, which
    blur takes alike. Text, barcodes and guilloches are mostly lightness; a diffractive element is colour, but covers
    no more than some tiles, and the median tile counts. page: uint8 (H, W, 3) RGB, rectified from a frame at its full
    resolution; a reduced one loses the grid.
    """
    level = np.asarray(cv2.resize(page, ID1_SIZE, interpolation=cv2.INTER_CUBIC), np.float32)
    green = np.asarray(level[..., 1] - (level[..., 0] + level[..., 2]) / 2, np.float32)
    light = np.asarray(level @ np.array((0.299, 0.587, 0.114)), np.float32)  # ITU-R BT.601
    signs = []
    for top in np.linspace(0, ID1_SIZE[1] - _TILE, 3).astype(int):
        for left in np.linspace(0, ID1_SIZE[0] - _TILE, 4).astype(int):
            tile = np.s_[top : top + _TILE, left : left + _TILE]
            colour, lightness = _band_of(green[tile]), _band_of(light[tile])
            share = np.mean(np.concatenate(colour) ** 2) / np.mean(np.concatenate(lightness) ** 2)
            standing_out = np.concatenate([ring / np.median(ring) for ring in colour])
            signs.append(np.log10(np.percentile(standing_out, _STRONGEST)) + np.log10(share))
    return float(np.median(signs))


def grey_score(page: npt.NDArray[np.uint8]) -> float:
    """How colourless the print is: 1 for shades of one colour only, towards 0 the more colours stand on it.

    Chromaticity of the page at low resolution, less the page's own median (a lamp's tint is no colour of the print);
    its 90th percentile against 0.02. Specimens' fronts are under 0.1, their paler backs under 0.5, grey copies over
    0.7. page: uint8 (H, W, 3) RGB of any size.
    """
    small = cv2.resize(page, (128, 80), interpolation=cv2.INTER_AREA).astype(np.float32)
    total = small.sum(axis=2)
    usable = (total > 90) & (small.max(axis=2) < 250)  # dark: noise; clipped: glare
    if np.count_nonzero(usable) < usable.size // 10:
        return 0.0
    chroma = small[usable] / total[usable][:, None]
    distance = np.linalg.norm(chroma - np.median(chroma, axis=0), axis=1)
    return float(1 / (1 + (np.percentile(distance, 90) / 0.02) ** 2))


def _band_of(tile: Plane) -> list[Plane]:
    """Magnitudes of a tile's spectrum in the band, ring by ring."""
    window, rings = _window_and_rings()
    magnitude = np.abs(np.fft.rfft2((tile - tile.mean()) * window)) + _FLOOR
    return [magnitude[ring].astype(np.float32) for ring in rings]


@cache
def _window_and_rings() -> tuple[Plane, tuple[npt.NDArray[np.bool_], ...]]:
    """Hann window of a tile, and the bins of its half spectrum that lie in each ring and off the axes."""
    hann = np.hanning(_TILE)
    down, across = np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None, :]
    ring = np.digitize(np.hypot(down, across), np.linspace(*_BAND, _RINGS + 1))
    off_axes = (np.abs(down) > _CROSS) & (np.abs(across) > _CROSS)
    return np.outer(hann, hann).astype(np.float32), tuple((ring == i + 1) & off_axes for i in range(_RINGS))
