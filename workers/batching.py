"""Joins the model calls of several tasks into one forward pass. The tasks of a worker process are its threads.

There is no extra thread. The first caller of a batch leads it: it waits for its turn, runs the pass and hands out the
results. Each model runs one pass at a time, so the calls that arrive during a pass form the next batch; most joining
comes from this. Apart from that, a leader waits only for threads that are known to be preparing a call, and only for a
bounded time. Calls with different keys are never joined. Batches run in the order in which they were begun.

This module knows nothing about networks: it joins and splits arrays along their first axis. The key says which calls
may be joined (`joined_models`); `settings` says whether to join at all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Forward = Callable[[Array], Array]
"""Gives one row of results for each row of its input. No row depends on the others."""


@dataclass(frozen=True)
class BatchFigures:
    """What a batcher has done since its start. All values are numbers, so that they travel as JSON or msgpack.

    calls: number of calls. items: their rows in total. passes: forward passes, including those of fallbacks. fallbacks:
    joined passes that raised, after which each call ran alone. mean_batch, max_batch: rows per pass. wait_s: seconds
    from a call to the start of its pass, summed over all calls; longest_wait_s: the longest of one call.
    """

    calls: int
    items: int
    passes: int
    fallbacks: int
    mean_batch: float
    max_batch: int
    wait_s: float
    longest_wait_s: float


@dataclass
class _Input:
    rows: Array
    arrived: float
    result: Future[Array] = field(default_factory=Future)


@dataclass
class _Batch:
    """Inputs of one pass. closed: no more inputs are added."""

    key: Hashable
    inputs: list[_Input] = field(default_factory=list)
    closed: bool = False

    @property
    def size(self) -> int:
        return sum(len(one.rows) for one in self.inputs)


class Batcher:
    """Joins the calls of one model. Thread-safe.

    max_items: maximum rows of a joined pass, 1 or more; a call with more rows runs alone, in one pass. wait_s: maximum
    seconds that a call waits for other calls that are being prepared, 0 or more. It does not limit the wait for the
    previous pass.
    """

    def __init__(self, max_items: int, wait_s: float) -> None:
        self._max_items = max_items
        self._wait_s = wait_s
        self._changed = threading.Condition()
        self._open: dict[Hashable, _Batch] = {}
        self._turns: deque[_Batch] = deque()
        """Batches whose pass has not begun, the next first."""
        self._busy = False
        self._coming: set[int] = set()
        """Threads that have entered `expected` but not yet called `run`."""
        self._begin()

    def _begin(self) -> None:
        self._calls = self._items = self._passes = self._fallbacks = self._ran = self._most = 0
        self._waited = self._longest = 0.0

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Wrap the preparation of a call and the call itself in this, so that other calls may wait for it."""
        me = threading.get_ident()
        with self._changed:
            self._coming.add(me)
        try:
            yield
        finally:
            self._arrived(me)  # if the preparation raised, or there was nothing to run

    def run(self, key: Hashable, rows: Array, forward: Forward) -> Array:
        """The result of `forward(rows)`, computed together with the rows of other threads.

        key: calls with equal keys may be joined. Their arrays must differ in the first axis only, and their `forward`
        must do the same. Raises what `forward` raises for these rows alone.
        """
        mine = _Input(rows, time.monotonic())
        with self._changed:
            self._calls += 1
            self._items += len(rows)
            batch = self._open.get(key)
            leads = batch is None or batch.size + len(rows) > self._max_items
            if batch is None or leads:
                self._close(batch)
                batch = self._open[key] = _Batch(key)
                self._turns.append(batch)
            batch.inputs.append(mine)
            if batch.size >= self._max_items:
                self._close(batch)
        self._arrived(threading.get_ident())
        if leads:
            self._wait_for_turn(batch)
            try:
                self._pass(batch.inputs, forward)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
        return mine.result.result()

    def figures(self) -> BatchFigures:
        """The figures since the start, or since `forget`."""
        with self._changed:
            return BatchFigures(
                calls=self._calls,
                items=self._items,
                passes=self._passes,
                fallbacks=self._fallbacks,
                mean_batch=round(self._ran / self._passes, 2) if self._passes else 0.0,
                max_batch=self._most,
                wait_s=round(self._waited, 6),
                longest_wait_s=round(self._longest, 6),
            )

    def forget(self) -> None:
        """Reset the figures, so that they do not count the warm-up."""
        with self._changed:
            self._begin()

    def _arrived(self, thread: int) -> None:
        with self._changed:
            self._coming.discard(thread)
            self._changed.notify_all()

    def _close(self, batch: _Batch | None) -> None:
        if batch is not None and not batch.closed:
            batch.closed = True
            del self._open[batch.key]

    def _wait_for_turn(self, batch: _Batch) -> None:
        """Wait until this batch may run its pass, and close it."""
        with self._changed:
            while self._busy or self._turns[0] is not batch:
                self._changed.wait()
            latest = batch.inputs[0].arrived + self._wait_s
            while not batch.closed and self._coming and (left := latest - time.monotonic()) > 0:
                self._changed.wait(left)
            self._close(batch)
            self._turns.popleft()
            self._busy = True
            waits = [time.monotonic() - one.arrived for one in batch.inputs]
            self._waited += sum(waits)
            self._longest = max(self._longest, *waits)

    def _pass(self, inputs: list[_Input], forward: Forward) -> None:
        """Run the inputs and give each its result or error."""
        try:
            rows = inputs[0].rows if len(inputs) == 1 else np.concatenate([one.rows for one in inputs])
            results = self._counted(rows, forward)
            start = 0
            for one in inputs:
                one.result.set_result(results[start : start + len(one.rows)])
                start += len(one.rows)
        except BaseException as error:
            # One input is at fault, or all together need too much memory: run each alone, so that only that one fails.
            if len(inputs) == 1 or not isinstance(error, Exception):
                for one in inputs:
                    one.result.set_exception(error)
                return
            with self._changed:
                self._fallbacks += 1
            for one in inputs:
                self._pass([one], forward)

    def _counted(self, rows: Array, forward: Forward) -> Array:
        with self._changed:
            self._passes += 1
            self._ran += len(rows)
            self._most = max(self._most, len(rows))
        return forward(rows)
