"""Searches for the likeliest names and state codes that obey their grammar: no check digit covers these fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.mrz.check_digits import ALPHABET
from models.mrz.countries import CODES

Float = npt.NDArray[np.float32]

_LETTERS = slice(10, 36)  # of ALPHABET
_FILLER = 36
_UNKNOWN_STATE = -4.0
"""Log prior of a code that is in no table: specimens and new states have them, yet a misread letter is likelier."""

_NEXT: tuple[tuple[int, ...], ...] = ((0, 1), (0, 2), (3, 5), (3, 4), (3, 5), (5,))
"""Part 3, section 4.6: 0 surname, 1 one filler, 2 the second filler, 3 given names, 4 one filler, 5 only filler."""
_IS_LETTER = (True, False, False, True, False, False)


def _columns(codes: Sequence[str]) -> npt.NDArray[np.intp]:
    return np.array([[ALPHABET.index(character) for character in code] for code in codes], np.intp)


_STATES = tuple(sorted(code.ljust(3, "<") for code in CODES))
_STATE_COLUMNS = _columns(_STATES)


def best_name(rows: Float) -> tuple[str, float]:
    """The likeliest name field, and its log probability. rows: float32 (N, 37), log probabilities over `ALPHABET`.

    Components are parted by one filler, surname and given names by two; after a second pair nothing may follow, so a
    filler misread as K in the tail does not become a name.
    """
    letter, filler = rows[:, _LETTERS].max(axis=1), rows[:, _FILLER]
    length, states = len(rows), len(_NEXT)
    score = np.full((length, states), -np.inf)
    came = np.zeros((length, states), np.intp)
    score[0, 0], score[0, 1] = letter[0], filler[0]
    for i in range(1, length):
        for state, following in enumerate(_NEXT):
            for target in following:
                value = score[i - 1, state] + (letter[i] if _IS_LETTER[target] else filler[i])
                if value > score[i, target]:
                    score[i, target], came[i, target] = value, state
    state = int(score[-1].argmax())
    total = float(score[-1, state])
    text = []
    for i in range(length - 1, -1, -1):
        text.append(ALPHABET[10 + int(rows[i, _LETTERS].argmax())] if _IS_LETTER[state] else "<")
        state = int(came[i, state])
    return "".join(reversed(text)), total


def best_state(rows: Float) -> tuple[str, float, float]:
    """The likeliest state code with its fillers, its log probability, and its certainty 0..1 against all others.

    rows: float32 (3, 37). A code in no table, or none at all, must be much likelier than those in the tables.
    """
    spelled = "".join(ALPHABET[10 + int(row[_LETTERS].argmax())] for row in rows)
    others = {spelled, spelled[:2] + "<", spelled[0] + "<<", "<<<"} - set(_STATES)
    table = np.concatenate([_STATE_COLUMNS, _columns(sorted(others))])
    scores = rows[np.arange(3), table].sum(axis=1)
    scores[len(_STATES) :] += _UNKNOWN_STATE
    best = int(scores.argmax())
    text = "".join(ALPHABET[column] for column in table[best])
    return text, float(scores[best]), float(1 / np.exp(scores - scores[best]).sum())
