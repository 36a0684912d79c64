"""Parses a machine readable zone: lines in, fields and check results out (ICAO Doc 9303).

TD1, TD2, TD3, MRV-A, MRV-B, the French identity card and the Swiss driving licence; their layouts are in
`models.mrz.formats`. This module changes no character: `models.mrz.repair` does. `models.mrz.dates` interprets dates,
and `models.mrz.countries` knows which states exist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from models.mrz import dates
from models.mrz.check_digits import check_digit, matches
from models.mrz.formats import DIGITS, KINDS, Check, Format, Span, format_of, number_check
from models.mrz.names import spaced, split_names


class MrzFormatError(ValueError):
    """The lines have no MRZ format: their number, their lengths or their characters. Says nothing of the content."""


@dataclass(frozen=True)
class Checks:
    """What each check says; None where the format has no such check digit. birth and expiry want a real date too."""

    number: bool | None
    birth: bool | None
    expiry: bool | None
    optional: bool | None
    composite: bool | None

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return False not in (self.number, self.birth, self.expiry, self.optional, self.composite)


@dataclass(frozen=True)
class Mrz:
    """An MRZ as it stands, right or wrong.

    format: a key of `formats.FORMATS`. Fields are without fillers: names with spaces, dates as YYMMDD, sex "M", "F"
    or "<" (unspecified), "" where the format has no such field. document_number is whole, also when it continues in
    the optional data. problems: names of fields whose characters or values their kind does not allow.
    valid: all checks passed and there are no problems.
    """

    format: str
    lines: tuple[str, ...]
    document_code: str
    issuer: str
    surname: str
    given_names: str
    document_number: str
    nationality: str
    birth_date: str
    sex: str
    expiry_date: str
    optional1: str
    optional2: str
    checks: Checks
    problems: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether all checks passed and every field is of its kind."""
        return self.checks.passed and not self.problems


def parse(lines: Sequence[str]) -> Mrz:
    """The fields and checks of two or three lines, as printed from top to bottom; white space around them is ignored.

    Wrong check digits and fields are in the result. MrzFormatError when the lines have no MRZ format at all.
    """
    lines = tuple(line.strip() for line in lines)
    form = format_of(lines)
    if form is None or not all(re.fullmatch("[A-Z0-9<]+", line) for line in lines):
        raise MrzFormatError("no MRZ format has lines of these lengths and characters")
    surname, given_names = _names(form, lines)
    number, optional1 = _number(form, lines)
    return Mrz(
        format=form.name,
        lines=lines,
        document_code=_field(form, lines, "document_code").rstrip("<"),
        issuer=_field(form, lines, "issuer").rstrip("<"),
        surname=surname,
        given_names=given_names,
        document_number=number,
        nationality=_field(form, lines, "nationality").rstrip("<"),
        birth_date=_field(form, lines, "birth_date"),
        sex=_field(form, lines, "sex"),
        expiry_date=_field(form, lines, "expiry_date"),
        optional1=spaced(optional1),
        optional2=spaced(_field(form, lines, "optional2")),
        checks=check(form, lines),
        problems=_problems(form, lines),
    )


def check(form: Format, lines: Sequence[str]) -> Checks:
    """What each check digit of `lines`, which are of format `form`, says."""
    found: dict[str, bool | None] = dict.fromkeys(("number", "birth", "expiry", "optional", "composite"))
    for name, place in form.checks.items():
        digit = place.digit.of(lines)
        found[name] = (digit != "<" or name == "optional") and matches(place.text(lines), digit)
    if form.name in ("TD1", "TD2"):
        place, _ = number_check(form, lines)
        found["number"] = place.digit.of(lines) in DIGITS and _number_matches(form, lines, place)
    for name in ("birth", "expiry"):
        if found[name]:
            found[name] = dates.plausible(_field(form, lines, f"{name}_date"))
    return Checks(**found)


def access_key_seed(mrz: Mrz) -> str:
    """The MRZ information from which a chip's access keys are derived (ICAO Doc 9303 part 11, section 4.3.3).

    Document number, birth and expiry date, each with its check digit. mrz: TD1, TD2 or TD3; ValueError otherwise.
    """
    if mrz.format not in ("TD1", "TD2", "TD3"):
        raise ValueError("only TD1, TD2 and TD3 have a chip with these keys")
    fields = (mrz.document_number.replace(" ", "<").ljust(9, "<"), mrz.birth_date, mrz.expiry_date)
    return "".join(field + check_digit(field) for field in fields)


def _field(form: Format, lines: Sequence[str], name: str) -> str:
    return form.fields[name][0].of(lines) if name in form.fields else ""


def _names(form: Format, lines: Sequence[str]) -> tuple[str, str]:
    if form.name == "IDFRA":
        return spaced(_field(form, lines, "surname")), spaced(_field(form, lines, "given_names"))
    return split_names(_field(form, lines, "names"))


def _number(form: Format, lines: Sequence[str]) -> tuple[str, str]:
    """The whole document number and the optional data without the part of the number that may stand in it."""
    if form.name in ("IDFRA", "DLCHE"):
        number = Span(1, 0, 12) if form.name == "IDFRA" else form.fields["document_number"][0]
        return spaced(number.of(lines)), _field(form, lines, "optional1")
    check, optional = number_check(form, lines)
    return spaced(check.text(lines)), optional.of(lines)


def _number_matches(form: Format, lines: Sequence[str], place: Check) -> bool:
    number, digit = place.text(lines), place.digit.of(lines)
    if len(number) > 9 and _field(form, lines, "issuer") == "BEL":
        # Belgian cards of the 2000s count the filler between the two parts of the number, later ones do not
        return matches(number, digit) or matches(f"{number[:9]}<{number[9:]}", digit)
    return matches(number, digit)


def _problems(form: Format, lines: Sequence[str]) -> tuple[str, ...]:
    problems = [
        name for name, (span, kind) in form.fields.items() if not set(span.of(lines)) <= set(KINDS[kind]) | _blank(kind)
    ]
    if _field(form, lines, "document_code")[0] not in form.code:
        problems.append("document_code")
    # part 3 wants a nationality, or XXX for none; real cards (Macau) leave it empty
    for name, shape in (("issuer", "[A-Z]+<*"), ("nationality", "[A-Z]*<*")):
        if name in form.fields and not re.fullmatch(shape, _field(form, lines, name)):
            problems.append(name)
    problems += [
        name
        for name in ("birth_date", "expiry_date")
        if name in form.fields and not dates.plausible(_field(form, lines, name))
    ]
    return tuple(dict.fromkeys(problems))


def _blank(kind: str) -> set[str]:
    """The filler is no problem where a national format merely expects digits."""
    return {"<"} if kind == "digit" else set()
