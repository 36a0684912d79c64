"""`veridask doctor`: what is missing, unsafe or too slow here, in one table: settings, machine, packages, what the
settings name (`service.cli.diagnoses`), networks.

Says what to do about each finding. Does not start a cluster and changes nothing but one file it removes again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from graphs.errors import ProfileError
from graphs.profile import profiles
from service.cli import diagnoses
from service.cli.diagnoses import Finding
from service.settings.settings import Settings
from workers.errors import UntestedBuildError
from workers.uploads import require_tested_build

PACKAGES = (
    "dask", "distributed", "fastapi", "uvicorn", "sqlalchemy", "pydantic-settings", "structlog", "prometheus-client",
    "opentelemetry-api", "opencv-python-headless", "torch", "numpy", "zarr", "bokeh", "av",
    "onnxruntime", "rapidocr", "zxing-cpp", "dlib-bin", "face_recognition_models",
)  # fmt: skip
MIN_CORES, MIN_MEMORY_GIB, MIN_DISK_GIB = 2, 6, 5
SLOW_FSYNC_MS = 50.0
SLOW_MS = {
    "page_finder": 800.0,
    "mrz_reader": 500.0,
    "text_reader": 1500.0,
    "face_detector": 1600.0,
    "landmarks": 10.0,
    "face_embedder": 200.0,
}
"""Milliseconds on one thread for the inputs of `workers.selfcheck`, above which a person would notice: about twice what
two shared cores of 2.x GHz need."""


def machine(folder: Path) -> Iterator[Finding]:
    """Cores, memory, disk, and how long a durable write takes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield _least("cores", cores, MIN_CORES, "the checks of a case run in parallel; with one core people wait longer")
    memory = psutil.virtual_memory().total / 2**30
    yield _least(
        "memory, GiB", memory, MIN_MEMORY_GIB, "two workers and the API need about 3 GiB before the first case"
    )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2**30
    yield _least("free disk, GiB", free, MIN_DISK_GIB, f"evidence is stored in {folder}")
    probe = folder / ".doctor"
    started = time.perf_counter()
    with probe.open("wb") as file:
        file.write(b"\0" * 2_000_000)
        file.flush()
        os.fsync(file.fileno())
    taken = (time.perf_counter() - started) * 1000
    probe.unlink()
    slow = taken > SLOW_FSYNC_MS
    advice = "every upload waits for this before it is accepted; use a faster disk" if slow else ""
    yield Finding("durable write of 2 MB", "slow" if slow else "ok", f"{taken:.0f} ms", advice)


def _least(what: str, value: float, least: float, why: str) -> Finding:
    enough = value >= least
    return Finding(what, "ok" if enough else "missing", f"{value:.0f}", "" if enough else f"at least {least}: {why}")


def packages() -> Iterator[Finding]:
    """Which libraries are there, and whether `distributed` is of a tested version."""
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", "", 'install with: pip install -c constraints.txt -e ".[api,worker]"')
    try:
        require_tested_build()
    except UntestedBuildError as error:
        yield Finding("distributed", "missing", "untested version", error.detail)
    try:
        yield Finding("profiles", "ok", ", ".join(profiles()))
    except ProfileError as error:
        yield Finding("profiles", "missing", "", error.detail)


def networks() -> Iterator[Finding]:
    """Load and time every model in a process of its own, as a worker would."""
    command = [sys.executable, "-m", "workers.selfcheck"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as run:
        for line in run.stdout or ():
            found = json.loads(line)
            if "gpus" in found:
                yield _gpu(found)
                continue
            name = found["model"]
            if "error" in found:
                yield Finding(name, "missing", "", found["error"])
                continue
            slow = found["run_ms"] > SLOW_MS[name]
            detail = f"loaded in {found['load_s']} s, {found['run_ms']} ms a run"
            advice = f"expected below {SLOW_MS[name]:.0f} ms: is the machine busy, or its clock low?" if slow else ""
            yield Finding(name, "slow" if slow else "ok", detail, advice)
    if run.returncode:
        yield Finding("models", "missing", f"status {run.returncode}", "run python -m workers.selfcheck to see why")


def _gpu(found: Mapping[str, Any]) -> Finding:
    names, device = found["gpus"], found["device"]
    if not names:
        return Finding("GPU", "ok", f"none; networks run on {device}")
    used = str(device).startswith("cuda")
    advice = "" if used else "there is a GPU, but the face networks do not use it; set VERIDASK_DEVICE=cuda"
    return Finding("GPU", "ok" if used else "slow", f"{', '.join(names)}; networks run on {device}", advice)


def given_settings() -> tuple[Settings, list[Finding]]:
    """The settings of the environment, and what is wrong with them; with unsafe ones, the defaults to look on with."""
    try:
        return Settings(), [Finding("settings", "ok", "valid and safe")]
    except ValidationError as error:
        found = [
            Finding("_".join(("VERIDASK", *map(str, each["loc"]))).upper(), "unsafe", "", each["msg"])
            for each in error.errors()
        ]
        return Settings.model_construct(), found


def doctor() -> int:
    """Print all findings; gives 0 when nothing is missing or unsafe, 1 otherwise."""
    settings, wrong = given_settings()
    folder = settings.data_dir.resolve()
    named = (
        diagnoses.keys,
        diagnoses.store,
        diagnoses.encryption,
        diagnoses.evidence,
        diagnoses.clusters,
        diagnoses.service,
    )
    sources = (wrong, machine(folder), packages(), *(look(settings) for look in named), networks())
    console = Console()
    table = Table("", "what", "found", "advice", title="veridask doctor")
    colours = {"ok": "green", "slow": "yellow", "missing": "red", "unsafe": "red"}
    worst = 0
    with console.status("checking") as status:
        for source in sources:
            for finding in source:
                status.update(f"checked {finding.what}")
                colour = colours[finding.verdict]
                table.add_row(f"[{colour}]{finding.verdict}[/]", finding.what, finding.detail, finding.advice)
                worst = max(worst, int(finding.verdict in ("missing", "unsafe")))
    console.print(table)
    return worst
