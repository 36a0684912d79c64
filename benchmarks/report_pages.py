"""The pages of `docs/measured/`: one for each measurement, written from its JSON, so that a figure stands in one place.

    python -m benchmarks.report_pages

A benchmark records what it measured with `write`; figures that another program printed are put into the JSON by hand. A
test holds the pages to the JSON.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(__file__).parents[1] / "docs" / "measured"
INTRODUCTION = """\
# Measured

What was measured, with the data, the hardware and the command for each figure. Where a threshold or a choice was made
on the data quoted, the page says so. Specimens are synthetic and made by this project; the match threshold (0.54)
comes from the LFW fold of [Face match](face.md). What was *not* measured is in [Limits](../limits.md).

Each page is written from the JSON file of its name by `python -m benchmarks.report_pages`.
"""
GROUPS: Mapping[str, Sequence[str]] = {
    "How often a check is right": (
        "mrz", "mrz_peers", "barcode", "face", "page", "presentation_face", "loops", "landmark_noise",
        "presentation_document", "presentation_stills", "detector_equality",
    ),
    "How long people wait, and what it costs": (
        "decision_latency", "demo", "check_cost", "batching", "load", "scaling", "open_cases", "soak",
    ),
    "What happens when things break": ("faults", "fuzzed_media"),
}  # fmt: skip
"""The measurements by what they answer, in the order of the index."""


@dataclass(frozen=True)
class Table:
    """One table of figures. title: empty where the page has one table alone; each row has a text for each column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Result:
    """What was measured, and on what. headline: the figure to quote, one line of the index; date: ISO 8601, empty where
    it is not known; load: what else ran on the machine; notes: what a reader must know to quote the figures.
    """

    command: str
    data: str
    hardware: str
    tables: tuple[Table, ...]
    load: str = ""
    date: str = ""
    title: str = ""
    question: str = ""
    headline: str = ""
    notes: tuple[str, ...] = ()


def machine() -> str:
    """This machine, in the words of the pages."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, no GPU used"


def today() -> str:
    """The date of a measurement made now."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def read(name: str, folder: Path = FOLDER) -> Result:
    """A measurement as it was recorded. Raises ValueError for a JSON with a row that does not fit its columns."""
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text("utf-8"))
    tables = tuple(
        Table(tuple(table["columns"]), tuple(map(tuple, table["rows"])), table.get("title", ""))
        for table in found.pop("tables")
    )
    for table in tables:
        if any(len(row) != len(table.columns) for row in table.rows):
            raise ValueError(f"{name}.json: a row of {table.title or 'its table'} does not fit its columns")
    return Result(**{**found, "tables": tables, "notes": tuple(found.get("notes", ()))})


def write(name: str, result: Result, folder: Path = FOLDER) -> Path:
    """Record a measurement. Of title, question, headline and notes, what is empty stays as it was recorded before.

    Read the headline and the notes again afterwards: they speak of the figures.
    """
    path = folder / f"{name}.json"
    if path.exists():
        old = read(name, folder)
        result = replace(
            result,
            title=result.title or old.title,
            question=result.question or old.question,
            headline=result.headline or old.headline,
            notes=result.notes or old.notes,
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def page(result: Result) -> str:
    """A measurement as a page in Markdown."""
    facts = {
        "command": f"`{result.command}`" if result.command else "",
        "data": result.data,
        "hardware": result.hardware,
        "load": result.load,
        "date": result.date,
    }
    parts = [f"# {result.title}", result.question, _table(("", ""), [(k, v) for k, v in facts.items() if v])]
    for table in result.tables:
        if table.title:
            parts.append(f"## {table.title}")
        parts.append(_table(table.columns, table.rows))
    if result.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in result.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def index(results: Mapping[str, Result]) -> str:
    """All measurements with their headline. Raises KeyError for one that GROUPS does not name."""
    if unknown := set(results) - {name for names in GROUPS.values() for name in names}:
        raise KeyError(f"GROUPS does not name {', '.join(sorted(unknown))}")
    parts = [INTRODUCTION.rstrip("\n")]
    for group, names in GROUPS.items():
        rows = [(f"[{results[name].title}]({name}.md)", results[name].headline) for name in names]
        parts += [f"## {group}", _table(("measured", "result"), rows)]
    return "\n\n".join(parts) + "\n"


def pages(folder: Path = FOLDER) -> dict[str, str]:
    """All pages of a folder of measurements, by file name."""
    results = {path.stem: read(path.stem, folder) for path in sorted(folder.glob("*.json"))}
    return {"index.md": index(results), **{f"{name}.md": page(result) for name, result in results.items()}}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
