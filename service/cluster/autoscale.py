"""`veridask autoscale`: scales the worker groups of a Kubernetes namespace with the load, and publishes the load.

The load is published in the text format of Prometheus, for dashboards or an external autoscaler. Without a namespace
nothing is scaled here, so that an external autoscaler can do it.

The rules are in `workers.autoscale`. `veridask serve` scales its embedded cluster itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from service.cluster.kubernetes import KubernetesGroups
from service.errors import SettingsError
from service.observability.metrics import LOAD, load_figures
from workers.autoscale import Autoscaler, Bounds, Rules
from workers.load import LabelLoad
from workers.placement import Label
from workers.transport import TlsFiles


class LoadMetrics:
    """Gauges by label.

    They keep their last values while the scheduler is unavailable; see `veridask_load_read_time`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges = {
            name: Gauge(f"veridask_{name}", meaning, ["label"], registry=self.registry)
            for name, meaning in {
                **LOAD,
                "idle_workers": "Workers without a task.",
                "ordered_workers": "Workers that were ordered.",
            }.items()
        }
        self._read = Gauge(
            "veridask_load_read_time",
            "Time when the load was last read, in seconds since 1970.",
            registry=self.registry,
        )

    def update(self, loads: Mapping[Label, LabelLoad], ordered: Mapping[Label, int]) -> None:
        """Set the gauges to a load that was just read. ordered: workers by label; empty if nothing is scaled here."""
        for label, load in loads.items():
            values = {
                **load_figures(load),
                "idle_workers": len(load.idle),
                **({"ordered_workers": ordered[label]} if label in ordered else {}),
            }
            for name, value in values.items():
                self._gauges[name].labels(label).set(value)
        self._read.set_to_current_time()


async def autoscale(
    scheduler: str,
    groups: KubernetesGroups | None,
    bounds: Mapping[Label, Bounds],
    rules: Rules,
    metrics: tuple[str, int] | None,
    tls: TlsFiles | None = None,
) -> None:
    """Scale and publish until cancelled.

    groups: the worker groups to scale, or None. metrics: address and port to publish the load at, or None. tls: for a
    `tls://` scheduler. Raises SettingsError if groups and metrics are both None, or the port cannot be used.
    """
    if groups is None and metrics is None:
        raise SettingsError("nothing to do: name a Kubernetes namespace to scale, a port for the metrics, or both")
    published = LoadMetrics()
    async with AsyncExitStack() as stack:
        if groups is not None:
            await stack.enter_async_context(groups)
        if metrics is not None:
            try:
                server, thread = start_http_server(metrics[1], metrics[0], published.registry)
            except OSError as error:
                raise SettingsError(f"the metrics cannot be served at {metrics[0]}:{metrics[1]}: {error}") from error
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        await asyncio.create_task(Autoscaler(scheduler, groups, bounds, rules, published.update, tls).run())
