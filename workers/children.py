"""Child processes that are restarted when they die: the process, its log, and when to restart it.

Does not watch them: `workers.cluster` does, and decides what a death means for the other processes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from workers.errors import REFUSAL
from workers.orphan import PARENT

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
STEADY_S = 60.0
"""A process that ran at least this long is restarted without delay."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
END_S = 10.0


def delay_s(deaths: int) -> float:
    """Seconds to wait before a restart, by the number of early deaths in a row: 0, then 0.5, doubling up to 30."""
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (min(deaths, 16) - 1)) if deaths else 0.0


class Child:
    """One `dask` command as a child process.

    log: its log file, removed at creation; restarts append to it. due: when to start it next, None while it runs. All
    times are those of the caller's monotonic clock.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.command = list(command)
        self.log = log
        self.due: float | None = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._early_deaths = 0
        self._worker: psutil.Process | None = None
        log.unlink(missing_ok=True)

    def start(self, now: float) -> None:
        """Start the process. It and its own children end when this process ends, even if this process is killed."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dask", *self.command],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ONE_THREAD, PARENT: str(os.getpid())},
                start_new_session=True,  # Ctrl-C reaches only the parent, which stops its children in order
            )
        self._started = now
        self.due = None

    def status(self) -> int | None:
        """Exit status of the ended process, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def died(self, now: float) -> float:
        """Record a death and schedule the restart; returns its delay in seconds. Kills the worker of a dead nanny."""
        if self._worker is not None:
            _kill(self._worker)
            self._worker = None
        self._early_deaths = self._early_deaths + 1 if now - self._started < STEADY_S else 0
        delay = delay_s(self._early_deaths)
        self.due = now + delay
        return delay

    @property
    def pid(self) -> int | None:
        """Process id, of the worker rather than its nanny once the worker exists; None while nothing runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        if self._worker is None or not _alive(self._worker):
            family = psutil.Process(self._process.pid).children()
            self._worker = next((p for p in family if "spawn_main" in _command(p)), None)
        return self._process.pid if self._worker is None else self._worker.pid

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait for the process to end after `ask_to_end`; after END_S, kill it and its children."""
        if self._process is not None:
            try:
                self._process.wait(timeout=END_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Kill the process and its children, and wait until it is gone."""
        if self._process is not None:
            if self._process.poll() is None:
                for orphan in psutil.Process(self._process.pid).children(recursive=True):
                    _kill(orphan)
            self._process.kill()
            self._process.wait()

    def reason(self) -> str:
        """Why it ended: the log line in which a worker refuses to start, otherwise the end of its log."""
        log = self.log.read_text("utf-8", "replace")
        return next((line for line in log.splitlines() if REFUSAL in line), log[-2000:])


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # a zombie until its nanny reaps it
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
