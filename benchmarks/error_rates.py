"""How often genuine people are turned away and attacks let through, on specimen films (synthetic) of unseen seeds.

    python -m benchmarks.error_rates --seeds 100-109 [--only "genuine face" "screen replay"] [--out out/rates.json]

Films each kind of presentation once for each seed and runs the flow's own nodes on it, in this process's children,
without a cluster. Document kinds are front and back with what compares the two (`consistency`); face kinds are the scan
alone, so `match` is in neither. In the words of ISO/IEC 30107-3: for an attack the share let through is APCER, for a
genuine presentation the share not let through is BPCER. `--out` keeps every score, for whoever fits a threshold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphs.records import CaseSpec, CheckResult, Step
from models.specimens.scenarios import Scenario, one_thread

TODAY = date(2026, 7, 1)
PEOPLE = (("azure", "astronaut"), ("ochre", "grace_hopper"))
"""Design and portrait, in turn."""
BOTH: tuple[Step, ...] = ("front", "back")
DOCUMENT_KINDS: dict[str, tuple[str, tuple[Step, ...]]] = {
    "genuine document": ("", ()),
    "photo of a screen": ("photo_of_screen", BOTH),
    "grey copy": ("gray_copy", BOTH),
    "colour copy": ("document_on_printed_paper", BOTH),
    "altered MRZ": ("mrz_check_digit", ("back",)),
    "altered printed field": ("data_mismatch", ("front",)),
    "expired document": ("document_expired", BOTH),
    "blurred": ("blurred_photo", BOTH),
    "no document": ("no_document_in_image", BOTH),
    "two documents": ("two_documents_uploaded", BOTH),
}
FACE_KINDS: dict[str, str] = {
    "genuine face": "",
    "moved photo": "moved_photo",
    "bent photo": "bent_photo",
    "screen replay": "screen_replay",
    "recording made before": "old_recording",
    "no action": "no_action",
    "video that stands still": "frozen",
    "video that repeats": "repeated",
    "person changed half way": "swapped",
    "two people": "two_people",
    "nobody": "no_face",
}


@dataclass(frozen=True)
class Presentation:
    """One film or pair of films, judged. codes: of all reasons given; checks: what each check found."""

    kind: str
    seed: int
    codes: tuple[str, ...]
    checks: dict[str, dict[str, Any]]


def present(kind: str, seed: int) -> Presentation:
    """Film one presentation and judge it."""
    import torch

    from graphs.local import run_here
    from models.liveness.challenge import draw
    from models.specimens.scenarios import film_step

    torch.set_num_threads(1)
    design, portrait = PEOPLE[seed % len(PEOPLE)]
    challenge = tuple(draw(random.Random(f"challenge {seed}"), 2).to_list())
    attack, attacked = DOCUMENT_KINDS.get(kind, ("", ()))
    scenario = Scenario(kind, design, portrait, "", "", attack, attacked, FACE_KINDS.get(kind, ""))
    steps: tuple[Step, ...] = BOTH if kind in DOCUMENT_KINDS else ("face",)
    films: dict[Step, bytes] = {step: film_step(scenario, step, challenge, seed=seed, today=TODAY) for step in steps}
    spec = CaseSpec(f"{kind}-{seed}", "standard", {"front": 1, "back": 1, "face": 1}, challenge, TODAY)
    checks = [value for value in run_here(spec, films).values() if isinstance(value, CheckResult)]
    return Presentation(
        kind,
        seed,
        tuple(sorted({_why(check) for check in checks if check.result != "clear"})),
        {
            check.name: {"result": check.result, "score": check.score, "properties": dict(check.properties)}
            for check in checks
        },
    )


def _why(check: CheckResult) -> str:
    return check.reasons[0].code if check.reasons else f"{check.name} {check.result}"


def interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    share = count / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * (share * (1 - share) / of + z**2 / (4 * of**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def report(console: Console, found: Sequence[Presentation], kinds: Sequence[str]) -> None:
    """Print one row for each kind."""
    table = Table("presentation", "n", "wrong", "95 % interval", "reasons given (films)", title="wrong: let through "
                  "for an attack (APCER), not let through for a genuine one (BPCER)")  # fmt: skip
    for kind in kinds:
        of_kind = [one for one in found if one.kind == kind]
        caught = sum(bool(one.codes) for one in of_kind)
        wrong = caught if kind.startswith("genuine") else len(of_kind) - caught
        low, high = interval(wrong, len(of_kind))
        codes = Counter(code for one in of_kind for code in one.codes)
        named = ", ".join(f"{code} {count}" for code, count in codes.most_common())
        table.add_row(kind, str(len(of_kind)), str(wrong), f"{low:.0%} to {high:.0%}", named)
    console.print(table)


def main() -> None:
    """Read the command line, film, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="100-109", help="first-last")
    parser.add_argument("--only", nargs="*", metavar="KIND", default=[], help="parts of names of kinds")
    parser.add_argument("--out", type=Path, default=Path("out") / "error_rates.json")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split("-"))
    kinds = [
        kind
        for kind in (*DOCUMENT_KINDS, *FACE_KINDS)
        if not arguments.only or any(part in kind for part in arguments.only)
    ]
    console = Console()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), one_thread) as pool:
        jobs: list[Future[Presentation]] = [
            pool.submit(present, kind, seed) for kind in kinds for seed in range(first, last + 1)
        ]
        found = [job.result() for job in track(as_completed(jobs), "presentations", total=len(jobs), console=console)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([vars(one) for one in found], default=str, indent=1))
    report(console, found, kinds)
    console.print(f"seeds {arguments.seeds}, synthetic; every score: {arguments.out}")


if __name__ == "__main__":
    main()
