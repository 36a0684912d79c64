"""Which upload is handed to the cluster next."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import UTC, datetime, timedelta

from service.cases.admission import Admission

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def test_somebody_who_waits_goes_first_then_the_oldest() -> None:
    admission = Admission(1)
    await admission.enter("first", "case_a", NOON)
    order: list[str] = []

    async def come(upload: str, case_id: str, minutes: int) -> None:
        await admission.enter(upload, case_id, NOON + timedelta(minutes=minutes))
        order.append(upload)
        admission.leave(upload)

    async with asyncio.TaskGroup() as group:
        for upload, case_id, minutes in (("new", "case_b", 3), ("old", "case_c", 1), ("last", "case_d", 5)):
            group.create_task(come(upload, case_id, minutes))
        await asyncio.sleep(0)
        assert admission.waiting == 3
        admission.prioritize("case_d")
        admission.leave("first")
    assert order == ["last", "old", "new"]
    assert admission.waiting == 0


async def test_an_upload_keeps_its_place_and_gives_it_back_once() -> None:
    admission = Admission(2)
    for _ in range(3):
        await admission.enter("a", "case_a", NOON)
    await admission.enter("b", "case_b", NOON)
    admission.leave("a")
    admission.leave("a")
    admission.leave("unknown")
    await admission.enter("c", "case_c", NOON)
    late = asyncio.create_task(admission.enter("d", "case_d", NOON))
    await asyncio.sleep(0.01)
    assert not late.done(), "a place that was given back twice would be one too many"
    admission.leave("b")
    await late


async def test_never_more_than_the_places_whoever_gives_up() -> None:
    """A waiter that is cancelled in the moment its place comes must pass it on, or the place is lost for ever."""
    admission, here, most = Admission(3), 0, 0
    moments = random.Random(4)

    async def come(number: int) -> None:
        nonlocal here, most
        await admission.enter(f"u{number}", f"case_{number}", NOON)
        here, most = here + 1, max(most, here + 1)
        try:
            await asyncio.sleep(moments.random() / 500)
        finally:
            here -= 1
            admission.leave(f"u{number}")

    tasks = [asyncio.create_task(come(number)) for number in range(300)]
    for task in tasks:
        if moments.random() < 0.4:
            await asyncio.sleep(moments.random() / 1000)
            task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert most == 3
    assert (here, admission.waiting) == (0, 0)
    for number in range(3):
        await asyncio.wait_for(admission.enter(f"after{number}", "case", NOON), 1)
