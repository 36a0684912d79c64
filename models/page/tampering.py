"""Looks for a line of print whose ink differs from that of similar lines: forgers who print over a field use other ink.

No template is needed: lines of the same height on one page come from the same press, so under the same light their ink
is equally dark. Letters printed over them seldom are. Pure measures; thresholds belong to the policy. This module looks
neither at portraits nor at what the text says (`models.fields.consistency` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.page.quad import ID1_SIZE

MIN_LINES = 4
"""Fewer comparable lines do not show which of them is the odd one."""

_SAME_HEIGHT = 0.2
"""Lines whose capitals differ by less than this share are of one kind."""

_MIN_CONTRAST = 40.0
"""Levels between ink and paper under which strokes are not told from their background."""

_LETTERS = 3
"""Letters as high as the line that it must have to be measured: a letter alone has too little ink in its core."""

_GLARE, _CLIPPED = 1.1, 235.0
"""Paper brighter than this times that of the page's lines, or than this level, lies under glare, which lightens ink
more than paper."""

_MOST_INK = 0.5
"""Share of a box that is ink; more is light print on a dark band."""

_LIGHTEST = 0.5
"""Of the paper's brightness. What is lighter is a letter of an optically variable element, or lies in one."""

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Ink:
    """Of one line. height: pixels of its capitals. level: of the ink in the strokes' cores as a share of the paper's
    brightness beside them, 0 (black) to 1. paper: that brightness, 0..255.
    """

    height: float
    level: float
    paper: float


@dataclass(frozen=True)
class OddLine:
    """score: how far the oddest line's ink is from the middle of the other lines of its kind, 0..1; line: its index, -1
    without one; lines: how many were compared, 0 when too few could be: then score says nothing.
    """

    score: float
    line: int
    lines: int


def odd_line(pages: Sequence[npt.NDArray[np.uint8]], boxes: Sequence[npt.NDArray[np.float32]]) -> OddLine:
    """Compare the lines of a front. pages: uint8 (638, 1012, 3) RGB, one page rectified from one frame or several.
    boxes: float32 (4, 2) each, pixels of the first page, as `models.text.reader` gives them. 13 ms a page of 20 lines.

    A line counts as it is in the median page, because glare wanders over a page that is tilted.
    """
    if not pages or pages[0].shape[1::-1] != ID1_SIZE:
        return OddLine(0.0, -1, 0)
    seen = [_unglared([ink_of(page, box) for box in boxes]) for page in pages]
    level, height = np.full(len(boxes), np.nan), np.full(len(boxes), np.nan)
    for index, inks in enumerate(zip(*seen, strict=True)):
        found = [ink for ink in inks if ink is not None]
        if 2 * len(found) > len(pages):
            level[index] = np.median([ink.level for ink in found])
            height[index] = np.median([ink.height for ink in found])
    best = OddLine(0.0, -1, 0)
    for index in map(int, np.flatnonzero(~np.isnan(level))):
        peers = np.abs(height / height[index] - 1) < _SAME_HEIGHT
        peers[index] = False
        if np.count_nonzero(peers) >= MIN_LINES - 1:
            off = abs(float(level[index] - np.median(level[peers])))
            lines = max(best.lines, int(np.count_nonzero(peers)) + 1)
            best = OddLine(max(off, best.score), index if off >= best.score else best.line, lines)
    return best


def ink_of(page: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> Ink | None:
    """Measure dark print on light paper in the box of a line; None where there are no dark letters of one height."""
    (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
    aside = 0.3 * (bottom - top)
    x0, x1 = int(max(0, left - aside)), int(min(page.shape[1], right + aside))
    y0, y1 = int(max(0, top)), int(min(page.shape[0], bottom + 1))
    if min(x1 - x0, y1 - y0) < 8:
        return None
    luma = page[y0:y1, x0:x1].astype(np.float32) @ _LUMA
    paper, dark = np.percentile(luma, (80, 3))
    if paper - dark < _MIN_CONTRAST:
        return None
    strokes = (luma < (paper + dark) / 2).astype(np.uint8)
    if strokes.mean() > _MOST_INK:
        return None
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes)
    heights = stats[1:, cv2.CC_STAT_HEIGHT]
    tall = float(np.percentile(heights, 80)) if count > 1 else 0.0
    letters = 1 + np.flatnonzero(abs(heights - tall) <= max(2.0, 0.15 * tall))
    if tall < 8 or len(letters) < _LETTERS:
        return None
    core = cv2.erode(np.isin(labels, letters).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if np.count_nonzero(core) < 10:
        return None
    level = float(np.median(luma[core]) / paper)
    return Ink(tall, level, float(paper)) if level < _LIGHTEST else None


def _unglared(inks: Sequence[Ink | None]) -> list[Ink | None]:
    """The lines of one page without those under glare."""
    papers = [ink.paper for ink in inks if ink is not None]
    most = min(_CLIPPED, _GLARE * float(np.median(papers))) if papers else 0.0
    return [ink if ink is not None and ink.paper <= most else None for ink in inks]
