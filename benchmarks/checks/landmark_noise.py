"""What errors of the landmarks do to the geometric test: heads against flat photos, as the noise grows.

    python -m benchmarks.checks.landmark_noise [--seeds 30200-30209] [--repeat 3]

Films of specimens (synthetic), a head and a moved photo of each seed under varied conditions, are tracked once by the
flow's own nodes. Then each landmark of each frame is moved by Gaussian noise, a share of the distance between the outer
eye corners; chips are cut anew and motion is judged as in a case. Beside it the test on landmarks alone, which the idea
comes from (De Marsico, Nappi, Riccio and Dugelay, ICB 2012): the two projective invariants of the five points, which
do not change on a plane; its score is how much they do. AUC: the chance that a head scores over a photo.
Writes out/landmark_noise.html.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from bokeh.layouts import column
from bokeh.plotting import figure, save
from bokeh.resources import INLINE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphs.evaluation.presentation import challenge_of
from graphs.local import run_here
from graphs.profile import get_profile
from graphs.records import CaseSpec
from models.face.faces import FaceTrack
from models.face.landmarks import face_chip
from models.liveness.challenge import Challenge
from models.liveness.planar import judge_motion
from models.liveness.pose import head_motion, main_faces
from models.specimens.face_attacks import FaceAttack, attack_scan
from models.specimens.face_scan import FaceCapture, FaceConditions, face_scan
from models.specimens.head import PORTRAITS

F64 = npt.NDArray[np.float64]
NOISE = (0.0, 0.01, 0.02, 0.04, 0.08)
"""Standard deviation of each coordinate, in distances between the outer eye corners."""
HEAD, PHOTO = "head", "flat photo"
SLOWEST = 0.1
"""Seconds between frames: true poses are taken from the frame of the film that is nearest."""


@dataclass(frozen=True)
class Tracked:
    """A film that was looked at. images: uint8 (N, H, W, 3) RGB; true_yaw: degrees in each of the N frames."""

    kind: str
    images: npt.NDArray[np.uint8]
    faces: FaceTrack
    true_yaw: F64


@dataclass(frozen=True)
class Reading:
    """One film under one draw of noise. score: of the geometric test, nan where not judged; yaw_error: root mean square
    in degrees, against the truth; invariants: how much those of the landmarks alone change.
    """

    kind: str
    noise: float
    score: float
    yaw_error: float
    invariants: float


def filmed(seeds: range) -> Iterator[Tracked]:
    """A head and a photo of each seed, tracked."""
    for seed in seeds:
        challenge = Challenge.from_list(challenge_of(seed))
        portrait = list(PORTRAITS)[seed % len(PORTRAITS)]
        conditions = FaceConditions.draw_varied(random.Random(f"landmarks {seed}"))
        yield tracked(HEAD, face_scan(portrait, challenge, seed=seed, conditions=conditions), challenge)
        shown = attack_scan(FaceAttack.MOVED_PHOTO, portrait, challenge, seed=seed, conditions=conditions)
        yield tracked(PHOTO, shown, challenge)


def tracked(kind: str, film: FaceCapture, challenge: Challenge) -> Tracked:
    """Run the nodes of a case on a film."""
    spec = CaseSpec("landmarks", "standard", {"face": 1}, tuple(challenge.to_list()), date(2026, 7, 1))
    values = run_here(spec, {"face": film.data})
    faces = values["faces_face"]
    nearest = np.clip(np.round(faces.timestamps * film.frame_rate).astype(int), 0, len(film.poses) - 1)
    yaw = [0.0 if (pose := film.poses[i]) is None else pose.yaw for i in nearest]
    return Tracked(kind, values["frames_face"].images, faces, np.array(yaw))


def disturbed(film: Tracked, noise: float, rng: np.random.Generator) -> FaceTrack:
    """The film's track with landmarks that are off, and the chips that they would have given."""
    faces = []
    for face in film.faces.faces:
        apart = float(np.linalg.norm(face.landmarks[0] - face.landmarks[2]))
        points = (face.landmarks + rng.normal(0, noise * apart, (5, 2))).astype(np.float32)
        chip = face.chip if noise == 0 else face_chip(film.images[face.frame], points)
        faces.append(replace(face, landmarks=points, chip=chip))
    return replace(film.faces, faces=tuple(faces))


def read(film: Tracked, noise: float, rng: np.random.Generator) -> Reading:
    """Judge one film under one draw of noise."""
    moved = disturbed(film, noise, rng)
    motion = head_motion(moved)
    judged = judge_motion(motion)
    yaw_error = float("nan")
    if film.kind == HEAD and len(motion.times):
        true = np.interp(motion.times, film.faces.timestamps, film.true_yaw)
        off = motion.yaw - (true - np.median(true[motion.times <= motion.times[0] + SLOWEST]))
        yaw_error = float(np.sqrt((off**2).mean()))
    points = np.stack([face.landmarks for face in main_faces(moved)]).astype(np.float64)
    score = judged.score if judged.judged else float("nan")
    return Reading(film.kind, noise, score, yaw_error, float(invariants(points).std(axis=0).max()))


def invariants(points: F64) -> F64:
    """Two projective invariants of five points of a plane, float64 (N, 2), squashed by arctan because a head drives
    them to infinity. points: (N, 5, 2). Ratios of products of triangles' areas (Mundy and Zisserman, Geometric
    Invariance in Computer Vision, 1992, appendix).
    """

    def area(i: int, j: int, k: int) -> F64:
        a, b = points[:, j] - points[:, i], points[:, k] - points[:, i]
        return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])

    first = np.arctan2(area(4, 3, 1) * area(4, 2, 0), area(4, 2, 1) * area(4, 3, 0))
    second = np.arctan2(area(4, 2, 1) * area(3, 1, 0), area(4, 3, 1) * area(2, 1, 0))
    return np.stack([first, second], axis=1)


def chance_over(heads: Sequence[float], photos: Sequence[float]) -> float:
    """The chance that a head scores over a photo (the area under the ROC curve); ties count half. Not judged counts as
    0, which is what a case makes of it.
    """
    a, b = (np.nan_to_num(np.array(side)) for side in (heads, photos))
    return float(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean())


def picture(readings: Sequence[Reading], threshold: float, path: Path) -> None:
    """Draw scores and errors over noise as one page that needs no network."""
    over_noise = partial(
        figure, x_axis_label="landmark noise, % of the distance between the outer eye corners", width=760, height=280
    )
    scores = over_noise(title="Geometric test: median, 5th and 95th percentile of the score", y_axis_label="score")
    errors = over_noise(title="Error of the head's yaw (root mean square), median over films", y_axis_label="degrees")
    x = [100 * noise for noise in NOISE]
    for kind, colour in ((HEAD, "#2a7fb8"), (PHOTO, "#d9534f")):
        groups = [[r for r in readings if (r.kind, r.noise) == (kind, noise)] for noise in NOISE]
        bands = np.array([np.percentile(np.nan_to_num([r.score for r in group]), (5, 50, 95)) for group in groups])
        scores.varea(x, bands[:, 0], bands[:, 2], color=colour, alpha=0.25)
        scores.line(x, bands[:, 1], color=colour, line_width=2, legend_label=kind)
        if kind == HEAD:
            errors.line(x, [float(np.nanmedian([r.yaw_error for r in group])) for group in groups], color=colour)
    scores.line([x[0], x[-1]], [threshold] * 2, color="#555555", line_dash="dashed", legend_label="threshold")
    path.parent.mkdir(parents=True, exist_ok=True)
    save(column(scores, errors), filename=str(path), resources=INLINE, title="Landmark noise")


def table_of(readings: Sequence[Reading], threshold: float) -> Table:
    """One row for each strength of noise."""
    table = Table(
        "noise", "head: median", "under", "photo: median", "at or over", "AUC", "AUC, landmarks alone", "yaw °"
    )
    for noise in NOISE:
        heads, photos = ([r for r in readings if (r.kind, r.noise) == (kind, noise)] for kind in (HEAD, PHOTO))
        head, photo = (np.nan_to_num([r.score for r in group]) for group in (heads, photos))
        table.add_row(
            f"{noise:.0%}",
            f"{np.median(head):.2f}",
            f"{np.sum(head < threshold)}/{len(head)}",
            f"{np.median(photo):.2f}",
            f"{np.sum(photo >= threshold)}/{len(photo)}",
            f"{chance_over(head.tolist(), photo.tolist()):.3f}",
            f"{chance_over([r.invariants for r in heads], [r.invariants for r in photos]):.3f}",
            f"{np.nanmedian([r.yaw_error for r in heads]):.1f}",
        )
    return table


def main() -> None:
    """Film, disturb, judge, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="30200-30209", help="first and last seed of the films")
    parser.add_argument("--repeat", type=int, default=3, help="draws of noise for each film")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    first, last = (int(word) for word in options.seeds.split("-"))
    console, rng, readings = Console(), np.random.default_rng(first), list[Reading]()
    threshold = get_profile("standard").policy.checks["liveness_geometric_face"].thresholds["min_score"]
    for film in track(filmed(range(first, last + 1)), "films", total=2 * (last + 1 - first), console=console):
        for noise in NOISE:
            readings += [read(film, noise, rng) for _ in range(options.repeat if noise else 1)]
    console.print(table_of(readings, threshold))
    picture(readings, threshold, options.out / "landmark_noise.html")


if __name__ == "__main__":
    main()
