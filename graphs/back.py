"""The back of the document: what is read from its pages, and its checks. A function's parameters are its inputs.

Vision code is imported inside the functions, for the reason given in `document.py`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from graphs.document import Pages
from graphs.judge import clear_unless, judged
from graphs.nodes import check, data
from graphs.records import CheckResult, Step
from workers.placement import CPU

if TYPE_CHECKING:
    from models.barcode.aamva import AamvaDocument
    from models.barcode.symbols import Barcode
    from models.mrz.reader import MrzReading
    from workers.pool import ModelPool


MIN_AGREEING_PAGES = 2


@data(CPU)
def mrz_lines(pages: Pages, models: ModelPool) -> MrzReading | None:
    """Read the machine-readable zone by a vote over the best pages; None if there is none.

    If check digits fail, the zone is read again from each page alone. The failure stands only if MIN_AGREEING_PAGES
    pages give the same lines; otherwise the zone is refused as `unclear`. A wrong check digit accuses a person, so one
    misread character must not cause it. A document that fills the picture is read at any angle.
    """
    any_angle = any(page.quad.whole for page in pages.best)
    reading = models.mrz_reader.read([page.image for page in pages.best], any_angle=any_angle) if pages.best else None
    if reading is None or reading.refusal != "check_digits":
        return reading
    alone = [models.mrz_reader.read([page.image], any_angle=any_angle) for page in pages.best]
    same = [found for found in alone if found is not None and found.lines == reading.lines]
    return reading if len(same) >= MIN_AGREEING_PAGES else replace(reading, refusal="unclear")


@check(CPU, reasons={"mrz_check_digit": "rejected", "mrz_unreadable": "rejected"})
def mrz(mrz_lines: MrzReading | None, pages: Pages) -> CheckResult:
    """Whether the zone is readable and its check digits are right (ICAO 9303-3 §4.9).

    A check digit counts as wrong only if several pages gave the same characters; otherwise the zone is unreadable.
    """
    if not pages.best:
        return judged("not_run")
    if mrz_lines is None:
        return judged("rejected", {"mrz_unreadable": "back"})
    code = "mrz_check_digit" if mrz_lines.refusal == "check_digits" else "mrz_unreadable"
    checks = {check: holds for check, holds in asdict(mrz_lines.mrz.checks).items() if holds is not None}
    return clear_unless(
        {} if mrz_lines.accepted else {code: "back"},
        score=mrz_lines.confidence,
        format=mrz_lines.mrz.format,
        lines=list(mrz_lines.lines),
        checks=checks,
        repaired=[asdict(repair) for repair in mrz_lines.repaired],
        refusal=mrz_lines.refusal,
        model="PP-OCR, masked to the MRZ alphabet",
    )


@check(CPU, reasons={"document_expired": "rejected", "date_of_birth_invalid": "rejected"})
def validity(mrz_lines: MrzReading | None, opened_on: date) -> CheckResult:
    """Whether the document was valid on the day the case was opened, and its date of birth is possible on that day."""
    from models.mrz import dates

    if mrz_lines is None or not mrz_lines.accepted:
        return judged("not_run")
    born = dates.birth_date(mrz_lines.mrz.birth_date, opened_on)
    expires = dates.expiry_date(mrz_lines.mrz.expiry_date, opened_on)
    codes: dict[str, Step | None] = {}
    if expires is not None and expires < opened_on:
        codes["document_expired"] = "back"
    if born is None:
        codes["date_of_birth_invalid"] = "back"
    return clear_unless(codes, expires_on=expires.isoformat() if expires else None)


@data(CPU)
def barcode_payload(pages: Pages) -> Barcode | None:
    """Read a barcode from the rectified pages; None if there is none."""
    from models.barcode import symbols as barcode

    return barcode.read([page.image for page in pages.best]) if pages.best else None


@check(CPU, reasons={"barcode_unreadable": "unidentified", "mirrored_picture": "rejected"})
def barcode(barcode_payload: Barcode | None, pages: Pages) -> CheckResult:
    """Whether the document's barcode could be read and parsed (AAMVA DL/ID card design standard, annex D).

    A mirrored barcode is rejected: the picture was mirrored, by a camera or on purpose.
    """
    if not pages.best:
        return judged("not_run")
    if barcode_payload is None:
        return judged("unidentified", {"barcode_unreadable": "back"})
    seen: dict[str, Any] = {"format": barcode_payload.format, "mirrored": barcode_payload.mirrored}
    if barcode_payload.mirrored:
        return judged("rejected", {"mirrored_picture": "back"}, **seen)
    fields = licence_of(barcode_payload)
    if fields is None:
        return judged("caution", {"barcode_unreadable": "back"}, **seen)
    return judged("clear", damage=list(fields.damage), **seen)


def licence_of(barcode: Barcode | None) -> AamvaDocument | None:
    """The fields of a driving licence's barcode; None for any other barcode and for a mirrored one."""
    from models.barcode.aamva import AamvaError, parse

    try:
        return parse(barcode.payload) if barcode is not None and not barcode.mirrored else None
    except AamvaError:
        return None
