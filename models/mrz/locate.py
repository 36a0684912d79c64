"""Finds where the lines of a machine readable zone may be in a picture, by the texture of dense dark strokes.

It finds candidates only. `models.mrz.reader` reads them to learn whether a group of bands is an MRZ and which way is
up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

WORKING_SIDES = (1000, 560)
"""Longer side, in pixels, of the copies that are searched. At 1000 the strokes of an MRZ that spans a third to all of
the picture are 2 to 8 px wide, which the kernels below are made for; 560 is for larger print."""

_STROKE = 17  # px; strokes and the gaps between them are narrower than this
_WINDOW = (41, 5)  # px; about two characters wide, and lower than the space between lines
_MIN_LENGTH = 0.28  # of the longer side of the picture
_MIN_ASPECT = 9.0  # 30 characters of OCR-B are 29 times as long as high; blur and slant make the band thicker

_MAX_EXTENSION = 0.12  # of a band's length, at each end: three to five characters


@dataclass(frozen=True)
class Band:
    """A straight band of text. centre: (x, y) pixels; length, thickness: pixels; angle: radians, clockwise from the
    x axis, of its long side, in -pi/2 .. pi/2.
    """

    centre: tuple[float, float]
    length: float
    thickness: float
    angle: float

    def axis(self) -> tuple[Float, Float]:
        """Unit vectors along the band and across it (clockwise from the first), float32 (2,)."""
        along = np.array([np.cos(self.angle), np.sin(self.angle)], np.float32)
        return along, np.array([-along[1], along[0]], np.float32)

    def scaled(self, factor: float) -> Band:
        """The same band in a picture `factor` times as large."""
        x, y = self.centre
        return Band((x * factor, y * factor), self.length * factor, self.thickness * factor, self.angle)


def find_groups(gray: UInt8) -> list[tuple[Band, ...]]:
    """Groups of two or three neighbouring parallel bands, top to bottom, the likeliest MRZ first.

    gray: uint8 (H, W), text within about 25 degrees of level, either way up. Bands are in its pixels.
    """
    found: list[tuple[float, tuple[Band, ...]]] = []
    for side in WORKING_SIDES:
        scale = side / max(gray.shape)
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        copy = np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=interpolation), np.uint8)
        energy = _energy(copy)
        # the root lets thin fillers pass where something dense and black, such as a bar code, sets the threshold; it
        # also joins lines to frames and background, so both are tried
        for level in (energy, np.sqrt(energy)):
            bands = [band for band in _join(_bands(level)) if _is_long(band, side)]
            found += [(score, tuple(band.scaled(1 / scale) for band in group)) for score, group in _group(bands, side)]
    return [group for _, group in sorted(found, key=lambda item: -item[0])]


def _energy(gray: UInt8) -> Float:
    """How dense dark strokes are about each pixel, float32 (H, W), not negative."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE, _STROKE))
    strokes = cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, kernel)
    return np.asarray(cv2.boxFilter(np.abs(cv2.Sobel(strokes, cv2.CV_32F, 1, 0, ksize=3)), -1, _WINDOW), np.float32)


def _bands(energy: Float) -> list[Band]:
    level = np.asarray(np.clip(energy * (255 / max(float(energy.max()), 1.0)), 0, 255), np.uint8)
    _, binary = cv2.threshold(level, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    binary = cv2.morphologyEx(binary, cv2.MORPH_OPEN, np.ones((5, 15), np.uint8))
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    bands = []
    for contour in contours:
        centre, (width, height), degrees = cv2.minAreaRect(contour)
        if width < height:
            width, height, degrees = height, width, degrees + 90
        angle = float(np.deg2rad((degrees + 90) % 180 - 90))
        if abs(angle) < np.pi / 4 and width > 2.5 * height:
            bands.append(Band((float(centre[0]), float(centre[1])), float(width), float(height), angle))
    return bands


def _is_long(band: Band, side: int) -> bool:
    return band.length > _MIN_LENGTH * side and band.length > _MIN_ASPECT * band.thickness


def _join(bands: list[Band]) -> list[Band]:
    """Fragments of one line, parted by worn or faint characters, as one band."""
    joined = sorted(bands, key=lambda band: -band.length)
    index = 0
    while index < len(joined):
        seed = joined[index]
        along, across = seed.axis()
        for other in joined[index + 1 :]:
            offset = np.subtract(other.centre, seed.centre)
            gap = abs(float(offset @ along)) - (seed.length + other.length) / 2
            level = abs(float(offset @ across)) < 0.4 * seed.thickness
            alike = 0.6 < other.thickness / seed.thickness < 1.7
            if level and alike and gap < 2.5 * seed.thickness:
                joined.remove(other)
                joined[index] = _union(seed, other)
                break
        else:
            index += 1
    return joined


def _union(a: Band, b: Band) -> Band:
    ends = np.concatenate(
        [cv2.boxPoints((band.centre, (band.length, 1.0), float(np.rad2deg(band.angle)))) for band in (a, b)]
    )
    dx, dy, x, y = (float(value) for value in cv2.fitLine(ends, cv2.DIST_L2, 0, 0.01, 0.01).ravel())
    if dx < 0:
        dx, dy = -dx, -dy
    along = (ends - (x, y)) @ np.array([dx, dy])
    middle, length = (along.max() + along.min()) / 2, float(along.max() - along.min())
    thickness = max(a.thickness, b.thickness)
    return Band((x + dx * middle, y + dy * middle), length, thickness, float(np.arctan2(dy, dx)))


def _group(bands: list[Band], side: int) -> list[tuple[float, tuple[Band, ...]]]:
    """Chains of bands that lie under one another, cut into runs of three and of two, each with its score."""
    groups: list[tuple[float, tuple[Band, ...]]] = []
    for top in bands:
        chain = [top]
        while len(chain) < 3:
            below = [band for band in bands if _follows(chain[-1], band)]
            if not below:
                break
            chain.append(min(below, key=lambda band: _drop(chain[-1], band)))
        groups += [(_score(chain[:count], side), _aligned(chain[:count])) for count in range(2, len(chain) + 1)]
    return groups


def _aligned(chain: list[Band]) -> tuple[Band, ...]:
    """Lines of an MRZ begin and end together: a band that lost its first or last characters gets them back."""
    along, _ = chain[0].axis()
    ends = []
    for band in chain:
        middle = float(np.array(band.centre) @ along)
        ends.append((middle - band.length / 2, middle + band.length / 2))
    left, right = min(start for start, _ in ends), max(end for _, end in ends)
    aligned = []
    for band, (start, end) in zip(chain, ends, strict=True):
        limit = _MAX_EXTENSION * band.length
        first, last = max(left, start - limit), min(right, end + limit)
        shift = (first + last - start - end) / 2 * band.axis()[0]
        centre = (band.centre[0] + float(shift[0]), band.centre[1] + float(shift[1]))
        aligned.append(replace(band, centre=centre, length=last - first))
    return tuple(aligned)


def _drop(upper: Band, lower: Band) -> float:
    return float(np.subtract(lower.centre, upper.centre) @ upper.axis()[1])


def _follows(upper: Band, lower: Band) -> bool:
    """Whether `lower` may be the next line: parallel, as long, one line lower, beginning at about the same place."""
    shift = abs(float(np.subtract(lower.centre, upper.centre) @ upper.axis()[0]))
    return (
        0.9 * upper.thickness < _drop(upper, lower) < 4 * upper.thickness
        and abs(upper.angle - lower.angle) < 0.06
        and 0.6 < lower.length / upper.length < 1.67
        and 0.55 < lower.thickness / upper.thickness < 1.8
        and shift < 0.25 * max(upper.length, lower.length)
    )


def _score(group: list[Band], side: int) -> float:
    """Long thin bands of equal length: what an MRZ looks like, and little else."""
    lengths = np.array([band.length for band in group])
    alike = lengths.min() / lengths.max()
    thin = min(np.median([band.length / band.thickness for band in group]) / 15, 1.0)
    return float(lengths.sum() / side * alike**2 * thin)
