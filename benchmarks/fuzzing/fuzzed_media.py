"""Uploads that cannot hurt: thousands of broken and forged media through the whole upload path and the decoders.

    python -m benchmarks.fuzzing.fuzzed_media --files 5000 --seed 1 [--out out/fuzzed_media]

Makes the files of `media_mutations` and sends each over HTTP to a server with a cluster of its own, several at once.
One that is taken is decoded and judged on the workers. Watches all processes: who ends, and how much memory each takes.
Promised is: no answer 5xx, no end of API, scheduler or a worker, each upload that was taken is judged, each case whose
steps were all taken gets its decision (or asks again), and no node of a graph fails of anything but its media.
Prints a table, writes it as JSON, keeps the files that broke a promise. Gives 1 when one is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.fuzzing.media_mutations import Mutant, mutant
from graphs.records import Step
from service.client import VeridaskClient
from service.schemas.cases import CaseView
from service.server.local import LocalServer, Running

AT_ONCE = 4
FULL_SHARE = 0.2
"""Of the cases, those that get media for all of their steps and so a decision; the others wait for the rest."""
JUDGED_S = 300.0
"""A case counts as hung when it is not judged and no other one was in so many seconds."""
LOOK_S = 0.25
_CHILDREN = {"service.evidence.probe_child": "probe", "workers.decoder_child": "decoder"}
_PEAK_KIB = re.compile(r"VmHWM:\s+(\d+) kB")
_NODE_FAILED = re.compile(r"\b(\w+) failed with (\w+) at ")
_DECODER_ENDED = re.compile(r"a decoding process ended with (\S+) on (\w+)")


class Watch:
    """Looks at the processes of a service again and again: which there are, and the most memory that each kind took, by
    the kernel's own high-water mark. A process that came and went between two looks is missed.
    """

    def __init__(self, processes: dict[str, int]) -> None:
        self._roots = {role: psutil.Process(pid) for role, pid in processes.items()}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self.start_mib: dict[str, float] = {}
        self.end_mib: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}
        self.children: dict[str, set[int]] = {kind: set() for kind in _CHILDREN.values()}
        self.gone: list[str] = []

    def __enter__(self) -> Watch:
        self._look()
        self.start_mib = self._resident()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._look()
        self.end_mib = self._resident()

    def _resident(self) -> dict[str, float]:
        return {role: root.memory_info().rss / 2**20 for role, root in self._roots.items() if role not in self.gone}

    def _look_on(self) -> None:
        while not self._ending.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        for role, root in self._roots.items():
            if role in self.gone:
                continue
            try:
                self._note(role, root)
                for child in root.children():
                    self._look_at_child(child)
            except psutil.NoSuchProcess:
                self.gone.append(role)

    def _look_at_child(self, child: psutil.Process) -> None:
        try:
            command = " ".join(child.cmdline())
            for module, kind in _CHILDREN.items():
                if module in command:
                    self.children[kind].add(child.pid)
                    self._note(kind, child)
        except psutil.NoSuchProcess:
            pass  # ended between two looks: its successor is counted

    def _note(self, kind: str, process: psutil.Process) -> None:
        if process.status() == psutil.STATUS_ZOMBIE:
            raise psutil.NoSuchProcess(process.pid)
        try:
            told = Path(f"/proc/{process.pid}/status").read_text("ascii", "replace")
        except OSError as gone:
            raise psutil.NoSuchProcess(process.pid) from gone
        if found := _PEAK_KIB.search(told):
            self.peak_mib[kind] = max(self.peak_mib.get(kind, 0.0), int(found[1]) / 2**10)


@dataclass
class Report:
    """What came of the files. hung: cases whose uploads were not judged or that had no end; kept: numbers of the files
    to look at.
    """

    files: int
    seed: int
    answers: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    children: dict[str, int] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    mib: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    seconds: float = 0.0


class _Lane:
    """One client that sends file after file, each to a step that is wanted; a new case where a step was taken."""

    def __init__(self, running: Running, seed: int) -> None:
        self._http = httpx.Client(
            base_url=running.url, headers={"Authorization": f"Bearer {running.key}"}, timeout=120, trust_env=False
        )
        self._rng = random.Random(seed)
        self._open: dict[str, tuple[str, list[Step]]] = {}
        self.sent: dict[str, dict[Step, int]] = {}
        """Case → step → number of the file that was taken for it."""
        self.full: set[str] = set()

    def send(self, file: Mutant) -> tuple[int, str]:
        """Send one file; gives status and code of the answer."""
        profile = "recorded" if file.is_video else "document"
        if profile not in self._open:
            answer = self._http.post("/v1/cases", json={"profile": profile})
            if answer.status_code != 201:
                return answer.status_code, "no case"
            case = answer.json()
            steps: list[Step] = [step["step"] for step in case["steps"]]
            self._rng.shuffle(steps)
            self._open[profile] = (case["id"], steps)
        case_id, steps = self._open[profile]
        answer = self._http.put(
            f"/v1/cases/{case_id}/uploads/{steps[0]}", content=file.data, headers={"Content-Type": file.mime}
        )
        if answer.status_code == 202:
            taken = self.sent.setdefault(case_id, {})
            taken[steps.pop(0)] = file.number
            if not steps:
                self.full.add(case_id)
            if not steps or (len(taken) == 1 and self._rng.random() > FULL_SHARE):
                del self._open[profile]
            return 202, ""
        return answer.status_code, answer.json().get("code", "")

    def close(self) -> None:
        self._http.close()


def send_all(running: Running, report: Report, console: Console) -> tuple[dict[str, dict[Step, int]], set[str]]:
    """Make and send all files. Gives what was taken (case → step → number of the file) and the cases with all steps."""
    lanes = [_Lane(running, report.seed * 100 + index) for index in range(AT_ONCE)]
    free = list(lanes)

    def one(number: int) -> None:
        file = mutant(report.seed, number)
        lane = free.pop()
        try:
            status, code = lane.send(file)
        except httpx.HTTPError as error:
            status, code = 599, type(error).__name__
        finally:
            free.append(lane)
        kind = file.mutation.split(",")[0]
        report.made[kind] += 1
        report.answers[f"{status} {code}".strip()] += 1
        if status == 202:
            report.passed[kind] += 1
        elif status >= 500:
            report.broken.append(f"file {file.number} ({file.base}, {file.mutation}) was answered {status} {code}")
            report.kept.add(file.number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in track(pool.map(one, range(report.files)), "files", total=report.files, console=console):
            pass
    for lane in lanes:
        lane.close()
    return {case: steps for lane in lanes for case, steps in lane.sent.items()}, set().union(*(x.full for x in lanes))


def judge_all(
    client: VeridaskClient, taken: dict[str, dict[Step, int]], full: set[str], report: Report, console: Console
) -> None:
    """Wait until each upload was judged and each full case has its end; cancel what still wants uploads."""
    deadline = time.monotonic() + JUDGED_S
    for case_id, steps in track(taken.items(), "waiting for cases", console=console):
        while True:
            view = client.case(case_id)
            judged = {check.name for check in view.checks}
            unjudged = [step for step in steps if f"quality_{step}" not in judged]
            if not unjudged and view.status != "processing":
                deadline = time.monotonic() + JUDGED_S
                break
            if time.monotonic() > deadline:
                numbers = [steps[step] for step in unjudged or steps]
                report.broken.append(f"case {case_id} hangs in {view.status}, files {numbers}")
                report.kept.update(numbers)
                break
            time.sleep(0.1)
    for case_id, steps in taken.items():  # what a step is to be taken again for is told a moment after its check
        view = client.case(case_id)
        tell(view, steps, "full" if case_id in full else "partial", report)
        if view.status == "requires_input":
            client.cancel(case_id)


def tell(view: CaseView, steps: dict[Step, int], kind: str, report: Report) -> None:
    """Count what came of one case. steps: numbers of the files that were taken; kind: whether all were."""
    outcome = view.decision.outcome if view.decision else "waits for uploads"
    report.cases[f"{kind}: {view.status}, {outcome}"] += 1
    results = {check.name: check.result for check in view.checks}
    report.checks.update(results.values())
    for step in view.steps:
        if step.step in steps:
            codes = ", ".join(sorted({reason.code for reason in step.reasons}))
            report.judged[codes or results.get(f"quality_{step.step}", "nothing")] += 1
    if errors := [name for name, result in results.items() if result == "error"]:
        report.broken.append(f"case {view.id}: {', '.join(errors)} in error, files {list(steps.values())}")
        report.kept.update(steps.values())


def read_logs(folder: Path, report: Report) -> None:
    """What the service and the workers wrote of ended children, failed nodes and unexpected errors."""
    for line in (folder / "server.log").read_text("utf-8", "replace").splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "probe_failed":
            report.ends[f"probe: {event.get('error')}, status {event.get('status')}"] += 1
        elif event.get("event") in ("unexpected_error", "internal_error", "background_failed", "verdict_failed"):
            report.broken.append(f"the log of the service has {event['event']}")
    for log in (folder / "cluster").glob("*.log"):
        text = log.read_text("utf-8", "replace")
        report.ends.update(f"decoder: {error}, status {status}" for status, error in _DECODER_ENDED.findall(text))
        report.broken += [f"node {node} failed with {error}" for node, error in _NODE_FAILED.findall(text)]


def fuzz(files: int, seed: int, console: Console, keep: Path | None = None) -> Report:
    """Send so many files to a service of its own; gives what came of them. keep: folder for files to look at."""
    report, began = Report(files, seed), time.monotonic()
    # No deadline of the service may end a case that hangs: it would look like one that ended.
    settings: dict[str, Any] = {
        "key_rate": 100_000,
        "case_rate": 100_000,
        "decision_timeout_s": 86_400,
        "max_backlog": 1_000_000,
    }
    with tempfile.TemporaryDirectory(prefix="veridask-fuzz-") as name:
        folder = Path(name)
        with LocalServer(folder, **settings) as server:
            running = server.start()
            with Watch(dict(running.processes)) as watch, VeridaskClient(running.url, running.key, 120) as client:
                taken, full = send_all(running, report, console)
                judge_all(client, taken, full, report, console)
        read_logs(folder, report)
    report.broken += [f"the process {role} ended" for role in watch.gone]
    report.children = {kind: len(pids) for kind, pids in watch.children.items()}
    report.mib = {
        kind: (round(watch.start_mib.get(kind, 0)), round(watch.end_mib.get(kind, 0)), round(peak))
        for kind, peak in sorted(watch.peak_mib.items())
    }
    report.seconds = round(time.monotonic() - began)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for number in report.kept:
            (keep / f"{seed}-{number}.bin").write_bytes(mutant(seed, number).data)
        (keep / "report.json").write_text(json.dumps(vars(report) | {"kept": sorted(report.kept)}, indent=1), "utf-8")
    return report


def _rows(title: str, counts: dict[str, Any]) -> Table:
    table = Table(title, "count")
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(name, str(count))
    return table


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    table = Table("mutation", "files", "taken")
    for kind in sorted(report.made):
        table.add_row(kind, str(report.made[kind]), str(report.passed[kind]))
    table.add_row("all", str(sum(report.made.values())), str(sum(report.passed.values())))
    console.print(table)
    console.print(_rows("answer", dict(report.answers)))
    console.print(_rows("taken, and then", dict(report.judged)))
    console.print(_rows("case", dict(report.cases)))
    console.print(_rows("results of checks", dict(report.checks)))
    console.print(_rows("children that were ended by a bound or by a file", dict(report.ends)))
    console.print(_rows("processes seen", report.children))
    table = Table("MiB resident", "at start", "at end", "most")
    for kind, (start, end, most) in report.mib.items():
        table.add_row(kind, *(str(mib or "") for mib in (start, end)), str(most))
    console.print(table)
    console.print(
        f"{report.files} files, seed {report.seed}: {len(report.broken)} promises broken, {report.seconds:.0f} s"
    )
    for line in report.broken[:50]:
        console.print(line)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, send, print; gives 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out") / "fuzzed_media")
    given, console = parser.parse_args(arguments), Console()
    report = fuzz(given.files, given.seed, console, given.out)
    show(report, console)
    return int(bool(report.broken))


if __name__ == "__main__":
    raise SystemExit(main())
