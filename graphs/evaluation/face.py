"""Face comparison on labelled pairs of pictures, from the picture to the distance.

Table `lfw_pairs.csv`: a, b (paths), same (1 or 0). Of several faces the one nearest to the centre is used, because the
named person is there (a tenth of the pictures of LFW show several people). A picture without a face never matches.

Thresholds are never measured on the pairs that they were fitted on. The pairs are split in half at random, with fixed
seeds; the threshold of each half gives the accuracy on the other half. Rates are defined as in ISO/IEC 19795-1, with
faces that the detector missed counted as false non-matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from graphs.errors import EvaluationError
from graphs.evaluation.rates import F64, Rate, at_false_match_rate, error_curve, fewest_errors
from graphs.evaluation.suite import Curve, Figures, Job, Measured, Report, Source, Table, spent
from workers.placement import GPU
from workers.pool import models

if TYPE_CHECKING:
    from models.face.faces import Face

COLUMNS = ("a", "b", "same")
SPLITS = 100
"""With 10 the mean accuracy moved by 0.1 points with the order of the pairs."""
RATES = (1e-2, 1e-3)


def embed_picture(media: bytes) -> Figures:
    """The embedding of the most central face, float32 (D,), or None without a face; and the network that made it."""
    from models.face.track import embedded, still_faces
    from models.media.decoding import MediaLimits, sample_frames

    image = sample_frames(media, rate_hz=1, max_frames=1, max_side=4096, limits=MediaLimits()).images[0]
    faces = still_faces(image, models().face_detector, models().landmarks)
    embedder = models().face_embedder
    if not faces:
        return {"embedding": None, "embedder": str(embedder.model)}
    middle = np.array(image.shape[1::-1]) / 2

    def off_centre(face: Face) -> float:
        return float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - middle))

    face = embedded(min(faces, key=off_centre), image, embedder)
    return {"embedding": face.embedding, "embedder": str(embedder.model)}


class FaceSuite:
    """Compares faces; see the module."""

    name = "face"
    about = "comparison of faces on labelled pairs of pictures (lfw_pairs.csv)"

    def jobs(self, source: Source) -> list[Job]:
        """One job for each picture. truth: the pairs in which it is the first picture."""
        pairs: dict[str, list[tuple[str, bool]]] = {}
        for row in source.rows("lfw_pairs.csv", COLUMNS):
            pairs.setdefault(row["a"], []).append((row["b"], row["same"] == "1"))
            pairs.setdefault(row["b"], [])
        return [
            Job(path, "", embed_picture, (source.media(path),), tuple(others), label=GPU)
            for path, others in pairs.items()
        ]

    def report(self, measured: Sequence[Measured]) -> Report:
        """Accuracy, FMR and FNMR. Raises EvaluationError if the workers did not all use the same network."""
        embedders = sorted({one.figures["embedder"] for one in measured if "embedder" in one.figures})
        if len(embedders) > 1:
            raise EvaluationError(f"the workers embed faces with different networks: {', '.join(embedders)}")
        found = {one.item: one.figures.get("embedding") for one in measured}
        missed = sum(vector is None for vector in found.values())
        pairs = [(one.item, other, same) for one in measured for other, same in one.truth]
        distances = np.array([distance(found[a], found[b]) for a, b, _ in pairs])
        same = np.array([same for _, _, same in pairs], bool)
        genuine, impostor = distances[same], distances[~same]
        accuracies, thresholds = halves(distances, same)
        rows = [
            ("network", "".join(embedders)),
            ("pairs", f"{len(pairs)}, {int(same.sum())} of one person"),
            ("pictures without a face found", f"{missed} of {len(found)}"),
            (
                f"accuracy on the half that the threshold was not fitted on, {2 * SPLITS} times",
                f"{np.mean(accuracies):.2%} ({min(accuracies):.2%} to {max(accuracies):.2%}), "
                f"thresholds {min(thresholds):.3f} to {max(thresholds):.3f}",
            ),
            ("CPU ms a picture, median / largest", spent(measured)),
        ]
        figures: dict[str, float] = {"accuracy": float(np.mean(accuracies)), "missed": missed, "pairs": len(pairs)}
        for rate in RATES:
            if rate * len(impostor) < 1:
                rows.append((f"FNMR at FMR {rate:g}", f"{len(impostor)} pairs of different people cannot show it"))
                continue
            threshold = at_false_match_rate(impostor, rate)
            missing = Rate(int((genuine > threshold).sum()), len(genuine))
            rows.append((f"FNMR at FMR {rate:g}, threshold {threshold:.3f}", str(missing)))
            figures[f"fnmr_at_fmr_{rate:g}"] = missing.share
        crossed = all_impostors(found, {(a, b) for a, b, one in pairs if one})
        for rate in RATES:
            threshold = at_false_match_rate(crossed, rate)
            missing = Rate(int((genuine > threshold).sum()), len(genuine))
            rows.append((f"the same over {len(crossed)} crossed pairs, threshold {threshold:.3f}", str(missing)))
            figures[f"fnmr_at_crossed_fmr_{rate:g}"] = missing.share
        curve = Curve(
            "Errors over the threshold",
            "false match rate",
            "false non-match rate",
            {"labelled pairs": error_curve(genuine, impostor), "crossed pairs": error_curve(genuine, crossed)},
            log=True,
        )
        return Report(
            self.name,
            (Table("Comparison of faces", ("what", "found"), tuple(rows)),),
            (curve,),
            figures,
            ("Crossed pairs are all pictures against all of other people by file name: many, but not independent.",),
        )


def distance(one: npt.NDArray[np.float32] | None, other: npt.NDArray[np.float32] | None) -> float:
    """Euclidean distance of two embeddings; infinite if a face was missed."""
    return float("inf") if one is None or other is None else float(np.linalg.norm(one - other))


def halves(distances: F64, same: npt.NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """The accuracy on each half with the threshold fitted on the other half, and these thresholds."""
    random = np.random.default_rng(0)
    accuracies, thresholds = [], []
    for _ in range(SPLITS):
        half = np.zeros(len(same), bool)
        for label in (True, False):
            members = random.permutation(np.flatnonzero(same == label))
            half[members[: len(members) // 2]] = True
        for fitted in (half, ~half):
            thresholds.append(fewest_errors(distances[fitted], same[fitted]))
            accuracies.append(float(((distances[~fitted] <= thresholds[-1]) == same[~fitted]).mean()))
    return accuracies, thresholds


def all_impostors(found: dict[str, npt.NDArray[np.float32] | None], known_same: set[tuple[str, str]]) -> F64:
    """The distances of all pairs of pictures of different people, sorted.

    People are identified by the file name without its number. Pairs labelled as the same person are left out as well.
    """
    names = sorted(name for name, vector in found.items() if vector is not None)
    people = np.array([name.rsplit("/", 1)[-1].rsplit("_", 1)[0] for name in names])
    vectors = np.array([found[name] for name in names], np.float64)
    if not names:
        return np.empty(0)
    squares = (vectors**2).sum(axis=1)
    every = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * vectors @ vectors.T, 0))
    first, second = np.triu_indices(len(names), 1)
    different = people[first] != people[second]
    place = {name: index for index, name in enumerate(names)}
    same = {tuple(sorted((place[a], place[b]))) for a, b in known_same if a in place and b in place}
    if same:
        code = first * len(names) + second
        different &= ~np.isin(code, [a * len(names) + b for a, b in same])
    return np.sort(every[first, second][different])
