"""Scaling by load, by label: a pure policy, and the loop that reads the load, asks the policy, and acts.

The policy sees numbers and gives a number; `tests/test_autoscale.py` tests it as tables. Up goes at once and as far as
the backlog wants. Down goes after a quiet time, one worker at a time, and only a worker without tasks is retired: it
is emptied first, so no upload and no intermediate result is lost. How workers are started and ended is not known here,
but to `Groups`: the embedded cluster's below, Kubernetes worker groups in `service.cluster.kubernetes`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from distributed import Client

from workers.cluster import EmbeddedCluster, connect
from workers.errors import ClusterError
from workers.load import IdleWorker, LabelLoad, read_load
from workers.placement import Label
from workers.transport import TlsFiles

logger = logging.getLogger(__name__)

LOOK_S = 1.0
ANSWER_S = 10.0
RETRY_S = 2.0


@dataclass(frozen=True)
class Bounds:
    """Least and most workers of a label, 0 <= least <= most, most >= 1. Raises ValueError."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most or self.most < 1:
            raise ValueError(f"workers must be at least 0 and at most 1 or more, not {self.least} to {self.most}")


@dataclass(frozen=True)
class Rules:
    """When to scale. Times in seconds.

    wait_s: one more worker when the oldest waiting task is older. factor: as many more as it takes when there are more
    than this many runnable tasks a slot. pause_s: least time between two orders for the sake of `wait_s`, for the first
    to take effect. quiet_s: how long one worker less must have been enough before one is retired. start_s: an ordered
    worker that has not come after this time is no longer counted on.
    """

    wait_s: float = 2.0
    factor: float = 5.0
    pause_s: float = 10.0
    quiet_s: float = 60.0
    start_s: float = 120.0


@dataclass(frozen=True)
class Past:
    """What the policy remembers of a label. Times as the caller's clock gives them.

    quiet_since: since when one worker less would do; short_since: since when fewer are there than ordered;
    ordered_at: when workers were last ordered.
    """

    quiet_since: float | None = None
    short_since: float | None = None
    ordered_at: float = -math.inf


@dataclass(frozen=True)
class ScalingStep:
    """What to do for a label: have this many workers. retire: the worker to end when that is one less than now."""

    workers: int
    past: Past
    retire: IdleWorker | None = None


def decide(load: LabelLoad, ordered: int, bounds: Bounds, rules: Rules, past: Past, now: float) -> ScalingStep:
    """The next step for one label. ordered: workers that are there or on their way, 0 or more; now: in seconds."""
    short_since = None if load.workers >= ordered else now if past.short_since is None else past.short_since
    past = replace(past, short_since=short_since)
    wanted = min(max(_wanted(load, ordered, rules, past, now), bounds.least), bounds.most)
    if wanted > ordered:
        return ScalingStep(wanted, Past(None, now, now))
    spare = ordered > bounds.least and (ordered > bounds.most or _would_do_with_one_less(load, ordered))
    if not spare:
        return ScalingStep(ordered, replace(past, quiet_since=None))
    quiet_since = now if past.quiet_since is None else past.quiet_since
    if load.idle and (now - quiet_since >= rules.quiet_s or ordered > bounds.most):
        return ScalingStep(ordered - 1, replace(past, quiet_since=now), load.idle[0])
    return ScalingStep(ordered, replace(past, quiet_since=quiet_since))


def _wanted(load: LabelLoad, ordered: int, rules: Rules, past: Past, now: float) -> int:
    """How many workers the work asks for, at least as many as ordered: going down is not decided here."""
    if not load.runnable:
        return ordered
    starting = ordered - load.workers if past.short_since is not None and now - past.short_since < rules.start_s else 0
    counted_on = load.workers + starting
    if not counted_on:
        return ordered + 1  # how many slots a worker has is not known before the first one came
    if load.slots:
        enough = math.ceil(load.runnable * load.workers / (rules.factor * load.slots))
        if enough > counted_on:
            return ordered + enough - counted_on
    late = load.waiting > 0 and load.oldest_s > rules.wait_s
    if late and not starting and now - past.ordered_at >= rules.pause_s:
        return ordered + 1
    return ordered


def _would_do_with_one_less(load: LabelLoad, ordered: int) -> bool:
    if load.workers < ordered or load.waiting:
        return False
    return load.runnable * load.workers <= load.slots * (load.workers - 1)


class Groups(Protocol):
    """The workers of one cluster, by label: how many are ordered, and how one more or one less comes about."""

    async def ordered(self, label: Label) -> int:
        """Workers that are there, being started, or about to be started again. Raises ClusterError."""
        ...

    async def grow(self, label: Label, workers: int) -> None:
        """Have this many, more than `ordered`; does not wait until they are there. Raises ClusterError."""
        ...

    async def end(self, label: Label, name: str) -> None:
        """End a worker that takes no more tasks and holds no data alone, for good. Raises ClusterError."""
        ...


class EmbeddedGroups:
    """The worker processes of the embedded cluster."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self._cluster = cluster

    async def ordered(self, label: Label) -> int:
        """As in `Groups`."""
        return self._cluster.workers(label)

    async def grow(self, label: Label, workers: int) -> None:
        """As in `Groups`."""
        for _ in range(workers - self._cluster.workers(label)):
            await asyncio.to_thread(self._cluster.add_worker, label)

    async def end(self, label: Label, name: str) -> None:  # noqa: ARG002  the name says the label
        """As in `Groups`. Waits until the process has ended, which takes a second."""
        await asyncio.to_thread(self._cluster.end_worker, name)


class Autoscaler:
    """Holds the workers of a cluster to its load. address: of its scheduler; bounds: by label, others are left alone.

    seen is called with each load that was read and the workers ordered then, both by label. tls: for a `tls://`
    address.
    """

    def __init__(
        self,
        address: str,
        groups: Groups | None,
        bounds: Mapping[Label, Bounds],
        rules: Rules,
        seen: Callable[[Mapping[Label, LabelLoad], Mapping[Label, int]], None] = lambda _load, _ordered: None,
        tls: TlsFiles | None = None,
    ) -> None:
        self._address = address
        self._tls = tls
        self._groups = groups
        self._bounds = bounds
        self._rules = rules
        self._seen = seen
        self._past = dict.fromkeys(bounds, Past())

    async def run(self) -> None:
        """Go on until cancelled; a scheduler or an API server that is away is tried again."""
        while True:
            client: Client | None = None
            try:
                client = await connect(self._address, ANSWER_S, self._tls)
                while True:
                    await self._turn(client)
                    await asyncio.sleep(LOOK_S)
            except (ClusterError, OSError, TimeoutError) as error:
                logger.warning("scaling is suspended: %s", error)
            except Exception:  # whatever it is, the workers that there are go on, and so does this
                logger.exception("scaling failed")
            finally:
                if client is not None:
                    await _disconnect(client)
            await asyncio.sleep(RETRY_S)

    async def _turn(self, client: Client) -> None:
        loads = await read_load(client, ANSWER_S)
        ordered: dict[Label, int] = {}
        if self._groups is not None:
            for label, bounds in self._bounds.items():
                ordered[label] = await self._groups.ordered(label)
                step = decide(loads[label], ordered[label], bounds, self._rules, self._past[label], time.monotonic())
                self._past[label] = step.past
                if step.retire is not None:
                    await self._retire(client, self._groups, label, step.retire)
                elif step.workers > ordered[label]:
                    logger.info("%s: %d workers → %d, %s", label, ordered[label], step.workers, loads[label])
                    await self._groups.grow(label, step.workers)
                    ordered[label] = step.workers
        self._seen(loads, ordered)

    async def _retire(self, client: Client, groups: Groups, label: Label, worker: IdleWorker) -> None:
        """Empty a worker, then end it. What cannot be moved keeps its worker."""
        emptied = await client.retire_workers([worker.address], close_workers=False, remove=False)
        if worker.address not in emptied:
            logger.warning("%s: worker %s holds data that no other can take; it stays", label, worker.name)
            return
        logger.info("%s: worker %s was idle for %.0f s and is retired", label, worker.name, worker.idle_s)
        try:
            await groups.end(label, worker.name)
        except ClusterError:
            # It takes no more tasks, so it must not stay: closed, its supervisor starts it afresh.
            await client.retire_workers([worker.address], close_workers=True)
            raise


async def _disconnect(client: Client) -> None:
    try:
        await client.close(timeout=2)
    except (OSError, TimeoutError):
        pass
    except asyncio.CancelledError:
        # It cancels tasks of its own, and may pass that on. Only a request to end this task is one.
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
