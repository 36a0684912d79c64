"""The same holder on zone, front and barcode; altered fields contradict, unread ones do not."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.barcode.aamva import parse as parse_aamva
from models.fields.consistency import Consistency, compare
from models.fields.printed import PrintedValue, find_dates, printed_values
from models.mrz.compose import compose_td1, compose_td3
from models.mrz.icao9303 import Mrz, parse
from models.specimens.document import aamva_payload, make_specimen, render_front
from models.text.reader import Text, TextLine, TextReader

BORN, EXPIRES = date(1974, 8, 12), date(2032, 4, 15)
LABELLED = (
    ("Surname", "ERIKSSON"),
    ("Given names", "ANNA MARIA"),
    ("Nationality", "UTO"),
    ("Date of birth", "12 AUG 1974"),
    ("Document No.", "L898902C3"),
    ("Date of expiry", "15.04.2032"),
    ("Sex", "F"),
)


def mrz_of(
    surname: str = "ERIKSSON",
    given_names: str = "ANNA MARIA",
    number: str = "L898902C3",
    born: date = BORN,
    expires: date = EXPIRES,
) -> Mrz:
    return parse(compose_td1("I", "UTO", number, born, "F", expires, "UTO", surname, given_names))


def line(text: str, x: float, y: float, *, height: float = 26, score: float = 0.99) -> TextLine:
    right, bottom = x + 16 * len(text), y + height
    return TextLine(text, np.array([(x, y), (right, y), (right, bottom), (x, bottom)], dtype=np.float32), score)


def front(
    changes: dict[str, str | None] | None = None,
    *,
    labels: bool = True,
    score: float = 0.99,
    extra: tuple[TextLine, ...] = (),
) -> Text:
    """A front of labels above values. changes: label → other value, or None to leave the value out; score: of those."""
    lines = list(extra)
    for row, (label, value) in enumerate(LABELLED):
        changed = changes is not None and label in changes
        shown = changes[label] if changes is not None and changed else value
        if labels:
            lines.append(line(label, 400, 100 + 70 * row, height=16))
        if shown is not None:
            lines.append(line(shown, 400, 124 + 70 * row, score=score if changed else 0.99))
    return Text(tuple(lines), upside_down=False)


def answers(result: Consistency) -> dict[str, str]:
    return {f.field: f.agrees for f in result.fields}


def test_a_genuine_front_agrees_in_every_field() -> None:
    result = compare(mrz_of(), front(), None)
    assert set(answers(result).values()) == {"yes"}
    assert len(result.fields) == 7
    assert result.agreement == 1.0
    assert result.contradictions == result.missing == ()


def test_labels_are_not_needed_to_agree() -> None:
    assert answers(compare(mrz_of(), front(labels=False), None)) == dict.fromkeys(
        ("surname", "given_names", "document_number", "birth_date", "expiry_date", "sex", "nationality"), "yes"
    )


@pytest.mark.parametrize(
    ("label", "altered", "field", "distance"),
    [
        ("Surname", "LINDQVIST", "surname", 8),
        ("Given names", "CLARA", "given_names", 6),
        ("Date of birth", "12 AUG 1984", "birth_date", 1),
        ("Date of birth", "13.08.1974", "birth_date", 1),
        ("Date of expiry", "15.04.2035", "expiry_date", 1),
        ("Document No.", "L898902C4", "document_number", 1),
        ("Document No.", "XK1234567", "document_number", 9),
        ("Sex", "M", "sex", 1),
        ("Nationality", "SWE", "nationality", 3),
    ],
)
def test_an_altered_field_contradicts_and_only_that(label: str, altered: str, field: str, distance: int) -> None:
    result = compare(mrz_of(), front({label: altered}), None)
    assert [f.field for f in result.contradictions] == [field]
    assert result.missing == ()
    found = result.contradictions[0]
    assert (found.seen, found.source_a, found.source_b) == (altered, "mrz", "front")
    assert found.distance == distance


@pytest.mark.parametrize(("label", "field"), [("Date of birth", "birth_date"), ("Document No.", "document_number")])
def test_without_labels_the_only_value_of_its_kind_contradicts(label: str, field: str) -> None:
    altered = {"Date of birth": "12 AUG 1984", "Document No.": "L898902C4"}
    result = compare(mrz_of(), front({label: altered[label]}, labels=False), None)
    assert [f.field for f in result.contradictions] == [field]


@pytest.mark.parametrize("label", [label for label, _ in LABELLED])
@pytest.mark.parametrize("labels", [True, False])
def test_a_field_that_was_not_read_is_unknown(label: str, labels: bool) -> None:
    result = compare(mrz_of(), front({label: None}, labels=labels), None)
    assert result.contradictions == ()
    assert len(result.missing) == 1


@pytest.mark.parametrize(
    ("label", "misread"),
    [
        ("Surname", "EPIXSZOM"),
        ("Date of birth", "12 AUG 1971"),
        ("Date of birth", "12 AUC 1974"),
        ("Document No.", "L898902G8"),
        ("Date of expiry", "15.04.2082"),
        ("Sex", "M"),
        ("Nationality", "UIO"),
    ],
)
def test_a_doubtful_reading_never_contradicts(label: str, misread: str) -> None:
    result = compare(mrz_of(), front({label: misread}, score=0.7), None)
    assert result.contradictions == ()
    assert len(result.missing) == 1


def test_an_issue_date_is_no_altered_birth_or_expiry_date() -> None:
    issued = (line("Date of issue", 700, 300, height=16), line("15.04.2022", 700, 324))
    for changes in ({"Date of birth": None}, {"Date of expiry": None}):
        for labels in (True, False):
            shown = issued if labels else issued[1:]
            assert compare(mrz_of(), front(dict(changes), labels=labels, extra=shown), None).contradictions == ()


@pytest.mark.parametrize(
    ("surname", "given_names", "printed_surname", "printed_given"),
    [
        ("MÜLLER", "JÖRG", "MÜLLER", "JÖRG"),
        ("MÜLLER", "JÖRG", "MULLER", "JORG"),  # recognition lost the dots
        ("O'CONNOR", "SIÂN", "O'Connor", "Siân"),
        ("SAINT-CLAIR", "ANNE MARIE", "Saint-Clair", "Anne-Marie"),
        ("VAN DER MEER", "ANNA", "VANDERMEER", "Anna"),
        ("ÅNGSTRÖM", "ÆGIR", "Ångström", "Ægir"),
        ("PAPANDROPOULOUS", "JONATHON ALEXANDER CHRISTOPHER", "PAPANDROPOULOUS", "JONATHON ALEXANDER CHRISTOPHER"),
        ("ERIKSSON", "ANNA MARIA", "ER1KSSON", "ANNA MARlA"),
    ],
)
def test_names_transliterated_truncated_or_slightly_misread_agree(
    surname: str, given_names: str, printed_surname: str, printed_given: str
) -> None:
    text = front({"Surname": printed_surname, "Given names": printed_given})
    assert answers(compare(mrz_of(surname, given_names), text, None)) == dict.fromkeys(
        ("surname", "given_names", "document_number", "birth_date", "expiry_date", "sex", "nationality"), "yes"
    )


def test_names_on_two_lines() -> None:
    second = line("CHARLOTTE", 400, 224, height=26)
    text = front({"Given names": "ANNA"}, extra=(second,))
    assert answers(compare(mrz_of(given_names="ANNA CHARLOTTE"), text, None))["given_names"] == "yes"


def test_a_value_whose_label_was_not_read_is_not_given_to_the_label_above() -> None:
    """Seen on a filmed specimen: "Surname" was read "Sumame", and the surname stood 1.4 heights under another label."""
    lines = (
        line("Document number", 44, 110, height=28),
        line("L898902C3", 45, 134, height=38),
        line("5umarne", 44, 185, height=29),
        line("LINDQVIST", 41, 205, height=46),
    )
    values = {v.text: v.field for v in printed_values(Text(lines, upside_down=False))}
    assert values["L898902C3"] == "document_number"
    assert values["LINDQVIST"] != "document_number"


def test_a_short_name_with_one_character_misread_is_unknown() -> None:
    result = compare(mrz_of(surname="LEE"), front({"Surname": "LEF"}), None)
    assert [f.field for f in result.missing] == ["surname"]


def test_confusable_characters_in_a_number_agree() -> None:
    assert (
        answers(compare(mrz_of(number="AO0I1B85"), front({"Document No.": "A0O1IB8S"}), None))["document_number"]
        == "yes"
    )
    assert (
        answers(compare(mrz_of(number="AB1234567"), front({"Document No.": "AB 123 4567"}), None))["document_number"]
        == "yes"
    )


def test_the_zone_on_the_same_page_is_not_the_printed_text() -> None:
    """On a passport's data page the zone would otherwise agree with itself."""
    lines = compose_td3("P", "UTO", "L898902C3", BORN, "F", EXPIRES, "UTO", "ERIKSSON", "ANNA MARIA")
    zone = tuple(line(text, 20, 560 + 30 * i) for i, text in enumerate(lines))
    result = compare(parse(lines), Text(zone, upside_down=False), None)
    assert {f.agrees for f in result.fields} == {"unknown"}


def test_a_field_whose_check_digit_fails_is_left_out() -> None:
    good = mrz_of()
    broken = [good.lines[0], "7408129" + good.lines[1][7:], good.lines[2]]
    fields = answers(compare(parse(broken), front(), None))
    assert "birth_date" not in fields
    assert fields["expiry_date"] == "yes"


def test_an_upside_down_page_gives_the_same() -> None:
    turned = tuple(
        dataclasses.replace(item, box=np.array((1011, 637), dtype=np.float32) - item.box) for item in front().lines
    )
    altered = front({"Date of birth": "12 AUG 1984"})
    altered_turned = tuple(
        dataclasses.replace(item, box=np.array((1011, 637), dtype=np.float32) - item.box) for item in altered.lines
    )
    assert compare(mrz_of(), Text(turned, upside_down=True), None).agreement == 1.0
    result = compare(mrz_of(), Text(altered_turned, upside_down=True), None)
    assert [f.field for f in result.contradictions] == ["birth_date"]


@pytest.mark.parametrize(
    ("text", "label", "value"),
    [
        ("Surname: ERIKSSON", "surname", "ERIKSSON"),
        ("DOB 08/12/1974", "birth_date", "08/12/1974"),
        ("Nom / Surname  ERIKSSON", "surname", "ERIKSSON"),
        ("Dateofbirth 12.08.1974", "birth_date", "12.08.1974"),
        ("Oate of birth 12.08.1974", "birth_date", "12.08.1974"),
        ("Sex F", "sex", "F"),
        ("Sumame ERIKSSON", "surname", "ERIKSSON"),
        ("ERIKSSON", None, "ERIKSSON"),
    ],
)
def test_a_label_on_the_same_line(text: str, label: str | None, value: str) -> None:
    (found,) = printed_values(Text((line(text, 10, 10),), upside_down=False))
    assert (found.field, found.text) == (label, value)


@pytest.mark.parametrize(
    "label", ["Surname", "Nom/Surname", "Date de naissance / Date of birth", "Place of birth", "Sexe"]
)
def test_a_label_alone_is_no_value(label: str) -> None:
    assert printed_values(Text((line(label, 10, 10),), upside_down=False)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "12 AUG 1974", "12AUG1974", "12 AUG 74", "12 AUG/AOUT 1974", "12.08.1974", "12.08.74", "12 08 1974",
        "12/08/1974", "08/12/1974", "1974-08-12", "1974.08.12", "12-08-1974", "12081974", "08121974", "12 Août 1974",
        "12 ago 1974", "I2 AUG I974", "12.O8.1974", "geboren 12.08.1974 in",
    ],
)  # fmt: skip
def test_dates_in_any_notation(text: str) -> None:
    assert any(BORN in printed.days for printed in find_dates(text)), find_dates(text)


@pytest.mark.parametrize("text", ["", "31.02.1990", "99.99.9999", "L898902C3", "ERIKSSON", "12 ABC 1974", "1.234.567"])
def test_what_is_no_date(text: str) -> None:
    assert find_dates(text) == ()


@given(
    st.dates(date(1930, 1, 1), date(2040, 12, 31)), st.sampled_from(["%d.%m.%Y", "%d %b %Y", "%Y-%m-%d", "%m/%d/%Y"])
)
def test_every_written_date_is_found(day: date, notation: str) -> None:
    assert any(day in printed.days for printed in find_dates(day.strftime(notation).upper()))


@given(st.text(max_size=40), st.floats(0, 1))
@settings(max_examples=60)
def test_any_text_is_compared(text: str, score: float) -> None:
    result = compare(mrz_of(), Text((line(text, 400, 124, score=score),), upside_down=False), None)
    assert all(f.agrees in ("yes", "no", "unknown") for f in result.fields)


def test_nothing_to_compare() -> None:
    assert compare(None, front(), None) == Consistency(())
    assert compare(None, None, None).agreement == 0.0
    assert compare(mrz_of(), None, None) == Consistency(())


TODAY = date(2026, 6, 1)


def test_the_barcode_agrees_with_the_zone_exactly_or_contradicts() -> None:
    specimen = make_specimen(7, design="azure", portrait="astronaut", today=TODAY)
    holder = specimen.encoded
    mrz = parse(specimen.mrz)
    same = compare(mrz, None, parse_aamva(aamva_payload(holder)))
    assert {f.agrees for f in same.fields} == {"yes"}
    assert len(same.fields) == 6
    later = dataclasses.replace(holder, birth_date=holder.birth_date + timedelta(days=1))
    other = compare(mrz, None, parse_aamva(aamva_payload(later)))
    assert [f.field for f in other.contradictions] == ["birth_date"]
    renamed = compare(mrz, None, parse_aamva(aamva_payload(dataclasses.replace(holder, surname=holder.surname + "A"))))
    assert [f.field for f in renamed.contradictions] == ["surname"]


def test_without_a_zone_the_barcode_is_compared_with_the_front() -> None:
    specimen = make_specimen(7, design="azure", portrait="astronaut", today=TODAY)
    holder = dataclasses.replace(
        specimen.encoded,
        surname="ERIKSSON",
        given_names="ANNA MARIA",
        number="L898902C3",
        birth_date=BORN,
        expiry_date=EXPIRES,
    )
    result = compare(None, front(), parse_aamva(aamva_payload(holder)))
    assert {(f.source_a, f.source_b, f.agrees) for f in result.fields} == {("barcode", "front", "yes")}


@pytest.mark.parametrize(("seed", "design"), [(3, "azure"), (4, "ochre")])
def test_rendered_specimens_read_and_compared(seed: int, design: str) -> None:
    """From picture to comparison; the altered birth date of the same document contradicts and nothing else does."""
    reader = TextReader()
    specimen = make_specimen(seed, design="azure" if design == "azure" else "ochre", portrait="astronaut", today=TODAY)
    mrz = parse(specimen.mrz)
    assert {f.agrees for f in compare(mrz, reader.read(render_front(specimen)), None).fields} == {"yes"}
    born = specimen.printed.birth_date
    altered = dataclasses.replace(
        specimen, printed=dataclasses.replace(specimen.printed, birth_date=born.replace(year=born.year + 9, day=1))
    )
    result = compare(mrz, reader.read(render_front(altered)), None)
    assert [f.field for f in result.contradictions] == ["birth_date"]
    assert result.missing == ()


def test_values_know_their_score() -> None:
    (value,) = printed_values(Text((line("12 AUG 1974", 0, 0, score=0.61),), upside_down=False))
    assert isinstance(value, PrintedValue)
    assert value.score == 0.61
    assert value.dates[0].separated
