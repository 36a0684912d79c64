"""Checks that compare steps: whether the document agrees with itself, and whether the face is that of its portrait.

Vision code is imported inside the functions, for the reason given in `document.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from graphs.back import licence_of
from graphs.face import distance_limit
from graphs.judge import clear_unless, judged
from graphs.nodes import check
from graphs.records import CheckResult, Step
from workers.placement import CPU

if TYPE_CHECKING:
    from models.barcode.symbols import Barcode
    from models.face.faces import Face, FaceTrack
    from models.mrz.reader import MrzReading
    from models.text.reader import Text


@check(CPU, reasons={"data_mismatch": "rejected", "data_not_found": "caution"})
def consistency(
    text_lines_front: Text | None, mrz_lines_back: MrzReading | None, barcode_payload_back: Barcode | None
) -> CheckResult:
    """Whether front, machine-readable zone and barcode give the same data.

    A front without legible Latin letters contradicts nothing: text read from another script is random.
    """
    from models.fields.consistency import compare

    if text_lines_front is None or text_lines_front.mirrored or mrz_lines_back is None:
        return judged("not_run")
    if not mrz_lines_back.accepted and mrz_lines_back.refusal != "check_digits":
        return judged("not_run")  # an uncertain reading must not accuse anyone
    found = compare(mrz_lines_back.mrz, text_lines_front, licence_of(barcode_payload_back))
    contradicted = [one for one in found.contradictions if text_lines_front.legible or one.source_b != "front"]
    codes: dict[str, Step | None] = {}
    if contradicted:
        codes = {"data_mismatch": "front"}
    elif found.missing or found.contradictions:
        codes = {"data_not_found": "front"}
    return judged(
        "rejected" if contradicted else "caution" if codes else "clear",
        codes,
        score=found.agreement,
        fields=[asdict(field) for field in found.fields],
    )


@check(CPU, reasons={"selfie_face_mismatch": "rejected"})
def match(faces_face: FaceTrack, portrait_face_front: Face | None, thresholds: Mapping[str, float]) -> CheckResult:
    """Whether the face of the scan is the one on the document. If either face is missing, the check is not run."""
    from models.face.match import match as compare

    if portrait_face_front is None:
        return judged("not_run")
    found = compare(faces_face, portrait_face_front)
    if found is None:
        return judged("not_run")
    max_distance = distance_limit(found.embedder, thresholds["max_distance"])
    return clear_unless(
        {} if found.distance <= max_distance else {"selfie_face_mismatch": "face"},
        score=found.distance,
        threshold=max_distance,
        model=found.embedder.name,
        model_version=found.embedder.version,
    )
