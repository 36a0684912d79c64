"""Admission: how many uploads are decoded at once, and which one is next.

An upload is accepted whenever there is disk. Handing it to the cluster is another matter: decoded, it is 20 to 50 times
larger, and a worker that holds too many at once dies. So each waits here for a place, which it keeps until
its quality is known. A case that somebody waits for goes before one that still wants other uploads, an older upload
before a newer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class _Waiting:
    case_id: str
    received_at: datetime
    place: asyncio.Future[None]


class Admission:
    """`places` uploads may be on their way through a cluster at once."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._holders: set[str] = set()
        self._queue: list[_Waiting] = []
        self._hurried: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many uploads wait for a place."""
        return len(self._queue)

    def hurry(self, case_id: str) -> None:
        """Somebody waits for the decision of that case: its uploads go first."""
        self._hurried.add(case_id)

    def calm(self, case_id: str) -> None:
        """Nobody waits for that case any more."""
        self._hurried.discard(case_id)

    async def enter(self, upload: str, case_id: str, received_at: datetime) -> None:
        """Wait for a place. upload: its key; one that has a place keeps it."""
        if upload in self._holders:
            return
        if self._free > 0:
            self._free -= 1
        else:
            mine = _Waiting(case_id, received_at, asyncio.get_running_loop().create_future())
            self._queue.append(mine)
            try:
                await mine.place
            except asyncio.CancelledError:
                if mine in self._queue:
                    self._queue.remove(mine)
                elif not mine.place.cancelled():
                    self._pass_on()  # the place came in the same moment
                raise
        self._holders.add(upload)

    def leave(self, upload: str) -> None:
        """Give the place back. Harmless when repeated, and for one that has none."""
        if upload in self._holders:
            self._holders.discard(upload)
            self._pass_on()

    def _pass_on(self) -> None:
        while self._queue:
            first = min(self._queue, key=lambda one: (one.case_id not in self._hurried, one.received_at))
            self._queue.remove(first)
            if not first.place.done():  # one that was cancelled just now is still in the queue
                first.place.set_result(None)
                return
        self._free += 1
