"""The outline of the document: overlap with the true outline, error of the corners, pages found where there are none.

Items from a folder, table `pages.csv`: path, x0, y0 … x3, y3, the page's corners in pixels of the picture, clockwise,
or all empty for a picture without a page. Items from seeds: synthetic scenes, some of them hard, as the page networks
are trained on, but with other seeds, cards and specimens. Open passports, scans filled by the document and line
drawings of documents are counted separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.errors import EvaluationError
from graphs.evaluation.rates import Rate
from graphs.evaluation.suite import Figures, Job, Measured, Report, Source, Table, spent
from workers.pool import models

if TYPE_CHECKING:
    import numpy.typing as npt

    Corners = npt.NDArray[np.float32]

CORNERS = tuple(f"{axis}{n}" for n in range(4) for axis in ("x", "y"))
COLUMNS = ("path", *CORNERS)
GOOD = 0.95
"""Overlap (IoU) from which an outline is good: what it misses lies within the printed margins of a document."""
SCENES_A_JOB = 10


def find_in_picture(media: bytes, truth: tuple[float, ...]) -> Figures:
    """Find the page in one picture and compare. truth: eight numbers, or empty if there is no page."""
    from models.media.decoding import MediaLimits, sample_frames

    image = sample_frames(media, rate_hz=1, max_frames=1, max_side=4096, limits=MediaLimits()).images[0]
    pages = [np.array(truth, np.float32).reshape(4, 2)] if truth else []
    return {"scenes": [compared(image, pages)]}


def find_in_scenes(seed: int) -> Figures:
    """Draw the scenes of a seed, and one picture of each other kind, find their pages and compare."""
    from models.training.page_cards import unseen_cards
    from models.training.page_others import KINDS, draw_other
    from models.training.page_scenes import draw_scene

    rng = np.random.default_rng([seed, 2])
    cards = unseen_cards(rng, seed)
    scenes = [draw_scene(rng, cards, 540) for _ in range(SCENES_A_JOB)]
    others = [(kind, draw_other(rng, cards, 540, kind)) for kind in KINDS]
    return {
        "scenes": [compared(scene.image, scene.pages) for scene in scenes],
        "others": [{"kind": kind} | compared(other.image, other.pages) for kind, other in others],
    }


def compared(image: npt.NDArray[np.uint8], pages: Sequence[Corners]) -> dict[str, Any]:
    """Find pages and compare the first one with the true page that it overlaps most.

    Gives pages: number of true pages. found: number found. overlap: IoU, both outlines cut at the frame. corner_error:
    in % of the page's longer side. Both are None if there is no true page or none was found. whole: whether the first
    page found is reported as filling the picture.
    """
    from models.page.quad import overlap, within

    [found] = models().page_finder.find_all(image[None])
    figures: dict[str, Any] = {"pages": len(pages), "found": len(found), "overlap": None, "corner_error": None}
    figures["whole"] = bool(found and found[0].whole)
    if pages and found:
        seen = within(found[0].corners, image.shape)
        overlaps = [overlap(within(page, image.shape), seen) for page in pages]
        meant = pages[int(np.argmax(overlaps))]
        figures |= {"overlap": max(overlaps), "corner_error": corner_error(meant, found[0].corners)}
    return figures


def corner_error(page: Corners, outline: Corners) -> float:
    """Mean distance of the corners in % of the page's longer side, for the best of the four rotations."""
    longest = float(np.linalg.norm(np.roll(page, -1, axis=0) - page, axis=1).max())
    turned = [float(np.linalg.norm(np.roll(outline, turn, axis=0) - page, axis=1).mean()) for turn in range(4)]
    return 100 / longest * min(turned)


class PageSuite:
    """Finds pages; see the module."""

    name = "page"
    about = "outlines of documents (pages.csv, or synthetic scenes by --seeds)"

    def jobs(self, source: Source) -> list[Job]:
        """One job for each picture, or for each seed of ten scenes."""
        if source.folder is None:
            return [Job(str(seed), "", find_in_scenes, (seed,)) for seed in source.numbers()]
        return [
            Job(row["path"], "", find_in_picture, (source.media(row["path"]), _truth(row)))
            for row in source.rows("pages.csv", COLUMNS)
        ]

    def report(self, measured: Sequence[Measured]) -> Report:
        """Pages found, quality of their outlines, and pages found where there are none."""
        scenes = [scene for one in measured for scene in one.figures.get("scenes", ())]
        paged = [scene for scene in scenes if scene["pages"]]
        found = np.array([scene["overlap"] or 0.0 for scene in paged])
        errors = [scene["corner_error"] for scene in paged if scene["corner_error"] is not None]
        empty = Rate(sum(scene["found"] > 0 for scene in scenes if not scene["pages"]), len(scenes) - len(paged))
        missed = Rate(sum(not scene["found"] for scene in paged), len(paged))
        poor = Rate(int((found < GOOD).sum()), len(paged))
        two = [scene["found"] > 1 for scene in scenes if scene["pages"] == 2]
        one = [scene["found"] > 1 for scene in scenes if scene["pages"] == 1]
        rows = (
            ("scenes with a page", str(len(paged))),
            ("overlap (IoU), median over all of them, a missed page counting 0", f"{np.median(found):.3f}"),
            (f"overlap under {GOOD}", str(poor)),
            ("no page found", str(missed)),
            ("corner error, median, % of the longer side", f"{np.median(errors):.2f}" if errors else "–"),
            ("scenes without a page in which one is seen", str(empty)),
            ("scenes with two pages in which two are seen", str(Rate(sum(two), len(two)))),
            ("scenes with one page in which two are seen", str(Rate(sum(one), len(one)))),
            ("CPU ms a picture, or for ten scenes with drawing them", spent(measured)),
        )
        figures = {
            "median_overlap": float(np.median(found)) if len(found) else None,
            "good": 1 - poor.share,
            "false_pages": empty.share,
            "missed": missed.share,
        }
        tables = [Table("Outlines of documents", ("what", "found"), rows)]
        others = [other for one in measured for other in one.figures.get("others", ())]
        if others:
            tables.append(_others(others))
        return Report(self.name, tuple(tables), figures=figures)


def _others(others: Sequence[dict[str, Any]]) -> Table:
    """Rates by kind of picture."""
    rows = []
    for kind in sorted({other["kind"] for other in others}):
        seen = [other for other in others if other["kind"] == kind]
        good = sum((other["overlap"] or 0.0) >= GOOD for other in seen)
        counts = (good, sum(other["whole"] for other in seen), sum(not other["found"] for other in seen))
        rows.append((kind, *(str(Rate(count, len(seen))) for count in counts)))
    columns = ("picture", f"overlap of {GOOD} or more", "said to be filled by the document", "no page found")
    return Table("Other documents, scans and drawings", columns, tuple(rows))


def _truth(row: dict[str, str]) -> tuple[float, ...]:
    given = [row[name] for name in CORNERS]
    if not any(given):
        return ()
    try:
        return tuple(float(value) for value in given)
    except ValueError as error:
        raise EvaluationError(f"{row['path']}: corners must be eight numbers, or all empty") from error
