"""Work that comes round again: one loop for every sweep, heartbeat and measurement of an API process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from service.errors import ServiceError
from workers.errors import ClusterError

log = structlog.get_logger()


def start_periodic(
    name: str, every_s: float, turn: Callable[[datetime], Awaitable[object]], *, at_once: bool = False
) -> asyncio.Task[None]:
    """Run `turn` every so many seconds, with the time in UTC, until the task is cancelled.

    at_once: begin now; otherwise after one interval.

    A turn that fails because the store, the evidence or a cluster is away is logged, and the next one comes as usual.
    """

    async def run() -> None:
        if not at_once:
            await asyncio.sleep(every_s)
        while True:
            try:
                await turn(datetime.now(UTC))
            except (ServiceError, ClusterError) as error:
                log.warning("periodic_work_failed", work=name, error=type(error).__name__)
            await asyncio.sleep(every_s)

    return asyncio.create_task(run(), name=name)
