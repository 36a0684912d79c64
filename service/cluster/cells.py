"""Cells: the Dask clusters that cases are spread over. One cluster is one cell; most services have one.

A case lives in one cell, written in its row. A new case goes to the cell that holds the fewest open ones among those
that answer; a cell that is away keeps its cases, which go on when it is back.
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
    """Supervised connections to all clusters. addresses: of their schedulers, by name.

    up is awaited with the cell's name and each new connection; down is called with the name when it is lost. tls: for
    `tls://` addresses.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        timeout_s: float,
        up: Callable[[str, Client], Awaitable[None]],
        down: Callable[[str], None],
        tls: TlsFiles | None,
    ) -> None:
        self.links = {
            name: ClusterLink(address, timeout_s, partial(up, name), partial(down, name), tls)
            for name, address in addresses.items()
        }

    async def start(self) -> None:
        """Make the first connections, or go on trying in the background."""
        await asyncio.gather(*(link.start() for link in self.links.values()))

    async def close(self) -> None:
        """Stop watching and disconnect."""
        await asyncio.gather(*(link.close() for link in self.links.values()))

    @property
    def up(self) -> list[str]:
        """Names of the cells that can be used now."""
        return [name for name, link in self.links.items() if link.is_up]

    def graphs(self, cell: str) -> CaseGraphs:
        """The graphs of a cell. Raises ClusterError while it is away, or when no cell has that name."""
        if cell not in self.links:
            raise ClusterError(f"the case's cell {cell} is none of this service's: see VERIDASK_SCHEDULER")
        return self.links[cell].graphs

    async def release(self, case_id: str) -> None:
        """Let a case go that may be in any cell; one that does not answer is passed over."""
        for name in self.up:
            with contextlib.suppress(ClusterError):
                await self.graphs(name).let_go(case_id)

    def suspect(self, cell: str) -> None:
        """Something failed there that would not fail on a healthy connection: look at it now."""
        if cell in self.links:
            self.links[cell].suspect()

    async def least_loaded(self) -> str:
        """The cell for a new case. Raises ClusterError when none answers."""
        names = self.up
        if len(names) > 1:
            counts = dict(zip(names, await asyncio.gather(*(self._open(name) for name in names)), strict=True))
            names = sorted((name for name in names if counts[name] >= 0), key=lambda name: counts[name])
        if not names:
            raise ClusterError("no scheduler is connected")
        return names[0]

    async def _open(self, name: str) -> int:
        """How many cases the cell holds; -1 when it does not answer."""
        try:
            return await self.graphs(name).count()
        except ClusterError:
            self.suspect(name)
            return -1

    async def missing(self) -> list[str]:
        """What keeps cases from being decided: `scheduler`, `worker:GPU`; with the cell's name where there are more."""
        missing = []
        for name, link in self.links.items():
            where = f"@{name}" if len(self.links) > 1 else ""
            try:
                missing += [f"worker:{label}{where}" for label in await link.missing_labels()]
            except ClusterError:
                missing.append(f"scheduler{where}")
        return missing
