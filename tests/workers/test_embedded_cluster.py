"""The embedded cluster restarts its processes, and workers can be added and removed without losing data.

Real processes with real models. Regression: when the scheduler died, the service stayed down until an operator acted.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client, Worker

from tests.support.waiting import until
from workers.children import FIRST_DELAY_S, LONGEST_DELAY_S, STEADY_S, Child, delay_s
from workers.cluster import EmbeddedCluster, labels
from workers.errors import ClusterError
from workers.placement import CPU, GPU

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
BACK_S = 90.0
"""Longest wait for a process to be back and warm: a start takes 5 to 10 s, and the machine may be busy."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedCluster, str]]:
    """A cluster for this module only, because its scheduler is killed; and its address."""
    cluster = EmbeddedCluster(cpu_threads=1, gpu_threads=1, folder=tmp_path_factory.mktemp("own"), most_workers=3)
    yield cluster, cluster.start()
    cluster.stop()


def offered(address: str) -> dict[str, str]:
    """The labels of warm workers by address; empty if the scheduler is unreachable."""
    try:
        with Client(address, timeout=3, set_as_default=False) as client:
            found: dict[str, str] = client.sync(labels, client)
            return found
    except OSError:
        return {}


def warm_again(address: str, before: dict[str, str], kept: int) -> bool:
    """Whether both labels are connected, and this many of the workers are the earlier ones."""
    now = offered(address)
    return Counter(now.values()) == {CPU: 1, GPU: 1} and len(now.keys() & before.keys()) == kept


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_workers_hold_never_goes_to_the_disk(own: tuple[EmbeddedCluster, str]) -> None:
    """By default a worker spills data to disk unencrypted, here films of people and their documents."""
    cluster, address = own

    def spills(dask_worker: Worker) -> list[object]:
        memory = dask_worker.memory_manager
        return [type(dask_worker.data), memory.memory_target_fraction, memory.memory_spill_fraction]

    with Client(address, set_as_default=False) as client:
        assert list(client.run(spills).values()) == [[dict, False, False]] * 2
    assert list(cluster.folder.rglob("storage")) == []


@pytest.mark.parametrize("role", ["scheduler", "cpu-0", "gpu-0"])
def test_what_is_killed_comes_back(own: tuple[EmbeddedCluster, str], role: str) -> None:
    cluster, address = own
    before, workers = cluster.processes, offered(address)
    assert set(before) == {"scheduler", "cpu-0", "gpu-0"}
    os.kill(before[role], signal.SIGKILL)
    until(lambda: warm_again(address, workers, kept=0 if role == "scheduler" else 1), BACK_S)
    after = cluster.processes
    assert set(after) == set(before)
    assert after[role] != before[role]
    if role == "scheduler":
        assert all(after[each] != before[each] for each in before), "what its workers held belongs to the old one"
        assert all(gone(pid) for pid in before.values())
    else:
        assert after["scheduler"] == before["scheduler"]


def test_a_killed_nanny_takes_its_worker_along_and_both_come_back(own: tuple[EmbeddedCluster, str]) -> None:
    """Regression: a nanny restarts a dead worker, but nothing restarted a dead nanny."""
    cluster, address = own
    worker, workers = cluster.processes["cpu-0"], offered(address)
    told: list[dict[str, int]] = []
    cluster.changed = lambda: told.append(cluster.processes)
    nanny = psutil.Process(worker).parent()
    assert nanny is not None
    nanny.kill()
    until(lambda: gone(worker) and warm_again(address, workers, kept=1), BACK_S)
    until(lambda: bool(told) and told[-1] == cluster.processes, BACK_S)
    assert worker not in told[-1].values()
    assert set(told[-1]) == {"scheduler", "cpu-0", "gpu-0"}


async def test_one_more_and_one_less_with_the_data_moved_first(own: tuple[EmbeddedCluster, str]) -> None:
    cluster, address = own
    assert cluster.workers(CPU) == 1
    role = cluster.add_worker(CPU)
    assert (role, cluster.workers(CPU), cluster.workers(GPU)) == ("cpu-1", 2, 1)
    async with Client(address, asynchronous=True, set_as_default=False) as client:
        async with asyncio.timeout(BACK_S):
            while Counter((await labels(client)).values()) != {CPU: 2, GPU: 1}:
                await asyncio.sleep(0.2)
        pid = cluster.processes[role]
        workers = (await client.scheduler.identity(n_workers=-1))["workers"]
        added = next(at for at, worker in workers.items() if worker["name"] == role)
        held = await client.scatter({"evidence": b"kept"}, workers=[added], hash=False, direct=True)
        assert added in await client.retire_workers([added], close_workers=False, remove=False)
        assert added not in await labels(client), "no upload goes to a worker that is about to end"
        await asyncio.to_thread(cluster.end_worker, role)
        assert gone(pid)
        assert await client.gather(held["evidence"]) == b"kept"
        await asyncio.sleep(2)
        assert Counter((await labels(client)).values()) == {CPU: 1, GPU: 1}, "an ended worker is not started again"
    assert set(cluster.processes) == {"scheduler", "cpu-0", "gpu-0"}
    for wrong in (role, "scheduler", "nobody"):
        with pytest.raises(ClusterError, match=f"no worker {wrong}"):
            cluster.end_worker(wrong)


def test_starts_are_ever_rarer_while_a_process_dies_young(tmp_path: Path) -> None:
    """A worker that cannot start, as with a broken weight file, must not use up processor time by restarts."""
    assert [delay_s(n) for n in range(5)] == [0.0, FIRST_DELAY_S, 1.0, 2.0, 4.0]
    assert delay_s(1000) == LONGEST_DELAY_S
    child = Child(["no-such-command"], tmp_path / "broken.log")
    now = 0.0
    delays = []
    for _ in range(4):
        child.start(now)
        child.wait()
        assert child.status()
        assert child.pid is None
        delays.append(child.died(now))
        now += delays[-1]
        assert child.due == now
    assert delays == [0.5, 1.0, 2.0, 4.0]
    assert child.reason().count("no-such-command") >= 4, "the log keeps what the earlier ones said"
    child.start(now)
    child.wait()
    assert child.died(now + STEADY_S) == 0.0, "one that lived long starts again at once"
