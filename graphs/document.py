"""The front and the back: from the upload to what is judged. Signatures are the graph: read the parameters.

Imports of vision code stand inside the functions, because the service builds graphs from these signatures and must
start without cv2 and torch; the functions run on workers, where `workers.preload` has loaded them already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from graphs.findings import Findings, thumbnails
from graphs.judge import clear_unless, judged, judged_unseen, with_retry
from graphs.nodes import check, data
from graphs.records import CheckResult, Failed, Step
from workers.placement import CPU, GPU

if TYPE_CHECKING:
    from models.aamva import AamvaDocument
    from models.barcode import Barcode
    from models.faces import Face
    from models.media import Frames
    from models.mrz.reader import MrzReading
    from models.page import Page, Quad
    from models.quality import FrameQuality
    from models.text import Text
    from workers.pool import ModelPool

FRAMES_PER_SECOND: Mapping[Step, float] = {"front": 5.0, "back": 3.0}
"""The hologram check wants a dozen frames of the front; of the back only the best few are used."""
MAX_FRAMES = 16
MAX_SIDE = 1280
BEST_PAGES = 3
MIN_AGREEING_PAGES = 2
SMALL_PAGE = (506, 319)
"""Width and height of the registered pages that the hologram check compares: half of 300 dpi."""


@dataclass(frozen=True)
class Pages:
    """The document as seen in a video.

    best: the sharpest few, rectified at 300 dpi; small: uint8 (K, 319, 506, 3), all frames in which the page was found;
    quads: one per frame, None where no page was found; measures: one for each page of `small`, in the same order;
    several_share: part of the frames with a page, 0..1, that show another beside it.
    """

    best: tuple[Page, ...]
    small: npt.NDArray[np.uint8]
    quads: tuple[Quad | None, ...]
    measures: tuple[FrameQuality, ...]
    several_share: float


@data(CPU)
def frames(upload: bytes, step: Step, models: ModelPool) -> Frames:
    """Decode and sample the media, once; all else shares the result."""
    from models.media import WIDEST

    return models.decoders.sample_frames(
        upload, rate_hz=FRAMES_PER_SECOND[step], max_frames=MAX_FRAMES, max_side=MAX_SIDE, limits=WIDEST
    )


@data(CPU)
def pages(frames: Frames, models: ModelPool) -> Pages:
    """Find the page in each frame, measure it, rectify the best few."""
    from models import quality as measuring
    from models.page import Page, rectify

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


@check(CPU, takes_failed=True)
def quality(pages: Pages | Failed, thresholds: Mapping[str, float], retakes: frozenset[str], step: Step) -> CheckResult:
    """Whether the pictures are good enough to judge by; if not, the person is asked at once to film the step again."""
    name = f"quality_{step}"
    if isinstance(pages, Failed):
        return judged_unseen(name, pages, step, retakes)
    share = len(pages.measures) / max(len(pages.quads), 1)
    if not pages.best or share < thresholds["min_found_share"]:
        result = judged(
            name, "rejected", {"no_document_in_image": step}, score=share, threshold=thresholds["min_found_share"]
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
        # Last, because the outline of a page that is blurred or in the dark is not sure.
        "cut_off_document": all(found.cut_off for found in best),
    }
    codes: dict[str, Step | None] = {code: step for code, holds in limits.items() if holds}
    result = clear_unless(
        name,
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


@data(CPU)
def text_lines(pages: Pages, models: ModelPool) -> Text | None:
    """Read the printed text of the sharpest page; None when there is no page."""
    return models.text_reader.read(pages.best[0].image) if pages.best else None


@check(CPU)
def text(text_lines: Text | None, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the front could be read at all: lines surely read in Latin letters, since others are not read here. What
    it says is compared by `consistency`.
    """
    if text_lines is None:
        return judged("text_front", "not_run")
    if text_lines.mirrored:
        return judged("text_front", "rejected", {"mirrored_picture": "front"}, model="PP-OCR")
    scores = [line.score for line in text_lines.lines]
    mean = float(np.mean(scores)) if scores else 0.0
    enough = text_lines.sure_lines >= thresholds["min_lines"]
    return judged(
        "text_front",
        "clear" if enough else "unidentified",
        score=mean,
        lines=len(scores),
        sure_lines=text_lines.sure_lines,
        upside_down=bool(text_lines.upside_down),
        model="PP-OCR",
    )


@check(CPU)
def tampering(text_lines: Text | None, pages: Pages, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the ink of one printed line of the front is unlike that of the others: a field printed over."""
    from models.tampering import odd_line

    name = "tampering_front"
    if text_lines is None or not pages.best:
        return judged(name, "not_run")
    found = odd_line([page.image for page in pages.best], [line.box for line in text_lines.lines])
    if not found.lines:
        return judged(name, "unidentified")
    odd = found.score > thresholds["max_ink_difference"]
    return judged(
        name,
        "caution" if odd else "clear",
        {"altered_text": "front"} if odd else {},
        score=found.score,
        threshold=thresholds["max_ink_difference"],
        lines=found.lines,
    )


@data(GPU)
def portrait_face(pages: Pages, models: ModelPool) -> Face | None:
    """The portrait on the document: the largest face of the sharpest page, whichever way up; None without one."""
    from models.face_track import largest_face

    for page in pages.best:
        for image in (page.image, np.ascontiguousarray(page.image[::-1, ::-1])):
            face = largest_face(image, models.face_detector, models.landmarks, models.face_embedder)
            if face is not None:
                return face
    return None


@check(CPU)
def portrait(portrait_face: Face | None, pages: Pages) -> CheckResult:
    """Whether the document shows a portrait."""
    if not pages.best:
        return judged("portrait_front", "not_run")
    if portrait_face is None:
        return judged("portrait_front", "rejected", {"selfie_document_missing_photo": "front"})
    height = float(portrait_face.box[3] - portrait_face.box[1])
    return judged("portrait_front", "clear", score=portrait_face.score, face_height_px=round(height), model="dlib MMOD")


@data(CPU)
def mrz_lines(pages: Pages, models: ModelPool) -> MrzReading | None:
    """Read the machine-readable zone over the best pages, voted; None when there is none.

    A zone whose check digits fail is read again from each page alone: it is kept only as it stands in two of them,
    because a check digit that fails accuses a person, and a character misread once must not. A document that fills the
    picture may lie any way round in it.
    """
    any_angle = any(page.quad.whole for page in pages.best)
    reading = models.mrz_reader.read([page.image for page in pages.best], any_angle=any_angle) if pages.best else None
    if reading is None or reading.refusal != "check_digits":
        return reading
    alone = [models.mrz_reader.read([page.image], any_angle=any_angle) for page in pages.best]
    same = [found for found in alone if found is not None and found.lines == reading.lines]
    return reading if len(same) >= MIN_AGREEING_PAGES else replace(reading, refusal="unclear")


@check(CPU)
def mrz(mrz_lines: MrzReading | None, pages: Pages) -> CheckResult:
    """Whether the zone is readable and its check digits hold (ICAO 9303-3 §4.9).

    A check digit is called wrong only when the same characters were read from several pages; else it is unreadable.
    """
    name = "mrz_back"
    if not pages.best:
        return judged(name, "not_run")
    if mrz_lines is None:
        return judged(name, "rejected", {"mrz_unreadable": "back"})
    code = "mrz_check_digit" if mrz_lines.refusal == "check_digits" else "mrz_unreadable"
    checks = {check: holds for check, holds in asdict(mrz_lines.mrz.checks).items() if holds is not None}
    return clear_unless(
        name,
        {} if mrz_lines.accepted else {code: "back"},
        score=mrz_lines.confidence,
        format=mrz_lines.mrz.format,
        lines=list(mrz_lines.lines),
        checks=checks,
        repaired=[asdict(repair) for repair in mrz_lines.repaired],
        refusal=mrz_lines.refusal,
        model="PP-OCR, masked to the MRZ alphabet",
    )


@check(CPU)
def validity(mrz_lines: MrzReading | None, opened_on: date) -> CheckResult:
    """Whether the document is in force on the day the case was opened, and its holder can have been born then."""
    from models.mrz import dates

    if mrz_lines is None or not mrz_lines.accepted:
        return judged("validity_back", "not_run")
    born = dates.birth_date(mrz_lines.mrz.birth_date, opened_on)
    expires = dates.expiry_date(mrz_lines.mrz.expiry_date, opened_on)
    codes: dict[str, Step | None] = {}
    if expires is not None and expires < opened_on:
        codes["document_expired"] = "back"
    if born is None:
        codes["date_of_birth_invalid"] = "back"
    return clear_unless("validity_back", codes, expires_on=expires.isoformat() if expires else None)


@data(CPU)
def barcode_payload(pages: Pages) -> Barcode | None:
    """Read a barcode from the rectified pages; None when there is none."""
    from models import barcode

    return barcode.read([page.image for page in pages.best]) if pages.best else None


@check(CPU)
def barcode(barcode_payload: Barcode | None, pages: Pages) -> CheckResult:
    """Whether the document's barcode could be read and parsed (AAMVA DL/ID card design standard, annex D).

    One that is shown as in a mirror is not the document's own: the picture was mirrored, by a camera or by somebody.
    """
    if not pages.best:
        return judged("barcode_back", "not_run")
    if barcode_payload is None:
        return judged("barcode_back", "unidentified", {"barcode_unreadable": "back"})
    seen: dict[str, Any] = {"format": barcode_payload.format, "mirrored": barcode_payload.mirrored}
    if barcode_payload.mirrored:
        return judged("barcode_back", "rejected", {"mirrored_picture": "back"}, **seen)
    fields = _aamva(barcode_payload)
    if fields is None:
        return judged("barcode_back", "caution", {"barcode_unreadable": "back"}, **seen)
    return judged("barcode_back", "clear", damage=list(fields.damage), **seen)


@data(CPU, later=True)
def findings(frames: Frames, pages: Pages) -> Findings:
    """What is kept of a document step."""
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


@check(CPU)
def hologram(pages: Pages, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether an optically variable feature changes colour as the document tilts (the MIDV-Holo method)."""
    from models.hologram import hologram as measure

    name = "hologram_front"
    found = measure(pages.small)
    if not found.judged:
        return judged(name, "unidentified", {"no_hologram_seen": "front"})
    return judged(
        name,
        "clear" if found.score >= thresholds["min_score"] else "caution",
        {} if found.score >= thresholds["min_score"] else {"no_hologram_seen": "front"},
        score=found.score,
        threshold=thresholds["min_score"],
    )


@check(CPU)
def recapture(pages: Pages, thresholds: Mapping[str, float], step: Step) -> CheckResult:
    """Whether the document itself was filmed, not a screen that shows it or a grey copy."""
    from models.recapture import recapture as measure

    name = f"recapture_{step}"
    if not pages.best:
        return judged(name, "not_run")
    found = measure([page.image for page in pages.best])
    limits = {
        "photo_of_screen": found.screen > thresholds["max_screen"],
        "gray_copy": found.grey > thresholds["max_grey"],
    }
    codes: dict[str, Step | None] = {code: step for code, holds in limits.items() if holds}
    return clear_unless(name, codes, score=found.screen, threshold=thresholds["max_screen"], grey=round(found.grey, 4))


@check(CPU)
def consistency(
    text_lines_front: Text | None, mrz_lines_back: MrzReading | None, barcode_payload_back: Barcode | None
) -> CheckResult:
    """Whether front, machine-readable zone and barcode say the same.

    A front that is not legible in Latin letters contradicts nothing: what was read of another script is chance.
    """
    from models.consistency import compare

    if text_lines_front is None or text_lines_front.mirrored or mrz_lines_back is None:
        return judged("consistency", "not_run")
    if not mrz_lines_back.accepted and mrz_lines_back.refusal != "check_digits":
        return judged("consistency", "not_run")  # what was not read for certain contradicts nobody
    found = compare(mrz_lines_back.mrz, text_lines_front, _aamva(barcode_payload_back))
    contradicted = [one for one in found.contradictions if text_lines_front.legible or one.source_b != "front"]
    codes: dict[str, Step | None] = {}
    if contradicted:
        codes = {"data_mismatch": "front"}
    elif found.missing or found.contradictions:
        codes = {"data_not_found": "front"}
    return judged(
        "consistency",
        "rejected" if contradicted else "caution" if codes else "clear",
        codes,
        score=found.agreement,
        fields=[asdict(field) for field in found.fields],
    )


def _aamva(barcode: Barcode | None) -> AamvaDocument | None:
    from models.aamva import AamvaError, parse

    try:
        return parse(barcode.payload) if barcode is not None and not barcode.mirrored else None
    except AamvaError:
        return None
