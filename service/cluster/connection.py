"""The connection to the cluster: kept up, and told apart when it is another scheduler than before.

A client that reconnects by itself may find a new scheduler that knows none of the cases and lacks the upload plugin. So
a connection is never mended here: when it is lost, or the scheduler is another one, everything is dropped, a new
connection is made, and whoever was given as `up` submits all open cases again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from distributed import Client

from graphs.case import CaseGraphs
from workers.cluster import connect, labels
from workers.errors import ClusterError
from workers.placement import LABELS
from workers.transport import TlsFiles

log = structlog.get_logger()

_LOOK_S = 1.0
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class ClusterLink:
    """A supervised connection to the scheduler at `address`. timeout_s: longest wait for one of its answers.

    up is awaited with each new connection; down is called when it is lost. tls: certificates for a `tls://` address.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float,
        up: Callable[[Client], Awaitable[None]],
        down: Callable[[], None],
        tls: TlsFiles | None = None,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._up = up
        self._down = down
        self._tls = tls
        self._client: Client | None = None
        self._graphs: CaseGraphs | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether the cluster can be used now."""
        return self._graphs is not None and not self._lost.is_set()

    @property
    def graphs(self) -> CaseGraphs:
        """The cluster's graphs. Raises ClusterError while there is no connection."""
        if self._graphs is None or self._lost.is_set():
            raise ClusterError("the scheduler is not connected")
        return self._graphs

    async def missing_labels(self) -> list[str]:
        """The labels that no worker offers now. Raises ClusterError without a connection."""
        try:
            offered = await asyncio.wait_for(labels(self.graphs.client), self._timeout_s)
        except (OSError, TimeoutError) as error:
            raise ClusterError("the scheduler does not answer") from error
        return [label for label in LABELS if label not in offered.values()]

    async def start(self) -> None:
        """Make the first connection, or go on trying in the background."""
        first = asyncio.Event()
        self._task = asyncio.create_task(self._keep(first), name="cluster-link")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(first.wait(), self._timeout_s)

    async def close(self) -> None:
        """Stop watching and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._drop()

    def suspect(self) -> None:
        """Something failed that would not fail on a healthy connection: look at it now rather than at the next turn."""
        if self._client is not None and self._client.status != "running":
            self._lost.set()

    async def _keep(self, first: asyncio.Event) -> None:
        tries = 0
        while True:
            try:
                identity = await self._connect()
                tries = 0
                first.set()
                await self._watch(identity)
                log.warning("cluster_lost", address=self.address)
            except (ClusterError, OSError, TimeoutError) as error:
                log.warning("cluster_away", address=self.address, error=str(error))
            except Exception:
                log.exception("cluster_link_failed", address=self.address)
            await self._drop()
            await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
            tries += 1

    async def _connect(self) -> Any:
        client = await connect(self.address, self._timeout_s, self._tls)
        self._client = client
        identity = await self._identity(client)
        self._lost.clear()
        self._graphs = CaseGraphs(client)
        await self._up(client)
        log.info("cluster_connected", address=self.address)
        return identity

    async def _watch(self, identity: Any) -> None:
        assert self._client is not None  # noqa: S101  connected just before
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):  # not wait_for, see `service.webhooks.sender`
                    await self._lost.wait()
            if self._client.status != "running" or await self._identity(self._client) != identity:
                return

    async def _identity(self, client: Any) -> Any:
        answer = await asyncio.wait_for(client.scheduler.identity(n_workers=0), self._timeout_s)
        return answer["id"]

    async def _drop(self) -> None:
        client, self._client, self._graphs = self._client, None, None
        if client is None:
            return
        self._down()
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            await client.close(timeout=5)
