"""Gauges for `/metrics`: counts of stored cases, missing parts, load and batching of the clusters.

Read when `/metrics` is requested, then cached for some seconds, so that frequent scraping stays cheap. Every family is
built anew from the last reading: the label of a worker or cell that has gone is not exported any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.assembly import Service
from service.errors import StoreUnavailableError
from service.observability.metrics import LOAD, load_figures
from service.store.counts import Counts
from workers.errors import ClusterError
from workers.load import Joined, LabelLoad, joined_passes, read_load

CACHE_S = 5.0
"""How long a reading is used, in seconds."""
_SHARE = 20
"""A slow reading is used for this many times its own duration: reading takes at most a twentieth of the time."""
_JOINED = {
    "batch_calls": "Calls that tasks made to the batchers.",
    "batch_rows": "Rows in these calls.",
    "batch_passes": "Forward passes run for these calls.",
    "batch_fallbacks": "Forward passes of joined calls that raised.",
    "batch_largest": "Rows in the largest forward pass.",
    "batch_wait_seconds": "Seconds that all calls together waited for their forward pass.",
}


@dataclass(frozen=True)
class _Reading:
    """counts: None if the store does not answer; loads: by cell and label; joined: by cell and model."""

    missing: tuple[str, ...] = ()
    counts: Counts | None = None
    loads: dict[tuple[str, str], LabelLoad] = field(default_factory=dict)
    joined: dict[tuple[str, str], Joined] = field(default_factory=dict)


class Gauges(Collector):
    """The collector of one service. Call `update` first; the registry calls `collect`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reading = _Reading()
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def update(self) -> None:
        """Read everything again unless the last reading is recent enough. What cannot be read is left out."""
        async with self._lock:
            began = time.monotonic()
            if began < self._until:
                return
            self._reading = await self._read()
            ended = time.monotonic()
            self._until = ended + max(CACHE_S, _SHARE * (ended - began))

    async def _read(self) -> _Reading:
        service = self._service
        reading = _Reading(missing=tuple(await service.missing()), counts=await self._counts())
        timeout_s = service.settings.cluster_timeout_s
        for cell in service.reconciler.cells.up:
            try:
                client = service.reconciler.cells.graphs(cell).client
                loads = await read_load(client, timeout_s)
                joined = await joined_passes(client, timeout_s)
            except ClusterError:
                continue
            reading.loads.update({(cell, label): load for label, load in loads.items()})
            reading.joined.update({(cell, model): figures for model, figures in joined.items()})
        return reading

    async def _counts(self) -> Counts | None:
        try:
            return await self._service.counts.counts()
        except StoreUnavailableError:
            return None

    def collect(self) -> Iterable[Metric]:
        """The metric families of the last reading."""
        seen = self._reading
        yield _gauge("ready", "1 while nothing is missing, otherwise 0.", [((), float(not seen.missing))])
        missing = [((what,), 1.0) for what in seen.missing]
        yield _gauge("missing", "1 for each part that /readyz lists.", missing, "what")
        streams = float(self._service.board.streams)
        yield _gauge("event_streams", "Event streams open in this process.", [((), streams)])
        worked = float(len(self._service.reconciler.tracked_case_ids))
        yield _gauge("cases_in_hand", "Cases that this process works on.", [((), worked)])
        if seen.counts is not None:
            cases = [(state, float(count)) for state, count in seen.counts.cases.items()]
            meaning = "Stored cases by status and outcome; the same in every API process."
            yield _gauge("cases", meaning, cases, "status", "outcome")
            yield _gauge("webhook_backlog", "Webhooks not delivered yet.", [((), float(seen.counts.backlog))])
            left = float(seen.counts.unerased)
            yield _gauge("unerased_cases", "Redacted cases whose files are not all removed yet.", [((), left)])
            unfinished = float(seen.counts.unfinished)
            yield _gauge("unfinished_uploads", "Resumable uploads that are not complete.", [((), unfinished)])
            yield _gauge("api_processes", "API processes that share this store.", [((), float(seen.counts.replicas))])
        for name, meaning in LOAD.items():
            values = [(where, load_figures(load)[name]) for where, load in seen.loads.items()]
            yield _gauge(name, meaning, values, "cell", "label")
        for name, meaning in _JOINED.items():
            figures = [(where, float(getattr(joined, name))) for where, joined in seen.joined.items()]
            yield _gauge(name, f"{meaning} Only workers that are connected now.", figures, "cell", "model")


def _gauge(name: str, meaning: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"veridask_{name}", meaning, labels=labels)
    for where, value in values:
        family.add_metric(where, value)
    return family
