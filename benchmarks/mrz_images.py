"""Reading of machine readable zones on real pictures: `python -m benchmarks.mrz_images --data ../shared/data`.

Counts distinct texts: several pictures of one specimen count as one. A text is exact when every picture of it is
read and accepted as printed, or, where the specimen itself is printed with wrong check digits, when its characters are
read exactly and it is not accepted; accepted but wrong when any picture of it is accepted with a wrong character;
unread otherwise. Ñ, which ICAO's character set lacks, is expected as N.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from models.mrz.reader import MrzReader

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """What a reader says of one picture. lines: none where it saw no zone; refusal: why not accepted, if known."""

    lines: tuple[str, ...]
    accepted: bool
    refusal: str = ""


Read = Callable[[Path, UInt8], Answer]
"""A reader: the picture's file and the same decoded, uint8 (H, W, 3) RGB, to what it says."""


@dataclass(frozen=True)
class Outcome:
    """One picture. outcome: "exact", "wrong" (accepted with a wrong character), "refused" or "nothing"."""

    group: str
    path: str
    outcome: str
    accepted: bool
    milliseconds: float
    lines: tuple[str, ...]
    refusal: str


def our_reader() -> Read:
    """The reader of this project, its network loaded."""
    reader = MrzReader()

    def read(_: Path, image: UInt8) -> Answer:
        reading = reader.read([image], any_angle=True)
        return Answer(reading.lines, reading.accepted, reading.refusal) if reading else Answer((), False)

    return read


def measure(data: Path, read: Read, clock: Callable[[], float] = time.perf_counter) -> list[Outcome]:
    """Read every picture of `mrz_images.csv` in folder `data`. clock: in seconds, for the time that each takes."""
    outcomes = []
    with (data / "mrz_images.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            truth = tuple(row[name].replace("Ñ", "N") for name in ("line1", "line2", "line3") if row[name])
            image = cv2.imread(str(data / row["path"]), cv2.IMREAD_COLOR_RGB)
            if image is None:
                raise FileNotFoundError(data / row["path"])
            start = clock()
            answer = read(data / row["path"], np.asarray(image, np.uint8))
            elapsed = (clock() - start) * 1000
            lines, accepted = answer.lines, answer.accepted
            if lines == truth:
                outcome = "exact" if accepted == (row["check_digits"] == "all-ok") else "refused"
            else:
                outcome = "wrong" if accepted else "refused" if lines else "nothing"
            group = row["same_text_group"]
            outcomes.append(Outcome(group, row["path"], outcome, accepted, elapsed, lines, answer.refusal))
    return outcomes


def by_text(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many distinct texts are exact, accepted but wrong, and unread."""
    groups: dict[str, list[str]] = defaultdict(list)
    for item in outcomes:
        groups[item.group].append(item.outcome)
    wrong = sum("wrong" in found for found in groups.values())
    exact = sum(set(found) == {"exact"} for found in groups.values())
    return {"texts": len(groups), "exact": exact, "accepted but wrong": wrong, "unread": len(groups) - exact - wrong}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when the data is absent."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with mrz_images.csv")
    data = parser.parse_args(arguments).data
    if not (data / "mrz_images.csv").is_file():
        print(f"no mrz_images.csv in {data}")
        return 1
    cv2.setNumThreads(0)
    outcomes = measure(data, our_reader())
    for item in outcomes:
        if item.outcome != "exact":
            print(f"{item.path}  {item.outcome} {item.refusal}  {' / '.join(item.lines)}")
    times = [item.milliseconds for item in outcomes]
    for name, count in by_text(outcomes).items():
        print(f"{name:20} {count}")
    print(f"pictures exact       {sum(item.outcome == 'exact' for item in outcomes)} of {len(outcomes)}")
    print(f"ms a picture         median {statistics.median(times):.0f}, largest {max(times):.0f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
