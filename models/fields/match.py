"""Compares one field with the printed values of a front: found, contradicted, or neither.

A contradiction needs a *different* value that was read with confidence and that stands at the field's label or can
belong to no other field. A value that recognition missed or misread is "unknown". `models.fields.consistency` chooses
which fields are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from models.fields.printed import Field, PrintedValue, edit_distance, letters

Agreement = Literal["yes", "no", "unknown"]

SURE = 0.9
"""Least recogniser score of a line that may contradict. With it no field of 210 was contradicted on genuine filmed
specimens that were blurred by 2 to 4.5 pixels more (20 of them were unknown)."""

_LONGEST_VALIDITY_YEARS = 15
"""A document is issued at most so long before it expires, so an older date on it is a date of birth."""

_AMBIGUOUS = str.maketrans("OQDIBSZL", "00018521")
"""Characters that print alike; folded on both sides before numbers are compared."""

_SEXES = {
    "M": "M", "MALE": "M", "MASCULIN": "M", "MASCULINO": "M", "MAENNLICH": "M", "MM": "M", "F": "F", "FEMALE": "F",
    "FEMININ": "F", "FEMENINO": "F", "FEMININO": "F", "WEIBLICH": "F", "FF": "F", "X": "X",
}  # fmt: skip


@dataclass(frozen=True)
class Match:
    """distance: characters that differ between the expected value and `seen`, the nearest printed one."""

    agrees: Agreement
    distance: int | None
    seen: str | None


def _candidates(field: Field, values: Sequence[PrintedValue]) -> list[PrintedValue]:
    """Values that may be the field's: with its label or with none."""
    return [v for v in values if v.field in (field, None)]


def _labelled(field: Field, values: Sequence[PrintedValue]) -> list[PrintedValue]:
    """Values with the field's label, confidently read."""
    return [v for v in values if v.field == field and v.score >= SURE]


def match_name(field: Field, expected: str, values: Sequence[PrintedValue], *, cut: bool) -> Match:
    """One difference in eight characters is allowed. A third of the characters, and two at least, must differ under
    the field's own label for a contradiction: recognition of a short name may fail in one character.
    """
    whole = letters(expected)
    texts = [v.text for v in _candidates(field, values)]
    own = [v.text for v in values if v.field == field]
    texts += [" ".join(own)] if len(own) > 1 else []  # names that continue on a second line
    best = min(((_best_span(whole, text, cut), text) for text in texts), default=None)
    parts = [letters(part) for part in expected.split()]
    if best is None or best[0] > len(whole) // 8:
        # Each name for itself, wherever it stands: lines of names may be broken or out of order.
        scattered = [min((_best_span(part, text, cut) for text in texts), default=len(part)) for part in parts]
        if texts and all(d <= len(part) // 8 for d, part in zip(scattered, parts, strict=True)):
            return Match("yes", sum(scattered), " ".join(own) or None)
    if best is None:
        return Match("unknown", None, None)
    if best[0] <= len(whole) // 8:
        return Match("yes", best[0], best[1])
    sure = [v.text for v in _labelled(field, values)]
    other = min(((_best_span(whole, text, cut), text) for text in [*sure, " ".join(sure)] if text), default=None)
    if other is not None and other[0] >= max(2, -(-len(whole) // 3)):
        return Match("no", other[0], other[1])
    return Match("unknown", best[0], best[1])


def _best_span(name: str, text: str, cut: bool) -> int:
    """Least distance between a name and consecutive words of a text; of a cut name, to the words' beginning."""
    words = [letters(word) for word in re.split(r"[^\w]+", text)]
    words = [word for word in words if word]
    best = len(name)
    for start in range(len(words)):
        span = ""
        for word in words[start:]:
            span += word
            best = min(best, name_distance(name, span[: len(name)] if cut else span))
            if len(span) > 2 * len(name):
                break
    return best


def name_distance(a: str, b: str) -> int:
    """Edit distance; Ä printed may be AE or A in a zone, and the dots may be lost in recognition, so the less of the
    distances with and without the second letter.
    """
    return min(edit_distance(a, b), edit_distance(_plain(a), _plain(b)))


def _plain(name: str) -> str:
    return re.sub("(?<=[AOU])E|(?<=A)A|(?<=S)S", "", name)


def match_number(expected: str, values: Sequence[PrintedValue]) -> Match:
    """Equal but for characters that print alike. A contradiction is another number under the label, or, without one,
    a number of the same length that differs in one or two characters.
    """
    wanted = letters(expected).translate(_AMBIGUOUS)
    seen = [
        (edit_distance(wanted, folded), v)
        for v in _candidates("document_number", values)
        for folded in _number_tokens(v.text)
    ]
    if not seen:
        return Match("unknown", None, None)
    distance, best = min(seen, key=lambda s: s[0])
    if distance == 0:
        return Match("yes", 0, best.text)
    for found, v in sorted(seen, key=lambda s: s[0]):
        near = found <= 2 and any(len(t) == len(wanted) for t in _number_tokens(v.text))
        whole = letters(v.text)
        own = v.field == "document_number" and len(whole) >= 5 and sum(c.isdigit() for c in whole) * 2 >= len(whole)
        if v.score >= SURE and (near or own) and not (v.dates and v.dates[0].separated):
            return Match("no", found, v.text)
    return Match("unknown", distance, best.text)


def _number_tokens(text: str) -> set[str]:
    """The words of a line and all of them as one, folded: numbers are printed with and without spaces."""
    return {letters(word).translate(_AMBIGUOUS) for word in [*text.split(), text]} - {""}


def match_birth(expected: str, values: Sequence[PrintedValue], *, expiry_date: str) -> Match:
    """A date of birth, YYMMDD. expiry_date: YYMMDD or empty; it tells which unlabelled dates are too old for an issue
    of the document.
    """

    def is_birth(day: date) -> bool:
        return bool(expiry_date) and 2000 + int(expiry_date[:2]) - day.year > _LONGEST_VALIDITY_YEARS

    return _day("birth_date", expected, values, is_birth)


def match_expiry(expected: str, values: Sequence[PrintedValue]) -> Match:
    """A date of expiry, YYMMDD: an unlabelled date past it can be neither of birth nor of issue."""
    return _day("expiry_date", expected, values, lambda day: day.strftime("%Y%m%d") > "20" + expected)


def _day(field: Field, expected: str, values: Sequence[PrintedValue], is_of_field: Callable[[date], bool]) -> Match:
    """Found in any notation, or contradicted: by another date at the field's label, or by an unlabelled date that in
    all its meanings can only be this field's (`is_of_field`).
    """
    best: tuple[int, str] | None = None
    for v in _candidates(field, values):
        for printed in v.dates:
            distance = min(edit_distance(expected, d.strftime("%y%m%d")) for d in printed.days)
            if distance == 0:
                return Match("yes", 0, v.text)
            best = min(best or (distance, v.text), (distance, v.text))
    for v in values:
        for printed in v.dates:
            only = v.field is None and printed.separated and all(is_of_field(d) for d in printed.days)
            if v.score >= SURE and (v.field == field or only):
                distance = min(edit_distance(expected, d.strftime("%y%m%d")) for d in printed.days)
                return Match("no", distance, v.text)
    return Match("unknown", best[0] if best else None, best[1] if best else None)


def match_sex(expected: str, values: Sequence[PrintedValue]) -> Match:
    """By its label, or a letter that stands alone."""
    for v in values:
        if v.field == "sex" and (shown := _SEXES.get(letters(v.text))):
            if shown == expected:
                return Match("yes", 0, v.text)
            if v.score >= SURE:
                return Match("no", 1, v.text)
    alone = [v for v in values if v.field is None and _SEXES.get(letters(v.text)) == expected]
    return Match("yes", 0, alone[0].text) if alone else Match("unknown", None, None)


def match_nationality(expected: str, values: Sequence[PrintedValue]) -> Match:
    """By its label: the code, or a word that begins with it; anywhere else only the code. A contradiction is another
    code of three letters under the label: names of countries and peoples are not translated here.
    """
    labelled = [v for v in values if v.field == "nationality"]
    for v in labelled:
        if letters(v.text).startswith(expected):
            return Match("yes", 0, v.text)
    for v in labelled:
        shown = letters(v.text)
        if v.score >= SURE and re.fullmatch("[A-Z]{3}", shown) and len(expected) == 3:
            return Match("no", edit_distance(expected, shown), v.text)
    for v in _candidates("nationality", values):
        if expected in (letters(word) for word in v.text.split()):
            return Match("yes", 0, v.text)
    return Match("unknown", None, None)
