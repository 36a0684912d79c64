"""Parses dates of the machine readable zone. The year has two digits, so a reference date determines the century.

ICAO Doc 9303 part 3, section 4.8: YYMMDD, unknown parts are "<". The reference date is an argument, so all functions
are pure.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import date

_SHAPE = re.compile(r"(?:\d{6}|\d{4}<<|\d\d<<<<|<<<<<<)")


def plausible(text: str) -> bool:
    """Whether `text` may be a date: digits of a day in some century, or fillers for what is unknown from the right."""
    if not text.isascii() or not _SHAPE.fullmatch(text):
        return False
    month, day = text[2:4], text[4:6]
    if month == "<<":
        return True
    if not 1 <= int(month) <= 12:
        return False
    # a leap year in one century or the other: 29 February holds for every YY that 4 divides
    year = 2000 + int(text[:2])
    return day == "<<" or 1 <= int(day) <= calendar.monthrange(year, int(month))[1]


def birth_date(text: str, reference: date) -> date | None:
    """The day of birth: the latest century in which it is not after `reference`. None when unknown or no date."""
    return _latest(text, reference.year, lambda day: day <= reference)


def expiry_date(text: str, reference: date) -> date | None:
    """The day of expiry: the year from 50 before to 49 after that of `reference`. None when unknown or no date.

    Documents are issued for at most some tens of years, and expired ones are shown for less than fifty.
    """
    return _latest(text, reference.year + 49, lambda day: day.year <= reference.year + 49)


def _latest(text: str, last_year: int, allowed: Callable[[date], bool]) -> date | None:
    if not plausible(text) or "<" in text:
        return None
    century = last_year // 100 * 100
    for base in (century, century - 100):
        try:
            day = date(base + int(text[:2]), int(text[2:4]), int(text[4:6]))
        except ValueError:  # 29 February of a year such as 1900, or the year 0
            continue
        if allowed(day):
            return day
    return None
