"""Driver-licence payloads: the public conformance cases, own cases by version, damage, and anything at all."""

from __future__ import annotations

import json
import pickle
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.barcode.aamva import AamvaError, Designator, parse, parse_date
from tests.support.places import SHARED_DATA

CASES = SHARED_DATA / "aamva_text_conformance.json"


def payload(
    fields: dict[str, str], *, version: int = 10, kind: str = "DL", issuer: str = "636000", extra: str = ""
) -> bytes:
    """A conforming payload with right offsets; `extra` is the text of a jurisdiction's subfile (`ZVA…`)."""
    subfiles = [(kind, kind + "\n".join(k + v for k, v in fields.items()) + "\r")]
    if extra:
        subfiles.append((extra[:2], extra[:2] + extra + "\r"))
    head = f"@\n\x1e\rANSI {issuer}{version:02d}" + ("01" if version >= 2 else "") + f"{len(subfiles):02d}"
    offset, entries = len(head) + 10 * len(subfiles), ""
    for name, text in subfiles:
        entries += f"{name}{offset:04d}{len(text):04d}"
        offset += len(text)
    return (head + entries + "".join(text for _, text in subfiles)).encode("latin-1")


FIELDS = {
    "DAQ": "D1234562",
    "DCS": "SPECIMEN",
    "DAC": "ANNA",
    "DAD": "MARIA",
    "DBB": "02291988",
    "DBA": "03102031",
    "DBD": "03102023",
    "DBC": "2",
    "DAJ": "CA",
    "DCG": "USA",
    "DDE": "N",
    "DDF": "N",
    "DDG": "N",
}


def conformance() -> list[Any]:
    if not CASES.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="evaluation data is not beside the checkout"))]
    return [pytest.param(case, id=case["id"]) for case in json.loads(CASES.read_text())["cases"]]


@pytest.mark.data
@pytest.mark.parametrize("case", conformance())
def test_public_conformance(case: dict[str, Any]) -> None:
    raw = case["text"].encode("latin-1")
    if case["valid"] is False:
        with pytest.raises(AamvaError):
            parse(raw)
        return
    document = parse(raw)
    if case["valid"] == "tolerant":
        seen = {
            "version": document.version,
            "given": document.given,
            "surname": document.surname,
            "middle": document.middle,
            "number": document.number,
            "birth_date": document.birth_date.isoformat() if document.birth_date else None,
            "sex": document.sex,
            "state": document.state,
            "country": document.country,
        }
        assert {k: seen[k] for k in case["fields"]} == case["fields"]
        assert document.damage
        return
    header = case["header"]
    assert (document.issuer_id, document.version, document.jurisdiction_version, len(document.designators)) == (
        header["issuer_id"],
        header["aamva_version"],
        header["jurisdiction_version"],
        header["entries"],
    )
    assert [[d.kind, d.offset, d.length] for d in document.designators] == case["designators"]
    assert {k: v for k, v in document.elements.items() if not k.startswith("Z")} == case["elements"]


def test_a_conforming_payload_is_read_whole_and_without_damage() -> None:
    document = parse(payload(FIELDS, extra="ZCABLACK"))
    assert document.damage == ()
    assert document.elements == {**FIELDS, "ZCA": "BLACK"}
    assert document.designators[0] == Designator("DL", 41, document.designators[0].length)
    assert (document.surname, document.given, document.middle) == ("SPECIMEN", "ANNA", "MARIA")
    assert (document.number, document.sex, document.state, document.country) == ("D1234562", "F", "CA", "USA")
    assert (document.birth_date, document.expiry_date) == (date(1988, 2, 29), date(2031, 3, 10))
    assert document.issue_date == date(2023, 3, 10)
    assert not document.truncated
    assert pickle.loads(pickle.dumps(document)) == document  # noqa: S301


@pytest.mark.parametrize(
    ("version", "fields", "names"),
    [
        (1, {"DAA": "PUBLIC,JOHN,Q"}, ("PUBLIC", "JOHN", "Q")),
        (1, {"DAA": "PUBLIC,JOHN"}, ("PUBLIC", "JOHN", None)),
        (1, {"DAA": "PUBLIC"}, ("PUBLIC", None, None)),
        (1, {"DAB": "PUBLIC", "DAC": "JOHN"}, ("PUBLIC", "JOHN", None)),
        (2, {"DCS": "MOTORIST", "DCT": "MARY M"}, ("MOTORIST", "MARY M", None)),
        (3, {"DCS": "TESTER", "DCT": "MARY,ANN,LOU"}, ("TESTER", "MARY", "ANN LOU")),
        (4, {"DCS": "DE LA  CRUZ ", "DAC": "JOSÉ", "DAD": "NONE"}, ("DE LA CRUZ", "JOSÉ", None)),
        (9, {"DCS": "SOLO", "DAC": "", "DAD": ""}, ("SOLO", None, None)),
    ],
)
def test_names_of_each_version(
    version: int, fields: dict[str, str], names: tuple[str | None, str | None, str | None]
) -> None:
    document = parse(payload({"DAQ": "1", **fields}, version=version))
    assert (document.surname, document.given, document.middle) == names


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("02291988", date(1988, 2, 29)),
        ("19880229", date(1988, 2, 29)),
        ("12312021", date(2021, 12, 31)),
        ("20201231", date(2020, 12, 31)),
        ("  01021990 ", date(1990, 1, 2)),
        ("02291989", None),
        ("13011990", None),
        ("00000000", None),
        ("1990101", None),
        ("199O1010", None),
        ("01011850", None),
        ("", None),
    ],
)
def test_dates_of_both_countries(digits: str, expected: date | None) -> None:
    assert parse_date(digits) == expected


@pytest.mark.parametrize(("state", "country"), [("QC", "CAN"), ("NU", "CAN"), ("TX", "USA"), ("PR", "USA")])
def test_country_follows_the_jurisdiction_when_it_is_not_said(state: str, country: str) -> None:
    fields = {k: v for k, v in FIELDS.items() if k != "DCG"} | {"DAJ": state}
    assert parse(payload(fields)).country == country


def test_a_name_cut_short_says_so() -> None:
    assert parse(payload(FIELDS | {"DDE": "T"})).truncated


def test_identity_cards_and_enhanced_cards_are_documents_too() -> None:
    assert parse(payload(FIELDS, kind="ID")).number == "D1234562"
    assert parse(payload(FIELDS, kind="EN")).number == "D1234562"
    with pytest.raises(AamvaError):
        parse(payload(FIELDS, kind="VR"))


@pytest.mark.parametrize(
    ("good", "bad", "part"),
    [
        (b"@\n\x1e\r", b"@\n\r", "separators"),
        (b"DL0041", b"DL0099", "offset"),
        (b"\rZCZCA", b"\rZCA", "type missing"),
        (b"\nDCSSPEC", b"\nspecimen\nDCSSPEC", "no element"),
    ],
)
def test_damage_is_named_and_the_holder_still_read(good: bytes, bad: bytes, part: str) -> None:
    raw = payload(FIELDS, extra="ZCABLACK")
    assert good in raw
    document = parse(raw.replace(good, bad))
    assert any(part in note for note in document.damage)
    assert (document.surname, document.number, document.birth_date) == ("SPECIMEN", "D1234562", date(1988, 2, 29))


def test_every_cut_is_an_error_or_is_reported_as_damage() -> None:
    raw = payload(FIELDS, extra="ZCABLACK")
    for end in range(len(raw)):
        try:
            document = parse(raw[:end])
        except AamvaError:
            continue
        assert document.damage, end


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"@",
        b"hello",
        b"P<UTOERIKSSON<<ANNA<MARIA",
        b"@\n\x1e\rANSI 636000100100",
        b"@\n\x1e\rANSI 6360001001",
        b"@\n\x1e\rANSI 636000100102DL00410100ZV",
        b"@\n\x1e\rANSI 636000100101DL00310002DL\r",
        b"@\n\x1e\rANSI 63600010" + "²²".encode("latin-1") + b"01DL00310002DLDAQ1\r",
    ],
)
def test_what_cannot_be_attributed_is_an_error(raw: bytes) -> None:
    with pytest.raises(AamvaError) as caught:
        parse(raw)
    assert caught.value.detail


def test_the_error_crosses_processes() -> None:
    error = AamvaError("header too short")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), copy.detail, copy.code) == (AamvaError, error.detail, "barcode_malformed")


@given(st.binary(max_size=200) | st.binary(max_size=120).map(lambda b: b"@\n\x1e\rANSI 636000100101DL00310100" + b))
def test_any_bytes_give_a_document_or_the_documented_error(raw: bytes) -> None:
    try:
        document = parse(raw)
    except AamvaError:
        return
    assert document.elements


_VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cc"]), max_size=20)
_CODES = st.sampled_from(["DAQ", "DCS", "DAC", "DAD", "DAG", "DAI", "DCF", "DAU", "DBA", "DBB", "DBC"])


@given(st.dictionaries(_CODES, _VALUE, min_size=1), st.integers(1, 10))
def test_what_is_written_is_read_back(fields: dict[str, str], version: int) -> None:
    document = parse(payload(fields, version=version, extra="ZVA1"))
    assert document.elements == {**fields, "ZVA": "1"}
    assert document.damage == ()
