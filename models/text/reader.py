"""Reads the printed text of a rectified page: lines and their positions, by PP-OCR's networks from rapidocr's wheel.

It makes one pass: find the lines at reduced size (`models.text.boxes`), decide once for the whole page which way is up,
read each line (`models.text.strips`). `models.fields` interprets the text; the machine readable zone has its own reader
(`models.mrz.reader`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.text.boxes import BoxFinder
from models.text.strips import Reading, StripReader

Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

_VOTERS = 8
"""Lines that vote on which way is up: the widest ones, because the classifier hesitates on short words. Of 100 pages
none was taken wrongly; with 6 three would have been, of which all were undecided and so read both ways."""

_DECISIVE = 0.3
"""Vote (-1..1) below which both directions of some lines are read and the better read one is taken."""

_LEAST_SCORE = 0.5
"""Mean character confidence under which a line is dropped: rapidocr's own default."""


_SURE, _WORD = 0.9, 3
"""Mean confidence and letters from which on a line was surely read."""

_LEGIBLE = 5
"""Lines surely read in Latin letters that make a page one of Latin letters. Cyrillic, Greek, Arabic, Armenian and
Georgian pages drawn here gave 3 at most, specimens blurred by 4 pixels 8 at least, 22 real specimen pictures 5
at least.
"""

_MIRROR_TRIED, _MIRROR_LEAST, _MIRROR_TIMES = 10, 6, 2
"""A page with fewer lines surely read than the first is read again as in a mirror; it is one when that gives at least
the second, and the third times as many. Of specimens mirrored ones gave 0 to 7 lines, and 11 to 18 the right way round;
genuine ones 8 to 19, and in a mirror 7 at most."""


@dataclass(frozen=True)
class TextLine:
    """One line. box: float32 (4, 2), x and y in pixels of the page as given, clockwise from the corner at which the
    line's reading starts at the top; score: mean confidence of its characters, 0..1.
    """

    text: str
    box: npt.NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Text:
    """The lines of a page in reading order, and whether the page was given upside down. mirrored: whether the picture
    shows it as in a mirror; it has no lines then, because what is read off a mirror means nothing.
    """

    lines: tuple[TextLine, ...]
    upside_down: bool
    mirrored: bool = False

    @property
    def sure_lines(self) -> int:
        """How many lines were surely read in Latin letters."""
        return _sure(self.lines)

    @property
    def legible(self) -> bool:
        """Whether enough was, for what is read to be what stands there: letters of another script resemble some."""
        return self.sure_lines >= _LEGIBLE


class TextReader:
    """Load once per process (0.5 s); `read` may be called from several threads.

    threads: of onnxruntime within one call. Raises WeightsError when the packaged models are missing or not those on
    record; nothing is ever downloaded.
    """

    def __init__(self, threads: int = 1) -> None:
        self._find = BoxFinder(threads)
        self._strips = StripReader(threads)

    def read(self, page: Image) -> Text:
        """All lines of a page, of Latin (and Greek) letters; of another script only that there is a line.

        page: uint8 (H, W, 3) RGB, level, possibly upside down; of any size, meant for ID1_SIZE. A page without text
        gives no lines. About 0.25 s for a card of 20 lines on one thread, 70 ms of it for finding them, which a page
        that is upside down needs twice.
        """
        boxes = self._find(page)
        if upside_down := self._upside_down(page, boxes):
            page = np.ascontiguousarray(page[::-1, ::-1])
            # Again, because the detector misses short words that stand on their heads, and rarely others.
            boxes = self._find(page)
        places = _turned(page, boxes) if upside_down else boxes
        readings = self._strips.read(page, boxes)
        if self._mirrored(page, boxes, _sure(readings)):
            return Text((), upside_down, mirrored=True)
        lines = [
            TextLine(reading.text.strip(), place, reading.score)
            for reading, place in zip(readings, places, strict=True)
            if reading.score >= _LEAST_SCORE and reading.text.strip()
        ]
        return Text(tuple(lines), upside_down)

    def _mirrored(self, page: Image, boxes: Float, sure: int) -> bool:
        """Whether the page makes more sense in a mirror. Both ways up, because for such a page that was a guess."""
        if sure >= _MIRROR_TRIED or len(boxes) < _MIRROR_LEAST:
            return False
        left_to_right, top_to_bottom = boxes[:, [1, 0, 3, 2]], boxes[:, [3, 2, 1, 0]]
        seen = max(_sure(self._strips.read(page, ways)) for ways in (left_to_right, top_to_bottom))
        return seen >= max(_MIRROR_LEAST, _MIRROR_TIMES * sure)

    def _upside_down(self, page: Image, boxes: Float) -> bool:
        widths = np.linalg.norm(boxes[:, 1] - boxes[:, 0], axis=1)
        widest = boxes[np.argsort(-widths, kind="stable")[:_VOTERS]]
        vote = self._strips.upside_down(page, widest)
        if not len(boxes) or abs(vote) >= _DECISIVE:
            return vote > 0.0
        tried = widest[:3]
        upright, turned = (
            sum(reading.score for reading in self._strips.read(page, way)) for way in (tried, np.roll(tried, 2, axis=1))
        )
        return turned > upright


def _sure(lines: Iterable[Reading | TextLine]) -> int:
    """How many of these were surely read in Latin letters alone."""
    return sum(line.score >= _SURE and _is_latin(line.text) for line in lines)


def _is_latin(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return len(letters) >= _WORD and all(unicodedata.name(one, "").startswith("LATIN ") for one in letters)


def _turned(page: Image, boxes: Float) -> Float:
    """Boxes of a page as they lie on the page turned by 180 degrees."""
    height, width = page.shape[:2]
    return np.asarray((width - 1, height - 1) - boxes, np.float32)
