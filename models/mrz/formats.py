"""The position of each field in each format of machine readable zone, as data that parsing and repair share.

TD1: ICAO Doc 9303 part 5, TD2: part 6, TD3: part 4, MRV-A and MRV-B: part 7 (each section 4.2.2). The French identity
card of 1988–2021 (2 × 36, "IDFRA") and the Swiss driving licence (9 + 30 + 30) are national formats built alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"

KINDS: Mapping[str, str] = {
    "digit": DIGITS,
    "date": DIGITS + "<",  # unknown parts of a date are fillers (part 3, section 4.8)
    "letter": LETTERS,
    "name": LETTERS + "<",
    "state": LETTERS + "<",
    "any": LETTERS + DIGITS + "<",
    "sex": "MF<",
    "check": DIGITS,
    "check_or_filler": DIGITS + "<",
    "filler": "<",
}
"""The characters that each kind of field may hold."""


@dataclass(frozen=True)
class Span:
    """Characters start..stop-1 of line `line`, counted from 0."""

    line: int
    start: int
    stop: int

    def of(self, lines: Sequence[str]) -> str:
        """The characters of `lines` that stand here."""
        return lines[self.line][self.start : self.stop]


@dataclass(frozen=True)
class Check:
    """A check digit: where it stands, and what it is computed over, in this order."""

    digit: Span
    over: tuple[Span, ...]

    def text(self, lines: Sequence[str]) -> str:
        """The characters that the digit is computed over."""
        return "".join(span.of(lines) for span in self.over)


@dataclass(frozen=True)
class Format:
    """One format. fields: name → place and kind (a key of `KINDS`); checks: name → check digit.

    code: what the first character of the document code may be. Every position belongs to exactly one field or digit.
    """

    name: str
    lengths: tuple[int, ...]
    code: str
    fields: Mapping[str, tuple[Span, str]]
    checks: Mapping[str, Check]

    def alphabet(self, line: int, position: int) -> str:
        """The characters that may stand at a position."""
        if self.name == "IDFRA" and line == 0 and position < 5:
            return "IDFRA"[position]
        for name, (span, kind) in self.fields.items():
            if span.line == line and span.start <= position < span.stop:
                return self.code if name == "document_code" and position == span.start else KINDS[kind]
        for name, check in self.checks.items():
            if check.digit.line == line and check.digit.start == position:
                # "<" here: the number goes on in the optional data (TD1, TD2), or there is no optional data (TD3)
                free = name == "optional" or (name == "number" and self.name in ("TD1", "TD2"))
                return KINDS["check_or_filler" if free else "check"]
        return KINDS["filler"]


def _lower_line(length: int, optional_stop: int) -> tuple[dict[str, tuple[Span, str]], dict[str, Check]]:
    """What the two-line formats share: names above, and below number, nationality, dates, sex and optional data."""
    fields = {
        "document_code": (Span(0, 0, 2), "any"),
        "issuer": (Span(0, 2, 5), "state"),
        "names": (Span(0, 5, length), "name"),
        "document_number": (Span(1, 0, 9), "any"),
        "nationality": (Span(1, 10, 13), "state"),
        "birth_date": (Span(1, 13, 19), "date"),
        "sex": (Span(1, 20, 21), "sex"),
        "expiry_date": (Span(1, 21, 27), "date"),
        "optional1": (Span(1, 28, optional_stop), "any"),
    }
    checks = {
        "number": Check(Span(1, 9, 10), (Span(1, 0, 9),)),
        "birth": Check(Span(1, 19, 20), (Span(1, 13, 19),)),
        "expiry": Check(Span(1, 27, 28), (Span(1, 21, 27),)),
    }
    return fields, checks


def _two_lines(name: str, length: int, code: str, optional_stop: int, over: Sequence[Span], optional: bool) -> Format:
    fields, checks = _lower_line(length, optional_stop)
    if optional:
        checks["optional"] = Check(Span(1, optional_stop, optional_stop + 1), (Span(1, 28, optional_stop),))
    if over:
        checks["composite"] = Check(Span(1, length - 1, length), tuple(over))
    return Format(name, (length, length), code, fields, checks)


TD1 = Format(
    "TD1",
    (30, 30, 30),
    "ACI",
    {
        "document_code": (Span(0, 0, 2), "any"),
        "issuer": (Span(0, 2, 5), "state"),
        "document_number": (Span(0, 5, 14), "any"),
        "optional1": (Span(0, 15, 30), "any"),
        "birth_date": (Span(1, 0, 6), "date"),
        "sex": (Span(1, 7, 8), "sex"),
        "expiry_date": (Span(1, 8, 14), "date"),
        "nationality": (Span(1, 15, 18), "state"),
        "optional2": (Span(1, 18, 29), "any"),
        "names": (Span(2, 0, 30), "name"),
    },
    {
        "number": Check(Span(0, 14, 15), (Span(0, 5, 14),)),
        "birth": Check(Span(1, 6, 7), (Span(1, 0, 6),)),
        "expiry": Check(Span(1, 14, 15), (Span(1, 8, 14),)),
        "composite": Check(Span(1, 29, 30), (Span(0, 5, 30), Span(1, 0, 7), Span(1, 8, 15), Span(1, 18, 29))),
    },
)
TD2 = _two_lines("TD2", 36, "ACI", 35, (Span(1, 0, 10), Span(1, 13, 20), Span(1, 21, 35)), False)
TD3 = _two_lines("TD3", 44, "P", 42, (Span(1, 0, 10), Span(1, 13, 20), Span(1, 21, 43)), True)
MRVA = _two_lines("MRVA", 44, "V", 44, (), False)
MRVB = _two_lines("MRVB", 36, "V", 36, (), False)
IDFRA = Format(
    "IDFRA",
    (36, 36),
    "I",
    {
        "document_code": (Span(0, 0, 2), "letter"),
        "issuer": (Span(0, 2, 5), "state"),
        "surname": (Span(0, 5, 30), "name"),
        "optional1": (Span(0, 30, 36), "any"),
        # year and month of issue, department (2A and 2B are in Corsica), serial number of that month
        "issue_month": (Span(1, 0, 4), "digit"),
        "department": (Span(1, 4, 7), "any"),
        "serial": (Span(1, 7, 12), "digit"),
        "given_names": (Span(1, 13, 27), "name"),
        "birth_date": (Span(1, 27, 33), "date"),
        "sex": (Span(1, 34, 35), "sex"),
    },
    {
        "number": Check(Span(1, 12, 13), (Span(1, 0, 12),)),
        "birth": Check(Span(1, 33, 34), (Span(1, 27, 33),)),
        "composite": Check(Span(1, 35, 36), (Span(0, 0, 36), Span(1, 0, 35))),
    },
)
DLCHE = Format(
    "DLCHE",
    (9, 30, 30),
    "F",
    {
        "document_number": (Span(0, 0, 9), "any"),
        "document_code": (Span(1, 0, 2), "letter"),
        "issuer": (Span(1, 2, 5), "state"),
        "optional1": (Span(1, 5, 17), "digit"),
        "birth_date": (Span(1, 19, 25), "date"),
        "names": (Span(2, 0, 30), "name"),
    },
    {},
)

FORMATS: Mapping[str, Format] = {form.name: form for form in (TD1, TD2, TD3, MRVA, MRVB, IDFRA, DLCHE)}


def format_of(lines: Sequence[str]) -> Format | None:
    """The format that lines of these lengths and beginnings have; None when there is none."""
    lengths = tuple(len(line) for line in lines)
    if lengths == (44, 44):
        return MRVA if lines[0][0] == "V" else TD3
    if lengths == (36, 36):
        if lines[0].startswith("IDFRA"):
            return IDFRA
        return MRVB if lines[0][0] == "V" else TD2
    return next((form for form in (TD1, DLCHE) if form.lengths == lengths), None)


def number_check(form: Format, lines: Sequence[str]) -> tuple[Check, Span]:
    """The check digit of the document number as it stands in these lines, and what is left of the optional data.

    A number longer than nine characters fills its field, has a filler where its check digit would be, and goes on at
    the start of the optional data, there followed by its check digit (part 5, section 4.2.2, note j; part 6 alike).
    """
    check = form.checks["number"]
    optional = form.fields["optional1"][0]
    if form.name in ("TD1", "TD2") and check.digit.of(lines) == "<" and not check.text(lines).endswith("<"):
        tail = optional.of(lines).split("<")[0]
        if len(tail) >= 2:
            end = optional.start + len(tail)
            over = (*check.over, Span(optional.line, optional.start, end - 1))
            return Check(Span(optional.line, end - 1, end), over), Span(optional.line, end, optional.stop)
    return check, optional
