"""Figures stand in one place: the pages of `docs/measured` are what the renderer makes of the JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import decision_latency, open_cases, report_pages, soak
from benchmarks.report_pages import FOLDER, GROUPS, Result, Table, page, pages, read, write

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
RESULT = Result(
    command="python -m x", data="some", hardware="a machine", tables=(Table(("a", "b"), (("1", "x|y"),), "T"),),
    title="A measurement", question="How much?", headline="1", notes=("mind this",),
)  # fmt: skip


def test_pages_are_made_of_the_json() -> None:
    made = pages()
    assert {path.name for path in FOLDER.glob("*.md")} == set(made)
    for name, text in made.items():
        assert (FOLDER / name).read_text("utf-8") == text, "run `python -m benchmarks.report_pages`"


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_where_it_comes_from(name: str) -> None:
    result = read(name)
    assert result.title
    assert result.question.endswith("?")
    assert result.headline
    assert result.data
    assert result.hardware
    assert result.command.startswith(("python -m benchmarks.", "veridask ", "make "))
    assert all(table.rows for table in result.tables)


def test_the_index_names_each_measurement_once() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == NAMES


def test_a_measurement_is_written_and_read(tmp_path: Path) -> None:
    write("x", RESULT, tmp_path)
    assert read("x", tmp_path) == RESULT
    assert r"| 1 | x\|y |" in page(RESULT)
    assert "## T" in page(RESULT)


def test_a_new_run_keeps_what_it_does_not_say(tmp_path: Path) -> None:
    write("x", RESULT, tmp_path)
    again = Result("python -m x --more", "other", "another machine", (Table(("a",), (("2",),)),), headline="2")
    write("x", again, tmp_path)
    assert read("x", tmp_path) == replace(again, title=RESULT.title, question=RESULT.question, notes=RESULT.notes)


def test_a_row_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    write("x", RESULT, tmp_path)
    raw = json.loads((tmp_path / "x.json").read_text("utf-8"))
    raw["tables"][0]["rows"][0].append("3")
    (tmp_path / "x.json").write_text(json.dumps(raw), "utf-8")
    with pytest.raises(ValueError, match="does not fit its columns"):
        read("x", tmp_path)


def test_a_measurement_that_the_index_does_not_name_is_an_error(tmp_path: Path) -> None:
    write("unheard_of", RESULT, tmp_path)
    with pytest.raises(KeyError, match="unheard_of"):
        pages(tmp_path)


def test_benchmarks_record_what_they_measured(tmp_path: Path) -> None:
    """What `--record` writes can be read and drawn; running them takes minutes, so figures are made up."""
    memory = {"api": 100.0, "scheduler": 50.0, "cpu-0": 400.0, "gpu-0": 300.0}
    levels = [open_cases.Level(0, (900.0,), float("nan"), memory), open_cases.Level(1000, (950.0,), 14.0, memory)]
    results = {
        "soak": soak.recorded({0: memory, 100: memory, 101: memory}, {"approved": 100}, 0, 0),
        "open_cases": open_cases.recorded(levels, 7, None),
        "decision_latency": decision_latency.recorded([900.0, 1000.0], ["approved", "review"], memory, memory, 30),
    }
    for name, result in results.items():
        write(name, replace(result, title="t"), tmp_path)
        text = page(read(name, tmp_path))
        assert f"`{result.command}`" in text
        assert report_pages.machine() in text
