"""Results of single checks while a case is still open: from the cluster's topic to the events table.

Best effort: an event may be lost with this process. The decision contains all checks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.errors import ServiceError
from service.lifecycle.case import Event
from service.store.cases import CaseStore

_PUBLISH_S = 0.1


class CheckProgress:
    """Check events that this process received and did not store yet."""

    def __init__(self, store: CaseStore) -> None:
        self._store = store
        self._pending: list[tuple[str, Event]] = []

    def add(self, data: Mapping[str, Any]) -> None:
        """Add the event of a finished check. Other processes may receive it too; it is stored only once."""
        once = f"{data['check']} {data['started_at']:.6f}"
        event = Event("check", {name: value for name, value in data.items() if name != "case_id"}, once)
        self._pending.append((data["case_id"], event))

    def take(self, case_id: str) -> list[Event]:
        """Remove and return the pending events of a case; the caller stores them."""
        taken = [event for pending_id, event in self._pending if pending_id == case_id]
        self._pending = [pair for pair in self._pending if pair[0] != case_id]
        return taken

    async def publish_forever(self) -> None:
        """Run until cancelled: store the pending events ten times a second.

        Many events share one transaction, because each commit waits for the disk.
        """
        while True:
            await asyncio.sleep(_PUBLISH_S)
            events, self._pending = self._pending, []
            if events:
                with contextlib.suppress(ServiceError):  # best effort, see above
                    await self._store.add_events(events, datetime.now(UTC))
