"""What a measurement is made of: jobs for the cluster, what each gives, and the tables and curves that come out.

A suite reads its items (a folder with a table, or seeds of specimens), makes one job of each, and sums up what the jobs
gave. Jobs are plain functions that run on workers of their label, beside the cases of a service or on a cluster of
their own. Nothing here knows thresholds: they come from the profile that is measured.
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
"""Figures that quote a document or are a face's: compared, never written down."""


@dataclass(frozen=True)
class Job:
    """One item. item: a path or a seed, never a person's name; group: items that count together, such as a kind of
    attack or a text that several pictures show; truth: what is right, kept beside what is found.

    made_by: a function and its arguments that make the media first, on a CPU worker; function then gets it as its only
    argument. label: of the workers that run `function`.
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
    """What came of a job: its figures, and the CPU time of one thread in seconds; figures are empty and `failed` says
    the kind of error when it failed.
    """

    item: str
    group: str
    truth: Any
    seconds: float
    figures: Figures
    failed: str = ""


@dataclass(frozen=True)
class Table:
    """A table as it is shown. Each row has one text for each column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Curve:
    """Lines over one pair of axes. series: x and y by name; log: whether both axes are logarithmic."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    log: bool = False


@dataclass(frozen=True)
class Report:
    """What a suite found. figures: the same numbers for programs; notes: what they rest on, in words."""

    suite: str
    tables: tuple[Table, ...]
    curves: tuple[Curve, ...] = ()
    figures: Figures = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Where items come from. folder and table: real data, the table's paths relative to the folder; seeds: of
    specimens, first and last; only: parts of names of kinds, empty for all; profile: whose thresholds judge.
    """

    folder: Path | None = None
    table: Path | None = None
    seeds: tuple[int, int] | None = None
    only: tuple[str, ...] = ()
    profile: str = "standard"

    def rows(self, usual: str, columns: Sequence[str]) -> list[dict[str, str]]:
        """The rows of the table, by default `usual` in the folder. Raises EvaluationError when it is not there, cannot
        be read, or lacks one of the columns.
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
        """The bytes of a file that the table names. Raises EvaluationError when it cannot be read, or lies outside of
        the folder.
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
        """The seeds. Raises EvaluationError when none were given."""
        if self.seeds is None:
            raise EvaluationError("this needs seeds (--seeds first-last) or a folder (--data)")
        return range(self.seeds[0], self.seeds[1] + 1)


class Suite(Protocol):
    """A kind of measurement. about: one line for whoever chooses among them."""

    name: str
    about: str

    def jobs(self, source: Source) -> list[Job]:
        """One job for each item. Raises EvaluationError."""
        ...

    def report(self, measured: Sequence[Measured]) -> Report:
        """Sum up."""
        ...


def run_job(function: Callable[..., Figures], *arguments: Any) -> tuple[Figures, float]:
    """On a worker: the figures, and the CPU time in seconds that they took."""
    started = time.thread_time()
    figures = function(*arguments)
    return figures, time.thread_time() - started


def spent(measured: Sequence[Measured]) -> str:
    """CPU time an item, for a table: median and largest, ms."""
    times = sorted(1000 * one.seconds for one in measured if not one.failed)
    return f"{times[len(times) // 2]:.0f} / {times[-1]:.0f}" if times else "–"
