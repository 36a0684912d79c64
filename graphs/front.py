"""The front of the document: what is read from its pages, and its checks. A function's parameters are its inputs.

Vision code is imported inside the functions, for the reason given in `document.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from graphs.document import Pages
from graphs.judge import judged
from graphs.nodes import check, data
from graphs.records import CheckResult
from workers.placement import CPU, GPU

if TYPE_CHECKING:
    from models.face.faces import Face
    from models.text.reader import Text
    from workers.pool import ModelPool


@data(CPU)
def text_lines(pages: Pages, models: ModelPool) -> Text | None:
    """Read the printed text of the sharpest page; None if there is no page."""
    return models.text_reader.read(pages.best[0].image) if pages.best else None


@check(CPU, reasons={"mirrored_picture": "rejected"})
def text(text_lines: Text | None, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the front could be read at all, by the number of lines read with certainty in Latin letters.

    Other scripts are not read. `consistency` compares what the text says.
    """
    if text_lines is None:
        return judged("not_run")
    if text_lines.mirrored:
        return judged("rejected", {"mirrored_picture": "front"}, model="PP-OCR")
    scores = [line.score for line in text_lines.lines]
    mean = float(np.mean(scores)) if scores else 0.0
    enough = text_lines.sure_lines >= thresholds["min_lines"]
    return judged(
        "clear" if enough else "unidentified",
        score=mean,
        lines=len(scores),
        sure_lines=text_lines.sure_lines,
        upside_down=bool(text_lines.upside_down),
        model="PP-OCR",
    )


@check(CPU, reasons={"altered_text": "caution"})
def tampering(text_lines: Text | None, pages: Pages, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the ink of one printed line of the front differs from the other lines, as in a field that was
    overprinted.
    """
    from models.page.tampering import odd_line

    if text_lines is None or not pages.best:
        return judged("not_run")
    found = odd_line([page.image for page in pages.best], [line.box for line in text_lines.lines])
    if not found.lines:
        return judged("unidentified")
    odd = found.score > thresholds["max_ink_difference"]
    return judged(
        "caution" if odd else "clear",
        {"altered_text": "front"} if odd else {},
        score=found.score,
        threshold=thresholds["max_ink_difference"],
        lines=found.lines,
    )


@data(GPU)
def portrait_face(pages: Pages, models: ModelPool) -> Face | None:
    """The portrait on the document: the largest face on the sharpest page that has one, upright or upside down, or
    None.
    """
    from models.face.track import largest_face

    for page in pages.best:
        for image in (page.image, np.ascontiguousarray(page.image[::-1, ::-1])):
            face = largest_face(image, models.face_detector, models.landmarks, models.face_embedder)
            if face is not None:
                return face
    return None


@check(CPU, reasons={"selfie_document_missing_photo": "rejected"})
def portrait(portrait_face: Face | None, pages: Pages) -> CheckResult:
    """Whether the document shows a portrait."""
    if not pages.best:
        return judged("not_run")
    if portrait_face is None:
        return judged("rejected", {"selfie_document_missing_photo": "front"})
    height = float(portrait_face.box[3] - portrait_face.box[1])
    return judged("clear", score=portrait_face.score, face_height_px=round(height), model="dlib MMOD")


@check(CPU, reasons={"no_hologram_seen": "caution"})
def hologram(pages: Pages, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether a hologram (optically variable feature) changes colour as the document tilts. Method: MIDV-Holo."""
    from models.page.hologram import hologram as measure

    found = measure(pages.small)
    if not found.judged:
        return judged("unidentified", {"no_hologram_seen": "front"})
    return judged(
        "clear" if found.score >= thresholds["min_score"] else "caution",
        {} if found.score >= thresholds["min_score"] else {"no_hologram_seen": "front"},
        score=found.score,
        threshold=thresholds["min_score"],
    )
