"""Finds the likeliest machine readable zone that obeys its format: characters weighed against check digits and grammar.

Returns the best reading and its certainty. The search is exact within the alternatives given. For each field with a
check digit, dynamic programming over the sum modulo 10 finds the best strings whose check digit is correct; they are
combined under the composite check digit in the same way. `models.mrz.repair` decides whether to accept the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.mrz import dates
from models.mrz.check_digits import ALPHABET, VALUES, WEIGHTS
from models.mrz.formats import DIGITS, Check, Format, Span
from models.mrz.grammar import best_name, best_state

Float = npt.NDArray[np.float32]
Candidate = tuple[float, str]
"""Log probability and text."""

_KEPT = 6  # candidates kept for each sum modulo 10
_DEPTH = 9.0  # alternatives less likely than the best by more than this (log) are not considered
_INDEX = {character: index for index, character in enumerate(ALPHABET)}


@dataclass(frozen=True)
class Solution:
    """lines: obey the format and every check digit. score: log probability. certainty: 0..1, the probability of the
    checked fields against every other filling that the check digits allow. weakest: 0..1, the least probability of a
    character that no check digit covers, against what else may stand there.
    """

    lines: tuple[str, ...]
    score: float
    certainty: float
    weakest: float


@dataclass(frozen=True)
class _Group:
    """Candidates for the characters of some spans, in their order."""

    spans: tuple[Span, ...]
    candidates: list[Candidate]


def solve(form: Format, evidence: Sequence[Float]) -> Solution | None:
    """The best reading in format `form`; None when no filling near the evidence obeys the check digits.

    evidence: one float32 (length, 37) of log probabilities over `ALPHABET` for each line of the format.
    """
    found: list[tuple[float, Format, dict[Span, str]]] = []
    for layout in _layouts(form, evidence):
        found += [(score, layout, texts) for score, texts in _checked(layout, evidence)]
    if not found:
        return None
    score, layout, texts = max(found, key=lambda item: item[0])
    certainty = 1 / sum(float(np.exp(other - score)) for other, _, _ in found)
    return _filled(layout, evidence, texts, score, certainty)


def as_read(form: Format, evidence: Sequence[Float]) -> Solution:
    """The likeliest reading in which every field is of its kind, whatever the check digits say; its certainty is 0."""
    texts: dict[Span, str] = {}
    total = 0.0
    for check in form.checks.values():
        texts[check.digit], score, _ = _unchecked(form, evidence, "check", check.digit)
        total += score
    return _filled(form, evidence, texts, total, 0.0)


def _filled(
    form: Format, evidence: Sequence[Float], texts: Mapping[Span, str], score: float, certainty: float
) -> Solution:
    """Whole lines: `texts` where they stand, elsewhere the likeliest field of each kind."""
    done, weakest = dict(texts), 1.0
    for span, kind in form.fields.values():
        if not any(span.line == other.line and other.start <= span.start < other.stop for other in texts):
            done[span], gain, certain = _unchecked(form, evidence, kind, span)
            score += gain
            weakest = min(weakest, certain)
    lines = [["<"] * length for length in form.lengths]
    for span, text in done.items():
        lines[span.line][span.start : span.stop] = text
    return Solution(tuple("".join(line) for line in lines), score, certainty, weakest)


def _layouts(form: Format, evidence: Sequence[Float]) -> list[Format]:
    """The format as it is, and with a document number that continues in the optional data, where that may be."""
    if form.name not in ("TD1", "TD2"):
        return [form]
    check, (optional, kind) = form.checks["number"], form.fields["optional1"]
    line, position = check.digit.line, check.digit.start
    if evidence[line][position, _INDEX["<"]] < evidence[line][position].max() - _DEPTH:
        return [form]
    read = "".join(ALPHABET[i] for i in evidence[optional.line][optional.start : optional.stop].argmax(axis=1))
    end = optional.start + len(read.split("<")[0])
    if end - optional.start < 2:
        return [form]
    tail = Span(optional.line, optional.start, end - 1)
    number = Check(Span(optional.line, end - 1, end), (*check.over, tail))
    fields = {**form.fields, "number_tail": (tail, kind), "optional1": (Span(optional.line, end, optional.stop), kind)}
    return [form, replace(form, fields=fields, checks={**form.checks, "number": number})]


def _alternatives(form: Format, evidence: Sequence[Float], span: Span) -> list[list[Candidate]]:
    """For each position of a span, the characters that may stand there, the likeliest first."""
    out = []
    for position in range(span.start, span.stop):
        row = evidence[span.line][position]
        ranked = sorted(((float(row[_INDEX[c]]), c) for c in form.alphabet(span.line, position)), reverse=True)
        out.append([item for item in ranked if item[0] > ranked[0][0] - _DEPTH])
    return out


def _best_by_sum(alternatives: Iterable[list[Candidate]]) -> list[list[Candidate]]:
    """For each check digit 0..9, the best strings that have it."""
    table: list[list[Candidate]] = [[(0.0, "")], *([] for _ in range(9))]
    for place, choices in enumerate(alternatives):
        grown: list[list[Candidate]] = [[] for _ in range(10)]
        for total, kept in enumerate(table):
            for score, character in choices:
                cell = grown[(total + VALUES[character] * WEIGHTS[place % 3]) % 10]
                cell += [(before + score, text + character) for before, text in kept]
        table = [sorted(cell, reverse=True)[:_KEPT] for cell in grown]
    return table


def _sealed(form: Format, evidence: Sequence[Float], name: str) -> _Group:
    """The best fillings of a field together with its check digit."""
    check = form.checks[name]
    line, position = check.digit.line, check.digit.start
    table = _best_by_sum([choices for span in check.over for choices in _alternatives(form, evidence, span)])
    found = [
        (score + float(evidence[line][position, total]), text + DIGITS[total])
        for total, cell in enumerate(table)
        for score, text in cell
    ]
    if name in ("birth", "expiry"):
        found = [item for item in found if dates.plausible(item[1][:-1])]
    if name == "number" and len(check.over) > 1:  # what continues has no fillers
        found = [item for item in found if "<" not in item[1]]
    if name == "optional":  # unused: the check digit may be a filler as well
        span = check.over[0]
        empty = float(evidence[span.line][span.start : span.stop + 1, _INDEX["<"]].sum())
        found.append((empty, "<" * (span.stop - span.start + 1)))
    return _Group((*check.over, check.digit), _nearest(found))


def _plain(form: Format, evidence: Sequence[Float], span: Span, kind: str) -> _Group:
    """The best fillings of a field that only the composite check digit covers."""
    if kind == "name":
        text, score = best_name(evidence[span.line][span.start : span.stop])
        return _Group((span,), [(score, text)])
    cells = _best_by_sum(_alternatives(form, evidence, span))
    return _Group((span,), _nearest([item for cell in cells for item in cell]))


def _nearest(candidates: list[Candidate]) -> list[Candidate]:
    best = max((score for score, _ in candidates), default=0.0)
    return sorted((item for item in candidates if item[0] > best - 2 * _DEPTH), reverse=True)[: 4 * _KEPT]


def _checked(form: Format, evidence: Sequence[Float]) -> list[tuple[float, dict[Span, str]]]:
    """The best fillings of everything that a check digit covers."""
    groups = [_sealed(form, evidence, name) for name in form.checks if name != "composite"]
    composite = form.checks.get("composite")
    if composite is None:
        tables: list[list[tuple[float, tuple[str, ...]]]] = [[(0.0, ())]]
        weights: Mapping[tuple[int, int], int] = {}
    else:
        places = [(span.line, i) for span in composite.over for i in range(span.start, span.stop)]
        weights = {place: WEIGHTS[index % 3] for index, place in enumerate(places)}
        done = {(span.line, i) for group in groups for span in group.spans for i in range(span.start, span.stop)}
        groups += [
            _plain(form, evidence, span, kind)
            for span, kind in form.fields.values()
            if (span.line, span.start) in weights and (span.line, span.start) not in done and span.start < span.stop
        ]
        tables = [[(0.0, ())], *([] for _ in range(9))]
    for group in groups:
        tables = _combine(tables, group, weights)
    found = []
    for total, cell in enumerate(tables):
        for score, chosen in cell:
            texts: dict[Span, str] = {}
            for group, text in zip(groups, chosen, strict=True):
                for span in group.spans:
                    texts[span], text = text[: span.stop - span.start], text[span.stop - span.start :]
            if composite is not None:
                texts[composite.digit] = DIGITS[total]
                score += float(evidence[composite.digit.line][composite.digit.start, total])
            found.append((score, texts))
    return found


def _combine(
    tables: list[list[tuple[float, tuple[str, ...]]]], group: _Group, weights: Mapping[tuple[int, int], int]
) -> list[list[tuple[float, tuple[str, ...]]]]:
    """Add a group to the fillings kept for each sum modulo 10 (all in one table when there is no composite)."""
    places = [weights.get((span.line, i), 0) for span in group.spans for i in range(span.start, span.stop)]
    grown: list[list[tuple[float, tuple[str, ...]]]] = [[] for _ in tables]
    for gain, text in group.candidates:
        added = sum(VALUES[character] * weight for character, weight in zip(text, places, strict=True))
        for total, cell in enumerate(tables):
            grown[(total + added) % len(tables)] += [(score + gain, (*chosen, text)) for score, chosen in cell]
    return [sorted(cell, reverse=True)[: 2 * _KEPT] for cell in grown]


def _unchecked(form: Format, evidence: Sequence[Float], kind: str, span: Span) -> tuple[str, float, float]:
    """A field that no check digit covers: text, log probability, and how certain its least certain character is."""
    rows = evidence[span.line][span.start : span.stop]
    if kind == "state" and form.name != "IDFRA":
        return best_state(rows)
    if kind == "name":
        text, score = best_name(rows)
    else:
        best = [choices[0] for choices in _alternatives(form, evidence, span)]
        text, score = "".join(character for _, character in best), sum(gain for gain, _ in best)
    certain = 1.0
    for index, character in enumerate(text):
        allowed = [_INDEX[c] for c in form.alphabet(span.line, span.start + index)]
        certain = min(
            certain, float(np.exp(rows[index, _INDEX[character]] - np.logaddexp.reduce(rows[index, allowed])))
        )
    return text, score, certain
