"""A burst of cases against a server that scales its own cluster: what waits, how many workers there are, what is lost.

    python -m benchmarks.scaling --cases 200 --max-cpu 3 --max-gpu 2

Renders pictures of genuine specimens (synthetic), starts `veridask serve` with scaling on, sends all cases of the
profile `document` at once, and looks at the load of both labels twice a second until all cases are answered and the
workers are as few as before. Prints a table and draws `out/scaling.html`. On a machine whose cores the first workers
use up already, more of them drain a burst no sooner: what is shown is that they come, share the work, and go.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import psutil
from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.models import LinearAxis, Range1d
from bokeh.plotting import figure
from bokeh.resources import INLINE
from distributed import Client
from rich.console import Console
from rich.progress import track
from rich.table import Table

from graphs.records import Step
from models.specimens.capture import Scene, back_scene, front_scene
from models.specimens.document import make_specimen
from service.client import VeridaskClient
from service.server.local import LocalServer
from workers.errors import ClusterError
from workers.load import LabelLoad, read_load
from workers.placement import LABELS, Label

FIRST_SEED = 9100
"""No threshold was fitted on seeds from 9000."""
LOOK_S = 0.5
SENDERS = 8
ANSWER_S = 900.0
LOST = "lost"
SIDES: tuple[Step, ...] = ("front", "back")
Pictures = Mapping[Step, bytes]


@dataclass(frozen=True)
class Look:
    """The load by label at one moment. at_s: seconds since the burst began."""

    at_s: float
    loads: Mapping[Label, LabelLoad]


class Watcher(threading.Thread):
    """Reads the load of a cluster until stopped."""

    def __init__(self, scheduler: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self._scheduler = scheduler
        self._ended = threading.Event()
        self.looks: list[Look] = []
        self.began = time.monotonic()

    def run(self) -> None:
        """Look, and go on when a look fails."""
        with Client(self._scheduler, set_as_default=False) as client:
            while not self._ended.wait(LOOK_S):
                try:
                    loads = client.sync(read_load, client, 10)
                except ClusterError:
                    continue
                self.looks.append(Look(time.monotonic() - self.began, loads))

    def stop(self) -> None:
        """End it and wait for its end."""
        self._ended.set()
        self.join()

    def workers(self) -> dict[Label, int]:
        """Workers by label at the last look."""
        return {label: load.workers for label, load in self.looks[-1].loads.items()} if self.looks else {}


def photo(scene: Scene) -> bytes:
    """A JPEG of the first frame of a scene."""
    picture = cv2.cvtColor(next(iter(scene.frames())), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())


def render(console: Console, people: int) -> list[Pictures]:
    """Front and back of so many genuine documents."""
    made: list[Pictures] = []
    for i in track(range(people), "rendering", console=console):
        today = datetime.now(UTC).date()
        design, portrait = (("azure", "astronaut"), ("ochre", "grace_hopper"))[i % 2]
        specimen = make_specimen(FIRST_SEED + i, design=design, portrait=portrait, today=today)  # type: ignore[arg-type]
        scenes = front_scene(specimen, seed=FIRST_SEED + i), back_scene(specimen, seed=FIRST_SEED + i)
        made.append({step: photo(scene) for step, scene in zip(SIDES, scenes, strict=True)})
    return made


def send(client: VeridaskClient, pictures: Pictures) -> str:
    """Create a case and upload both sides; gives its id once both were acknowledged."""
    case = client.create("document")
    for step in SIDES:
        client.upload(case.id, step, pictures[step], "image/jpeg")
    return case.id


def answer(client: VeridaskClient, case_id: str, until: float) -> str:
    """The outcome of a case with its first reason, or `lost`. The decision is waited for, not the retake that quality
    asks for before it: which of the two was seen first once looked like two answers to one document.
    """
    try:
        case = client.decided(case_id, max(1.0, until - time.monotonic()))
    except TimeoutError:
        return LOST
    assert case.decision is not None
    return " ".join([case.decision.outcome, *(reason.code for reason in case.decision.reasons[:1])])


def measure(console: Console, options: argparse.Namespace) -> int:
    """Run the burst and report; gives how many cases were lost, and documents answered now so, now so."""
    pictures = render(console, min(options.cases, options.people))
    with (
        tempfile.TemporaryDirectory(prefix="veridask-bench-") as folder,
        LocalServer(
            Path(folder),
            max_cpu_workers=options.max_cpu,
            max_gpu_workers=options.max_gpu,
            cpu_threads=options.threads,
            gpu_threads=options.threads,
            scale_quiet_s=options.quiet,
            key_rate=100_000,  # one key sends the whole burst
            decision_timeout_s=2 * ANSWER_S,
        ) as server,
    ):
        running = server.start()
        watcher = Watcher(running.scheduler)
        watcher.start()
        with VeridaskClient(running.url, running.key, timeout_s=120) as client, ThreadPoolExecutor(SENDERS) as senders:
            orders = [senders.submit(send, client, pictures[i % len(pictures)]) for i in range(options.cases)]
            ids = [order.result() for order in orders]
            sent_s = time.monotonic() - watcher.began
            until = time.monotonic() + ANSWER_S
            answers = [answer(client, each, until) for each in track(ids, "answers", console=console)]
        drained_s = time.monotonic() - watcher.began
        enough = time.monotonic() + (options.max_cpu + options.max_gpu) * (options.quiet + 10)
        while time.monotonic() < enough and any(workers != 1 for workers in watcher.workers().values()):
            time.sleep(LOOK_S)
        watcher.stop()
    shown: dict[int, set[str]] = defaultdict(set)
    for i, said in enumerate(answers):
        shown[i % len(pictures)].add(said)
    report(console, options, watcher.looks, Counter(answers), sent_s, drained_s)
    differing = sum(len(said) > 1 for said in shown.values())
    console.print(f"documents that were answered differently in another case: {differing} of {len(shown)}")
    return answers.count(LOST) + differing


def report(
    console: Console,
    options: argparse.Namespace,
    looks: Sequence[Look],
    outcomes: Mapping[str, int],
    sent_s: float,
    drained_s: float,
) -> None:
    """Print what happened, and draw it."""
    cores, gib = psutil.cpu_count() or 0, psutil.virtual_memory().total / 2**30
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores, {gib:.0f} GiB; {options.threads} threads a worker")
    lost = outcomes.get(LOST, 0)
    console.print(f"{options.cases} cases sent in {sent_s:.0f} s, drained after {drained_s:.0f} s, {lost} lost")
    console.print(f"outcomes: {dict(outcomes)}")
    table = Table(
        "label",
        "workers at most",
        "slots used",
        "at the end",
        "waiting at most",
        "oldest wait, s",
        "one again after, s",
    )
    for label in LABELS:
        found = [(look.at_s, look.loads[label]) for look in looks]
        peak = max(load.workers for _, load in found)
        last_more = max((at for at, load in found if load.workers > 1), default=0.0)
        table.add_row(
            label,
            str(peak),
            str(max(load.busy for _, load in found)),
            str(found[-1][1].workers),
            str(max(load.waiting for _, load in found)),
            f"{max(load.oldest_s for _, load in found):.1f}",
            f"{last_more:.0f}" if peak > 1 else "–",
        )
    console.print(table)
    console.print(f"drawn: {draw(looks, drained_s, Path('out') / 'scaling.html')}")


def draw(looks: Sequence[Look], drained_s: float, path: Path) -> Path:
    """Write the page: for each label the runnable tasks and, on the right, the workers over time. Gives the path."""
    plots = []
    times = [look.at_s for look in looks]
    for label in LABELS:
        loads = [look.loads[label] for look in looks]
        most = max(load.workers for load in loads) + 1
        plot = figure(
            width=1100,
            height=320,
            title=f"{label}: all answered after {drained_s:.0f} s",
            x_axis_label="seconds since the burst began",
            y_axis_label="tasks",
        )
        plot.line(times, [load.runnable for load in loads], color="#2a7fb8", legend_label="runnable tasks")
        plot.line(times, [load.busy for load in loads], color="#5cb85c", legend_label="busy slots")
        plot.extra_y_ranges = {"workers": Range1d(start=0, end=most)}
        plot.add_layout(LinearAxis(y_range_name="workers", axis_label="workers"), "right")
        plot.step(
            times,
            [load.workers for load in loads],
            mode="after",
            color="#d9534f",
            line_width=2,
            legend_label="workers",
            y_range_name="workers",
        )
        plots.append(plot)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file_html(column(*plots), INLINE, "veridask: scaling by label"), "utf-8")
    return path


def main() -> int:
    """Run it; gives 1 when a case was lost or one document was answered in two ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--people", type=int, default=20, help="different documents; cases beyond show them again")
    parser.add_argument("--max-cpu", type=int, default=3)
    parser.add_argument("--max-gpu", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--quiet", type=float, default=10.0, help="quiet seconds before each step down")
    return 1 if measure(Console(), parser.parse_args()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
