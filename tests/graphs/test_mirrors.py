"""Mirrored pictures and fronts in other scripts are recognised, and misread text from them accuses nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from graphs.across import consistency
from graphs.document import Pages
from graphs.front import text
from graphs.profile import profiles
from graphs.records import CaseSpec, CheckResult
from graphs.run import run_node
from models.barcode import symbols as barcode
from models.mrz.reader import MrzReader
from models.page.quad import Page, Quad
from models.specimens.document import Specimen, make_specimen, render_back, render_front
from models.text.reader import Text, TextReader

U8 = npt.NDArray[np.uint8]
TODAY = date(2026, 6, 1)
SPEC = CaseSpec("case_m", "standard", {"front": 1, "back": 1, "face": 1}, (), TODAY)
THRESHOLDS = profiles()["standard"].policy.checks["text_front"].thresholds
SEEDS = range(950, 956)


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


def specimen(seed: int) -> Specimen:
    return make_specimen(seed, design="azure" if seed % 2 else "ochre", portrait="astronaut", today=TODAY)


def blurred(image: U8, sigma: float) -> U8:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image, np.uint8)


def codes(result: CheckResult) -> list[str]:
    return [reason.code for reason in result.reasons]


# --- barcodes ---

FORMATS = {
    "PDF417": zxingcpp.BarcodeFormat.PDF417,
    "QRCode": zxingcpp.BarcodeFormat.QRCode,
    "DataMatrix": zxingcpp.BarcodeFormat.DataMatrix,
}
FLIPS: dict[str, Any] = {"left to right": np.s_[:, ::-1], "top to bottom": np.s_[::-1]}


def drawn(content: bytes, name: str, scale: int = 4) -> U8:
    symbol = np.asarray(zxingcpp.create_barcode(content, FORMATS[name]).to_image(scale=scale), np.uint8)
    return np.pad(symbol, 40, constant_values=255)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.sampled_from(["PDF417", "QRCode"]), st.integers(0, 3))
def test_mirrored_symbols_are_told_in_any_direction(content: bytes, name: str, turns: int) -> None:
    picture = np.rot90(drawn(content, name), turns)
    for shown, mirrored in ((picture, False), (picture[:, ::-1], True), (picture[::-1], True)):
        found = barcode.read([np.ascontiguousarray(shown)])
        assert found is not None
        assert found.payload == content
        assert found.mirrored is mirrored


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("sigma", [0.0, 0.8])
@pytest.mark.parametrize("name", ["PDF417", "QRCode"])
def test_small_and_blurred_symbols_are_told_or_left_open(name: str, sigma: float, scale: int) -> None:
    picture = blurred(drawn(b"a holder of a card, whoever it is", name, scale), sigma)
    for shown, mirrored in ((picture, False), (picture[:, ::-1], True)):
        found = barcode.read([np.ascontiguousarray(shown)])
        assert found is not None
        assert found.mirrored in (mirrored, None)


def test_of_a_data_matrix_it_is_not_known() -> None:
    found = barcode.read([drawn(b"veridask", "DataMatrix")])
    assert found is not None
    assert found.mirrored is None


def pages_of(image: U8) -> Pages:
    whole = Quad(np.array([[0, 0], [1011, 0], [1011, 637], [0, 637]], np.float32), 1.0)
    return Pages((Page(image, 0, whole, 100.0),), np.zeros((0, 319, 506, 3), np.uint8), (), (), 0.0)


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_a_mirrored_barcode_is_not_the_documents(flip: Any) -> None:
    """Regression: its payload is genuine and agrees with the zone, so the barcode was clear and confirmed the zone."""
    back = render_back(specimen(957))
    zone = MrzReader().read([back])
    front = Text((), upside_down=False)
    for shown, result, expected in ((back, "clear", []), (back[flip], "rejected", ["mirrored_picture"])):
        pages = pages_of(np.ascontiguousarray(shown))
        found = barcode.read([page.image for page in pages.best])
        assert found is not None
        judged = run_node("barcode_back", SPEC, barcode_payload=found, pages=pages)
        assert (judged.result, codes(judged)) == (result, expected)
        compared = consistency(front, zone, found)
        sources = {field["source_b"] for field in compared.properties["fields"]}
        assert ("barcode" in sources) is (result == "clear")


# --- fronts ---


@pytest.mark.parametrize("seed", SEEDS)
def test_fronts_are_told_from_their_mirror_images(seed: int, reader: TextReader) -> None:
    front = render_front(specimen(seed))
    for sigma in (0.0, 2.5):
        shown = blurred(front, sigma)
        for genuine in (shown, shown[::-1, ::-1]):
            read = reader.read(np.ascontiguousarray(genuine))
            assert not read.mirrored
            assert text(read, THRESHOLDS).result == "clear"
        for flip in FLIPS.values():
            read = reader.read(np.ascontiguousarray(shown[flip]))
            assert read.mirrored
            judged = text(read, THRESHOLDS)
            assert (judged.result, codes(judged)) == ("rejected", ["mirrored_picture"])
            zone = MrzReader().read([render_back(specimen(seed))]) if seed == SEEDS[0] else None
            assert consistency(read, zone, None).result == "not_run"


SCRIPTS = {
    "Cyrillic": ["УДОСТОВЕРЕНИЕ ЛИЧНОСТИ", "Фамилия", "СМИРНОВА", "Имя и отчество", "ЕЛЕНА СЕРГЕЕВНА", "Дата рождения",
                 "03.11.1988", "Срок действия", "20.02.2031", "Пол", "Ж", "Место рождения", "ГОРОД УТОПИЯ"],
    "Ukrainian": ["ПОСВІДЧЕННЯ ОСОБИ", "Прізвище", "КОВАЛЕНКО", "Ім'я", "ОЛЕКСАНДР", "Дата народження", "03.11.1988",
                  "Дійсний до", "20.02.2031", "Стать", "Ч", "Громадянство", "УТОПІЯ"],
    "Greek": ["ΔΕΛΤΙΟ ΤΑΥΤΟΤΗΤΑΣ", "Επώνυμο", "ΚΑΡΑΓΙΑΝΝΗΣ", "Όνομα", "ΔΗΜΗΤΡΙΟΣ", "Ημερομηνία γέννησης", "03.11.1988",
              "Ημερομηνία λήξης", "20.02.2031", "Φύλο", "Τόπος γέννησης", "ΘΕΣΣΑΛΟΝΙΚΗ"],
    "Arabic": ["ﺔﻴﺼﺨﺸﻟﺍ ﺔﻗﺎﻄﺒﻟﺍ", "ﺔﻠﺋﺎﻌﻟﺍ ﻢﺳﺍ", "ﻱﺮﺼﻤﻟﺍ", "ﻢﺳﻻﺍ", "ﻦﺴﺣ ﺪﻤﺤﻣ", "ﺩﻼﻴﻤﻟﺍ ﺦﻳﺭﺎﺗ", "٠٣/١١/١٩٨٨",
               "ءﺎﻬﺘﻧﻻﺍ ﺦﻳﺭﺎﺗ", "٢٠/٠٢/٢٠٣١", "ﺲﻨﺠﻟﺍ", "ﺮﻛﺫ", "ﺔﻘﻴﺛﻮﻟﺍ ﻢﻗﺭ", "ﺔﻴﺴﻨﺠﻟﺍ"],
    "Georgian": ["პირადობის მოწმობა", "გვარი", "მაისურაძე", "სახელი", "თამარი", "დაბადების თარიღი", "03.11.1988",
                 "მოქმედების ვადა", "20.02.2031", "სქესი", "მოქალაქეობა", "უტოპია"],
}  # fmt: skip
"""Arabic in presentation forms, from right to left as it stands on the page, because nothing here shapes it."""


def front_of(lines: list[str], bold: bool) -> U8:
    folder = matplotlib.get_data_path() + "/fonts/ttf/"
    font = ImageFont.truetype(folder + ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), 27)
    image = Image.new("RGB", (1012, 638), (222, 228, 230))
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((360, 24 + row * 46), line, font=font, fill=(22, 26, 42))
    return np.asarray(image, np.uint8)


@pytest.mark.parametrize("bold", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_front_of_another_script_is_unidentified_and_accuses_nobody(
    script: str, bold: bool, reader: TextReader
) -> None:
    """The zone belongs to another person, so that anything that can contradict it does."""
    zone = MrzReader().read([render_back(specimen(958))])
    assert zone is not None
    assert zone.accepted
    for sigma in (0.0, 1.2):
        read = reader.read(blurred(front_of(SCRIPTS[script], bold), sigma))
        assert not read.mirrored
        judged = text(read, THRESHOLDS)
        assert (judged.result, judged.reasons) == ("unidentified", ())
        compared = consistency(read, zone, None)
        assert (compared.result, codes(compared)) == ("caution", ["data_not_found"])


def test_a_front_of_latin_letters_does_contradict(reader: TextReader) -> None:
    """Control for the test above: the same front in Latin letters is read and rejected."""
    lines = ["IDENTITY CARD", "Surname", "SMIRNOVA", "Given names", "ELENA", "Date of birth", "03.11.1988",
             "Date of expiry", "20.02.2031", "Sex", "F", "Place of birth", "UTOPIA"]  # fmt: skip
    read = reader.read(front_of(lines, bold=False))
    assert text(read, THRESHOLDS).result == "clear"
    compared = consistency(read, MrzReader().read([render_back(specimen(958))]), None)
    assert (compared.result, codes(compared)) == ("rejected", ["data_mismatch"])
    few = replace(read, lines=tuple(line for line in read.lines if any(c.isdigit() for c in line.text)))
    assert consistency(few, MrzReader().read([render_back(specimen(958))]), None).result == "caution"
