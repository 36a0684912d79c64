"""Checks that have ended, told while the case is still open: from the cluster's topic to the events table."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from service.errors import ServiceError
from service.lifecycle.case import Event
from service.store.cases import CaseStore

_TELL_S = 0.1


class CheckProgress:
    """The checks that this process has heard of and not stored yet."""

    def __init__(self, store: CaseStore) -> None:
        self._store = store
        self._heard: list[tuple[str, Event]] = []

    def heard(self, data: Mapping[str, Any]) -> None:
        """A check of a case that this process works on has ended. Others may work on it too: it is told once."""
        once = f"{data['check']} {data['started_at']:.6f}"
        self._heard.append((data["case_id"], Event("check", {k: v for k, v in data.items() if k != "case_id"}, once)))

    def taken(self, case_id: str) -> list[Event]:
        """What was heard of a case and is not stored yet, for whoever stores it now."""
        mine = [event for heard, event in self._heard if heard == case_id]
        self._heard = [pair for pair in self._heard if pair[0] != case_id]
        return mine

    async def tell(self) -> None:
        """For ever: store a few times a second, many in one transaction, because each commit waits for the disk."""
        while True:
            await asyncio.sleep(_TELL_S)
            events, self._heard = self._heard, []
            if events:
                with contextlib.suppress(ServiceError):  # best effort: the decision holds all checks again
                    await self._store.tell(events, datetime.now(UTC))
