"""Parsing and composing machine readable zones: ICAO's examples, properties, cases of other libraries' tests."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.mrz import dates
from models.mrz.check_digits import ALPHABET, check_digit, matches
from models.mrz.compose import compose_td1, compose_td2, compose_td3
from models.mrz.countries import is_known
from models.mrz.icao9303 import MrzFormatError, access_key_seed, parse
from models.mrz.names import compose_names, pad, split_names, transliterate
from models.mrz.repair import evidence_of_text, repair
from tests.support.places import SHARED_DATA

TD3 = ("P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10")
TD2 = ("I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6")
TD1 = ("I<UTOD231458907<<<<<<<<<<<<<<<", "7408122F1204159UTO<<<<<<<<<<<6", "ERIKSSON<<ANNA<MARIA<<<<<<<<<<")
LONG = ("I<UTOD23145890<7349<<<<<<<<<<<", "3407127M9507122UTO<<<<<<<<<<<2", "STEVENSON<<PETER<JOHN<<<<<<<<<")
LONG_TD2 = ("I<UTOSTEVENSON<<PETER<JOHN<<<<<<<<<<", "D23145890<UTO3407127M95071227349<<<8")
MRVA = ("V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<", "L8988901C4XXX4009078F96121096ZE184226B<<<<<<")
MRVB = ("V<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "L8988901C4XXX4009078F9612109<<<<<<<<")

DATA = SHARED_DATA / "mrz_text_conformance.json"


@pytest.mark.parametrize(
    ("lines", "form", "number", "optional"),
    [
        (TD3, "TD3", "L898902C3", "ZE184226B"),
        (TD2, "TD2", "D23145890", ""),
        (TD1, "TD1", "D23145890", ""),
        (MRVA, "MRVA", "L8988901C", "6ZE184226B"),
        (MRVB, "MRVB", "L8988901C", ""),
    ],
)
def test_icao_examples(lines: tuple[str, ...], form: str, number: str, optional: str) -> None:
    mrz = parse(lines)
    assert (mrz.format, mrz.document_number, mrz.optional1, mrz.valid) == (form, number, optional, True)
    assert (mrz.issuer, mrz.surname, mrz.given_names, mrz.sex) == ("UTO", "ERIKSSON", "ANNA MARIA", "F")


@pytest.mark.parametrize("lines", [LONG, LONG_TD2])
def test_long_document_number_continues_in_optional_data(lines: tuple[str, ...]) -> None:
    mrz = parse(lines)
    assert (mrz.document_number, mrz.optional1, mrz.valid) == ("D23145890734", "", True)
    assert access_key_seed(mrz) == "D23145890734934071279507122"


def test_access_keys_need_a_chip_document() -> None:
    with pytest.raises(ValueError, match="TD1, TD2 and TD3"):
        access_key_seed(parse(MRVA))


def test_french_identity_card() -> None:
    mrz = parse(("IDFRABERTHIER<<<<<<<<<<<<<<<<<<<<<<<", "9409923102854CORINNE<<<<<<<6512068F4"))
    assert (mrz.format, mrz.document_number, mrz.surname, mrz.given_names) == (
        "IDFRA", "940992310285", "BERTHIER", "CORINNE",
    )  # fmt: skip
    assert (mrz.birth_date, mrz.expiry_date, mrz.checks.expiry, mrz.valid) == ("651206", "", None, True)


@pytest.mark.parametrize(
    ("line", "position", "character", "check"),
    [
        (1, 9, "5", "number"),
        (1, 19, "3", "birth"),
        (1, 27, "8", "expiry"),
        (1, 42, "2", "optional"),
        (1, 43, "2", "composite"),
    ],
)
def test_each_check_digit_is_checked(line: int, position: int, character: str, check: str) -> None:
    lines = list(TD3)
    lines[line] = lines[line][:position] + character + lines[line][position + 1 :]
    mrz = parse(lines)
    assert getattr(mrz.checks, check) is False
    assert not mrz.valid


@pytest.mark.parametrize(
    ("lower", "problem"),
    [
        ("L898902C36UT07408122F1204159ZE184226B<<<<<10", "nationality"),
        ("L898902C36UTO7408122X1204159ZE184226B<<<<<10", "sex"),
        ("L898902C36UTO7413122F1204159ZE184226B<<<<<10", "birth_date"),
    ],
)
def test_fields_of_the_wrong_kind_are_problems(lower: str, problem: str) -> None:
    mrz = parse((TD3[0], lower))
    assert problem in mrz.problems
    assert not mrz.valid


@pytest.mark.parametrize("lines", [(), ("",), TD3[:1], (*TD3, TD3[1]), (TD3[0][:-1], TD3[1]), (TD3[0].lower(), TD3[1])])
def test_what_has_no_format_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(MrzFormatError):
        parse(lines)


@given(st.lists(st.text(max_size=50), max_size=4))
def test_parse_raises_only_its_error_on_any_text(lines: list[str]) -> None:
    try:
        parse(lines)
    except MrzFormatError:
        return
    raise AssertionError("arbitrary short text cannot be an MRZ")


@given(st.sampled_from([(30, 30, 30), (36, 36), (44, 44), (9, 30, 30)]), st.data())
def test_parse_takes_any_text_of_the_right_shape(lengths: tuple[int, ...], data: st.DataObject) -> None:
    lines = [data.draw(st.text(ALPHABET, min_size=length, max_size=length)) for length in lengths]
    assert parse(lines).lines == tuple(lines)


_days = st.dates(date(1930, 1, 1), date(2060, 12, 31))
_names = st.lists(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=6), min_size=1, max_size=2).map(" ".join)
_number = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=9)


@given(_number, _days, st.sampled_from(["M", "F", ""]), _days, _names, _names)
def test_composed_mrz_parses_to_the_same_fields(
    number: str, birth: date, sex: str, expiry: date, surname: str, given_names: str
) -> None:
    fields = ("UTO", number, birth, sex, expiry, "UTO", surname, given_names)
    for lines in (compose_td1("I", *fields), compose_td2("I", *fields), compose_td3("P", *fields)):
        mrz = parse(lines)
        assert mrz.valid
        assert (mrz.document_number, mrz.surname, mrz.given_names) == (number, surname, given_names)
        assert (mrz.birth_date, mrz.sex, mrz.expiry_date) == (f"{birth:%y%m%d}", sex or "<", f"{expiry:%y%m%d}")


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=10, max_size=13))
def test_composed_long_numbers_parse(number: str) -> None:
    day = date(1990, 2, 3)
    lines = compose_td1("I", "UTO", number, day, "F", day, "UTO", "A", "B", optional1="XY", optional2="Z1")
    mrz = parse(lines)
    assert (mrz.document_number, mrz.optional1, mrz.optional2, mrz.valid) == (number, "XY", "Z1", True)


@pytest.mark.parametrize(
    "wrong",
    [{"document_number": ""}, {"sex": "X"}, {"document_code": "P"}, {"issuer": "UTOP"}, {"optional2": "A" * 12}],
)
def test_compose_refuses_what_does_not_fit(wrong: dict[str, str]) -> None:
    day = date(1990, 2, 3)
    fields: dict[str, Any] = {
        "document_code": "I", "issuer": "UTO", "document_number": "A1", "birth_date": day, "sex": "F",
        "expiry_date": day, "nationality": "UTO", "surname": "A", "given_names": "B",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"."):
        compose_td1(**(fields | wrong))


def test_compose_writes_icao_examples() -> None:
    fields = ("UTO", "D23145890", date(1974, 8, 12), "F", date(2012, 4, 15), "UTO", "Eriksson", "Anna Maria")
    assert compose_td1("I", *fields) == TD1
    assert compose_td2("I", *fields) == TD2


@pytest.mark.parametrize(
    ("text", "born", "expires"),
    [
        ("740812", date(1974, 8, 12), date(2074, 8, 12)),
        ("260101", date(2026, 1, 1), date(2026, 1, 1)),
        ("261231", date(1926, 12, 31), date(2026, 12, 31)),
        ("950712", date(1995, 7, 12), date(1995, 7, 12)),
        ("000229", date(2000, 2, 29), date(2000, 2, 29)),
        ("740230", None, None),
        ("7408<<", None, None),
    ],
)
def test_centuries_follow_the_reference_date(text: str, born: date | None, expires: date | None) -> None:
    reference = date(2026, 6, 1)
    assert dates.birth_date(text, reference) == born
    assert dates.expiry_date(text, reference) == expires


@given(st.text(max_size=7), st.dates())
def test_dates_take_any_text(text: str, reference: date) -> None:
    born = dates.birth_date(text, reference)
    assert born is None or (born <= reference and dates.plausible(text))


def test_fillers_for_unknown_parts_of_a_date() -> None:
    assert dates.plausible("74<<<<")
    assert not dates.plausible("74<<12")


@given(st.text(ALPHABET, min_size=1, max_size=40), st.data())
def test_one_wrong_digit_never_passes(text: str, data: st.DataObject) -> None:
    digits = [index for index, character in enumerate(text) if character in "0123456789"]
    assume(digits)
    index = data.draw(st.sampled_from(digits))
    other = data.draw(st.sampled_from("0123456789"))
    changed = text[:index] + other + text[index + 1 :]
    assert matches(changed, check_digit(text)) == (other == text[index])


@given(st.text(max_size=40), st.text(max_size=40), st.integers(10, 39))
def test_any_name_fits_its_field(surname: str, given_names: str, length: int) -> None:
    field = compose_names(surname, given_names, length)
    assert len(field) == length
    assert set(field) <= set(ALPHABET)


def test_names_are_read_back() -> None:
    assert split_names("<<ANNA<MARIA<<<<") == ("", "ANNA MARIA")
    assert split_names("ARKFREITHS<<<<<<") == ("ARKFREITHS", "")
    assert transliterate("Jürgen O'Brien-Åström Щукин") == "JUERGEN<OBRIEN<AASTROEM<SHCHUKIN"


def test_states() -> None:
    assert is_known("D<<")
    assert is_known("UTO")
    assert not is_known("QQQ")


def _cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(DATA.read_text())["cases"] if DATA.exists() else []
    return cases


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="mrz_text_conformance.json is not beside the checkout")
@pytest.mark.parametrize("case", _cases(), ids=lambda case: str(case["id"]))
def test_conformance(case: dict[str, Any]) -> None:
    lines, fields = case["lines"], case["expect_fields"]
    match case["kind"]:
        case "check_digit":
            assert check_digit(lines[0]) == fields["check_digit"]
        case "transliterate":
            assert pad(transliterate(lines[0]), fields["length"]) == fields["mrz"]
        case "name_to_mrz":
            assert compose_names(lines[0], lines[1], fields["length"]) == fields["mrz"]
        case "td3_lower_line":
            assert parse(("P<UTOANY<<NAME".ljust(44, "<"), lines[0])).valid == case["expect_valid"]
        case "ocr_autocorrect":
            assert not parse(lines).valid
            repaired = repair(evidence_of_text(lines))
            assert repaired is not None
            assert repaired.accepted
            assert repaired.repairs
            assert {name: getattr(repaired.mrz, name) for name in fields} == fields
        case "parse":
            _parses_as_expected(case)
        case _:
            raise AssertionError("a kind of case that no test knows")


def _parses_as_expected(case: dict[str, Any]) -> None:
    if case["expect_valid"] is False and not case["expect_fields"] and not case["expect_checks"]:
        try:
            assert not parse(case["lines"]).valid
        except MrzFormatError:
            return
        return
    mrz = parse(case["lines"])
    for name, value in case["expect_fields"].items():
        assert (access_key_seed(mrz) if name == "bac_mrz_information" else getattr(mrz, name)) == value, name
    for name, value in case["expect_checks"].items():
        assert getattr(mrz.checks, name) is value, name
    if case["expect_valid"] is not None:
        assert mrz.valid is case["expect_valid"]


def _with_digits(lines: tuple[str, ...], places: list[tuple[int, int]]) -> list[str]:
    """The lines with the digits at these places raised by three: no check digit holds by chance."""
    rows = [list(line) for line in lines]
    for line, position in places:
        rows[line][position] = str((int(rows[line][position]) + 3) % 10)
    return ["".join(row) for row in rows]


def test_a_zone_in_which_nothing_holds_was_misread_and_accuses_nobody() -> None:
    """A page cut off at its edge once gave such a zone, and an honest person was declined."""
    nothing_holds = repair(evidence_of_text(_with_digits(TD1, [(0, 14), (1, 6), (1, 14)])))
    assert nothing_holds is not None
    assert (nothing_holds.accepted, nothing_holds.refusal) == (False, "unclear")
    one_fails = repair(evidence_of_text(_with_digits(TD1, [(1, 6)])))
    assert one_fails is not None
    assert (one_fails.accepted, one_fails.refusal) == (False, "check_digits")


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="mrz_text_conformance.json is not beside the checkout")
def test_conformance_has_all_its_cases() -> None:
    assert len(_cases()) == 71
