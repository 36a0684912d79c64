"""Turns frames into a record of the faces in them: detects and aligns all faces, and embeds the best ones.

It does not judge. Whether the record shows one face, the right face or a live one is for `models.liveness` and
`models.face.match`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from models.face.faces import Face, FaceTrack
from models.face.landmarks import LandmarkFinder, face_chip

if TYPE_CHECKING:
    from models.face.detector import Detection, FaceDetector
    from models.face.faces import Embedder

SMALLEST_IN_SCAN = 1 / 4
"""Smallest face kept in a face scan, as a share of the frame's shorter side. At arm's length a face takes 0.35 to 0.5
of it; passers-by take less. It also bounds the time: frames of any size are searched at a shorter side of 320 pixels.
"""
SMALLEST_IN_STILL = 1 / 6
"""Smallest face kept in a still or a page, likewise: 106 pixels or 9 mm of an ID-1 page, where the face of a portrait
of 20×26 mm measures about 12 mm. Ghost portraits beside it are mostly smaller; the largest face wins anyway."""
MIN_SCORE = 0.2
"""Lowest MMOD score kept. dlib's own limit is 0; what scores below 0.2 is mostly a pattern on clothes or wall."""

KEY_EVERY = 8
"""Frames from one that is searched whole to the next: a second of a face scan, so whoever is in the picture for that
long is seen. Between two such frames with one face each, only its surroundings are searched: a fifth of the work.
"""

_NO_EMBEDDING = np.empty(0, np.float32)


def track(
    images: npt.NDArray[np.uint8],
    timestamps: npt.NDArray[np.float64],
    detector: FaceDetector,
    landmarks: LandmarkFinder,
    embedder: Embedder,
    *,
    embed_best: int,
) -> FaceTrack:
    """All faces of a face scan.

    images: uint8 RGB (N, H, W, 3); timestamps: float64 (N,) seconds. Faces smaller than SMALLEST_IN_SCAN or with a
    score below MIN_SCORE are dropped. embed_best: how many faces get an embedding, in one batch. Only the largest face
    of a frame can be among them; time is cut into as many equal parts, and each part gives its best one, so that a face
    that changes on the way is seen; the parts that have none are made up for by the best of the rest.
    """
    height, width = images.shape[1:3]
    faces: list[Face] = []
    for index, found in enumerate(_search(images, timestamps, detector)):
        faces += _aligned(images[index], index, found, landmarks)
    chosen = _best_over_time(faces, timestamps, embed_best)
    if chosen:
        chips = [embedder.chip_of(images[faces[index].frame], faces[index]) for index in chosen]
        embeddings = embedder.embed_both_ways(np.stack(chips))
        for index, embedding in zip(chosen, embeddings, strict=True):
            faces[index] = replace(faces[index], embedding=embedding, embedder=embedder.model)
    return FaceTrack(tuple(faces), timestamps, (height, width))


def _search(
    images: npt.NDArray[np.uint8], timestamps: npt.NDArray[np.float64], detector: FaceDetector
) -> list[list[Detection]]:
    """The faces of each frame: whole frames every KEY_EVERY, those between near the face that both neighbours show.

    A frame is searched whole as well when its neighbours show no face or several, or when nothing is found near.
    """
    smallest = _pixels(SMALLEST_IN_SCAN, images)
    keys = [index for index in range(len(images)) if index % KEY_EVERY == 0 or index == len(images) - 1]
    found = dict(zip(keys, map(_sure, detector.detect(images[keys], min_face=smallest)), strict=True))
    expected: dict[int, npt.NDArray[np.float64]] = {}
    for before, after in pairwise(keys):
        if len(found[before]) == 1 and len(found[after]) == 1:
            ends = np.stack([found[before][0].box, found[after][0].box])
            for index in range(before + 1, after):
                share = np.interp(timestamps[index], timestamps[[before, after]], (0, 1))
                expected[index] = (1 - share) * ends[0] + share * ends[1]
    near = list(expected)
    if near:
        seen = detector.detect_near(images[near], np.stack(list(expected.values())))
        found |= {index: sure for index, one in zip(near, seen, strict=True) if (sure := _sure(one))}
    rest = [index for index in range(len(images)) if index not in found]
    found |= zip(rest, map(_sure, detector.detect(images[rest], min_face=smallest)), strict=True)
    return [found[index] for index in range(len(images))]


def _sure(found: list[Detection]) -> list[Detection]:
    return [detection for detection in found if detection.score >= MIN_SCORE]


def still_faces(image: npt.NDArray[np.uint8], detector: FaceDetector, landmarks: LandmarkFinder) -> list[Face]:
    """All faces of a still or a page, the surest first, without embeddings.

    image: uint8 RGB (H, W, 3), upright. Faces smaller than SMALLEST_IN_STILL or below MIN_SCORE are dropped.
    """
    found = detector.detect(image[None], min_face=_pixels(SMALLEST_IN_STILL, image[None]))[0]
    return _aligned(image, 0, _sure(found), landmarks)


def largest_face(
    image: npt.NDArray[np.uint8], detector: FaceDetector, landmarks: LandmarkFinder, embedder: Embedder
) -> Face | None:
    """The largest of `still_faces`, embedded; None without one."""
    faces = still_faces(image, detector, landmarks)
    if not faces:
        return None
    return embedded(max(faces, key=_size), image, embedder)


def embedded(face: Face, image: npt.NDArray[np.uint8], embedder: Embedder) -> Face:
    """The same face with its embedding. image: what it was found in."""
    embedding = embedder.embed_both_ways(embedder.chip_of(image, face)[None])[0]
    return replace(face, embedding=embedding, embedder=embedder.model)


def fitness(face: Face) -> float:
    """How well a face serves for comparing, 0 and up: detail × frontality × size.

    Detail: log of the variance of the Laplacian on the chip. Frontality: 1 with the nose below the middle of the eyes,
    0 with it below an outer corner. Size: pixels per pixel of the chip, at most 1, since more is not used.
    """
    grey = cv2.cvtColor(face.chip, cv2.COLOR_RGB2GRAY)
    detail = float(np.log1p(cv2.Laplacian(grey, cv2.CV_32F).var()))
    outer = face.landmarks[0] - face.landmarks[2]
    width = max(float(np.linalg.norm(outer)), 1.0)
    middle = face.landmarks[:4].mean(axis=0)
    aside = abs(float(np.dot(face.landmarks[4] - middle, outer))) / width**2
    size = min(1.0, _size(face) / (face.chip.shape[0] / 1.5))
    return float(detail * max(0.0, 1 - 2 * aside) * size)


def _size(face: Face) -> float:
    return float(face.box[3] - face.box[1])


def _pixels(share: float, images: npt.NDArray[np.uint8]) -> int:
    shorter: int = min(images.shape[1:3])
    return max(1, round(share * shorter))


def _aligned(image: npt.NDArray[np.uint8], index: int, found: list[Detection], landmarks: LandmarkFinder) -> list[Face]:
    faces = []
    for detection in found:
        points = landmarks.find(image, detection.box)
        chip = face_chip(image, points)
        faces.append(Face(index, detection.box, detection.score, points, chip, _NO_EMBEDDING))
    return faces


def _best_over_time(faces: list[Face], timestamps: npt.NDArray[np.float64], count: int) -> list[int]:
    """Indices of at most `count` faces, no two of one frame."""
    largest: dict[int, int] = {}
    for index, face in enumerate(faces):
        if face.frame not in largest or _size(face) > _size(faces[largest[face.frame]]):
            largest[face.frame] = index
    if not largest or count < 1:
        return []
    ranked = sorted(largest.values(), key=lambda index: -fitness(faces[index]))
    start, end = timestamps[min(largest)], timestamps[max(largest)]
    best: dict[int, int] = {}
    for index in ranked:
        elapsed = (timestamps[faces[index].frame] - start) / max(end - start, 1e-9)
        best.setdefault(min(int(elapsed * count), count - 1), index)
    rest = [index for index in ranked if index not in best.values()]
    return [*best.values(), *rest][:count]
