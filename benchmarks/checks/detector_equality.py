"""The face detector in torch against dlib's own, box for box, over many pictures at several scales.

    python -m benchmarks.checks.detector_equality --data ../shared/data [--pictures 100]

DIR of `--data` holds `lfw_pairs.csv`, whose first pictures are taken in the order of their names; without it only the
two portraits that the specimens are made of are compared. A scale applies to both before they look, so that each sees
the same pixels. Detections are of one face where their boxes share more than half of what they cover together.
One thread; dlib takes about 0.3 s for a picture of LFW at its own size.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import dlib
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.face.detector import Detection, FaceDetector
from models.networks.weights import dlib_path
from models.specimens.head import PORTRAITS, load_portrait

U8 = npt.NDArray[np.uint8]
DETECTOR = "mmod_human_face_detector"
SCALES = (0.5, 1.0, 1.5)
SAME_FACE = 0.5


@dataclass
class Tally:
    """What was found at one scale. boxes: largest difference of a side, pixels; scores: largest difference."""

    pictures: int = 0
    both: int = 0
    only_ours: list[str] = field(default_factory=list)
    only_dlib: list[str] = field(default_factory=list)
    boxes: float = 0.0
    scores: float = 0.0

    def add(self, name: str, ours: list[Detection], theirs: list[Detection]) -> None:
        """Count the detections of one picture."""
        self.pictures += 1
        left = list(theirs)
        for mine in ours:
            same = max(left, key=lambda other: overlap(mine, other), default=None)
            if same is None or overlap(mine, same) <= SAME_FACE:
                self.only_ours.append(f"{name} ({mine.score:.3f})")
                continue
            left = [other for other in left if other is not same]
            self.both += 1
            self.boxes = max(self.boxes, float(np.abs(mine.box - same.box).max()))
            self.scores = max(self.scores, abs(mine.score - same.score))
        self.only_dlib += [f"{name} ({other.score:.3f})" for other in left]


def overlap(a: Detection, b: Detection) -> float:
    """What two boxes share of what they cover together, 0..1."""
    low, high = np.maximum(a.box[:2], b.box[:2]), np.minimum(a.box[2:], b.box[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = sum(float(np.prod(one.box[2:] - one.box[:2])) for one in (a, b))
    return shared / (areas - shared)


def pictures(data: Path, count: int) -> Iterator[tuple[str, U8]]:
    """The portraits, then the first `count` pictures of LFW: names and uint8 (H, W, 3) RGB."""
    for name in PORTRAITS:
        yield name, load_portrait(name)
    table = data / "lfw_pairs.csv"
    if not table.is_file():
        return
    with table.open(newline="", encoding="utf-8") as file:
        names = sorted({row[side] for row in csv.DictReader(file) for side in ("a", "b")})
    for name in names[:count]:
        read = cv2.imread(str(data / name), cv2.IMREAD_COLOR_RGB)
        if read is None:
            raise FileNotFoundError(data / name)
        yield name, np.asarray(read, np.uint8)


def scaled(image: U8, scale: float) -> U8:
    """The picture at another size."""
    if scale == 1:
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=how), np.uint8)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with lfw_pairs.csv")
    parser.add_argument("--pictures", type=int, default=100, help="how many of LFW")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    ours = FaceDetector(dlib_path(DETECTOR))
    theirs = dlib.cnn_face_detection_model_v1(str(dlib_path(DETECTOR)))
    tallies = {scale: Tally() for scale in SCALES}
    console = Console()
    for name, image in track(list(pictures(options.data, options.pictures)), console=console, transient=True):
        for scale, tally in tallies.items():
            seen = np.ascontiguousarray(scaled(image, scale))
            found = [
                Detection(
                    np.array([one.rect.left(), one.rect.top(), one.rect.right(), one.rect.bottom()], np.float32),
                    float(one.confidence),
                )
                for one in theirs(seen)
            ]
            tally.add(name, ours.detect(seen[None])[0], found)
    table = Table(title="Detections of the torch detector and of dlib's")
    for column in ("scale", "pictures", "in both", "only ours", "only dlib's", "box apart, px", "score apart"):
        table.add_column(column, justify="right")
    for scale, tally in tallies.items():
        table.add_row(
            f"{scale:g}",
            str(tally.pictures),
            str(tally.both),
            str(len(tally.only_ours)),
            str(len(tally.only_dlib)),
            f"{tally.boxes:.2f}",
            f"{tally.scores:.1e}",
        )
    console.print(table)
    for scale, tally in tallies.items():
        for whose, names in (("ours", tally.only_ours), ("dlib's", tally.only_dlib)):
            if names:
                console.print(f"scale {scale:g}, only {whose}: {', '.join(names)}")


if __name__ == "__main__":
    main()
