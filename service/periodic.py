"""Periodic work: one loop for every sweep and heartbeat of an API process. What a run does is in its own room."""

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
    """Call `turn` with the time in UTC, every `every_s` seconds, until the returned task is cancelled.

    at_once: make the first call now instead of after one interval. A call that fails because the store, the evidence or
    a cluster is unavailable is logged, and the next one follows as usual.
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
