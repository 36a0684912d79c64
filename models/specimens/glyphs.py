"""An OCR-B-like typeface for the machine readable zone, drawn with strokes, so that no font file is needed.

ICAO Doc 9303-3 §4.3 asks for OCR-B size 1 at 10 characters an inch: pitch 2.54 mm, capitals about 2.4 mm high,
stroke 0.35 mm (ISO 1073-2). The shapes here are our own and keep what makes OCR-B legible to machines: the zero is a
narrow oval while the O is wide and squarish, I and J have bars, 1 has a flag and no foot, stroke ends are round.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

PITCH_MM = 2.54
HEIGHT_MM = 2.45
STROKE_MM = 0.36

_WIDTH, _HEIGHT = 10.0, 16.0  # the box of the paths below, y downwards, baseline at 16
_SUPERSAMPLING = 4
_SHIFT = 6  # cv2 draws with 1/64 pixel

# M: move, L: line, C: cubic Bézier (two control points and the end). Centre lines of the strokes.
_PATHS = {
    "0": "M 5 0 C 7.6 0 9 3.2 9 8 C 9 12.8 7.6 16 5 16 C 2.4 16 1 12.8 1 8 C 1 3.2 2.4 0 5 0",
    "1": "M 1.8 4 L 5.6 0 L 5.6 16",
    "2": "M 1 3.4 C 1.6 1.2 3 0 5 0 C 7.4 0 9 1.7 9 4.2 C 9 6.6 7.8 8.2 5.6 10.4 L 0.8 16 L 9.4 16",
    "3": "M 1.2 0 L 8.8 0 L 4.6 6.2 C 7.6 6.2 9.2 8.2 9.2 11 C 9.2 14.2 7.2 16 4.6 16 C 2.8 16 1.4 15.4 0.6 14.2",
    "4": "M 6 0 L 0.6 11.6 L 9.6 11.6 M 7.2 7 L 7.2 16",
    "5": "M 8.6 0 L 2 0 L 1.6 6.8 C 2.6 6.2 3.6 5.9 4.8 5.9 C 7.6 5.9 9.3 8 9.3 10.8 C 9.3 14 7.4 16 4.7 16 "
    "C 2.9 16 1.5 15.4 0.7 14.3",
    "6": "M 7 0 C 3.6 3.2 1 7 1 11 C 1 14.2 2.6 16 5 16 C 7.4 16 9 14 9 11.2 C 9 8.4 7.4 6.6 5.1 6.6 "
    "C 3.2 6.6 1.7 7.8 1.1 9.8",
    "7": "M 0.8 0 L 9.2 0 C 6.4 4.6 4.6 9.6 4 16",
    "8": "M 5 7.3 C 2.9 6.6 1.6 5.4 1.6 3.6 C 1.6 1.4 3 0 5 0 C 7 0 8.4 1.4 8.4 3.6 C 8.4 5.4 7.1 6.6 5 7.3 "
    "C 2.4 8.2 0.9 9.6 0.9 11.8 C 0.9 14.4 2.6 16 5 16 C 7.4 16 9.1 14.4 9.1 11.8 C 9.1 9.6 7.6 8.2 5 7.3",
    "9": "M 3 16 C 6.4 12.8 9 9 9 5 C 9 1.8 7.4 0 5 0 C 2.6 0 1 2 1 4.8 C 1 7.6 2.6 9.4 4.9 9.4 "
    "C 6.8 9.4 8.3 8.2 8.9 6.2",
    "A": "M 0.4 16 L 5 0 L 9.6 16 M 2.1 10.6 L 7.9 10.6",
    "B": "M 1.2 7.6 L 5.2 7.6 C 7.4 7.6 8.6 6.2 8.6 3.9 C 8.6 1.5 7.3 0 5 0 L 1.2 0 L 1.2 16 L 5.2 16 "
    "C 7.9 16 9.3 14.4 9.3 11.8 C 9.3 9.2 7.9 7.6 5.2 7.6",
    "C": "M 9.3 2.4 C 8.4 0.8 7.2 0 5.7 0 C 2.6 0 0.8 3 0.8 8 C 0.8 13 2.6 16 5.7 16 C 7.2 16 8.4 15.2 9.3 13.6",
    "D": "M 1.1 0 L 3.8 0 C 7.6 0 9.4 2.9 9.4 8 C 9.4 13.1 7.6 16 3.8 16 L 1.1 16 L 1.1 0",
    "E": "M 9 0 L 1.4 0 L 1.4 16 L 9.2 16 M 1.4 7.6 L 7.8 7.6",
    "F": "M 9.2 0 L 1.5 0 L 1.5 16 M 1.5 7.8 L 7.9 7.8",
    "G": "M 9.1 2.4 C 8.2 0.8 7 0 5.5 0 C 2.5 0 0.7 3 0.7 8 C 0.7 13 2.5 16 5.5 16 C 7 16 8.4 15.4 9.3 14.2 "
    "L 9.3 8.6 L 5.6 8.6",
    "H": "M 1 0 L 1 16 M 9 0 L 9 16 M 1 7.8 L 9 7.8",
    "I": "M 1.8 0 L 8.2 0 M 5 0 L 5 16 M 1.8 16 L 8.2 16",
    "J": "M 3.2 0 L 8.2 0 L 8.2 11.4 C 8.2 14.4 7 16 4.7 16 C 3 16 1.7 15.2 0.9 13.6",
    "K": "M 1.2 0 L 1.2 16 M 9 0 L 1.2 9.4 M 4.1 6 L 9.4 16",
    "L": "M 1.6 0 L 1.6 16 L 9.2 16",
    "M": "M 0.6 16 L 0.6 0 L 5 8.6 L 9.4 0 L 9.4 16",
    "N": "M 1 16 L 1 0 L 9 16 L 9 0",
    "O": "M 5 0 C 8.6 0 9.9 1.6 9.9 8 C 9.9 14.4 8.6 16 5 16 C 1.4 16 0.1 14.4 0.1 8 C 0.1 1.6 1.4 0 5 0",
    "P": "M 1.3 16 L 1.3 0 L 5 0 C 7.7 0 9.2 1.7 9.2 4.6 C 9.2 7.5 7.7 9.2 5 9.2 L 1.3 9.2",
    "Q": "M 5 0 C 8.4 0 9.7 1.8 9.7 8 C 9.7 14.2 8.4 16 5 16 C 1.6 16 0.3 14.2 0.3 8 C 0.3 1.8 1.6 0 5 0 "
    "M 5.6 11.8 L 9.6 17",
    "R": "M 1.2 16 L 1.2 0 L 5 0 C 7.6 0 9 1.6 9 4.4 C 9 7.2 7.6 8.8 5 8.8 L 1.2 8.8 M 4.6 8.8 L 9.4 16",
    "S": "M 9 2 C 8 0.7 6.6 0 4.9 0 C 2.6 0 1.1 1.5 1.1 3.8 C 1.1 6.2 2.6 7 5 7.8 C 7.6 8.7 9.2 9.6 9.2 12 "
    "C 9.2 14.5 7.5 16 4.9 16 C 3.1 16 1.6 15.3 0.6 13.9",
    "T": "M 0.4 0 L 9.6 0 M 5 0 L 5 16",
    "U": "M 1 0 L 1 10.4 C 1 14.2 2.4 16 5 16 C 7.6 16 9 14.2 9 10.4 L 9 0",
    "V": "M 0.4 0 L 5 16 L 9.6 0",
    "W": "M 0.2 0 L 2.2 16 L 5 5.6 L 7.8 16 L 9.8 0",
    "X": "M 0.6 0 L 9.4 16 M 9.4 0 L 0.6 16",
    "Y": "M 0.5 0 L 5 8 L 9.5 0 M 5 8 L 5 16",
    "Z": "M 0.9 0 L 9.1 0 L 0.7 16 L 9.4 16",
    "<": "M 9 2.6 L 1 8.2 L 9 13.8",
}

MRZ_ALPHABET = "".join(sorted(_PATHS))


@cache
def _strokes(character: str) -> tuple[npt.NDArray[np.float64], ...]:
    """The centre lines of one character: float64 (n, 2) each, in the box of 10 × 16."""
    tokens = _PATHS[character].split()
    strokes: list[list[npt.NDArray[np.float64]]] = []
    position = 0
    step = np.linspace(0.0, 1.0, 13)[1:, None]
    while position < len(tokens):
        command = tokens[position]
        count = 6 if command == "C" else 2
        values = np.array([float(v) for v in tokens[position + 1 : position + 1 + count]]).reshape(-1, 2)
        position += 1 + count
        if command == "M":
            strokes.append([values])
        elif command == "L":
            strokes[-1].append(values)
        else:
            start = strokes[-1][-1][-1]
            a, b, end = values
            strokes[-1].append(
                (1 - step) ** 3 * start + 3 * (1 - step) ** 2 * step * a + 3 * (1 - step) * step**2 * b + step**3 * end
            )
    return tuple(np.concatenate(parts) for parts in strokes)


def mrz_ink(lines: tuple[str, ...], *, pixels_per_mm: float, line_spacing_mm: float) -> npt.NDArray[np.float32]:
    """The ink of MRZ lines: float32 (H, W), 0 (paper) to 1 (ink), margins of one pitch left and right, half a line
    spacing above the first centre line and below the last.

    Raises KeyError for a character outside A–Z, 0–9 and `<`.
    """
    scale = pixels_per_mm * _SUPERSAMPLING
    width = round((max(len(line) for line in lines) + 1) * PITCH_MM * pixels_per_mm) * _SUPERSAMPLING
    height = round(len(lines) * line_spacing_mm * pixels_per_mm) * _SUPERSAMPLING
    ink = np.zeros((height, width), np.uint8)
    unit = HEIGHT_MM / _HEIGHT
    thickness = max(1, round(STROKE_MM * scale))
    for row, line in enumerate(lines):
        top = (row + 0.5) * line_spacing_mm - HEIGHT_MM / 2
        for column, character in enumerate(line):
            left = (column + 1) * PITCH_MM - _WIDTH * unit / 2
            for stroke in _strokes(character):
                points = (np.array([left, top]) + stroke * unit) * scale
                fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
                cv2.polylines(ink, [fixed], False, 255, thickness, cv2.LINE_AA, _SHIFT)
    small = cv2.resize(ink, (width // _SUPERSAMPLING, height // _SUPERSAMPLING), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255.0
