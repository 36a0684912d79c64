"""Parses the text in the barcode of a North American driver licence or identity card.

Follows the AAMVA DL/ID Card Design Standard, annex D (2020), "Mandatory PDF417 Bar Code", and its older versions back
to 2000: header `@ LF RS CR ANSI␣`, issuer, versions, designators of the subfiles, then the subfiles with their
three-letter elements. It parses structure and meaning only. `models.fields.consistency` compares the holder with the
front; `models.barcode.symbols` reads the barcode from the image.

Cards in circulation have wrong offsets, wrong lengths and missing separators. So offsets are checked and never trusted:
each disagreement is listed in `damage`, and the elements are still read. AamvaError is raised only when no element can
be attributed.

    VeridaskError
    └── AamvaError      the payload is not AAMVA text, or is too broken to attribute its elements
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from models.errors import VeridaskError

PROVINCES = frozenset(["AB", "BC", "MB", "NB", "NL", "NS", "NT", "NU", "ON", "PE", "QC", "SK", "YT"])
"""Canadian jurisdictions; every other two-letter jurisdiction of the standard is of the United States."""

_HEADER = re.compile(r"@(?P<separators>[\n\r\x1e\x1c ]{0,4})(?P<type>ANSI |AAMVA)(?P<issuer>\d{6})(?P<version>\d\d)")
_DESIGNATOR = re.compile(r"([A-Z]{2})(\d{4})(\d{4})")
_ELEMENT = re.compile(r"[A-Z]{3}")
_DOCUMENT_SUBFILES = ("DL", "ID", "EN")
_SEX: Mapping[str, Literal["M", "F", "X"]] = {"1": "M", "M": "M", "2": "F", "F": "F", "9": "X", "X": "X"}


class AamvaError(VeridaskError):
    """The payload is no AAMVA text, or too broken to attribute its elements."""

    code = "barcode_malformed"


@dataclass(frozen=True)
class Designator:
    """One entry of the header: subfile type (`DL`, `ID`, `EN`, `Z?`), offset and length in bytes as written there."""

    kind: str
    offset: int
    length: int


@dataclass(frozen=True)
class AamvaDocument:
    """A payload, read.

    issuer_id: issuer identification number. elements: raw values by element of all subfiles, spaces kept. damage: where
    the structure departs from the standard, in words; empty for a conforming payload. Of the named fields, None is
    absent, unreadable or "unavailable"; surname, given and middle may be cut short when `truncated`.
    """

    issuer_id: int
    version: int
    jurisdiction_version: int
    designators: tuple[Designator, ...]
    elements: Mapping[str, str]
    damage: tuple[str, ...]
    surname: str | None
    given: str | None
    middle: str | None
    truncated: bool
    number: str | None
    birth_date: date | None
    expiry_date: date | None
    issue_date: date | None
    sex: Literal["M", "F", "X"] | None
    state: str | None
    country: str | None


def parse(payload: bytes) -> AamvaDocument:
    """Read a payload as `models.barcode.symbols` returns it.

    Raises AamvaError when it is not AAMVA, the header or its designators are incomplete, no subfile is announced, none
    of them is a document (DL, ID, EN), or the elements do not start where they must.
    """
    text = payload.decode("latin-1")
    header = _HEADER.match(text)
    if header is None:
        raise AamvaError("not an AAMVA header: '@', separators, 'ANSI ', issuer and version are wanted")
    version = int(header["version"])
    # The standard of 2000 (version 1, and 0 in use before it) has no jurisdiction version.
    width = 2 if version >= 2 else 0
    numbers = text[header.end() : header.end() + width + 2]
    if len(numbers) != width + 2 or not (numbers.isascii() and numbers.isdigit()):
        raise AamvaError("header too short")
    entries = int(numbers[width:])
    if entries == 0:
        raise AamvaError("no subfile announced")
    damage = [] if header["separators"] == "\n\x1e\r" else ["separators of the header"]
    designators, start = _designators(text, header.end() + width + 2, entries)
    elements = _elements(text, start, designators, damage)
    return AamvaDocument(
        issuer_id=int(header["issuer"]),
        version=version,
        jurisdiction_version=int(numbers[:width] or 0),
        designators=designators,
        elements=elements,
        damage=tuple(damage),
        **_meaning(elements),  # type: ignore[arg-type]
    )


def parse_date(value: str) -> date | None:
    """A date of eight digits, or None.

    The United States write MMDDCCYY, Canada and version 1 CCYYMMDD, and some Canadian cards MMDDCCYY as well. The first
    two digits settle it: 01..12 is a month, 19..21 a century.
    """
    digits = value.strip()
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        return None
    year_first = digits[:2] in ("19", "20", "21")
    year, month, day = (digits[:4], digits[4:6], digits[6:]) if year_first else (digits[4:], digits[:2], digits[2:4])
    if year[:2] not in ("19", "20", "21"):
        return None
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _designators(text: str, start: int, entries: int) -> tuple[tuple[Designator, ...], int]:
    """The announced subfiles and where the header ends."""
    found: list[Designator] = []
    for _ in range(entries):
        match = _DESIGNATOR.match(text, start)
        if match is None:
            raise AamvaError(f"{entries} subfiles announced, {len(found)} designators readable")
        found.append(Designator(match[1], int(match[2]), int(match[3])))
        start = match.end()
    if not any(d.kind in _DOCUMENT_SUBFILES for d in found):
        raise AamvaError("no subfile of a driver licence or identity card")
    return tuple(found), start


def _elements(text: str, start: int, designators: tuple[Designator, ...], damage: list[str]) -> dict[str, str]:
    """All elements; `damage` gains what is wrong with subfile types, offsets and lengths."""
    for d in designators:
        end = d.offset + d.length
        if text[d.offset : d.offset + 2] != d.kind or end > len(text) or text[end - 1 : end] != "\r":
            damage.append(f"offset or length of subfile {d.kind}")
    kinds = tuple(d.kind for d in designators)
    elements: dict[str, str] = {}
    for index, segment in enumerate(s for s in text[start:].split("\r") if s.strip("\n\x1e ")):
        lines = [line for line in segment.split("\n") if line]
        kind, first = lines[0][:2], lines[0][2:]
        # Elements of a jurisdiction's subfile begin with its type (`ZV` + `ZVA…`); those of a document never do.
        if kind in kinds and (kind in _DOCUMENT_SUBFILES or first.startswith(kind)):
            lines[0] = first
        elif index == 0 and not _ELEMENT.match(lines[0]):
            raise AamvaError("subfile type missing")
        else:
            damage.append("subfile type missing")
        for line in lines:
            if _ELEMENT.match(line):
                # Damaged payloads repeat elements in a subfile that is not theirs; the document's come first.
                elements.setdefault(line[:3], line[3:])
            elif line:
                damage.append("line that is no element")
    if not elements:
        raise AamvaError("no element")
    return elements


def _meaning(elements: Mapping[str, str]) -> dict[str, object]:
    """The named fields of AamvaDocument."""

    def text(*names: str) -> str | None:
        values = (" ".join(elements.get(name, "").split()).strip(" ,") for name in names)
        return next((v for v in values if v and v.upper() not in ("NONE", "UNAVL", "UNAVAIL")), None)

    surname, given, middle = text("DCS", "DAB"), text("DAC"), text("DAD")
    if surname is None and (whole := text("DAA")):  # version 1: SURNAME,GIVEN,MIDDLE
        surname, given, middle = _split(whole, 3)
    if given is None and (names := text("DCT")):  # versions 2 and 3: all given names in one element
        given, middle, _ = _split(names, 2)
    state = text("DAJ", "DAO")
    country = text("DCG")
    if country not in ("USA", "CAN") and state is not None and len(state) == 2:
        country = "CAN" if state.upper() in PROVINCES else "USA"
    return {
        "surname": surname,
        "given": given,
        "middle": middle,
        "truncated": any(elements.get(name, "").strip() == "T" for name in ("DDE", "DDF", "DDG")),
        "number": text("DAQ"),
        "birth_date": parse_date(elements.get("DBB", "")),
        "expiry_date": parse_date(elements.get("DBA", "")),
        "issue_date": parse_date(elements.get("DBD", "")),
        "sex": _SEX.get(elements.get("DBC", "").strip().upper()),
        "state": state,
        "country": country,
    }


def _split(value: str, parts: int) -> tuple[str | None, str | None, str | None]:
    """Names between commas: the first `parts - 1`, then the rest as one; None for each that is empty."""
    pieces = [p.strip() for p in value.split(",", parts - 1)]
    pieces[-1] = " ".join(pieces[-1].replace(",", " ").split())
    first, second, third = ([p or None for p in pieces] + [None, None])[:3]
    return first, second, third
