"""Turns lines of text into probabilities of MRZ characters, by the PP-OCR recogniser packaged with rapidocr.

onnxruntime runs the network directly (PP-OCRv6 rec small, Apache-2.0; Du et al. 2020, arXiv:2009.09941, and its
successors), because rapidocr returns neither the probabilities nor the alternatives. `models.mrz.decode` turns the
columns of the result into characters.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from models.mrz.check_digits import ALPHABET
from models.mrz.locate import Band
from models.networks.onnx_session import session
from models.text.ppocr import packaged

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

STRIP_HEIGHT = 48
"""Pixels; fixed by the network, which makes one time step of 8 pixels of width."""

_SAME_SHAPE = {"<": "‹〈＜«", **{letter: letter.lower() for letter in "COPSUVWXZ"}}
"""Characters of the network's 18,709 that look like one of the MRZ's: their probability counts for it."""

_PROBABILITY_FLOOR = 1e-6


class LineRecogniser:
    """The network, loaded and checked once; a session takes about 0.2 s to make.

    threads: threads inside one call (the graph of a case runs in parallel already). WeightsError as `ppocr.packaged`.
    """

    def __init__(self, threads: int = 1) -> None:
        self._session = session(packaged("recogniser"), threads)
        characters = self._session.get_modelmeta().custom_metadata_map["character"].split("\n")
        column = {character: index + 1 for index, character in enumerate(characters)}  # column 0 is CTC's blank
        self._columns = [[0]] + [
            [column[shape] for shape in character + _SAME_SHAPE.get(character, "") if shape in column]
            for character in ALPHABET
        ]

    def __call__(self, strip: UInt8) -> Float:
        """Log probabilities, float32 (width // 8, 38): the blank, then `ALPHABET`; each row sums to 1 as probabilities.

        strip: uint8 RGB (48, width, 3) with one line of text from left to right.
        """
        blob = strip.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1  # (1, 3, 48, width) in -1..1
        output = self._session.run(None, {"x": blob})[0][0]  # (steps, 18710), after softmax
        kept = np.stack([output[:, columns].sum(axis=1) for columns in self._columns], axis=1) + _PROBABILITY_FLOOR
        return np.asarray(np.log(kept / kept.sum(axis=1, keepdims=True)), np.float32)


def cut_strip(image: UInt8, band: Band, width: int, flipped: bool, room: float = 1.25) -> UInt8:
    """The band of text out of uint8 RGB (H, W, 3), made level, (48, width, 3); `flipped` turns it by 180 degrees.

    room: height of what is cut, in thicknesses of the band.
    """
    along, across = band.axis()
    if flipped:
        along, across = -along, -across
    # the band is fitted to the strokes: the network was trained on boxes with a little room around them
    half = along * (band.length / 2 + 0.3 * band.thickness)
    rise = across * (room * band.thickness / 2)
    centre = np.array(band.centre, np.float32)
    source = np.array([centre - half - rise, centre + half - rise, centre - half + rise], np.float32)
    target = np.array([[0, 0], [width, 0], [0, STRIP_HEIGHT]], np.float32)
    shrinks = room * band.thickness > 1.5 * STRIP_HEIGHT
    if shrinks:  # warpAffine has no area interpolation: without this, sharp large pictures alias
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), band.thickness / STRIP_HEIGHT * 0.5), np.uint8)
    matrix = cv2.getAffineTransform(source, target)
    flags = cv2.INTER_LINEAR if shrinks else cv2.INTER_CUBIC
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, STRIP_HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    )
