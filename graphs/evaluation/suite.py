"""The parts of a measurement: jobs for the cluster, their results, and the tables and curves made from them.

A suite reads its items (a folder with a table, or seeds of specimens), makes one job of each and summarises the
results. Jobs are plain functions that run on workers of their label, on the cluster of a running service or on a
separate one. Thresholds are not defined here; they come from the profile that is measured.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from graphs.errors import EvaluationError
from workers.placement import CPU, Label

Figures = Mapping[str, Any]
PERSONAL = frozenset({"lines", "payloads", "texts", "embedding"})
"""Figures that quote a document or describe a face. They are compared but never written to a report."""


@dataclass(frozen=True)
class Job:
    """One item to measure.

    item: a path or a seed, never a person's name. group: items that count together, such as a kind of attack or a text
    that several pictures show. function, arguments: the call that gives the figures. truth: the correct answer. label:
    of the workers that run `function`. made_by: a function and its arguments that make the media on a CPU worker
    first; `function` then gets the media as its last argument.
    """

    item: str
    group: str
    function: Callable[..., Figures]
    arguments: tuple[Any, ...] = ()
    truth: Any = None
    label: Label = CPU
    made_by: tuple[Callable[..., Any], tuple[Any, ...]] | None = None


@dataclass(frozen=True)
class Measured:
    """The result of a job. seconds: CPU time of its thread. failed: the type of the error, with empty figures."""

    item: str
    group: str
    truth: Any
    seconds: float
    figures: Figures
    failed: str = ""


@dataclass(frozen=True)
class Table:
    """A table for display. Each row has one text for each column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Curve:
    """Lines in one plot. series: x and y values by name. log: whether both axes are logarithmic."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: bool = False


@dataclass(frozen=True)
class Report:
    """The report of a suite. figures: its numbers for programs. notes: explanations in words."""

    suite: str
    tables: tuple[Table, ...]
    curves: tuple[Curve, ...] = ()
    figures: Figures = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where items come from.

    folder, table: real data; paths in the table are relative to the folder. seeds: first and last seed of synthetic
    specimens. only: run only kinds whose name contains one of these; empty for all. profile: its thresholds are used.
    """

    folder: Path | None = None
    table: Path | None = None
    seeds: tuple[int, int] | None = None
    only: tuple[str, ...] = ()
    profile: str = "standard"

    def rows(self, usual: str, columns: Sequence[str]) -> list[dict[str, str]]:
        """The rows of the table, by default the file `usual` in the folder.

        Raises EvaluationError if the table is missing, cannot be read, is empty, or lacks one of the columns.
        """
        if self.folder is None:
            raise EvaluationError(f"this needs a folder with {usual} (--data)")
        path = self.table or self.folder / usual
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise EvaluationError(f"{path.name} cannot be read: {type(error).__name__}") from error
        if not rows:
            raise EvaluationError(f"{path.name} has no rows")
        if missing := [column for column in columns if column not in rows[0]]:
            raise EvaluationError(f"{path.name} lacks the column {', '.join(missing)}; it has {', '.join(rows[0])}")
        return rows

    def media(self, path: str) -> bytes:
        """The bytes of a file named in the table. Raises EvaluationError if it cannot be read or lies outside the
        folder.
        """
        if self.folder is None:
            raise EvaluationError("this needs a folder (--data)")
        whole = (self.folder / path).resolve()
        if not whole.is_relative_to(self.folder.resolve()):
            raise EvaluationError(f"{path} is not inside of the folder")
        try:
            return whole.read_bytes()
        except OSError as error:
            raise EvaluationError(f"{path} cannot be read: {error.strerror}") from error

    def numbers(self) -> range:
        """The seeds. Raises EvaluationError if none were given."""
        if self.seeds is None:
            raise EvaluationError("this needs seeds (--seeds first-last) or a folder (--data)")
        return range(self.seeds[0], self.seeds[1] + 1)


class Suite(Protocol):
    """A kind of measurement. about: a one-line description."""

    name: str
    about: str

    def jobs(self, source: Source) -> list[Job]:
        """One job for each item. Raises EvaluationError."""
        ...

    def report(self, measured: Sequence[Measured]) -> Report:
        """Summarise the results."""
        ...


def run_job(function: Callable[..., Figures], *arguments: Any) -> tuple[Figures, float]:
    """Run a job on a worker: its figures, and the CPU time in seconds that they took."""
    started = time.thread_time()
    figures = function(*arguments)
    return figures, time.thread_time() - started


def spent(measured: Sequence[Measured]) -> str:
    """CPU time per item in ms, median and largest, as text for a table."""
    times = sorted(1000 * one.seconds for one in measured if not one.failed)
    return f"{times[len(times) // 2]:.0f} / {times[-1]:.0f}" if times else "–"
