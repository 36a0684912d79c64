"""Server-sent events of a case: first the stored events, then new ones as they are stored.

The events table is the only source, so a client that reconnects with `Last-Event-ID` misses nothing and sees nothing
twice. `EventBoard` only wakes the streams that wait. A stream ends when the case is closed.

This does not write events: `service.store.cases` does.
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

_POLL_S = 5.0
"""Longest time between two reads of the table."""
_OTHERS_POLL_S = 0.2
"""Interval at which new events of other processes are looked for, while there are streams here."""


class EventBoard:
    """Wakes the streams of a case when new events of it were committed."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.closed = False

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return sum(map(len, self._waiting.values()))

    def close(self) -> None:
        """End all streams, and any that is opened later: the process shuts down.

        Clients reconnect to another process.
        """
        self.closed = True
        for case_id in list(self._waiting):
            self.notify(case_id)

    def notify(self, case_id: str) -> None:
        """Wake the streams of a case: it has new events."""
        for event in self._waiting.get(case_id, ()):
            event.set()

    async def watch(self, store: CaseStore) -> None:
        """Run until cancelled: wake streams for events that other processes stored. One query serves all streams."""
        last = -1
        while True:
            await asyncio.sleep(_OTHERS_POLL_S)
            if not self._waiting:
                last = -1
                continue
            with contextlib.suppress(StoreUnavailableError):
                last, cases = await store.cases_with_events_after(last)
                for case_id in cases:
                    self.notify(case_id)

    @contextlib.contextmanager
    def subscribe(self, case_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the case has new events."""
        event = asyncio.Event()
        self._waiting[case_id].add(event)
        try:
            yield event
        finally:
            self._waiting[case_id].discard(event)
            if not self._waiting[case_id]:
                del self._waiting[case_id]


async def _read_events(store: CaseStore, case_id: str, after: int) -> tuple[bool, list[StoredEvent]]:
    """Whether the case is closed, and its new events. Read in that order, so that the last events are not missed."""
    closed = not (await store.get(case_id)).is_open
    return closed, await store.events(case_id, after)


async def stream(store: CaseStore, board: EventBoard, case_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    """The events of a case after the id `after`, in order, until the case is closed and its last event was sent."""
    with board.subscribe(case_id) as new_events:
        while True:
            new_events.clear()
            try:
                closed, events = await _read_events(store, case_id, after)
            except StoreUnavailableError:
                closed, events = False, []
            for event in events:
                after = event.id
                data = json.dumps({**event.data, "case_id": case_id, "at": event.at.isoformat()}, allow_nan=False)
                yield ServerSentEvent(data, event=event.type, id=str(event.id))
            if closed or board.closed:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):  # not wait_for: see `service.webhooks.sender`
                    await new_events.wait()
