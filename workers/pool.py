"""The models of one worker process: each loaded once, warmed before the worker takes tasks.

The first inference of a torch or ONNX model is several times slower than the next; a person would wait for it.
Does not choose what runs where (`placement`) and holds no weights itself (`models`).
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workers.placement import CPU, Label

if TYPE_CHECKING:
    from models.face_detector import FaceDetector
    from models.face_embedder import FaceEmbedder
    from models.landmarks import LandmarkFinder
    from models.mrz.reader import MrzReader
    from models.page_finder import PageFinder
    from models.text import TextReader


class ModelPool:
    """Models by attribute, loaded at first use (functools.cached_property locks in Python 3.11; from 3.12 it does not,
    so `warm` loads them all before tasks come).
    """

    @cached_property
    def page_finder(self) -> PageFinder:
        """The page net trained here."""
        from models.page_finder import PageFinder
        from models.weights import own

        return PageFinder(own("page_finder"))

    @cached_property
    def mrz_reader(self) -> MrzReader:
        """PP-OCR's recogniser, masked to the MRZ alphabet."""
        from models.mrz.reader import MrzReader

        return MrzReader()

    @cached_property
    def text_reader(self) -> TextReader:
        """PP-OCR for the printed front."""
        from models.text import TextReader

        return TextReader()

    @cached_property
    def face_detector(self) -> FaceDetector:
        """dlib's MMOD network in torch."""
        from models.face_detector import FaceDetector
        from models.weights import dlib_path

        return FaceDetector(dlib_path("mmod_human_face_detector"))

    @cached_property
    def landmarks(self) -> LandmarkFinder:
        """dlib's five-point landmarks."""
        from models.landmarks import LandmarkFinder
        from models.weights import dlib_path

        return LandmarkFinder(dlib_path("shape_predictor_5_face_landmarks"))

    @cached_property
    def face_embedder(self) -> FaceEmbedder:
        """dlib's residual network in torch."""
        from models.face_embedder import FaceEmbedder
        from models.weights import dlib_path

        return FaceEmbedder(dlib_path("dlib_face_recognition_resnet_model_v1"))

    def warm(self, label: Label) -> None:
        """Load the models that tasks of this label use and run each once. Raises WeightsError on a wrong digest."""
        if label == CPU:
            blank = np.full((638, 1012, 3), 255, np.uint8)
            self.page_finder.find(blank[None])
            self.mrz_reader.read([blank])
            self.text_reader.read(blank)
        else:
            _ = self.landmarks
            self.face_detector.detect(np.zeros((1, 480, 640, 3), np.uint8))
            self.face_embedder.embed(np.zeros((1, 150, 150, 3), np.uint8))


_lock = threading.Lock()
_pool: ModelPool | None = None


def models() -> ModelPool:
    """The pool of this process, made at first use."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ModelPool()
        return _pool
