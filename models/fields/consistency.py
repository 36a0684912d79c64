"""Checks whether all parts of the document say the same about its holder: MRZ, printed front and barcode.

Pure functions. Each field gets one of three answers. "yes" is agreement. "no" is a contradiction: a *different* value
was read with confidence where that field is printed. "unknown" is everything else, so that a field which recognition
missed does not look like forgery. `models.fields.match` compares a single field. Reading is done by
`models.mrz.reader`, `models.text.reader` and `models.barcode.symbols`. The policy decides what follows from a
contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from models.fields.match import (
    Agreement,
    Match,
    match_birth,
    match_expiry,
    match_name,
    match_nationality,
    match_number,
    match_sex,
    name_distance,
)
from models.fields.printed import Field, PrintedValue, edit_distance, letters, printed_values
from models.mrz.dates import plausible
from models.mrz.formats import FORMATS

if TYPE_CHECKING:
    from models.barcode.aamva import AamvaDocument
    from models.mrz.icao9303 import Mrz
    from models.text.reader import Text

Source = Literal["mrz", "barcode", "front"]
_NAMES: tuple[Field, Field] = ("surname", "given_names")


@dataclass(frozen=True)
class FieldComparison:
    """One field in two sources. distance: characters that differ between `expected` (source_a) and the nearest value
    of source_b, None when there is none; seen: that value, as read.
    """

    field: Field
    source_a: Source
    source_b: Source
    agrees: Agreement
    distance: int | None
    expected: str
    seen: str | None


@dataclass(frozen=True)
class Consistency:
    """All comparisons that could be made; empty when there is neither a zone nor a barcode to compare with."""

    fields: tuple[FieldComparison, ...]

    @property
    def contradictions(self) -> tuple[FieldComparison, ...]:
        """Where two sources say different things."""
        return tuple(f for f in self.fields if f.agrees == "no")

    @property
    def missing(self) -> tuple[FieldComparison, ...]:
        """What could not be found or read in the second source."""
        return tuple(f for f in self.fields if f.agrees == "unknown")

    @property
    def agreement(self) -> float:
        """Share of the fields that agree, 0..1; 0 without any."""
        return sum(f.agrees == "yes" for f in self.fields) / len(self.fields) if self.fields else 0.0


@dataclass(frozen=True)
class _Record:
    """What one source says, in MRZ characters; dates as YYMMDD. Empty: not said, or not trustworthy."""

    source: Source
    surname: str
    given_names: str
    document_number: str
    birth_date: str
    expiry_date: str
    sex: str
    nationality: str
    names_cut: bool


def compare(mrz: Mrz | None, front: Text | None, barcode: AamvaDocument | None) -> Consistency:
    """Compare the zone with the front and with the barcode; without a zone, the barcode with the front.

    A field of the zone whose own check digit fails is left out: it is not known what it says.
    """
    from_mrz = _of_mrz(mrz) if mrz is not None else None
    from_barcode = _of_barcode(barcode) if barcode is not None else None
    reference = from_mrz or from_barcode
    fields: list[FieldComparison] = []
    if reference is not None and front is not None:
        fields += _with_front(reference, printed_values(front))
    if from_mrz is not None and from_barcode is not None:
        fields += _records(from_mrz, from_barcode)
    return Consistency(tuple(fields))


def _of_mrz(mrz: Mrz) -> _Record:
    fields = FORMATS[mrz.format].fields
    if "names" in fields:
        span = fields["names"][0]
        cut = len(mrz.surname) + 2 + len(mrz.given_names) >= span.stop - span.start
    else:
        cut = any(fields[name][0].stop - fields[name][0].start <= len(getattr(mrz, name)) for name in _NAMES)
    return _Record(
        source="mrz",
        surname=mrz.surname,
        given_names=mrz.given_names,
        document_number=mrz.document_number if mrz.checks.number is not False else "",
        birth_date=_date(mrz.birth_date) if mrz.checks.birth is not False else "",
        expiry_date=_date(mrz.expiry_date) if mrz.checks.expiry is not False else "",
        sex={"M": "M", "F": "F"}.get(mrz.sex, ""),
        nationality=mrz.nationality,
        names_cut=cut,
    )


def _of_barcode(barcode: AamvaDocument) -> _Record:
    def day(value: date | None) -> str:
        return value.strftime("%y%m%d") if value else ""

    given = " ".join(name for name in (barcode.given, barcode.middle) if name)
    return _Record(
        source="barcode",
        surname=barcode.surname or "",
        given_names=given,
        document_number=barcode.number or "",
        birth_date=day(barcode.birth_date),
        expiry_date=day(barcode.expiry_date),
        sex=barcode.sex or "",
        nationality="",
        names_cut=barcode.truncated,
    )


def _date(text: str) -> str:
    return text if plausible(text) and "<" not in text else ""


def _records(a: _Record, b: _Record) -> Iterator[FieldComparison]:
    """Two machine-readable records: exactly equal in MRZ characters, names up to where one is cut."""
    rest: tuple[Field, ...] = ("document_number", "birth_date", "expiry_date", "sex")
    for name in (*_NAMES, *rest):
        x, y = letters(getattr(a, name)), letters(getattr(b, name))
        if not x or not y:
            continue
        if name in _NAMES:
            cut = min(len(x), len(y)) if a.names_cut or b.names_cut else None
            distance = name_distance(x[:cut], y[:cut])
        else:
            distance = edit_distance(x, y)
        yield FieldComparison(
            name, a.source, b.source, "yes" if distance == 0 else "no", distance, getattr(a, name), getattr(b, name)
        )


def _with_front(record: _Record, values: Sequence[PrintedValue]) -> Iterator[FieldComparison]:
    def compared(field: Field, match: Match) -> FieldComparison:
        return FieldComparison(
            field, record.source, "front", match.agrees, match.distance, getattr(record, field), match.seen
        )

    if record.surname:
        yield compared("surname", match_name("surname", record.surname, values, cut=record.names_cut))
    if record.given_names:
        yield compared("given_names", match_name("given_names", record.given_names, values, cut=record.names_cut))
    if record.document_number:
        yield compared("document_number", match_number(record.document_number, values))
    if record.birth_date:
        yield compared("birth_date", match_birth(record.birth_date, values, expiry_date=record.expiry_date))
    if record.expiry_date:
        yield compared("expiry_date", match_expiry(record.expiry_date, values))
    if record.sex:
        yield compared("sex", match_sex(record.sex, values))
    if record.nationality:
        yield compared("nationality", match_nationality(record.nationality, values))
