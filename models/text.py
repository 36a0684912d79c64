"""Printed text of a rectified page: lines with their places, by rapidocr's packaged PP-OCR models.

One pass: detect at reduced size, decide once for the whole page which way is up, recognise each line at its own width.
What the text means is for `models.consistency`; the machine readable zone has its own reader (`models.mrz.reader`).

Models: PP-OCRv6 small (detection, recognition) and PP-OCR mobile v2.0 (direction), PaddlePaddle, Apache-2.0, inside
rapidocr's wheel.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rapidocr import RapidOCR
from rapidocr.main import RapidOCRError

from models.errors import WeightsError
from models.weights import verified

Image = npt.NDArray[np.uint8]

_FILES = {
    "Det": ("PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
    "Cls": ("ch_ppocr_mobile_v2.0_cls_mobile.onnx", "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"),
    "Rec": ("PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
}
"""File and SHA-256 of each stage, as in rapidocr 3.10."""

_DETECTOR_SIDE = 736
"""Longest side in pixels that the detector sees: the same lines as at 1012 on an ID-1 page, in half the time."""

_VOTERS = 8
"""Lines that vote on which way is up: the widest ones, because the classifier hesitates on short words."""

_DECISIVE = 0.3
"""Mean vote (-1..1) below which both directions of some lines are read and the better read one is taken."""

_LEAST_SCORE = 0.5
"""Mean character confidence under which a line is dropped: rapidocr's own default."""


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
    """The lines of a page in reading order, and whether the page was given upside down."""

    lines: tuple[TextLine, ...]
    upside_down: bool


class TextReader:
    """Load once per process (0.3 s); `read` may be called from several threads.

    threads: of onnxruntime within one call. Raises WeightsError when the packaged models are missing or not those on
    record; nothing is ever downloaded.
    """

    def __init__(self, threads: int = 1) -> None:
        parameters: dict[str, object] = {
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": _DETECTOR_SIDE,
            # The recogniser's time is linear in pixels, batch or not; a batch pads each line to the widest one, and
            # rapidocr's own least width of 320 pads short words: both together doubled the time of a page.
            "Rec.rec_batch_num": 1,
            "Rec.rec_img_shape": [3, 48, 48],
            "Cls.cls_batch_num": _VOTERS,
        }
        folder = _folder()
        for stage, (name, digest) in _FILES.items():
            parameters[f"{stage}.model_path"] = str(verified(folder / name, digest))
        self._engine = RapidOCR(params=parameters)

    def read(self, page: Image) -> Text:
        """All lines of a page.

        page: uint8 (H, W, 3) RGB, level, possibly upside down; of any size, meant for ID1_SIZE. A page without text
        gives no lines. About 0.8 s for a card of 20 lines on one thread, a quarter of it detection, which a page that
        is upside down needs twice.
        """
        bgr = np.ascontiguousarray(page[..., ::-1])
        crops, boxes = self._detect(bgr)
        if upside_down := self._upside_down(crops):
            # Again, because the detector misses short words that stand on their heads, and rarely others.
            crops, boxes = self._detect(np.ascontiguousarray(bgr[::-1, ::-1]))
            boxes = np.array((page.shape[1] - 1, page.shape[0] - 1), dtype=np.float32) - boxes
        lines = [
            TextLine(text.strip(), box, score)
            for (text, score), box in zip(self._recognise(crops), boxes, strict=True)
            if score >= _LEAST_SCORE and text.strip()
        ]
        return Text(tuple(lines), upside_down)

    def _detect(self, bgr: Image) -> tuple[list[Image], npt.NDArray[np.float32]]:
        """Crops of the lines, level, in reading order, and their boxes: float32 (K, 4, 2)."""
        try:
            crops, found = self._engine.detect_and_crop(bgr, {})
        except RapidOCRError:  # its way of saying that there is no text
            return [], np.empty((0, 4, 2), dtype=np.float32)
        return crops, np.asarray(found.boxes, dtype=np.float32)

    def _upside_down(self, crops: list[Image]) -> bool:
        if not crops:
            return False
        widest = sorted(crops, key=lambda crop: -crop.shape[1])[:_VOTERS]
        _, answer = self._engine.cls_and_rotate(widest)
        votes = [
            (score if label == "180" else -score) * crop.shape[1]
            for crop, (label, score) in zip(widest, answer.cls_res or (), strict=True)
        ]
        vote: float = sum(votes) / sum(crop.shape[1] for crop in widest)
        if abs(vote) >= _DECISIVE:
            return vote > 0.0
        tried = widest[:3]
        turned = [np.asarray(cv2.rotate(crop, cv2.ROTATE_180), dtype=np.uint8) for crop in tried]
        upright_score, turned_score = (sum(score for _, score in self._recognise(way)) for way in (tried, turned))
        return turned_score > upright_score

    def _recognise(self, crops: list[Image]) -> list[tuple[str, float]]:
        if not crops:
            return []
        result = self._engine.recognize_txt(crops)
        return [(text, float(score)) for text, score in zip(result.txts or (), result.scores or (), strict=True)]


def _folder() -> Path:
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise WeightsError("rapidocr is not installed")
    return Path(spec.origin).parent / "models"
