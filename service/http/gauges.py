"""What there is now, for `/metrics`: cases in the store, what is missing, load and batches of the clusters.

Looked up when somebody asks, and then not again for some seconds, so that scraping costs next to nothing however often
it is done. The families are made anew from the last look: what is no longer there is no longer told.
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

KEPT_S = 5.0
"""How long a look is good."""
_SHARE = 20
"""A look that took long is good for so many times as long: it takes a twentieth of the time at most."""
_JOINED = {
    "batch_calls": "Calls handed to batchers by tasks.",
    "batch_rows": "Rows of these calls.",
    "batch_passes": "Forward passes that they took.",
    "batch_fallbacks": "Joined passes that raised.",
    "batch_largest": "Rows of the largest pass.",
    "batch_wait_seconds": "Waits of all calls for their pass, together.",
}


@dataclass(frozen=True)
class _Look:
    """counts: None while the store is away; loads by cell and label; joined by cell and model."""

    missing: tuple[str, ...] = ()
    counts: Counts | None = None
    loads: dict[tuple[str, str], LabelLoad] = field(default_factory=dict)
    joined: dict[tuple[str, str], Joined] = field(default_factory=dict)


class Gauges(Collector):
    """The collector of one service. `look` first, then `collect` by its registry."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen = _Look()
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Look again, unless the last look is still good. What cannot be looked at is left out."""
        async with self._lock:
            began = time.monotonic()
            if began < self._until:
                return
            self._seen = await self._look()
            ended = time.monotonic()
            self._until = ended + max(KEPT_S, _SHARE * (ended - began))

    async def _look(self) -> _Look:
        service = self._service
        look = _Look(missing=tuple(await service.missing()), counts=await self._counts())
        timeout_s = service.settings.cluster_timeout_s
        for cell in service.reconciler.cells.up:
            try:
                client = service.reconciler.cells.graphs(cell).client
                loads = await read_load(client, timeout_s)
                joined = await joined_passes(client, timeout_s)
            except ClusterError:
                continue
            look.loads.update({(cell, label): load for label, load in loads.items()})
            look.joined.update({(cell, model): figures for model, figures in joined.items()})
        return look

    async def _counts(self) -> Counts | None:
        try:
            return await self._service.counts.counts()
        except StoreUnavailableError:
            return None

    def collect(self) -> Iterable[Metric]:
        """The families of the last look."""
        seen = self._seen
        yield _gauge("ready", "1 while nothing is missing.", [((), float(not seen.missing))])
        yield _gauge("missing", "What /readyz names.", [((what,), 1.0) for what in seen.missing], "what")
        streams = float(self._service.board.streams)
        yield _gauge("event_streams", "Event streams open in this process.", [((), streams)])
        worked = float(len(self._service.reconciler.tracked_case_ids))
        yield _gauge("cases_in_hand", "Cases that this process works on.", [((), worked)])
        if seen.counts is not None:
            cases = [(state, float(count)) for state, count in seen.counts.cases.items()]
            yield _gauge("cases", "Cases in the store; each process tells the same.", cases, "status", "outcome")
            yield _gauge("webhook_backlog", "Webhooks not delivered yet.", [((), float(seen.counts.backlog))])
            left = float(seen.counts.unerased)
            yield _gauge("unerased_cases", "Redacted cases of which something may be left.", [((), left)])
            unfinished = float(seen.counts.unfinished)
            yield _gauge("unfinished_uploads", "Resumable uploads that have not come whole.", [((), unfinished)])
            yield _gauge("api_processes", "API processes on this store.", [((), float(seen.counts.replicas))])
        for name, meaning in LOAD.items():
            values = [(where, load_figures(load)[name]) for where, load in seen.loads.items()]
            yield _gauge(name, meaning, values, "cell", "label")
        for name, meaning in _JOINED.items():
            figures = [(where, float(getattr(joined, name))) for where, joined in seen.joined.items()]
            yield _gauge(name, f"{meaning} Of the workers there are.", figures, "cell", "model")


def _gauge(name: str, meaning: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"veridask_{name}", meaning, labels=labels)
    for where, value in values:
        family.add_metric(where, value)
    return family
