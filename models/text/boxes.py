"""Finds the lines of text of a page with PP-OCR's detector (differentiable binarisation, Liao et al. 2020,
arXiv:1911.08947).

The network maps how likely each pixel is to lie in the core of a line. The map is thresholded, and each core is grown
to the size of its line.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from models.networks.onnx_session import session
from models.text.ppocr import packaged

Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

_SIDE = 544
"""Longest side in pixels that the detector would see if it were not for `_SQUEEZE`. Rows are what counts: with 352 of
them on a page of ID1_SIZE, and no squeeze, 212 of 252 labelled fields of pages that were blurred or had lost resolution
were read with their labels, with 320 rows 195, with 288 174."""

_SQUEEZE = 0.9
"""Width of the picture that the detector sees, where 1 keeps its shape: what is close together in a line need not be
told apart, and lines part from their labels better. Of 644 labelled fields of such pages 539 were read with their
labels, 531 at 1, where a surname ran into its label on a page as filmed; at 0.75 549, but letters that stand alone
(sex) were lost."""

_CORE = 0.3
"""Least probability of a pixel in a line's core."""

_LEAST_MEAN = 0.3
"""Least mean probability over a core. At 0.4 534 of the 644 fields above were read with their labels, and at 0.5, what
PP-OCR comes with, fewer: small labels of blurred pages go first. What is no text, the recogniser drops."""

_GROWTH = 1.6
"""A core is grown on all sides by this times its area over its perimeter."""

_LEAST_THICKNESS = 3
"""Pixels of the map, of a core."""

_ROW = 1 / 64
"""Lines whose tops differ by less than this share of the page's height stand in one row."""


class BoxFinder:
    """Load once per process; may be called from several threads. Raises WeightsError as `ppocr.packaged`."""

    def __init__(self, threads: int = 1) -> None:
        self._session = session(packaged("detector"), threads)

    def __call__(self, page: Image) -> Float:
        """Boxes in reading order: float32 (K, 4, 2), x and y in pixels of the page, clockwise from the top left.

        page: uint8 (H, W, 3) RGB. A box that is much taller than wide is of a line read from top to bottom, and begins
        at its top right. 70 ms for a page of ID1_SIZE on one thread.
        """
        height, width = page.shape[:2]
        scale = min(1.0, _SIDE / max(height, width))
        sides = (width * scale * _SQUEEZE, height * scale)
        size = (max(1, round(sides[0] / 32)) * 32, max(1, round(sides[1] / 32)) * 32)  # the network's stride
        seen = cv2.resize(page, size, interpolation=cv2.INTER_AREA)
        blob = cv2.dnn.blobFromImage(seen, 1 / 127.5, mean=(127.5, 127.5, 127.5), swapRB=True)
        likely = self._session.run(None, {"x": blob})[0][0, 0]
        boxes = [box * (width / size[0], height / size[1]) for box in _grown_cores(likely)]
        limits = np.array((width - 1, height - 1))
        return _in_reading_order(np.array([np.clip(box, 0, limits) for box in boxes], np.float32), height * _ROW)


def _grown_cores(likely: Float) -> list[Float]:
    """Boxes in pixels of the map, float32 (4, 2) each, clockwise from the top left. likely: float32 (h, w), 0..1."""
    cores = cv2.dilate((likely > _CORE).astype(np.uint8), np.ones((2, 2), np.uint8))
    boxes = []
    for outline in cv2.findContours(cores, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]:
        centre, (a, b), angle = cv2.minAreaRect(outline)
        if min(a, b) < _LEAST_THICKNESS:
            continue
        left, top, w, h = cv2.boundingRect(outline)
        inside = np.zeros((h, w), np.uint8)
        within = cv2.boxPoints((centre, (a, b), angle)) - (left, top)
        cv2.fillPoly(inside, [np.round(within).astype(np.int32)], 1)
        if cv2.mean(likely[top : top + h, left : left + w], inside)[0] < _LEAST_MEAN:
            continue
        growth = _GROWTH * a * b / (a + b)  # both sides together: area over half the perimeter
        corners = cv2.boxPoints((centre, (a + growth, b + growth), angle))
        boxes.append(_clockwise(np.asarray(corners, np.float32)))
    return boxes


def _clockwise(corners: Float) -> Float:
    """From the top left; the two leftmost corners are the left side."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = (side[np.argsort(side[:, 1], kind="stable")] for side in (by_x[:2], by_x[2:]))
    return np.array((left[0], right[0], right[1], left[1]), np.float32)


def _in_reading_order(boxes: Float, row: float) -> Float:
    """From top to bottom and within a row from left to right. row: pixels by which tops in it may differ."""
    if not len(boxes):
        return np.empty((0, 4, 2), np.float32)
    boxes = boxes[np.argsort(boxes[:, 0, 1], kind="stable")]
    rows = np.cumsum(np.diff(boxes[:, 0, 1], prepend=boxes[0, 0, 1]) >= row)
    ordered = boxes[np.lexsort((boxes[:, 0, 0], rows))]
    return np.array([np.roll(box, -1, axis=0) if _upright(box) else box for box in ordered], np.float32)


def _upright(box: Float) -> bool:
    return bool(np.linalg.norm(box[3] - box[0]) >= 1.5 * np.linalg.norm(box[1] - box[0]))
