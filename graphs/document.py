"""Both sides of the document: from the upload to rectified pages, and the checks that both sides share.

The checks of one side are in `front.py` and `back.py`. A function's parameters are its inputs.

Vision code is imported inside the functions. The service builds graphs from these signatures and must start without cv2
and torch. The functions run on workers, where `workers.preload` has already loaded both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from graphs.findings import Findings, thumbnails
from graphs.judge import clear_unless, judge_failed_upload, judged, with_retry
from graphs.nodes import check, data
from graphs.records import CheckResult, Failed, Step
from workers.placement import CPU

if TYPE_CHECKING:
    from models.media.decoding import Frames
    from models.page.quad import Page, Quad
    from models.page.quality import FrameQuality
    from workers.pool import ModelPool

FRAMES_PER_SECOND: Mapping[Step, float] = {"front": 5.0, "back": 3.0}
"""The hologram check needs about a dozen frames of the front; of the back only the best few are used."""
MAX_FRAMES = 16
MAX_SIDE = 1280
BEST_PAGES = 3
SMALL_PAGE = (506, 319)
"""Width and height of the registered pages that the hologram check compares: half of 300 dpi."""


@dataclass(frozen=True)
class Pages:
    """The document as seen in a video.

    best: the sharpest BEST_PAGES pages, rectified at 300 dpi. small: uint8 (K, 319, 506, 3), the rectified page of all
    K frames in which one was found. quads: one per frame, None if no page was found. measures: one for each page of
    `small`, in the same order. several_share: share of these K frames, 0..1, that show another page beside it.
    """

    best: tuple[Page, ...]
    small: npt.NDArray[np.uint8]
    quads: tuple[Quad | None, ...]
    measures: tuple[FrameQuality, ...]
    several_share: float


@data(CPU)
def frames(upload: bytes, step: Step, models: ModelPool) -> Frames:
    """Decode and sample the media once; all other nodes share the result."""
    from models.media.decoding import WIDEST

    return models.decoders.sample_frames(
        upload, rate_hz=FRAMES_PER_SECOND[step], max_frames=MAX_FRAMES, max_side=MAX_SIDE, limits=WIDEST
    )


@data(CPU)
def pages(frames: Frames, models: ModelPool) -> Pages:
    """Find the page in each frame, measure its quality, and rectify the best few."""
    from models.page import quality as measuring
    from models.page.quad import Page, rectify

    outlines = models.page_finder.find_all(frames.images)
    quads = tuple(found[0] if found else None for found in outlines)
    seen = {index: quad for index, quad in enumerate(quads) if quad is not None}
    small = [rectify(frames.images[index], quad, SMALL_PAGE) for index, quad in seen.items()]
    height, width = frames.images.shape[1:3]
    measures = [
        measuring.measure(page, quad, (height, width), index)
        for page, (index, quad) in zip(small, seen.items(), strict=True)
    ]
    best = [
        Page(rectify(frames.images[found.index], seen[found.index]), found.index, seen[found.index], found.sharpness)
        for found in measuring.best([measures[i] for i in measuring.agreeing(np.array(small))], BEST_PAGES)
    ]
    width, height = SMALL_PAGE
    stack = np.array(small, np.uint8).reshape(-1, height, width, 3)
    several = sum(len(found) > 1 for found in outlines) / max(len(seen), 1)
    return Pages(tuple(best), stack, quads, tuple(measures), several)


@check(
    CPU,
    reasons={
        "two_documents_uploaded": "rejected",
        "blurred_photo": "rejected",
        "dark_photo": "rejected",
        "glare_on_photo": "rejected",
        "low_resolution": "rejected",
        "cut_off_document": "rejected",
        "no_document_in_image": "rejected",
        "undecodable_media": "rejected",
    },
    accepts_failed=True,
)
def quality(pages: Pages | Failed, thresholds: Mapping[str, float], retakes: frozenset[str], step: Step) -> CheckResult:
    """Whether the pictures are good enough for the other checks. If not, the person is asked at once to film again."""
    if isinstance(pages, Failed):
        return judge_failed_upload(pages, step, retakes)
    share = len(pages.measures) / max(len(pages.quads), 1)
    if not pages.best or share < thresholds["min_found_share"]:
        result = judged(
            "rejected", {"no_document_in_image": step}, score=share, threshold=thresholds["min_found_share"]
        )
        return with_retry(result, retakes)
    chosen = {page.index for page in pages.best}
    best = [found for found in pages.measures if found.index in chosen]
    limits = {
        "two_documents_uploaded": pages.several_share > thresholds["max_several_share"],
        "blurred_photo": max(found.sharpness for found in best) < thresholds["min_sharpness"],
        "dark_photo": max(found.brightness for found in best) < thresholds["min_brightness"],
        "glare_on_photo": min(found.glare for found in best) > thresholds["max_glare"],
        "low_resolution": max(found.resolution for found in best) < thresholds["min_resolution"],
        # Last, because the outline of a blurred or dark page is uncertain.
        "cut_off_document": all(found.cut_off for found in best),
    }
    codes: dict[str, Step | None] = {code: step for code, holds in limits.items() if holds}
    result = clear_unless(
        codes,
        score=max(found.sharpness for found in best),
        threshold=thresholds["min_sharpness"],
        found_share=round(share, 3),
        several_share=round(pages.several_share, 3),
        best=[_rounded(found) for found in best],
    )
    return with_retry(result, retakes)


def _rounded(measures: FrameQuality) -> dict[str, float | bool]:
    return {
        key: value if isinstance(value, bool) else round(float(value), 3) for key, value in asdict(measures).items()
    }


@data(CPU, low_priority=True)
def findings(frames: Frames, pages: Pages) -> Findings:
    """The findings of a document step that are stored for later analysis."""
    best = pages.best
    corners = [np.full((4, 2), np.nan, np.float32) if quad is None else quad.corners for quad in pages.quads]
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "frames": thumbnails(frames.images),
        "frame_times": frames.timestamps,
        "page_corners": np.array(corners, np.float32).reshape(-1, 4, 2),
        "page_frames": np.array([found.index for found in pages.measures], np.int32),
        "sharpness": np.array([found.sharpness for found in pages.measures], np.float32),
        "glare": np.array([found.glare for found in pages.measures], np.float32),
        "source_differences": frames.source_differences,
    }
    if best:
        arrays["pages"] = np.stack([page.image for page in best])
    return Findings(arrays, {"best_frames": [page.index for page in best], "size": list(frames.images.shape[1:3])})


@check(CPU, reasons={"photo_of_screen": "rejected", "gray_copy": "rejected"})
def recapture(pages: Pages, thresholds: Mapping[str, float], step: Step) -> CheckResult:
    """Whether the real document was filmed, not a screen that shows it or a grey copy."""
    from models.page.recapture import recapture as measure

    if not pages.best:
        return judged("not_run")
    found = measure([page.image for page in pages.best])
    limits = {
        "photo_of_screen": found.screen > thresholds["max_screen"],
        "gray_copy": found.grey > thresholds["max_grey"],
    }
    codes: dict[str, Step | None] = {code: step for code, holds in limits.items() if holds}
    return clear_unless(codes, score=found.screen, threshold=thresholds["max_screen"], grey=round(found.grey, 4))
