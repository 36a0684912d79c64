"""Server-sent events of a case: what happened, from the events table, and then what happens.

The table is the only source, so a client that comes back with `Last-Event-ID` misses nothing and sees nothing twice;
the board below only wakes those who wait. The stream ends when the case is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

from sse_starlette import ServerSentEvent

from service.errors import StoreUnavailableError
from service.store.cases import CaseStore
from service.store.rows import StoredEvent

_LOOK_S = 5.0
"""Longest time without a look into the table."""
_OTHERS_S = 0.2
"""How often it is looked whether other processes told something, while anybody listens here."""


class EventBoard:
    """Wakes the streams of a case when something was committed for it."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.ended = False

    @property
    def streams(self) -> int:
        """How many listen now."""
        return sum(map(len, self._waiting.values()))

    def end(self) -> None:
        """The process ends: all streams end now, and so do those that begin. Who listens comes back to another one."""
        self.ended = True
        for case_id in list(self._waiting):
            self.notify(case_id)

    def notify(self, case_id: str) -> None:
        """There is something new about this case."""
        for event in self._waiting.get(case_id, ()):
            event.set()

    async def watch(self, store: CaseStore) -> None:
        """For ever: wake those who wait for what another process told. One query for all of them."""
        last = -1
        while True:
            await asyncio.sleep(_OTHERS_S)
            if not self._waiting:
                last = -1
                continue
            with contextlib.suppress(StoreUnavailableError):
                last, cases = await store.told_since(last)
                for case_id in cases:
                    self.notify(case_id)

    @contextlib.contextmanager
    def listening(self, case_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something is told about the case."""
        event = asyncio.Event()
        self._waiting[case_id].add(event)
        try:
            yield event
        finally:
            self._waiting[case_id].discard(event)
            if not self._waiting[case_id]:
                del self._waiting[case_id]


async def _look(store: CaseStore, case_id: str, after: int) -> tuple[bool, list[StoredEvent]]:
    """Whether the case is closed, asked before its events, so that the last ones are told; and the events."""
    closed = not (await store.get(case_id)).is_open
    return closed, await store.events(case_id, after)


async def stream(store: CaseStore, board: EventBoard, case_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    """The events of a case past the id `after`, in order, until the case is closed and all was told."""
    with board.listening(case_id) as news:
        while True:
            news.clear()
            try:
                closed, events = await _look(store, case_id, after)
            except StoreUnavailableError:
                closed, events = False, []
            for event in events:
                after = event.id
                data = json.dumps({**event.data, "case_id": case_id, "at": event.at.isoformat()}, allow_nan=False)
                yield ServerSentEvent(data, event=event.type, id=str(event.id))
            if closed or board.ended:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):  # not wait_for, see `service.webhooks.sender`
                    await news.wait()
