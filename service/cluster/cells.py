"""Cells: the Dask clusters that cases are distributed over. One cluster is one cell; most services have one.

A case stays in one cell, which its row names. A new case goes to the connected cell with the fewest open cases. While a
cell is unavailable its cases wait, and they continue when it is back.

One connection is the work of `service.cluster.connection`; cases are submitted by `service.cases.reconciler`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from distributed import Client

from graphs.case import CaseGraphs
from service.cluster.connection import ClusterLink
from workers.errors import ClusterError
from workers.transport import TlsFiles


class Cells:
    """Supervised connections to all clusters.

    addresses: of the schedulers, by cell name. on_connected: awaited with the name of the cell and each new connection.
    on_disconnected: called with the name when a connection is lost. tls: for `tls://` addresses.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        timeout_s: float,
        on_connected: Callable[[str, Client], Awaitable[None]],
        on_disconnected: Callable[[str], None],
        tls: TlsFiles | None,
    ) -> None:
        self.links = {
            name: ClusterLink(address, timeout_s, partial(on_connected, name), partial(on_disconnected, name), tls)
            for name, address in addresses.items()
        }

    async def start(self) -> None:
        """Connect to all cells. Those that do not answer are retried in the background."""
        await asyncio.gather(*(link.start() for link in self.links.values()))

    async def close(self) -> None:
        """Stop the supervision and disconnect."""
        await asyncio.gather(*(link.close() for link in self.links.values()))

    @property
    def up(self) -> list[str]:
        """The names of the connected cells."""
        return [name for name, link in self.links.items() if link.is_up]

    def graphs(self, cell: str) -> CaseGraphs:
        """The graphs of a cell. Raises ClusterError if it is not connected, or no cell has that name."""
        if cell not in self.links:
            raise ClusterError(f"the case's cell {cell} is none of this service's: see VERIDASK_SCHEDULER")
        return self.links[cell].graphs

    async def release(self, case_id: str) -> None:
        """Release a case in all connected cells. Cells that do not answer are skipped."""
        for name in self.up:
            with contextlib.suppress(ClusterError):
                await self.graphs(name).let_go(case_id)

    def check_now(self, cell: str) -> None:
        """Check a connection now: something failed that would not fail on a healthy one."""
        if cell in self.links:
            self.links[cell].check_now()

    async def least_loaded(self) -> str:
        """The cell for a new case: the one with the fewest open cases. Raises ClusterError if no cell answers."""
        names = self.up
        if len(names) > 1:
            counts = dict(zip(names, await asyncio.gather(*(self._count_open(name) for name in names)), strict=True))
            names = sorted((name for name in names if counts[name] >= 0), key=lambda name: counts[name])
        if not names:
            raise ClusterError("no scheduler is connected")
        return names[0]

    async def _count_open(self, name: str) -> int:
        """The number of cases that a cell holds; -1 if it does not answer."""
        try:
            return await self.graphs(name).count()
        except ClusterError:
            self.check_now(name)
            return -1

    async def missing(self) -> list[str]:
        """What is missing to decide cases: `scheduler`, `worker:GPU`; with `@<cell>` if there are several cells."""
        missing = []
        for name, link in self.links.items():
            where = f"@{name}" if len(self.links) > 1 else ""
            try:
                missing += [f"worker:{label}{where}" for label in await link.missing_labels()]
            except ClusterError:
                missing.append(f"scheduler{where}")
        return missing
