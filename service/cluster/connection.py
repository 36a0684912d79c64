"""A supervised connection to the scheduler of one cluster.

A Dask client that reconnects by itself may find a new scheduler, which knows none of the cases and lacks the upload
plugin. So a connection is never repaired here: if it is lost, or the scheduler is a different one, it is closed and a
new one is opened.

This does not resume cases: the `on_connected` callback does (`service.cases.reconciler`).
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

_POLL_S = 1.0
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class ClusterLink:
    """A supervised connection to the scheduler at `address`.

    timeout_s: longest wait for an answer of the scheduler. on_connected: awaited with each new connection.
    on_disconnected: called when it is lost. tls: certificates for a `tls://` address.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float,
        on_connected: Callable[[Client], Awaitable[None]],
        on_disconnected: Callable[[], None],
        tls: TlsFiles | None = None,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._tls = tls
        self._client: Client | None = None
        self._graphs: CaseGraphs | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether the cluster is connected."""
        return self._graphs is not None and not self._lost.is_set()

    @property
    def graphs(self) -> CaseGraphs:
        """The graphs of the cluster. Raises ClusterError while it is not connected."""
        if self._graphs is None or self._lost.is_set():
            raise ClusterError("the scheduler is not connected")
        return self._graphs

    async def missing_labels(self) -> list[str]:
        """The labels that no worker offers now. Raises ClusterError if the scheduler does not answer."""
        try:
            offered = await asyncio.wait_for(labels(self.graphs.client), self._timeout_s)
        except (OSError, TimeoutError) as error:
            raise ClusterError("the scheduler does not answer") from error
        return [label for label in LABELS if label not in offered.values()]

    async def start(self) -> None:
        """Connect, and return after the first connection or the timeout. Retries in the background."""
        first = asyncio.Event()
        self._task = asyncio.create_task(self._supervise(first), name="cluster-link")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(first.wait(), self._timeout_s)

    async def close(self) -> None:
        """Stop the supervision and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()

    def check_now(self) -> None:
        """Check the connection now instead of at the next poll: something failed that would not on a healthy one."""
        if self._client is not None and self._client.status != "running":
            self._lost.set()

    async def _supervise(self, first: asyncio.Event) -> None:
        tries = 0
        while True:
            try:
                client, identity = await self._connect()
                tries = 0
                first.set()
                await self._watch(client, identity)
                log.warning("cluster_lost", address=self.address)
            except (ClusterError, OSError, TimeoutError) as error:
                log.warning("cluster_away", address=self.address, error=str(error))
            except Exception:
                log.exception("cluster_link_failed", address=self.address)
            await self._disconnect()
            await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
            tries += 1

    async def _connect(self) -> tuple[Client, Any]:
        client = await connect(self.address, self._timeout_s, self._tls)
        self._client = client
        identity = await self._identity(client)
        self._lost.clear()
        self._graphs = CaseGraphs(client)
        await self._on_connected(client)
        log.info("cluster_connected", address=self.address)
        return client, identity

    async def _watch(self, client: Client, identity: Any) -> None:
        """Return when the connection is lost, or the scheduler is not the one of that identity any more."""
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):  # not wait_for: see `service.webhooks.sender`
                    await self._lost.wait()
            if client.status != "running" or await self._identity(client) != identity:
                return

    async def _identity(self, client: Client) -> Any:
        scheduler: Any = client.scheduler
        answer = await asyncio.wait_for(scheduler.identity(n_workers=0), self._timeout_s)
        return answer["id"]

    async def _disconnect(self) -> None:
        client, self._client, self._graphs = self._client, None, None
        if client is None:
            return
        self._on_disconnected()
        with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
            await client.close(timeout=5)
