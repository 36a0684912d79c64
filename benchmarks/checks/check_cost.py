"""What each node of a case costs, of this checkout and of another one beside it, on the same films in one run.

    python -m benchmarks.checks.check_cost [--seeds 33000-33005] [--against ../another-checkout] [--rounds 2]

CPU milliseconds of the whole process for a node, its threads held to one, median over genuine cases of specimens. The
checkouts take turns, each in processes of its own with its code before this one's (PYTHONPATH); the other one must
have the nodes run by `graphs.run`, as all since its first version have, and share this environment.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.specimens.scenarios import Scenario, Step, film_step

CHECKOUT = Path(__file__).resolve().parents[2]
TODAY = date(2026, 7, 1)
STEPS: tuple[Step, ...] = ("front", "back", "face")
Costs = Mapping[str, list[float]]


def film(folder: Path, seeds: range) -> None:
    """Film genuine cases into a folder: `SEED-step.mp4` and their challenges."""
    from graphs.evaluation.presentation import PEOPLE, challenge_of

    for seed in track(seeds, "films"):
        challenge = challenge_of(seed)
        scenario = Scenario("genuine", *PEOPLE[seed % len(PEOPLE)], "approved")
        for step in STEPS:
            media = film_step(scenario, step, challenge, seed=seed, today=TODAY)
            (folder / f"{seed}-{step}.mp4").write_bytes(media)
        (folder / f"{seed}.json").write_text(json.dumps(challenge), encoding="utf-8")


def measured(folder: Path) -> dict[str, list[float]]:
    """Run the nodes of each case in this process: CPU milliseconds by node. The first case only warms up."""
    import cv2

    from graphs.flow import nodes_for
    from graphs.profile import get_profile
    from graphs.records import CaseSpec
    from graphs.run import run_node

    cv2.setNumThreads(1)
    costs: dict[str, list[float]] = {}
    cases = sorted(folder.glob("*.json"))
    for number, case in enumerate([cases[0], *cases]):
        challenge = tuple(json.loads(case.read_text(encoding="utf-8")))
        spec = CaseSpec("cost", "standard", dict.fromkeys(STEPS, 1), challenge, TODAY)
        values = {f"upload_{step}": (folder / f"{case.stem}-{step}.mp4").read_bytes() for step in STEPS}
        for node in nodes_for(get_profile("standard")).values():
            inputs = {parameter: values[source] for parameter, source in node.inputs.items()}
            started = time.process_time()
            values[node.name] = run_node(node.name, spec, **inputs)
            if number:
                costs.setdefault(node.name, []).append(1000 * (time.process_time() - started))
    return costs


def of_checkout(checkout: Path, folder: Path) -> Costs:
    """What a process of that checkout measures."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread, "PYTHONPATH": str(checkout)}
    command = [sys.executable, str(Path(__file__)), "--measure", str(folder)]
    run = subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True, text=True)
    costs: Costs = json.loads(run.stdout.splitlines()[-1])
    return costs


def table_of(costs: Mapping[Path, Costs]) -> Table:
    """A row for each node, a column for each checkout."""
    names = list(dict.fromkeys(name for of_nodes in costs.values() for name in of_nodes))
    table = Table("node", *("here" if checkout == CHECKOUT else "the other" for checkout in costs), title="CPU ms")
    totals = dict.fromkeys(costs, 0.0)
    for name in names:
        cells = []
        for checkout, of_nodes in costs.items():
            cells.append(f"{median(of_nodes[name]):.1f}" if name in of_nodes else "–")
            totals[checkout] += median(of_nodes[name]) if name in of_nodes else 0.0
        table.add_row(name, *cells)
    table.add_row("all", *(f"{total:.0f}" for total in totals.values()), style="bold")
    return table


def main() -> None:
    """Film, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="33000-33005", help="first and last, with a hyphen")
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each checkout")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    first, last = (int(part) for part in options.seeds.split("-"))
    checkouts = [CHECKOUT, *([options.against.resolve()] if options.against else [])]
    costs: dict[Path, dict[str, list[float]]] = {checkout: {} for checkout in checkouts}
    with TemporaryDirectory() as folder:
        film(Path(folder), range(first, last + 1))
        for turn in range(options.rounds * len(checkouts)):
            checkout = checkouts[turn % len(checkouts)]
            for name, found in of_checkout(checkout, Path(folder)).items():
                costs[checkout].setdefault(name, []).extend(found)
    Console().print(table_of(costs))


if __name__ == "__main__":
    main()
