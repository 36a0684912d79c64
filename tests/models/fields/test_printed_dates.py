"""Dates as real cards print them, read and compared: any day, in every notation."""

from __future__ import annotations

from datetime import date

from hypothesis import assume, given
from hypothesis import strategies as st

from models.fields.match import match_birth, match_expiry
from models.fields.printed import Field, PrintedValue, find_dates

ENGLISH = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
FRENCH = ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre",
          "novembre", "décembre")  # fmt: skip
GERMAN = ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober",
          "November", "Dezember")  # fmt: skip
SPANISH = ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre",
           "noviembre", "diciembre")  # fmt: skip
PASSPORT = ("JAN/JAN", "FEB/FÉV", "MAR/MARS", "APR/AVR", "MAY/MAI", "JUN/JUIN", "JUL/JUIL", "AUG/AOÛT",
            "SEP/SEPT", "OCT/OCT", "NOV/NOV", "DEC/DÉC")  # fmt: skip

NUMBERS = ("{d:02}.{m:02}.{y}", "{d:02} {m:02} {y}", "{d:02}/{m:02}/{y}", "{d:02}-{m:02}-{y}", "{d}.{m}.{y}",
           "{d:02}. {m:02}. {y}", "{d:02} / {m:02} / {y}", "{m:02}/{d:02}/{y}", "{m:02}-{d:02}-{y}",
           "{d:02}.{m:02}.{yy:02}", "{d:02}/{m:02}/{yy:02}", "{d:02} {m:02} {yy:02}", "{m:02}/{d:02}/{yy:02}",
           "{d:02}{m:02}{y}",
           "{m:02}{d:02}{y}")  # fmt: skip
"""Of which day and month cannot always be told apart."""
PLAIN = ("{y}-{m:02}-{d:02}", "{y}.{m:02}.{d:02}", "{y}/{m:02}/{d:02}", "{y} {m:02} {d:02}", "{d:02} {short} {y}",
         "{d:02}{short}{y}", "{d:02}-{short}-{y}", "{short} {d:02}, {y}", "{d} {english} {y}", "{english} {d}, {y}",
         "{d}. {german} {y}", "{d:02} {french} {y}", "{d} de {spanish} de {y}", "{d:02} {passport} {y}",
         "{d:02} {both} {y}")  # fmt: skip
"""Of which there is one meaning."""
SHORT = ("{d:02} {short} {yy:02}", "{d:02} {passport} {yy:02}")
"""With the century left open."""

days = st.dates(date(1930, 1, 1), date(2049, 12, 31))
cases = st.sampled_from([str.upper, str.title, str])


def written(day: date, notation: str) -> str:
    month = day.month - 1
    return notation.format(
        d=day.day,
        m=day.month,
        y=day.year,
        yy=day.year % 100,
        short=ENGLISH[month][:3].upper(),
        english=ENGLISH[month],
        french=FRENCH[month],
        german=GERMAN[month],
        spanish=SPANISH[month],
        passport=PASSPORT[month],
        both=f"{ENGLISH[month]}/{FRENCH[month]}",
    )


@given(days, st.sampled_from([*NUMBERS, *PLAIN, *SHORT]), st.sampled_from(["", "Born ", "a) "]))
def test_every_day_is_found_in_every_notation(day: date, notation: str, before: str) -> None:
    assert any(day in found.days for found in find_dates(before + written(day, notation)))


@given(days, st.sampled_from(PLAIN))
def test_a_plain_notation_means_one_day(day: date, notation: str) -> None:
    found = find_dates(written(day, notation).upper())
    assert {one for printed in found for one in printed.days} == {day}


@given(days, st.sampled_from(SHORT))
def test_only_the_century_is_open(day: date, notation: str) -> None:
    found = {one for printed in find_dates(written(day, notation)) for one in printed.days}
    assert {(one.month, one.day, one.year % 100) for one in found} == {(day.month, day.day, day.year % 100)}


def printed(text: str, field: Field) -> list[PrintedValue]:
    return [PrintedValue(text, field, 0.99, find_dates(text))]


@given(days, days, st.sampled_from([*NUMBERS, *PLAIN, *SHORT]))
def test_at_its_label_a_day_agrees_and_another_contradicts(day: date, other: date, notation: str) -> None:
    """Another one means another in all that it can mean: 03/04 never contradicts 04/03."""
    text = written(day, notation)
    expected = day.strftime("%y%m%d")
    assert match_birth(expected, printed(text, "birth_date"), expiry_date="").agrees == "yes"
    assert match_expiry(expected, printed(text, "expiry_date")).agrees == "yes"
    meanings = {one.strftime("%y%m%d") for found in find_dates(text) for one in found.days}
    assume(other.strftime("%y%m%d") not in meanings)
    assert match_expiry(other.strftime("%y%m%d"), printed(text, "expiry_date")).agrees == "no"


@given(st.integers(1, 12), st.integers(1, 12))
def test_day_and_month_exchanged_contradict_nothing(a: int, b: int) -> None:
    """US cards print the month first, others the day: a card does not say which."""
    for text in (f"{a:02}/{b:02}/1988", f"{b:02}/{a:02}/1988"):
        assert match_birth(f"88{a:02}{b:02}", printed(text, "birth_date"), expiry_date="").agrees == "yes"


@given(
    st.integers(1, 31), st.sampled_from(["SMITH", "ROAD", "MARIA", "MAYOR", "AUGUSTA", "STREET"]), st.integers(1, 99)
)
def test_addresses_and_names_are_no_dates(number: int, word: str, other: int) -> None:
    assert find_dates(f"{number} {word} {other:02}") == ()
    assert find_dates(f"{word} {number}, 19{other:02}") == ()
