"""Lines of text → probabilities of MRZ characters, by the PP-OCR recogniser that the package rapidocr carries.

The network (PP-OCRv6 rec small, Apache-2.0; Du et al. 2020, arXiv:2009.09941, and its successors) is run by
onnxruntime directly: rapidocr itself would keep neither the probabilities nor the alternatives. What the columns of
the result mean in characters is decided in `models.mrz.decode`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from models.errors import WeightsError
from models.mrz.check_digits import ALPHABET
from models.mrz.locate import Band

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

STRIP_HEIGHT = 48
"""Pixels; fixed by the network, which makes one time step of 8 pixels of width."""

_MODEL = "models/PP-OCRv6_rec_small.onnx"
_SHA256 = "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"

_SAME_SHAPE = {"<": "‹〈＜«", **{letter: letter.lower() for letter in "COPSUVWXZ"}}
"""Characters of the network's 18,709 that look like one of the MRZ's: their probability counts for it."""

_PROBABILITY_FLOOR = 1e-6


def packaged_model() -> Path:
    """The recogniser's file inside the installed package rapidocr, which is not imported. WeightsError if absent."""
    spec = importlib.util.find_spec("rapidocr")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / _MODEL).is_file():
            return path
    raise WeightsError(f"the package rapidocr with {_MODEL} is not installed")


class LineRecogniser:
    """The network, loaded and checked once; a session takes about 0.2 s to make.

    threads: threads inside one call (the graph of a case runs in parallel already). WeightsError on a wrong digest.
    """

    def __init__(self, path: Path | None = None, sha256: str = _SHA256, threads: int = 1) -> None:
        data = (path or packaged_model()).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise WeightsError("the text recogniser's file has not the SHA-256 on record")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
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
