"""Reads one machine readable zone from pictures: locate → recognise → decode → vote → repair.

It does not judge what the result means for a case (expired, unreadable, different from the printed data).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.mrz.decode import decode, read_plainly
from models.mrz.icao9303 import Mrz
from models.mrz.locate import Band, find_groups
from models.mrz.recognise import LineRecogniser, cut_strip
from models.mrz.repair import Repair, Repaired, repair, soften
from models.mrz.vote import LineProbabilities, vote

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

_WIDTHS = {2: 824, 3: 560}
"""Strip width in pixels by number of lines: at least 18.7 a character (44 or 30), so 2.3 time steps each. At 16 the
recogniser begins to lose characters, at 12 it reads nothing; its time grows with the width."""

_LENGTHS = {2: (36, 44), 3: (30,)}
_COUNT_SLACK = 0.1  # of the length: a plain reading loses or doubles few characters
_SURENESS = 0.9  # of the plain reading of a line; lines read upside down stay below 0.9 and are far too short
_MAX_GROUPS = 6  # candidates looked at in one picture before giving up
_MAX_SIGHTINGS = 2  # of them that look like an MRZ
_ERROR_RATE = 0.005  # of the recogniser where it is sure, beyond the doubt that it reports; a round, cautious figure
_ANGLES = (0, 90, 45, 135)  # degrees; lines within 25 degrees of level are found, either way up


@dataclass(frozen=True)
class _View:
    """How strips are cut: the room above and below in thicknesses of the band, and the share of the usual width."""

    room: float
    width: float


_VIEWS = (_View(1.25, 1.0), _View(1.5, 1.15))
"""The second is slower and a little better on very small print; it is for what the first did not settle."""

_SECOND_LOOKS = 2  # pictures


@dataclass(frozen=True)
class MrzReading:
    """The MRZ of one document, from one or more pictures.

    lines: as repaired. confidence: 0..1, how certain the characters are. accepted: the MRZ obeys its format and every
    check digit, and the reading is certain; refusal says why not (see `repair.Repaired`). repaired: the characters that
    were changed. boxes: float32 (lines, 4, 2), corners in pixels of picture `image_index`, clockwise from the upper
    left one as the text stands; upside_down: whether the text stands on its head in that picture.
    """

    lines: tuple[str, ...]
    mrz: Mrz
    confidence: float
    repaired: tuple[Repair, ...]
    accepted: bool
    refusal: str
    boxes: Float
    image_index: int
    upside_down: bool


@dataclass(frozen=True)
class _Sighting:
    """Lines read in one picture."""

    probabilities: LineProbabilities
    boxes: Float
    image_index: int
    upside_down: bool


class MrzReader:
    """Reads MRZs. Loads its network once (about 0.2 s): make one per process. WeightsError when it is missing."""

    def __init__(self, recogniser: LineRecogniser | None = None) -> None:
        self._recogniser = recogniser or LineRecogniser()

    def read(self, images: Sequence[UInt8], *, any_angle: bool = False) -> MrzReading | None:
        """The MRZ that these pictures of one document show, the best pictures first; None when none is seen.

        images: uint8 RGB (H, W, 3), rectified pages, either way up. any_angle: for whole photos or scans, where the
        document may lie at any angle; slower when there is no MRZ. Reading stops as soon as a reading is accepted.
        """
        sightings: list[_Sighting] = []
        best: tuple[float, MrzReading] | None = None
        for view in _VIEWS:
            for index, image in enumerate(images if view is _VIEWS[0] else images[:_SECOND_LOOKS]):
                for sighting in self._sightings(image, index, any_angle, view):
                    sightings.append(sighting)
                    evidence = vote([seen.probabilities for seen in sightings])
                    result = repair(evidence)
                    if result is None:
                        continue
                    reading = _reading(result, sighting)
                    if reading.accepted:
                        return reading
                    clearness = float(np.mean([rows.max(axis=1).mean() for rows in evidence]))
                    if best is None or clearness > best[0]:
                        best = (clearness, reading)
            if not sightings:
                return None
        return best[1] if best else None

    def _sightings(self, image: UInt8, index: int, any_angle: bool, view: _View) -> Iterator[_Sighting]:
        for degrees in _ANGLES if any_angle else _ANGLES[:1]:
            turned, matrix = _turn(image, degrees)
            seen = 0
            for group in find_groups(_gray(turned))[:_MAX_GROUPS]:
                if seen == _MAX_SIGHTINGS:
                    break
                # an MRZ is printed on the lower half of its page: try that way first
                upside_down = group[0].centre[1] < turned.shape[0] / 2
                for flipped in (upside_down, not upside_down):
                    evidence = self._read_group(turned, group, flipped, view)
                    if evidence is not None:
                        seen += 1
                        yield _Sighting(evidence, _corners(group, flipped, matrix), index, flipped)
                        break
            if seen:
                return

    def _read_group(self, image: UInt8, group: Sequence[Band], flipped: bool, view: _View) -> LineProbabilities | None:
        width = round(_WIDTHS[len(group)] * view.width / 8) * 8  # whole time steps
        length: int | None = None
        evidence = []
        for band in reversed(group) if flipped else group:
            steps = self._recogniser(cut_strip(image, band, width, flipped, view.room))
            plain = read_plainly(steps)
            if length is None:
                length = _length(len(plain.times), len(group))
            if (
                length is None
                or plain.sureness < _SURENESS
                or abs(len(plain.times) - length) > 2 * _COUNT_SLACK * length
            ):
                return None
            line = decode(steps, length)
            if line is None:
                return None
            evidence.append(soften(line.probabilities, _ERROR_RATE))
        return tuple(evidence)


def _length(count: int, lines: int) -> int | None:
    length = min(_LENGTHS[lines], key=lambda length: abs(length - count))
    return length if abs(count - length) <= _COUNT_SLACK * length else None


def _reading(result: Repaired, sighting: _Sighting) -> MrzReading:
    return MrzReading(
        lines=result.mrz.lines,
        mrz=result.mrz,
        confidence=result.certainty,
        repaired=result.repairs,
        accepted=result.accepted,
        refusal=result.refusal,
        boxes=sighting.boxes,
        image_index=sighting.image_index,
        upside_down=sighting.upside_down,
    )


def _gray(image: UInt8) -> UInt8:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _turn(image: UInt8, degrees: int) -> tuple[UInt8, npt.NDArray[np.float64]]:
    """The picture turned anticlockwise on a canvas that holds it all, and the 2 × 3 matrix back to the original."""
    height, width = image.shape[:2]
    if degrees == 0:
        return image, np.eye(2, 3)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (round(height * sine + width * cosine), round(height * cosine + width * sine))
    matrix[:, 2] += np.array(size) / 2 - (width / 2, height / 2)
    turned = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8), np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def _corners(group: Sequence[Band], flipped: bool, matrix: npt.NDArray[np.float64]) -> Float:
    boxes = []
    for band in reversed(group) if flipped else group:
        along, across = band.axis()
        half, rise = along * band.length / 2, across * band.thickness / 2
        corners = np.array(band.centre) + np.array([-half - rise, half - rise, half + rise, -half + rise])
        boxes.append(corners[[2, 3, 0, 1]] if flipped else corners)
    return np.asarray(np.array(boxes) @ matrix[:, :2].T + matrix[:, 2], np.float32)
