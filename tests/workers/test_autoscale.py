"""Scaling by load: the policy by tables and properties, and the loop on a real cluster with changing workers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count, pairwise

import pytest
from distributed import Scheduler, Worker
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.autoscale import Autoscaler, Bounds, Past, Rules, ScalingStep, decide
from workers.cluster import connect
from workers.errors import GroupError
from workers.load import IdleWorker, LabelLoad
from workers.placement import CPU, Label

RULES = Rules(wait_s=2.0, factor=5.0, pause_s=10.0, quiet_s=60.0, start_s=120.0)
IDLE = IdleWorker("tcp://127.0.0.1:1", "cpu-1", 100.0)
NOW = 1000.0


def load(runnable: int, workers: int, *, each: int = 2, oldest_s: float = 0.0, idle: int | None = None) -> LabelLoad:
    """The load that a scheduler reports when as many slots as possible are used."""
    slots = each * workers
    busy = min(runnable, slots)
    free = workers - math.ceil(busy / each) if idle is None else idle
    idles = tuple(IdleWorker(f"tcp://127.0.0.1:{i + 1}", f"cpu-{i + 1}", 100.0 - i) for i in range(free))
    return LabelLoad(runnable, runnable - busy, oldest_s if runnable > busy else 0.0, slots, busy, workers, idles)


UP = {
    "nothing to do": (load(0, 1), 1, Past(), 1),
    "work and no worker": (load(3, 0), 0, Past(), 1),
    "work and no worker, one is on its way": (load(3, 0), 1, Past(short_since=NOW - 5), 1),
    "work and no worker, one died just now": (load(3, 0), 1, Past(), 1),
    "work and no worker, the ordered one never came": (load(3, 0), 1, Past(short_since=NOW - 121), 2),
    "all slots used, nobody waits": (load(2, 1), 1, Past(), 1),
    "some wait, not for long": (load(9, 1, oldest_s=1.9), 1, Past(), 1),
    "the oldest waits too long": (load(3, 1, oldest_s=2.1), 1, Past(), 2),
    "too long, but another is on its way": (load(3, 1, oldest_s=9), 2, Past(short_since=NOW - 3), 2),
    "too long, but the last one has only come": (load(5, 2, oldest_s=9), 2, Past(ordered_at=NOW - 9), 2),
    "too long, and the last one did not help": (load(5, 2, oldest_s=9), 2, Past(ordered_at=NOW - 10), 3),
    "a backlog orders all it needs": (load(25, 1), 1, Past(), 3),
    "a backlog just within the factor": (load(10, 1), 1, Past(), 1),
    "the same backlog orders nothing twice": (load(25, 1), 3, Past(short_since=NOW - 5), 3),
    "a backlog that grew orders the rest": (load(35, 1), 3, Past(short_since=NOW - 5), 4),
    "never more than the most": (load(1000, 1), 1, Past(), 4),
    "at the most": (load(1000, 4, oldest_s=500), 4, Past(), 4),
    "fewer than the least": (load(0, 0), 0, Past(), 1),
    "no slots at all while workers are paused": (LabelLoad(5, 5, 1.0, 0, 0, 1), 1, Past(), 1),
}


@pytest.mark.parametrize("case", UP)
def test_up(case: str) -> None:
    found, ordered, past, expected = UP[case]
    step = decide(found, ordered, Bounds(1, 4), RULES, past, NOW)
    assert (step.workers, step.retire) == (expected, None)
    assert (step.past.ordered_at == NOW) is (expected > ordered)


DOWN = {
    "the quiet time begins": (load(0, 3), 3, Past(), 3),
    "not quiet for long enough": (load(0, 3), 3, Past(quiet_since=NOW - 59), 3),
    "quiet for long enough": (load(0, 3), 3, Past(quiet_since=NOW - 60), 2),
    "little work, one less would do": (load(4, 3), 3, Past(quiet_since=NOW - 60), 2),
    "one less would not do": (load(5, 3), 3, Past(quiet_since=NOW - 60), 3),
    "nobody is idle": (load(2, 3, idle=0), 3, Past(quiet_since=NOW - 60), 3),
    "the last one stays": (load(0, 1), 1, Past(quiet_since=NOW - 600), 1),
    "one has not come yet": (load(0, 2), 3, Past(quiet_since=NOW - 600, short_since=NOW - 1), 3),
    "more than the most goes at once": (load(0, 6), 6, Past(), 5),
    "more than the most, all busy": (load(12, 6), 6, Past(), 6),
}


@pytest.mark.parametrize("case", DOWN)
def test_down(case: str) -> None:
    found, ordered, past, expected = DOWN[case]
    step = decide(found, ordered, Bounds(1, 4), RULES, past, NOW)
    assert step.workers == expected
    assert step.retire == (found.idle[0] if expected < ordered else None), "the longest idle goes"


def test_work_ends_the_quiet_time() -> None:
    past = decide(load(0, 2), 2, Bounds(1, 2), RULES, Past(), NOW).past
    assert past.quiet_since == NOW
    past = decide(load(4, 2), 2, Bounds(1, 2), RULES, past, NOW + 59).past
    assert past.quiet_since is None
    assert decide(load(0, 2), 2, Bounds(1, 2), RULES, past, NOW + 61).retire is None


def test_one_at_a_time() -> None:
    step = decide(load(0, 4), 4, Bounds(1, 4), RULES, Past(quiet_since=0.0), NOW)
    assert step.workers == 3
    assert decide(load(0, 3), 3, Bounds(1, 4), RULES, step.past, NOW + 1) == ScalingStep(3, step.past)


@pytest.mark.parametrize(("least", "most"), [(-1, 2), (3, 2), (0, 0)])
def test_bounds_that_cannot_be(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="workers must be at least 0"):
        Bounds(least, most)


loads = st.builds(
    load,
    st.integers(0, 400),
    st.integers(0, 9),
    each=st.integers(1, 16),
    oldest_s=st.floats(0, 1e4),
    idle=st.integers(0, 9),
).map(lambda found: replace(found, idle=found.idle[: found.workers]))
times = st.one_of(st.none(), st.floats(0, NOW))
pasts = st.builds(Past, times, times, st.one_of(st.just(-math.inf), st.floats(0, NOW)))
bounds = st.tuples(st.integers(0, 5), st.integers(1, 8)).map(lambda pair: Bounds(min(pair), max(pair)))


@given(loads, st.integers(0, 12), bounds, pasts)
def test_never_beyond_its_bounds(found: LabelLoad, ordered: int, held: Bounds, past: Past) -> None:
    step = decide(found, ordered, held, RULES, past, NOW)
    if step.workers > ordered:
        assert step.workers <= held.most
        assert step.workers == held.least or found.runnable, "nobody is ordered for nothing"
    assert step.workers >= min(held.least, ordered)
    if step.workers < ordered:
        assert step.workers == ordered - 1 >= held.least
    assert (step.retire is not None) is (step.workers < ordered)
    assert step.retire is None or step.retire in found.idle
    assert step.retire is None or found.waiting == 0 or ordered > held.most


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 200), st.integers(1, 8), bounds, st.integers(1, 30))
def test_a_steady_load_is_settled_and_not_chased(runnable: int, each: int, held: Bounds, takes_s: int) -> None:
    """Simulated: each ordered worker connects after `takes_s`. Scaling never oscillates and settles in the end."""
    past = Past()
    coming: list[float] = []
    here = 0
    sizes = []
    for second in range(3000):
        now = float(second)
        here += sum(at <= now for at in coming)
        coming = [at for at in coming if at > now]
        found = load(runnable, here, each=each, oldest_s=now)
        step = decide(found, here + len(coming), held, RULES, past, now)
        past = step.past
        coming += [now + takes_s] * (step.workers - here - len(coming))
        here -= step.retire is not None
        sizes.append(here + len(coming))
    changes = [b - a for a, b in pairwise(sizes) if a != b]
    assert [c > 0 for c in changes] == sorted((c > 0 for c in changes), reverse=True), "up first, then down if at all"
    assert len(set(sizes[-1000:])) == 1
    enough = min(max(held.least, math.ceil(runnable / each)), held.most)
    assert sizes[-1] == enough, "nobody waits for ever for want of an allowed worker, and nobody idles for ever"


def nap(number: int) -> int:
    time.sleep(0.2)
    return number


class ThreadGroups:
    """Groups with real workers on event loops of this process, which connect a while after they were ordered."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.workers: dict[str, Worker] = {}
        self.refuse = False
        self.most = 0

    async def ordered(self, label: Label) -> int:
        if self.refuse:
            raise GroupError("away")
        return sum(name.startswith(label) for name in self.workers)

    async def grow(self, label: Label, workers: int) -> None:
        for i in count():
            if await self.ordered(label) == workers:
                break
            if (name := f"{label}-{i}") not in self.workers:
                self.workers[name] = await Worker(
                    self.scheduler.address, name=name, nthreads=2, resources={label: 2}, host="127.0.0.1"
                )
        self.most = max(self.most, len(self.workers))

    async def end(self, label: Label, name: str) -> None:
        assert name.startswith(label)
        await self.workers.pop(name).close()


@pytest.fixture
async def groups() -> AsyncIterator[ThreadGroups]:
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        groups = ThreadGroups(scheduler)
        yield groups
        for worker in groups.workers.values():
            await worker.close()


@contextlib.asynccontextmanager
async def scaling(groups: ThreadGroups, seen: list[tuple[LabelLoad, int]]) -> AsyncIterator[None]:
    scaler = Autoscaler(
        groups.scheduler.address,
        groups,
        {CPU: Bounds(0, 3)},
        Rules(wait_s=0.5, factor=4, pause_s=1.0, quiet_s=1.5),
        lambda loads, ordered: seen.append((loads[CPU], ordered[CPU])),
    )
    task = asyncio.create_task(scaler.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.cluster
async def test_a_burst_is_met_and_then_given_back_without_losing_a_result(groups: ThreadGroups) -> None:
    seen: list[tuple[LabelLoad, int]] = []
    async with scaling(groups, seen), asyncio.timeout(60):
        client = await connect(groups.scheduler.address)
        futures = [client.submit(nap, i, resources={CPU: 1}) for i in range(60)]
        while groups.most < 3:
            await asyncio.sleep(0.05)
        while groups.workers:
            await asyncio.sleep(0.05)
            if len(groups.workers) == 1 and all(future.done() for future in futures):
                break  # the last worker holds the results, and no other could take them
        assert [await future for future in futures] == list(range(60))
        await asyncio.sleep(4)
        assert len(groups.workers) == 1, "a worker whose data nobody can take stays"
        assert seen[-1][0].workers == 1, "and goes on working"
        assert await client.submit(nap, 99, resources={CPU: 1}) == 99
        del futures
        while groups.workers:
            await asyncio.sleep(0.05)
        await client.close()
    assert groups.most == 3
    sizes = [ordered for _, ordered in seen]
    assert max(sizes) == 3
    assert all(after - before >= -1 for before, after in pairwise(sizes)), "one at a time on the way down"


@pytest.mark.cluster
async def test_scaling_goes_on_when_its_groups_are_back(groups: ThreadGroups, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[LabelLoad, int]] = []
    groups.refuse = True
    async with scaling(groups, seen), asyncio.timeout(30):
        client = await connect(groups.scheduler.address)
        future = client.submit(nap, 7, resources={CPU: 1})
        while "scaling is suspended: away" not in caplog.text:
            await asyncio.sleep(0.05)
        assert not seen
        groups.refuse = False
        assert await future == 7
        await client.close()
