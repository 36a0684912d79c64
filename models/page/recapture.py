"""Looks for signs that the camera saw a picture of a page instead of the page: a screen, or a grey copy.

Input is rectified pages. A colour print shows neither sign at the resolution of a phone's film; it is recognised by
the lack of anything that changes with the light (`models.page.hologram`). Pure measures; thresholds belong to the
policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from models.page.quad import ID1_SIZE

_TILE = 256
"""Side in pixels of the squares whose spectra are taken; of a page at ID1_SIZE, so about 22 mm."""

_BAND = (0.02, 0.2)
"""Cycles per pixel that are looked at: under it lie portrait and shading; above it codecs keep no colour, and sensors
with one colour a pixel put colours of their own there.
"""

_FRINGE = 0.7
"""Largest shift in pixels that lens or print is credited with: more would explain the stripes of a screen away."""

_STRONGEST = 12
"""The twelfth strongest bin is taken as the peak: perspective smears peaks over about so many."""

_SMOOTH = 5
"""Bins a side over which cross spectra are averaged. Alone, noise would be out of step by 0.6; so it is by 0.4."""

_QUIETEST, _QUIET = 2, 2.0
"""Percentile of the tile's power that is taken for its noise, and how many times it is added to the power: noise alone
then comes to 0.2."""

_FLOOR = 1200.0
"""Power added besides: less than the noise of a phone's film, more than that of a rendered picture."""

Plane = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class Recapture:
    """Signs over several pages of one film, the median of each; higher is more suspicious.

    screen: see `screen_score`; grey: see `grey_score`; pages: how many were measured; without any, both are 0.
    """

    screen: float
    grey: float
    pages: int


def recapture(pages: Sequence[npt.NDArray[np.uint8]]) -> Recapture:
    """Measure rectified pages of one document, uint8 (H, W, 3) RGB at about ID1_SIZE; 75 ms a page."""
    if not pages:
        return Recapture(0.0, 0.0, 0)
    screen = float(np.median([screen_score(page) for page in pages]))
    return Recapture(screen, float(np.median([grey_score(page) for page in pages])), len(pages))


def screen_score(page: npt.NDArray[np.uint8]) -> float:
    """How far red, green and blue are out of step, 0 (in step) to about 0.85: a screen's are, a print's are not.

    Genuine fronts reach 0.26, the same on a screen starts at 0.27; backs, mostly black, 0.22 and 0.21: sides want
    thresholds of their own (synthetic films and stills under drawn conditions, seeds 40000–40031 and 41000–41014).
    A display whose pixels the camera does not tell apart scores as a print.

    A display's red, green and blue stripes lie beside one another, so the waves that they beat with the camera's pixels
    (moiré) run a third of a period apart, at whatever frequency. What is printed, guilloches, text and barcodes too,
    lies in one place for all three channels, and so do glare and blur. Lens and printing press may shift a channel as a
    whole by a fraction of a pixel; that is a phase that grows with frequency, and is taken off first. So the measure is
    the imaginary part of the channels' cross spectra (their quadrature, Bendat and Piersol 2010, §5.2) against their
    power, both smoothed over neighbouring bins, because noise is out of step at random. The strongest bins count, of
    the median tile: a diffractive element has colours of its own, but covers no more than some tiles.

    page: uint8 (H, W, 3) RGB, rectified from a frame at its full resolution; a reduced one loses the grid.
    """
    level = page if page.shape[1::-1] == ID1_SIZE else cv2.resize(page, ID1_SIZE, interpolation=cv2.INTER_CUBIC)
    peaks = []
    for top in np.linspace(0, ID1_SIZE[1] - _TILE, 3).astype(int):
        for left in np.linspace(0, ID1_SIZE[0] - _TILE, 4).astype(int):
            red, green, blue = _spectra(np.asarray(level[top : top + _TILE, left : left + _TILE], np.float32))
            red, blue = _in_place(red, green), _in_place(blue, green)
            apart = [_smooth((a * np.conj(b)).imag) for a, b in ((red, green), (green, blue), (red, blue))]
            power = _smooth(np.abs(red) ** 2 + np.abs(green) ** 2 + np.abs(blue) ** 2)
            total = np.sum([np.abs(part) for part in apart], axis=0)[_bins()]
            against = power[_bins()] + _QUIET * np.percentile(power[_bins()], _QUIETEST) + _FLOOR
            peaks.append(np.partition(total / against, -_STRONGEST)[-_STRONGEST])
    return float(np.median(peaks))


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


def _spectra(tile: Plane) -> tuple[Spectrum, Spectrum, Spectrum]:
    """Of the three channels of a tile, float32 (256, 256, 3): complex64 (105, 53) each, the bins of `_frequencies`."""
    last = round(_BAND[1] * _TILE) + 1
    rows = np.r_[-last : last + 1]
    level = (tile - tile.mean(axis=(0, 1))) * _window()
    red, green, blue = (np.fft.rfft2(level[..., channel])[rows, : last + 1] for channel in range(3))
    return red.astype(np.complex64), green.astype(np.complex64), blue.astype(np.complex64)


def _in_place(channel: Spectrum, other: Spectrum) -> Spectrum:
    """A channel's spectrum, moved onto the other's by at most _FRINGE: least squares of the phase over frequency.

    Bins count by their power, and by how little they are out of step already, so that stripes are not explained away.
    """
    bins, (down, across) = _bins(), _frequencies()
    cross = (channel * np.conj(other))[bins]
    angle = np.angle(cross)
    weight = np.abs(cross) * np.cos(angle / 2) ** 8
    slopes = 2 * np.pi * np.stack([down[bins], across[bins]], axis=1)
    normal = (slopes * weight[:, None]).T @ slopes + 1e-6 * (1 + weight.sum()) * np.eye(2)
    shift = np.clip(np.linalg.solve(normal, (slopes * weight[:, None]).T @ angle), -_FRINGE, _FRINGE)
    return np.asarray(channel * np.exp(-2j * np.pi * (down * shift[0] + across * shift[1])), np.complex64)


def _smooth(plane: npt.NDArray[np.floating]) -> Plane:
    """The mean over neighbouring bins: float32, same shape."""
    return np.asarray(cv2.blur(np.ascontiguousarray(plane, np.float32), (_SMOOTH, _SMOOTH)), np.float32)


@cache
def _window() -> Plane:
    hann = np.hanning(_TILE)
    return np.outer(hann, hann).astype(np.float32)[..., None]


@cache
def _frequencies() -> tuple[Plane, Plane]:
    """Cycles per pixel down and across of the bins that `_spectra` keeps: float32 (105, 53) each."""
    last = round(_BAND[1] * _TILE) + 1
    down, across = np.meshgrid(np.arange(-last, last + 1), np.arange(last + 1), indexing="ij")
    return (down / _TILE).astype(np.float32), (across / _TILE).astype(np.float32)


@cache
def _bins() -> npt.NDArray[np.bool_]:
    """Which of those bins lie in the band."""
    radius = np.hypot(*_frequencies())
    return np.asarray((radius > _BAND[0]) & (radius < _BAND[1]))
