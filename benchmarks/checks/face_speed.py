"""Faces in torch against faces in dlib, on the same pictures, one thread, in one run.

    python -m benchmarks.checks.face_speed [--repeats 5]

Medians of CPU time, which on one thread of an idle machine is wall time, alternating between the two so that a busy
machine slows both. Also says how far the results are apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import cv2
import dlib
import matplotlib.cbook
import matplotlib.image
import numpy as np
import numpy.typing as npt
import skimage.data
import torch

from models.face.detector import FaceDetector
from models.face.embedder import FaceEmbedder
from models.face.landmarks import LandmarkFinder, face_chip
from models.face.track import largest_face
from models.networks.weights import dlib_path

DETECTOR, EMBEDDER = "mmod_human_face_detector", "dlib_face_recognition_resnet_model_v1"
FRAME = (640, 480)
BATCH = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats: int = parser.parse_args().repeats
    torch.set_num_threads(1)
    cv2.setNumThreads(0)

    start = time.process_time()
    detector = FaceDetector(dlib_path(DETECTOR))
    detector_s = time.process_time() - start
    start = time.process_time()
    embedder = FaceEmbedder(dlib_path(EMBEDDER))
    print(f"load, digest included: detector {detector_s:.2f} s, embedder {time.process_time() - start:.2f} s")
    landmarks = LandmarkFinder(dlib_path("shape_predictor_5_face_landmarks"))
    dlib_detector = dlib.cnn_face_detection_model_v1(str(dlib_path(DETECTOR)))
    dlib_embedder = dlib.face_recognition_model_v1(str(dlib_path(EMBEDDER)))

    image = frame()
    frames = np.repeat(image[None], 12, axis=0)
    compare(
        f"detect, one {FRAME[0]}×{FRAME[1]} frame", repeats, lambda: detector.detect(image[None]),
        lambda: dlib_detector(image),
    )  # fmt: skip
    compare(
        "detect, a frame of 12, faces from 120 px", repeats, lambda: detector.detect(frames, min_face=120), count=12
    )
    face = largest_face(image, detector, landmarks, embedder)
    if face is None:
        raise SystemExit("no face found in the portrait")
    compare("landmarks", repeats, lambda: landmarks.find(image, face.box))
    compare("chip", repeats, lambda: face_chip(image, face.landmarks))
    chips = np.repeat(face.chip[None], BATCH, axis=0)
    compare(
        "embed, one chip", repeats, lambda: embedder.embed(chips[:1]),
        lambda: dlib_embedder.compute_face_descriptor(face.chip),
    )  # fmt: skip
    compare(f"embed, a chip of {BATCH}", repeats, lambda: embedder.embed(chips), count=BATCH)
    apart = np.abs(embedder.embed(chips[:1])[0] - np.array(dlib_embedder.compute_face_descriptor(face.chip))).max()
    print(f"largest difference of an embedding's number: {apart:.1e}")


def frame() -> npt.NDArray[np.uint8]:
    """The two portraits side by side."""
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    hopper: npt.NDArray[np.uint8] = matplotlib.image.imread(path)
    astronaut: npt.NDArray[np.uint8] = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    portraits = (astronaut, hopper)
    scaled = [cv2.resize(portrait, (FRAME[0] // 2, FRAME[1])) for portrait in portraits]
    return np.ascontiguousarray(np.hstack(scaled), np.uint8)


def compare(
    what: str,
    repeats: int,
    ours: Callable[[], object],
    theirs: Callable[[], object] | None = None,
    *,
    count: int = 1,
) -> None:
    """Print the median milliseconds of one item in torch and, if given, in dlib."""
    ours()
    mine: list[float] = []
    dlibs: list[float] = []
    for _ in range(repeats):
        mine.append(timed(ours) / count)
        if theirs is not None:
            dlibs.append(timed(theirs) / count)
    rival = f"   dlib {median(dlibs):8.1f} ms   {median(dlibs) / median(mine):5.1f} times" if dlibs else ""
    print(f"{what:44s} {median(mine):8.2f} ms{rival}")


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of CPU of one call."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


if __name__ == "__main__":
    main()
