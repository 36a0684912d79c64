"""The models of one worker process. Each is loaded once, and warmed before the worker takes tasks.

Warming matters because the first inference of a torch or ONNX model is several times slower than the next, and a person
would wait for it. `settings` says which device runs the face networks and whether tasks share their passes. The pool
does not choose where tasks run (`placement`), does not join calls itself (`batching`) and contains no weights
(`models`).
"""

from __future__ import annotations

import os
import threading
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workers.batching import Batcher
from workers.decoding import Decoders
from workers.placement import CPU, Label
from workers.settings import TorchSettings

if TYPE_CHECKING:
    from models.face.detector import FaceDetector
    from models.face.faces import Embedder
    from models.face.landmarks import LandmarkFinder
    from models.face.onnx_embedder import EmbedderWeights
    from models.mrz.reader import MrzReader
    from models.page.finder import PageFinder
    from models.text.reader import TextReader


DETECTOR, EMBEDDER = "mmod_human_face_detector", "dlib_face_recognition_resnet_model_v1"
_WARM_FRAMES = (480, 640)
_WARM_FACE = 120
"""Smallest face to find in a face scan of that size, in pixels."""
_WARM_COUNTS = (1, 2, 4, 8, 16, 32, 64)
"""Sizes of passes, in rows, to warm on a GPU: it chooses and loads kernels when it first meets a size."""


class ModelPool:
    """Models by attribute, loaded at first use.

    `functools.cached_property` has no lock from Python 3.12 on, so `warm` loads all models before tasks arrive.
    settings: the device of the face networks and how their calls are joined; by default the CPU, without joining.
    embedder: a network that compares faces in place of dlib's; its calls are not joined.
    """

    def __init__(self, settings: TorchSettings | None = None, embedder: EmbedderWeights | None = None) -> None:
        self.settings = settings or TorchSettings()
        self._embedder = embedder
        items, wait_s = self.settings.batch_items, self.settings.batch_wait_s
        joined = ("face_detector", "face_embedder") if embedder is None else ("face_detector",)
        self._batchers = {name: Batcher(items, wait_s) for name in joined if items}

    def figures(self) -> dict[str, dict[str, Any]]:
        """Figures of joined passes by model (`batching.BatchFigures`); empty if nothing is joined."""
        return {name: asdict(batcher.figures()) for name, batcher in self._batchers.items()}

    @cached_property
    def decoders(self) -> Decoders:
        """The child processes that decode media."""
        return Decoders()

    @cached_property
    def page_finder(self) -> PageFinder:
        """The page networks trained in this project."""
        from models.networks.weights import own
        from models.page.finder import PageFinder

        return PageFinder(own("page_finder"), own("page_corners"))

    @cached_property
    def mrz_reader(self) -> MrzReader:
        """PP-OCR's recogniser, masked to the MRZ alphabet."""
        from models.mrz.reader import MrzReader

        return MrzReader()

    @cached_property
    def text_reader(self) -> TextReader:
        """PP-OCR for the printed text of the front."""
        from models.text.reader import TextReader

        return TextReader()

    @cached_property
    def face_detector(self) -> FaceDetector:
        """dlib's MMOD network in torch."""
        from models.face.detector import FaceDetector
        from models.networks.weights import dlib_path
        from workers.joined_models import JoinedDetector

        if batcher := self._batchers.get("face_detector"):
            return JoinedDetector(dlib_path(DETECTOR), self.settings.device, batcher)
        return FaceDetector(dlib_path(DETECTOR), self.settings.device)

    @cached_property
    def landmarks(self) -> LandmarkFinder:
        """dlib's five-point landmarks."""
        from models.face.landmarks import LandmarkFinder
        from models.networks.weights import dlib_path

        return LandmarkFinder(dlib_path("shape_predictor_5_face_landmarks"))

    @cached_property
    def face_embedder(self) -> Embedder:
        """dlib's residual network in torch, or the configured replacement."""
        from models.face.embedder import FaceEmbedder
        from models.face.onnx_embedder import OnnxEmbedder
        from models.networks.weights import dlib_path
        from workers.joined_models import JoinedEmbedder

        if self._embedder is not None:
            return OnnxEmbedder(self._embedder)
        if batcher := self._batchers.get("face_embedder"):
            return JoinedEmbedder(dlib_path(EMBEDDER), self.settings.device, batcher)
        return FaceEmbedder(dlib_path(EMBEDDER), self.settings.device)

    def warm(self, label: Label, tasks: int = 1) -> None:
        """Load the models that tasks of this label use, and run each once. tasks: concurrent tasks of the worker.

        Raises WeightsError if weights have the wrong digest.
        """
        if label == CPU:
            self.decoders.warm(min(tasks, os.cpu_count() or 1))
            blank = np.full((638, 1012, 3), 255, np.uint8)
            self.page_finder.find(blank[None])
            self.mrz_reader.read([blank])
            self.text_reader.read(blank)
        else:
            _ = self.landmarks
            self.face_detector.detect(np.zeros((1, *_WARM_FRAMES, 3), np.uint8))
            self.face_embedder.embed(self._chips(1))
            if self.settings.on_cuda:
                self._warm_passes()
            for batcher in self._batchers.values():
                batcher.forget()

    def _warm_passes(self) -> None:
        for count in _WARM_COUNTS:
            if count <= max(self.settings.batch_items, 8):  # 8: the chips and mirrored chips of half a face scan
                frames = np.zeros((count, *_WARM_FRAMES, 3), np.uint8)
                self.face_detector.detect(frames, min_face=_WARM_FACE)
                self.face_detector.detect_near(frames, np.tile([260.0, 180, 380, 300], (count, 1)))
                self.face_embedder.embed(self._chips(count))

    def _chips(self, count: int) -> npt.NDArray[np.uint8]:
        return np.full((count, self.face_embedder.chip_size, self.face_embedder.chip_size, 3), 128, np.uint8)


_lock = threading.Lock()
_pool: ModelPool | None = None


def models() -> ModelPool:
    """The pool of this process. The first call creates one with defaults unless `open_pool` was called before."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ModelPool()
        return _pool


def open_pool(settings: TorchSettings, embedder: EmbedderWeights | None = None) -> ModelPool:
    """Create the pool of this process at its start. Tasks get it from `models`."""
    global _pool
    with _lock:
        _pool = ModelPool(settings, embedder)
        return _pool
