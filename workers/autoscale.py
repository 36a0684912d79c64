"""Scales the workers of each label by load: a pure policy, and the loop that reads the load and applies the policy.

The policy takes numbers and gives a number; `tests/workers/test_autoscale.py` tests it as tables. It scales up at once,
as far as the backlog needs. It scales down after a quiet time, one worker at a time. Only a worker without tasks is
retired, and its data is moved to others first, so no upload and no intermediate result is lost.

How workers are started and stopped is up to a `Groups`: `EmbeddedGroups` below, or the Kubernetes worker groups in
`service.cluster.kubernetes`.
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
    """Minimum and maximum number of workers of a label: 0 <= least <= most, most >= 1. Raises ValueError."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most or self.most < 1:
            raise ValueError(f"workers must be at least 0 and at most 1 or more, not {self.least} to {self.most}")


@dataclass(frozen=True)
class Rules:
    """When to scale. Times in seconds.

    wait_s: order one more worker if the oldest waiting task is older than this. factor: order enough workers to have at
    most this many runnable tasks per slot. pause_s: minimum time between two orders because of `wait_s`, so that the
    first can take effect. quiet_s: how long one worker less must have been enough before one is retired. start_s: an
    ordered worker that has not connected after this time is no longer expected.
    """

    wait_s: float = 2.0
    factor: float = 5.0
    pause_s: float = 10.0
    quiet_s: float = 60.0
    start_s: float = 120.0


@dataclass(frozen=True)
class Past:
    """What the policy remembers about a label. Times are in seconds, by the caller's clock.

    quiet_since: since when one worker less would be enough. short_since: since when fewer workers are connected than
    ordered. ordered_at: when workers were last ordered.
    """

    quiet_since: float | None = None
    short_since: float | None = None
    ordered_at: float = -math.inf


@dataclass(frozen=True)
class ScalingStep:
    """The next step for a label. workers: how many it should have. retire: the worker to stop if that is one less."""

    workers: int
    past: Past
    retire: IdleWorker | None = None


def decide(load: LabelLoad, ordered: int, bounds: Bounds, rules: Rules, past: Past, now: float) -> ScalingStep:
    """The next step for one label. ordered: workers that run or are starting, 0 or more. now: in seconds."""
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
    """How many workers the load needs, at least `ordered`: scaling down is decided elsewhere."""
    if not load.runnable:
        return ordered
    starting = ordered - load.workers if past.short_since is not None and now - past.short_since < rules.start_s else 0
    counted_on = load.workers + starting
    if not counted_on:
        return ordered + 1  # the slots of a worker are unknown until the first one connects
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
    """The workers of one cluster, by label: how many are ordered, and how to add or stop one."""

    async def ordered(self, label: Label) -> int:
        """How many workers run, are starting, or are about to be restarted. Raises ClusterError."""
        ...

    async def grow(self, label: Label, workers: int) -> None:
        """Order this many workers, more than `ordered`. Does not wait for them to connect. Raises ClusterError."""
        ...

    async def end(self, label: Label, name: str) -> None:
        """Stop a retired worker for good: it takes no tasks and holds no unique data. Raises ClusterError."""
        ...


class EmbeddedGroups:
    """The worker processes of the embedded cluster, as `Groups`."""

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
        """As in `Groups`. Waits until the process has ended, which takes about a second."""
        await asyncio.to_thread(self._cluster.end_worker, name)


class Autoscaler:
    """Adapts the number of workers of a cluster to its load.

    address: of the scheduler. groups: None only reads the load. bounds: by label; labels without bounds are not scaled.
    seen: called after each turn with the load and the number of ordered workers, both by label. tls: for a `tls://`
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
        """Run until cancelled. Retries if the scheduler or the Kubernetes API server is unreachable."""
        while True:
            client: Client | None = None
            try:
                client = await connect(self._address, ANSWER_S, self._tls)
                while True:
                    await self._turn(client)
                    await asyncio.sleep(LOOK_S)
            except (ClusterError, OSError, TimeoutError) as error:
                logger.warning("scaling is suspended: %s", error)
            except Exception:  # keep running whatever happens; the present workers are not affected
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
        """Move the data of a worker to others, then stop it. A worker whose data cannot be moved stays."""
        emptied = await client.retire_workers([worker.address], close_workers=False, remove=False)
        if worker.address not in emptied:
            logger.warning("%s: worker %s holds data that no other worker can take; it stays", label, worker.name)
            return
        logger.info("%s: retiring worker %s, idle for %.0f s", label, worker.name, worker.idle_s)
        try:
            await groups.end(label, worker.name)
        except ClusterError:
            # It takes no more tasks, so it must not stay. Close it; its supervisor then starts it afresh.
            await client.retire_workers([worker.address], close_workers=True)
            raise


async def _disconnect(client: Client) -> None:
    try:
        await client.close(timeout=2)
    except (OSError, TimeoutError):
        pass
    except asyncio.CancelledError:
        # `close` cancels its own tasks and may let that escape. Raise only if this task itself is cancelled.
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
