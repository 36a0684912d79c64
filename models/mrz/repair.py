"""Repairs a misread machine readable zone and decides whether to accept the result.

A repair is accepted only when it is certain: every check digit is correct, no other reading with correct check digits
is nearly as likely, the characters that no check digit covers were read clearly, and only few characters differ from
what was read. Every change is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from models.mrz.check_digits import ALPHABET
from models.mrz.countries import is_known
from models.mrz.formats import FORMATS, Format, format_of
from models.mrz.icao9303 import Mrz, parse
from models.mrz.search import Solution, as_read, solve

Float = npt.NDArray[np.float32]

_TWINS = ("0O", "1I", "2Z", "5S", "6G", "8B")
"""Characters that OCR-B itself draws almost alike."""

_SIMILAR = (
    "0ODQ", "0CU", "1ILTJ", "38B", "4A", "58S", "6BG", "7TYZ", "8SG", "9GP", "<CGK", "<EL", "<S", "CG", "EF", "FP",
    "HMN", "KX", "MW", "NW", "PR", "BR", "UVY", "UO", "XY", "VW",
)  # fmt: skip
"""Characters that blur, glare or low resolution turn into one another."""

_TWIN, _STRAY = 0.94, 0.02
"""Of the misreadings of a character, the shares that are its twin and that follow no similarity at all."""

MIN_CERTAINTY = 0.95
"""Of the filling of the checked fields, against all others that obey the check digits: a convention, one in twenty. Of
99 degraded copies of the development pictures (shrunk to 250 pixels, blurred, moved) it let one wrong one through: two
twins read wrong at once, BD as 80, which have the same check digit.
"""

MIN_WEAKEST = 0.8
"""For a character that no check digit covers: four times as likely as all else that may stand there. A convention."""

MAX_CHOSEN = 3
"""Characters changed for a check digit or for grammar. Three of the about forty that are covered: beyond that, a search
finds some filling for any text (each check digit lets one in ten through)."""

MAX_FORCED = 0.2
"""Share of characters that were read as something impossible at their place (a letter within a date). More: no MRZ."""


_LOG_DOUBT = float(np.log(0.01))
"""Log probability below which the reader did not consider a character at all. A check digit lets one wrong field in ten
pass, and a document number has several twins: swapping one that was read clearly would hide every third forgery."""


@dataclass(frozen=True)
class Repair:
    """One changed character. line, position: from 0. reason: "field" (what was read cannot stand there), "check" (a
    check digit wants it) or "grammar" (names and state codes). unchecked: no check digit covers this place.
    """

    line: int
    position: int
    read: str
    written: str
    reason: str
    unchecked: bool

    @property
    def is_twin(self) -> bool:
        """Whether OCR-B draws the two almost alike."""
        return any(self.read in pair and self.written in pair for pair in _TWINS)


@dataclass(frozen=True)
class Repaired:
    """mrz: the filling that obeys its format and check digits when it is accepted or "unclear"; else what was read,
    with only those characters changed that cannot stand at their place and were not clear.

    refusal: "" when accepted; "check_digits" (nothing near what was read obeys them), "ambiguous" (more than one
    filling does), "unclear" (a name or code was not read clearly, or the zone was misread as a whole),
    "too_many_changes". certainty: 0..1, the least of that of the check digits and that of the least clear character;
    0 when the mrz is as read.
    """

    mrz: Mrz
    repairs: tuple[Repair, ...]
    certainty: float
    accepted: bool
    refusal: str


def evidence_of_text(lines: Sequence[str], error_rate: float = 0.01) -> tuple[Float, ...]:
    """Evidence for `repair` from bare text of MRZ characters: each is right but for `error_rate`, 0..1.

    At the default, characters change only where they cannot stand; from 0.02 on also to satisfy a check digit.
    """
    rows = [
        np.eye(len(ALPHABET), dtype=np.float32)[[ALPHABET.index(character) for character in line]] for line in lines
    ]
    return tuple(soften(row, error_rate) for row in rows)


def soften(probabilities: Float, error_rate: float) -> Float:
    """Log probabilities (N, 37) of what is printed, given a reader's probabilities (N, 37) and how often it errs.

    A share `error_rate` goes to the characters that look like those that were read, so that none is impossible.
    """
    mixed = (1 - error_rate) * probabilities + error_rate * (probabilities @ _CONFUSION)
    return np.asarray(np.log(mixed), np.float32)


def repair(evidence: Sequence[Float]) -> Repaired | None:
    """The likeliest MRZ of any format with these lengths, repaired where need be; None when no format has them.

    evidence: for each line float32 (length, 37), log probabilities over `check_digits.ALPHABET`.
    """
    lengths = tuple(len(rows) for rows in evidence)
    forms = [form for form in FORMATS.values() if form.lengths == lengths and form.checks]
    if not forms:
        return None
    read = tuple("".join(ALPHABET[index] for index in rows.argmax(axis=1)) for rows in evidence)
    # which format it is, the first letter says and then the kinds of the fields, never the check digits: otherwise a
    # TD3 with a wrong one would pass as a visa, which has none over all
    first = max(float(evidence[0][0][ALPHABET.index(letter)]) for form in forms for letter in form.code)
    forms = [form for form in forms if any(evidence[0][0][ALPHABET.index(letter)] == first for letter in form.code)]
    unchecked = [(form, found) for form in forms if _is_of(form, found := as_read(form, evidence))]
    if not unchecked:
        return None
    form, plain = max(unchecked, key=lambda item: item[1].score)
    refusal = "check_digits"
    solution = solve(form, evidence)
    if solution is not None and _is_of(form, solution):
        repairs = _differences(form, read, solution.lines)
        refusal = _refusal(form, solution, repairs, evidence)
        if refusal in ("", "unclear"):
            certainty = min(solution.certainty, solution.weakest)
            return Repaired(parse(solution.lines), repairs, certainty, not refusal, refusal)
    lines = [list(line) for line in plain.lines]
    for change in _differences(form, read, plain.lines):
        if _is_clear(change, evidence) and not change.is_twin:
            lines[change.line][change.position] = change.read
    written = tuple("".join(line) for line in lines)
    mrz = parse(written)
    if refusal == "check_digits" and _misread_as_a_whole(form, mrz):
        refusal = "unclear"
    return Repaired(mrz, _differences(form, read, written), 0.0, False, refusal)


def _misread_as_a_whole(form: Format, mrz: Mrz) -> bool:
    """Whether the zone does not begin as its format does, or none of its check digits holds: a page's edge cut it off,
    for instance. A forger changes some; that nothing holds says that the reading is wrong, not the print.
    """
    return mrz.document_code[:1] not in form.code or not any(asdict(mrz.checks).values())


def _is_of(form: Format, solution: Solution) -> bool:
    return format_of(solution.lines) is form


def _refusal(form: Format, solution: Solution, repairs: Sequence[Repair], evidence: Sequence[Float]) -> str:
    chosen = [change for change in repairs if change.reason != "field"]
    if not parse(solution.lines).valid or any(_is_clear(change, evidence) for change in chosen):
        return "check_digits"
    forced = len(repairs) - len(chosen)
    if len(chosen) > MAX_CHOSEN or forced > MAX_FORCED * sum(len(rows) for rows in evidence):
        return "too_many_changes"
    if solution.certainty < MIN_CERTAINTY:
        return "ambiguous"
    guessed = any(change.unchecked and not change.is_twin and _is_clear(change, evidence) for change in repairs)
    guessed = guessed or any(_spells_no_state(form, change, solution.lines) for change in repairs)
    return "unclear" if guessed or solution.weakest < MIN_WEAKEST else ""


def _is_clear(change: Repair, evidence: Sequence[Float]) -> bool:
    """Whether the reader did not doubt what it read: then the print is wrong (an altered document), not the reading."""
    return float(evidence[change.line][change.position, ALPHABET.index(change.written)]) < _LOG_DOUBT


def _spells_no_state(form: Format, change: Repair, lines: Sequence[str]) -> bool:
    """Whether a change made a state code that is in no table: an 8 for a T would become a B, which nothing confirms."""
    spans = [span for span, kind in form.fields.values() if kind == "state"]
    return any(
        span.line == change.line and span.start <= change.position < span.stop and not is_known(span.of(lines))
        for span in spans
    )


def _differences(form: Format, read: Sequence[str], written: Sequence[str]) -> tuple[Repair, ...]:
    covered = {
        (span.line, position)
        for check in form.checks.values()
        for span in (*check.over, check.digit)
        for position in range(span.start, span.stop)
    }
    repairs = []
    for line, (before, after) in enumerate(zip(read, written, strict=True)):
        for position, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new:
                unchecked = (line, position) not in covered
                reason = "grammar" if unchecked else "check"
                if old not in form.alphabet(line, position):
                    reason = "field"
                repairs.append(Repair(line, position, old, new, reason, unchecked))
    return tuple(repairs)


def _confusion() -> Float:
    """Of the misreadings of each character (row), the shares that are each other character (column), (37, 37)."""
    size = len(ALPHABET)
    table = np.full((size, size), _STRAY / size, np.float32)
    for row, character in enumerate(ALPHABET):
        twins = {other for pair in _TWINS if character in pair for other in pair} - {character}
        similar = {other for group in _SIMILAR if character in group for other in group} - twins - {character}
        for others, share in ((twins, _TWIN), (similar, 1 - _STRAY - _TWIN if twins else 1 - _STRAY)):
            for other in others:
                table[row, ALPHABET.index(other)] += share / len(others)
    np.fill_diagonal(table, 0)
    return np.asarray(table / table.sum(axis=1, keepdims=True), np.float32)


_CONFUSION = _confusion()
