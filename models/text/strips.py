"""Recognises the text on strips cut from the page, and which way up each strip is, by PP-OCR's networks.

At full width and 48 rows, a page of ID1_SIZE has some 3000 pixels of strip. Recognition takes three quarters of the
time of a page, in proportion to those pixels. So strips are made narrower and lower than the network was trained for,
as far as that loses no accuracy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
import numpy.typing as npt

from models.networks.onnx_session import session
from models.text.ppocr import lighter, packaged

Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

_ROWS = 32
"""Height of a strip in pixels; the network was made for 48, of which the text fills less than half."""

_COVER = 0.75
"""Share of a box's height that a strip shows, in the middle: 0.67 to 0.8 read the same fields, and 0.9 loses one in a
hundred."""

_SQUEEZE = 0.6
"""Width of a strip where 1 keeps the shape of letters at 48 rows a box. 0.6 to 1 read the same fields; at 0.55 the
first one of 98 is lost, and at 0.5 three, because a letter gets less than two of the network's time steps."""

_WIDTHS = 16
"""Widths are multiples of this, so that lines share a pass, which saves 0.7 ms for each but the first."""

_OTHER_SCRIPTS = 16
"""One of so many characters of other scripts stays, so that a line of them is read as such, if wrongly, and not as
Latin letters."""

_DIRECTION_SIZE = (192, 48)
"""Width and height of the classifier's input."""


@dataclass(frozen=True)
class Reading:
    """Text of a line and the mean confidence of its characters, 0..1 (0 without any)."""

    text: str
    score: float


class StripReader:
    """Load once per process; may be called from several threads. Raises WeightsError as `ppocr.packaged`."""

    def __init__(self, threads: int = 1) -> None:
        network = packaged("recogniser")
        # What the columns of the last layer mean stands in the file's description, which only a session gives.
        listed = session(network, threads).get_modelmeta().custom_metadata_map["character"].split("\n")
        characters = ["", *listed, " "]  # CTC's blank first
        columns = [0, *(i for i, one in enumerate(characters) if one and _wanted(i, one))]
        self._characters = np.array([characters[i] for i in columns])
        self._session = session(lighter(network, _ROWS, np.array(columns, np.intp)), threads)
        self._direction = session(packaged("direction"), threads)

    def read(self, page: Image, boxes: Float) -> list[Reading]:
        """What stands in each box. page: uint8 (H, W, 3) RGB; boxes: float32 (K, 4, 2), as `models.text.boxes` gives.

        Letters are Latin or Greek; of other scripts only that it is one. About 8 ms a line on one thread.
        """
        same_width: dict[int, list[int]] = defaultdict(list)
        for index, box in enumerate(boxes):
            width, height = _size(box)
            same_width[max(1, round(48 * width / height * _SQUEEZE / _WIDTHS)) * _WIDTHS].append(index)
        readings = [Reading("", 0.0)] * len(boxes)
        for width, indices in same_width.items():
            blob = _blob([_cut(page, boxes[index], (width, _ROWS), _COVER) for index in indices])
            for index, likely in zip(indices, self._session.run(None, {"x": blob})[0], strict=True):
                readings[index] = self._decoded(likely)
        return readings

    def upside_down(self, page: Image, boxes: Float) -> float:
        """Vote on whether the page stands on its head, -1 (no) to 1 (yes), by the width of the boxes; 0 without any."""
        if not len(boxes):
            return 0.0
        wide, high = _DIRECTION_SIZE
        blob = np.zeros((len(boxes), 3, high, wide), np.float32)  # zero is grey, which fills up short lines
        for row, box in zip(blob, boxes, strict=True):
            width, height = _size(box)
            size = (min(wide, ceil(high * width / height)), high)
            row[..., : size[0]] = _blob([_cut(page, box, size, 1.0)])[0]
        upright, turned = self._direction.run(None, {"x": blob})[0].T
        votes = np.where(turned > upright, turned, -upright)
        return float(np.average(votes, weights=[_size(box)[0] for box in boxes]))

    def _decoded(self, likely: Float) -> Reading:
        """CTC, the best path. likely: float32 (steps, columns)."""
        best = likely.argmax(axis=1)
        kept = (best != 0) & (np.diff(best, prepend=0) != 0)
        if not kept.any():
            return Reading("", 0.0)
        return Reading("".join(self._characters[best[kept]]), float(likely.max(axis=1)[kept].mean()))


def _wanted(column: int, character: str) -> bool:
    """Latin, Greek, digits and punctuation, all of them; others now and then."""
    code = ord(character[0])
    return code < 0x400 or 0x1E00 <= code < 0x2150 or column % _OTHER_SCRIPTS == 0


def _size(box: Float) -> tuple[float, float]:
    """Width and height in pixels, at least 1."""
    width = max(np.linalg.norm(box[1] - box[0]), np.linalg.norm(box[2] - box[3]))
    height = max(np.linalg.norm(box[3] - box[0]), np.linalg.norm(box[2] - box[1]))
    return max(float(width), 1.0), max(float(height), 1.0)


def _cut(page: Image, box: Float, size: tuple[int, int], cover: float) -> Image:
    """The middle `cover` of a box's height, level: uint8 (size[1], size[0], 3) RGB."""
    down = (box[3] - box[0]) * (1 - cover) / 2
    source = np.array((box[0] + down, box[1] + down, box[3] - down), np.float32)
    target = np.array(((0, 0), (size[0], 0), (0, size[1])), np.float32)
    matrix = cv2.getAffineTransform(source, target)
    return np.asarray(cv2.warpAffine(page, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _blob(strips: Sequence[Image]) -> Float:
    """float32 (N, 3, rows, width), BGR from -1 to 1."""
    return np.asarray(cv2.dnn.blobFromImages(strips, 1 / 127.5, mean=(127.5, 127.5, 127.5), swapRB=True), np.float32)
