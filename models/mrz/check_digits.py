"""Check digits of the machine readable zone (ICAO Doc 9303 part 3, section 4.9)."""

from __future__ import annotations

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ<"
"""Every character an MRZ may hold (ICAO Doc 9303 part 3, section 4.3)."""

VALUES = {character: index for index, character in enumerate(ALPHABET[:-1])} | {"<": 0}
"""Value of a character in a check digit: digits count as themselves, A is 10 … Z is 35, the filler is 0."""

WEIGHTS = (7, 3, 1)


def check_digit(text: str) -> str:
    """The check digit of `text`, as one character "0".."9".

    text holds only characters of `ALPHABET`; KeyError otherwise. Weights 7, 3, 1 repeat from the left, sum modulo 10.
    """
    return str(sum(VALUES[character] * WEIGHTS[index % 3] for index, character in enumerate(text)) % 10)


def matches(text: str, digit: str) -> bool:
    """Whether `digit` is the check digit of `text`; a filler stands for 0 only when all of `text` is filler.

    The exception is ICAO Doc 9303 part 4, section 4.2.2.2 (optional data unused), position 43 of TD3.
    """
    if digit == "<":
        return not text.strip("<")
    return digit == check_digit(text)
