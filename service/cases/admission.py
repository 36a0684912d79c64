"""Admission: how many uploads a cell decodes at once, and which upload is next.

The API accepts an upload whenever there is disk space. Handing it to the cluster is limited here: decoded, an upload is
20 to 50 times larger, and a worker that holds too many at once dies. So each upload waits for a place and keeps it
until its quality is known. Uploads of cases whose client waits for the decision go before those of cases that still
need uploads; within each group the oldest goes first.

Places are not shared between API processes: each process limits the uploads that it delivers.
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
    """A queue for `places`: the number of uploads that may be in progress on one cluster at the same time."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._holders: set[str] = set()
        self._queue: list[_Waiting] = []
        self._prioritized: set[str] = set()

    @property
    def waiting(self) -> int:
        """The number of uploads that wait for a place."""
        return len(self._queue)

    def prioritize(self, case_id: str) -> None:
        """Move the uploads of a case to the front: its client waits for the decision."""
        self._prioritized.add(case_id)

    def deprioritize(self, case_id: str) -> None:
        """Undo `prioritize`."""
        self._prioritized.discard(case_id)

    async def enter(self, upload: str, case_id: str, received_at: datetime) -> None:
        """Wait for a place. upload: its key. Returns at once if that upload already has a place."""
        if upload in self._holders:
            return
        if self._free > 0:
            self._free -= 1
        else:
            waiting = _Waiting(case_id, received_at, asyncio.get_running_loop().create_future())
            self._queue.append(waiting)
            try:
                await waiting.place
            except asyncio.CancelledError:
                if waiting in self._queue:
                    self._queue.remove(waiting)
                elif not waiting.place.cancelled():
                    self._admit_next()  # the place was given at the same moment
                raise
        self._holders.add(upload)

    def _rank(self, waiting: _Waiting) -> tuple[bool, datetime]:
        return waiting.case_id not in self._prioritized, waiting.received_at

    def leave(self, upload: str) -> None:
        """Give the place back. Does nothing if the upload has none."""
        if upload in self._holders:
            self._holders.discard(upload)
            self._admit_next()

    def _admit_next(self) -> None:
        while self._queue:
            first = min(self._queue, key=self._rank)
            self._queue.remove(first)
            if not first.place.done():  # one that was just cancelled is still in the queue
                first.place.set_result(None)
                return
        self._free += 1
