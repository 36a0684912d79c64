"""Face verification on labelled pairs of LFW: the whole pipeline, from the picture to the distance.

    python -m benchmarks.lfw_pairs --data DIR        (DIR holds lfw_pairs.csv: columns a, b, same)

Nothing is trained or tuned on the pictures that a figure is quoted on: an accuracy is of the half of the pairs that its
threshold was not fitted on, both ways round, over ten seeded splits. The embedder's author fitted 0.6 on LFW himself.
LFW names the person in the middle of a picture, so the face nearest to it is taken (a tenth of them show several).
LFW (Huang et al. 2007) is for research; what it says holds for press photos of public figures, not for every group.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import beta

from models.face_detector import FaceDetector
from models.face_embedder import FaceEmbedder
from models.face_match import PUBLISHED_THRESHOLD
from models.face_track import still_faces
from models.faces import Face
from models.landmarks import LandmarkFinder
from models.weights import dlib_path

F64 = npt.NDArray[np.float64]
SPLITS = 10
MISSED = np.inf
"""Distance of a pair in one of whose pictures no face was found: never a match."""


@dataclass(frozen=True)
class Rate:
    """A share of errors with its 95 % interval (Clopper and Pearson 1934)."""

    errors: int
    of: int

    def __str__(self) -> str:
        low = beta.ppf(0.025, self.errors, self.of - self.errors + 1) if self.errors else 0.0
        high = beta.ppf(0.975, self.errors + 1, self.of - self.errors) if self.errors < self.of else 1.0
        return f"{self.errors / self.of:8.4%} ({self.errors} of {self.of}; 95 % between {low:.4%} and {high:.4%})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with lfw_pairs.csv")
    folder: Path = parser.parse_args().data
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with (folder / "lfw_pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row[side] for row in rows for side in ("a", "b")})
    embeddings, seconds = embed_all(folder, names)
    missed = [name for name in names if name not in embeddings]
    distances = np.array([distance(embeddings, row["a"], row["b"]) for row in rows])
    same = np.array([row["same"] == "1" for row in rows])
    print(f"{len(rows)} pairs ({same.sum()} of one person), {len(names)} pictures")
    print(f"no face found in {len(missed)} pictures {missed}; their pairs count as no match")
    print(f"{1000 * seconds / len(names):.0f} ms a picture on one thread (detect, landmarks, chip, embed)")
    report_accuracy(distances, same)
    report_rates(distances[same], distances[~same])
    report_all_impostors(embeddings, distances[same])


def embed_all(folder: Path, names: list[str]) -> tuple[dict[str, npt.NDArray[np.float32]], float]:
    """The embedding of the middle face of each picture that has one; and the seconds taken, without reading files."""
    detector = FaceDetector(dlib_path("mmod_human_face_detector"))
    landmarks = LandmarkFinder(dlib_path("shape_predictor_5_face_landmarks"))
    embedder = FaceEmbedder(dlib_path("dlib_face_recognition_resnet_model_v1"))
    found: dict[str, npt.NDArray[np.float32]] = {}
    seconds = 0.0
    for name in names:
        read = cv2.imread(str(folder / name))
        if read is None:
            raise SystemExit(f"cannot read {name}")
        image = np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), np.uint8)
        start = time.perf_counter()
        middle = np.array(image.shape[1::-1]) / 2
        faces = still_faces(image, detector, landmarks)
        if faces:
            face = min(faces, key=partial(off_centre, middle))
            found[name] = embedder.embed_both_ways(face.chip[None])[0]
        seconds += time.perf_counter() - start
    return found, seconds


def off_centre(middle: F64, face: Face) -> float:
    """Pixels from the middle of the face's box to a point."""
    return float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - middle))


def distance(embeddings: dict[str, npt.NDArray[np.float32]], a: str, b: str) -> float:
    """Euclidean distance of two pictures' embeddings."""
    if a not in embeddings or b not in embeddings:
        return MISSED
    return float(np.linalg.norm(embeddings[a] - embeddings[b]))


def best_threshold(distances: F64, same: npt.NDArray[np.bool_]) -> float:
    """The threshold with the fewest errors: the middle of the best interval between neighbouring distances."""
    candidates = np.sort(distances[np.isfinite(distances)])
    middles = (candidates[:-1] + candidates[1:]) / 2
    correct = [int(((distances <= middle) == same).sum()) for middle in middles]
    return float(np.median(middles[np.array(correct) == max(correct)]))


def report_accuracy(distances: F64, same: npt.NDArray[np.bool_]) -> None:
    """Accuracy of fitted thresholds on the pairs they were not fitted on, and of the published one."""
    random = np.random.default_rng(0)
    accuracies, thresholds = [], []
    for _ in range(SPLITS):
        half = np.zeros(len(same), bool)
        for label in (True, False):
            members = random.permutation(np.flatnonzero(same == label))
            half[members[: len(members) // 2]] = True
        for fitted in (half, ~half):
            threshold = best_threshold(distances[fitted], same[fitted])
            thresholds.append(threshold)
            accuracies.append(float(((distances[~fitted] <= threshold) == same[~fitted]).mean()))
    print(
        f"accuracy with a fitted threshold, on the other half, {2 * SPLITS} times: {np.mean(accuracies):.2%} on average"
    )
    print(
        f"  from {min(accuracies):.2%} to {max(accuracies):.2%}, "
        f"thresholds {min(thresholds):.3f} to {max(thresholds):.3f}"
    )
    published = ((distances <= PUBLISHED_THRESHOLD) == same).mean()
    print(f"accuracy with the published threshold {PUBLISHED_THRESHOLD}: {published:.2%}")


def report_rates(genuine: F64, impostor: F64) -> None:
    """False matches and false non-matches by threshold, on the labelled pairs alone."""
    for threshold in (0.45, 0.50, 0.55, PUBLISHED_THRESHOLD):
        false_matches = Rate(int((impostor <= threshold).sum()), len(impostor))
        false_non_matches = Rate(int((genuine > threshold).sum()), len(genuine))
        print(f"threshold {threshold:.2f}: FMR {false_matches}\n                FNMR {false_non_matches}")
    allowed = len(impostor) // 100
    threshold = float(np.nextafter(np.sort(impostor)[allowed], 0))
    false_non_matches = Rate(int((genuine > threshold).sum()), len(genuine))
    print(f"FMR 1e-2 (at most {allowed} of {len(impostor)}): threshold {threshold:.3f}, FNMR {false_non_matches}")
    bound = 3 / len(impostor)
    print(
        f"FMR 1e-3: {len(impostor)} pairs cannot show it; none matching bounds FMR by {bound:.1%} only (rule of three)"
    )


def report_all_impostors(embeddings: dict[str, npt.NDArray[np.float32]], genuine: F64) -> None:
    """The same out of all pairs of pictures of different people: many, but not independent (each picture recurs)."""
    names = sorted(embeddings)
    people = np.array([name.rsplit("/", 1)[-1].rsplit("_", 1)[0] for name in names])
    vectors = np.stack([embeddings[name] for name in names]).astype(np.float64)
    squares = (vectors**2).sum(axis=1)
    every = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * vectors @ vectors.T, 0))
    first, second = np.triu_indices(len(names), 1)
    impostor = np.sort(every[first, second][people[first] != people[second]])
    print(
        f"all {len(impostor)} pairs of pictures of {len(set(people))} different people (not independent, no interval):"
    )
    for rate in (1e-2, 1e-3, 1e-4):
        threshold = float(impostor[int(rate * len(impostor))])
        print(
            f"  FMR {rate:.0e}: threshold {threshold:.3f}, FNMR {Rate(int((genuine > threshold).sum()), len(genuine))}"
        )
    for threshold in (0.45, 0.50, 0.55, PUBLISHED_THRESHOLD):
        print(f"  threshold {threshold:.2f}: FMR {(impostor <= threshold).mean():.2e}")


if __name__ == "__main__":
    main()
