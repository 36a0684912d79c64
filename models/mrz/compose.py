"""Writes machine readable zones from fields: TD1, TD2 and TD3 (ICAO Doc 9303 parts 4, 5 and 6).

`models.mrz.icao9303.parse` reads them back.
"""

from __future__ import annotations

from datetime import date

from models.mrz.check_digits import check_digit
from models.mrz.names import compose_names, pad, transliterate


def compose_td1(
    document_code: str,
    issuer: str,
    document_number: str,
    birth_date: date,
    sex: str,
    expiry_date: date,
    nationality: str,
    surname: str,
    given_names: str,
    optional1: str = "",
    optional2: str = "",
) -> tuple[str, str, str]:
    """Three lines of 30 characters (part 5, section 4.2.2).

    document_code: one or two letters, first A, C or I. issuer, nationality: up to three letters. sex: "M", "F" or ""
    (unspecified). Names and optional data are transliterated; names are truncated to fit. A document number longer
    than nine characters continues in the first optional data. ValueError when something else does not fit.
    """
    number, rest = _number(document_number)
    upper = _head(document_code, "ACI", issuer) + number + _fitted(rest + transliterate(optional1), 15, "optional1")
    birth, expiry = _dated(birth_date), _dated(expiry_date)
    optional2 = _fitted(transliterate(optional2), 11, "optional2")
    composite = check_digit(upper[5:] + birth + expiry + optional2)
    middle = birth + _sex(sex) + expiry + _state(nationality) + optional2 + composite
    return upper, middle, compose_names(surname, given_names, 30)


def compose_td2(
    document_code: str,
    issuer: str,
    document_number: str,
    birth_date: date,
    sex: str,
    expiry_date: date,
    nationality: str,
    surname: str,
    given_names: str,
    optional1: str = "",
) -> tuple[str, str]:
    """Two lines of 36 characters (part 6, section 4.2.2); parameters as in `compose_td1`."""
    number, rest = _number(document_number)
    optional = _fitted(rest + transliterate(optional1), 7, "optional1")
    birth, expiry = _dated(birth_date), _dated(expiry_date)
    composite = check_digit(number + birth + expiry + optional)
    lower = number + _state(nationality) + birth + _sex(sex) + expiry + optional + composite
    return _head(document_code, "ACI", issuer) + compose_names(surname, given_names, 31), lower


def compose_td3(
    document_code: str,
    issuer: str,
    document_number: str,
    birth_date: date,
    sex: str,
    expiry_date: date,
    nationality: str,
    surname: str,
    given_names: str,
    optional1: str = "",
) -> tuple[str, str]:
    """Two lines of 44 characters (part 4, section 4.2.2); as `compose_td1`, but the first letter of the code is P.

    A number longer than nine characters does not fit a TD3 (ValueError).
    """
    number = _checked(_fitted(transliterate(document_number), 9, "document_number"))
    optional = _checked(_fitted(transliterate(optional1), 14, "optional1"))
    birth, expiry = _dated(birth_date), _dated(expiry_date)
    composite = check_digit(number + birth + expiry + optional)
    lower = number + _state(nationality) + birth + _sex(sex) + expiry + optional + composite
    return _head(document_code, "P", issuer) + compose_names(surname, given_names, 39), lower


def _head(document_code: str, first_letters: str, issuer: str) -> str:
    code = _letters(document_code, 2, "document_code")
    if code[0] not in first_letters:
        raise ValueError(f"document_code must begin with one of {first_letters}")
    return code + _state(issuer)


def _state(code: str) -> str:
    return _letters(code, 3, "state code")


def _letters(text: str, length: int, what: str) -> str:
    if not (1 <= len(text) <= length and text.isascii() and text.isalpha() and text.isupper()):
        raise ValueError(f"{what} must be 1 to {length} capital letters")
    return pad(text, length)


def _sex(sex: str) -> str:
    if sex not in ("M", "F", ""):
        raise ValueError('sex must be "M", "F" or "" (unspecified)')
    return sex or "<"


def _dated(day: date) -> str:
    return _checked(day.strftime("%y%m%d"))


def _checked(field: str) -> str:
    return field + check_digit(field)


def _fitted(text: str, length: int, what: str) -> str:
    if len(text) > length:
        raise ValueError(f"{what} is longer than {length} characters")
    return pad(text, length)


def _number(document_number: str) -> tuple[str, str]:
    """The number field with its check digit, and what continues in the optional data (part 5, 4.2.2, note j)."""
    number = transliterate(document_number).strip("<")
    if not number:
        raise ValueError("document_number is empty")
    if len(number) <= 9:
        return _checked(pad(number, 9)), ""
    if "<" in number:
        raise ValueError("a document number that continues in the optional data cannot hold a filler")
    return number[:9] + "<", number[9:] + check_digit(number) + "<"
