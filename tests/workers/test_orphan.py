"""Child processes end when their parent is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.places import ROOT
from workers.orphan import PARENT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

STARTER = """
import os, subprocess, sys, time
env = {**os.environ, "%s": str(os.getpid())}
file = sys.argv[1]
local = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", file]
watched = ["--preload", "workers.orphan"]
nanny = ["--preload-nanny", "workers.orphan", "--local-directory", os.path.dirname(file)]
for command in (["scheduler", "--port", "0", *watched], ["worker", *watched, *nanny]):
    subprocess.Popen([sys.executable, "-m", "dask", *command, *local], env=env, start_new_session=True)
time.sleep(600)
""" % (PARENT,)  # noqa: UP031  braces stand in it


def test_a_killed_parent_takes_the_cluster_with_it(tmp_path: Path) -> None:
    """Regression: a killed `veridask serve` left its scheduler and workers running."""
    file = tmp_path / "scheduler.json"
    parent = subprocess.Popen([sys.executable, "-c", STARTER, str(file)], cwd=ROOT)
    family: list[psutil.Process] = []
    try:
        while not any("spawn_main" in " ".join(p.cmdline()) for p in family) or not file.exists():
            family = psutil.Process(parent.pid).children(recursive=True)
        assert json.loads(file.read_text())["address"].startswith("tcp://127.0.0.1")
        assert len(family) >= 3, "scheduler, nanny and worker"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
    finally:
        for process in family:
            if process.is_running():
                process.kill()


SERVING = """
import sys, time
from pathlib import Path
from service.server.local import LocalServer
print(LocalServer(Path(sys.argv[1]), sys.argv[2]).start().processes["api"], flush=True)
time.sleep(600)
"""


def test_a_killed_parent_takes_its_server_with_it(cluster: str, tmp_path: Path) -> None:
    """Regression: a service started by a killed test or benchmark kept running for hours."""
    root = ROOT
    command = [sys.executable, "-c", SERVING, str(tmp_path), cluster]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        family = [server, *server.children(recursive=True)]
        os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=60)
    for process in alive:
        process.kill()
    assert not alive
