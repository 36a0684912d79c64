"""Measuring accuracy: rates, thresholds, the reports of each suite, and the command on a real cluster."""

from __future__ import annotations

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from graphs.errors import EvaluationError
from graphs.evaluation.barcode import BarcodeSuite, expected
from graphs.evaluation.face import FaceSuite
from graphs.evaluation.mrz import MrzSuite
from graphs.evaluation.page import COLUMNS as PAGE_COLUMNS
from graphs.evaluation.page import PageSuite, find_in_picture
from graphs.evaluation.presentation import PresentationSuite
from graphs.evaluation.rates import Rate, at_false_match_rate, at_genuine_error_rate, error_curve, fewest_errors
from graphs.evaluation.suite import Measured, Source
from models.page.quad import overlap, within
from models.specimens.document import make_specimen, render_back, render_front
from service.cli.evaluate import suite_named
from service.cli.main import app

SPECIMEN = make_specimen(4100, design="azure", portrait="astronaut", today=date(2026, 7, 1))
scores = st.lists(st.floats(-5, 5, allow_nan=False), min_size=1, max_size=60).map(np.array)


@given(st.integers(0, 400), st.integers(1, 400))
def test_the_interval_holds_the_share(errors: int, of: int) -> None:
    rate = Rate(min(errors, of), of)
    low, high = rate.interval()
    assert 0 <= low <= rate.share <= high <= 1


def test_intervals_as_published() -> None:
    """Wilson's interval for 0 of 6 and 5 of 100, computed by hand from the formula."""
    assert Rate(0, 6).interval() == pytest.approx((0.0, 0.3903), abs=1e-3)
    assert Rate(5, 100).interval() == pytest.approx((0.0215, 0.1118), abs=1e-3)
    assert Rate(0, 0).interval() == (0.0, 1.0)


@given(scores, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_no_more_impostors_match_than_allowed(impostor: Any, rate: float) -> None:
    assert (impostor <= at_false_match_rate(impostor, rate)).mean() <= rate


@given(scores, st.sampled_from([0.0, 0.03, 0.2]), st.booleans())
def test_no_more_genuine_ones_are_turned_away_than_allowed(genuine: Any, rate: float, higher: bool) -> None:
    threshold = at_genuine_error_rate(genuine, rate, higher_is_genuine=higher)
    turned_away = (genuine < threshold) if higher else (genuine > threshold)
    assert turned_away.mean() <= rate


def test_the_threshold_between_two_heaps() -> None:
    distances = np.array([0.2, 0.3, 0.35, 0.7, 0.8, np.inf])
    assert 0.35 < fewest_errors(distances, np.array([True, True, True, False, False, False])) < 0.7


def test_a_missed_face_is_a_false_non_match_at_any_threshold() -> None:
    _, false_non_match = error_curve(np.array([0.2, np.inf]), np.array([0.8]))
    assert min(false_non_match) == 0.5


# --- suites, on given results of jobs ---


def mrz_item(item: str, group: str, read: str, *, accepted: bool, valid: bool = True) -> Measured:
    return Measured(item, group, (("AB<",), valid), 0.1, {"lines": (read,), "accepted": accepted, "refusal": ""})


def test_a_text_is_exact_only_when_each_of_its_pictures_is() -> None:
    report = MrzSuite().report(
        [
            mrz_item("1", "a", "AB<", accepted=True),
            mrz_item("2", "a", "AB<", accepted=True),
            mrz_item("3", "b", "AB<", accepted=True),
            mrz_item("4", "b", "AC<", accepted=False),
            mrz_item("5", "c", "AC<", accepted=True),
            mrz_item("6", "d", "AB<", accepted=False, valid=False),  # printed with wrong check digits, and reported so
            mrz_item("7", "e", "AB<", accepted=True, valid=False),  # the same, not reported
            Measured("8", "f", (("AB<",), True), 0.0, {}, "UndecodableMediaError"),
        ]
    )
    assert dict(report.figures) == {"texts": 6, "exact": 2, "accepted_but_wrong": 1, "pictures_exact": 4}


def test_barcodes_in_hex_and_several_on_a_picture() -> None:
    assert expected({"encoding": "hex", "expected": "00ff"}) == [b"\x00\xff"]
    assert expected({"encoding": "text, 2 codes", "expected": "A\x1eB"}) == [b"A", b"B"]
    measured = [
        Measured("a", "", [b"A"], 0.1, {"payloads": [b"A"], "texts": ["A"]}),
        Measured("b", "", [b"A"], 0.1, {"payloads": [b"B"], "texts": ["B"]}),
        Measured("c", "", [b"A"], 0.1, {"payloads": [], "texts": []}),
    ]
    assert BarcodeSuite().report(measured).figures == {"pictures": 3, "read": 1}


def test_faces_far_apart_are_told_and_a_missed_one_counts() -> None:
    random = np.random.default_rng(3)
    people = [random.normal(0, 1, 128) for _ in range(60)]
    measured = []
    for n, person in enumerate(people):
        near = (person + random.normal(0, 0.01, 128)).astype(np.float32)
        found = None if n == 0 else near
        pairs = ((f"p{n}_1", True), (f"p{(n + 1) % 60}_1", False))
        measured.append(Measured(f"p{n}_0", "", pairs, 0.1, {"embedding": person.astype(np.float32)}))
        measured.append(Measured(f"p{n}_1", "", (), 0.1, {"embedding": found}))
    figures = FaceSuite().report(measured).figures
    assert figures["missed"] == 1
    assert figures["fnmr_at_crossed_fmr_0.01"] == pytest.approx(1 / 60)
    assert 0.95 < figures["accuracy"] < 1


def shown(kind: str, score: float, codes: list[str], *, genuine: bool, unusable: bool = False) -> Measured:
    checks = {"hologram_front": {"result": "clear", "score": score, "properties": {}}}
    return Measured("1", kind, genuine, 0.1, {"codes": codes, "unusable": unusable, "checks": checks})


def test_a_presentation_that_failed_is_not_let_through() -> None:
    measured = [shown("genuine document", 0.5, [], genuine=True) for _ in range(4)]
    measured += [
        shown("colour copy", 0.1, ["no_hologram_seen"], genuine=False),
        shown("colour copy", 0.6, [], genuine=False),
    ]
    measured.append(Measured("2", "colour copy", False, 0.0, {}, "MemoryError"))
    report = PresentationSuite().report(measured)
    assert report.figures["colour copy"] == {"genuine": False, "wrong": 1, "of": 3, "unusable": 0}
    assert report.figures["genuine document"] == {"genuine": True, "wrong": 0, "of": 4, "unusable": 0}
    fitted = report.tables[1]
    assert {row[3] for row in fitted.rows} == {"genuine document", "colour copy"}
    assert all(row[2] == "0.5" for row in fitted.rows)


def test_a_genuine_one_that_must_be_filmed_again_is_counted_on_its_own() -> None:
    measured = [
        shown("genuine document", 0.5, [], genuine=True),
        shown("genuine document", 0.5, ["blurred_photo", "no_hologram_seen"], genuine=True, unusable=True),
        shown("genuine document", 0.5, ["no_hologram_seen"], genuine=True),
    ]
    figures = PresentationSuite().report(measured).figures["genuine document"]
    assert figures == {"genuine": True, "wrong": 1, "of": 2, "unusable": 1}


def test_pages_cut_off_are_compared_inside_of_the_frame() -> None:
    page = np.array([(-50, 0), (50, 0), (50, 100), (-50, 100)], np.float32)
    half = np.array([(0, 0), (50, 0), (50, 100), (0, 100)], np.float32)
    assert overlap(within(page, (101, 201)), half) == pytest.approx(1.0)
    assert overlap(page, half) == pytest.approx(0.5)
    assert overlap(page, page + np.float32(500)) == 0.0
    assert len(within(page - np.float32(500), (101, 201))) == 0


def test_a_page_on_a_picture_is_compared_with_its_corners() -> None:
    picture = np.full((700, 1200, 3), 60, np.uint8)
    picture[30:668, 90:1102] = render_front(SPECIMEN)
    corners = (89.5, 29.5, 1101.5, 29.5, 1101.5, 667.5, 89.5, 667.5)
    [scene] = find_in_picture(encoded(picture), corners)["scenes"]
    assert scene["pages"] == scene["found"] == 1
    assert scene["overlap"] > 0.95
    figures = PageSuite().report([Measured("a", "", None, 0.1, {"scenes": [scene]})]).figures
    assert figures["good"] == 1.0


def encoded(picture: Any) -> bytes:
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


# --- tables that cannot be used ---


def table_of(folder: Path, name: str, *rows: dict[str, str]) -> None:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_tables_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="needs a folder"):
        MrzSuite().jobs(Source())
    with pytest.raises(EvaluationError, match="cannot be read"):
        MrzSuite().jobs(Source(folder=tmp_path))
    table_of(tmp_path, "mrz_images.csv", {"path": "a.png", "line1": "A"})
    with pytest.raises(EvaluationError, match="lacks the column line2, line3"):
        MrzSuite().jobs(Source(folder=tmp_path))
    table_of(tmp_path, "mrz_images.csv", {"path": "a.png", "line1": "A", "line2": "B", "line3": ""})
    with pytest.raises(EvaluationError, match=r"a\.png cannot be read"):
        MrzSuite().jobs(Source(folder=tmp_path))
    table_of(tmp_path, "mrz_images.csv", {"path": "../../etc/passwd", "line1": "A", "line2": "B", "line3": ""})
    with pytest.raises(EvaluationError, match="not inside"):
        MrzSuite().jobs(Source(folder=tmp_path))
    (tmp_path / "a.png").write_bytes(b"x")
    table_of(tmp_path, "pages.csv", dict.fromkeys(PAGE_COLUMNS, "1") | {"path": "a.png", "x0": "left"})
    with pytest.raises(EvaluationError, match="eight numbers"):
        PageSuite().jobs(Source(folder=tmp_path))
    with pytest.raises(EvaluationError, match="seeds"):
        PresentationSuite().jobs(Source())
    with pytest.raises(EvaluationError, match="Measurements:"):
        suite_named("voice")


@pytest.mark.cluster
def test_the_command_measures_a_folder_on_a_cluster(tmp_path: Path) -> None:
    """One upright picture, one upside down, and one file that is no picture."""
    back = render_back(SPECIMEN)
    (tmp_path / "level.png").write_bytes(encoded(back))
    (tmp_path / "turned.png").write_bytes(encoded(np.ascontiguousarray(back[::-1, ::-1])))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    lines = dict(zip(("line1", "line2", "line3"), SPECIMEN.mrz, strict=True))
    table_of(tmp_path, "mrz_images.csv", *({"path": f"{name}.png"} | lines for name in ("level", "turned", "broken")))
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, ["evaluate", "mrz", "--data", str(tmp_path), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    told = json.loads((out / "mrz.json").read_text("utf-8"))
    assert told["figures"] == {"texts": 3, "exact": 2, "accepted_but_wrong": 0, "pictures_exact": 2}
    assert [item["failed"] for item in told["items"]] == ["", "", "UndecodableMediaError"]
    page = (out / "mrz.html").read_text("utf-8")
    assert "Machine readable zones" in page
    assert SPECIMEN.printed.surname not in json.dumps(told) + page
    assert "cdn.bokeh.org" not in page


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    for arguments, message in (
        (["mrz", "--data", str(tmp_path)], "mrz_images.csv"),
        (["voice", "--seeds", "1-2"], "Measurements:"),
        (["page", "--seeds", "9-2"], "FIRST-LAST"),
        (["page", "--seeds", "1-2", "--profile", "nobody"], "nobody"),
    ):
        ran = CliRunner().invoke(app, ["evaluate", *arguments])
        assert ran.exit_code != 0
        assert message in ran.output
