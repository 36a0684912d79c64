"""Examples drawn by processes of their own while a network is trained on those that are there already.

Drawing a scene costs as much as training on it on a CPU, and hundreds of times as much where a GPU trains: so drawing
has as many processes as there are cores to give, and the newest examples lie on the device that trains.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Arrays = tuple[npt.NDArray[Any], ...]
"""Some examples: each array has one row for each of them."""
Make = Callable[[int], Iterator[Arrays]]
"""Examples without end out of a seed; a function of a module, so that another process can import it."""
_WAITING = 256
"""Scenes that wait to be taken: more would be older than need be, and fill memory."""
_LONGEST_WAIT_S = 300.0


class Drawers:
    """Processes that draw, one for each seed; as a context, which ends them.

    Raises RuntimeError from `take` when one has ended by itself: what it printed says why.
    """

    def __init__(self, make: Make, seeds: list[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: multiprocessing.Queue[Arrays] = context.Queue(_WAITING)
        self._processes = [context.Process(target=_draw, args=(make, seed, self._queue), daemon=True) for seed in seeds]

    def __enter__(self) -> Drawers:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._queue.close()

    def take(self, *, wait: bool) -> Iterator[Arrays]:
        """What has been drawn since, and with `wait` at least one scene; no more than the queue holds, because
        processes that draw faster than this takes would keep it for ever.
        """
        if wait:
            yield self._next()
        with suppress(queue.Empty):
            for _ in range(_WAITING):
                yield self._queue.get_nowait()

    def _next(self) -> Arrays:
        started = time.monotonic()
        while time.monotonic() - started < _LONGEST_WAIT_S:
            with suppress(queue.Empty):
                return self._queue.get(timeout=1)
            if ended := [process.exitcode for process in self._processes if process.exitcode is not None]:
                raise RuntimeError(f"{len(ended)} of {len(self._processes)} processes that draw ended: {ended}")
        raise RuntimeError(f"nothing was drawn for {_LONGEST_WAIT_S:.0f} s")


def _draw(make: Make, seed: int, drawn: multiprocessing.Queue[Arrays]) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    parent = os.getppid()
    for examples in make(seed):
        while True:
            # A trainer that was killed takes nothing more and ends nobody.
            if os.getppid() != parent:
                return
            with suppress(queue.Full):
                drawn.put(examples, timeout=1)
                break


class Pool:
    """The newest `size` examples, on one device, in place of the oldest. added: how many there were in all."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._size, self._device = size, device
        self._columns: tuple[Tensor, ...] = ()
        self._at, self._filled = 0, 0
        self.added = 0

    def __len__(self) -> int:
        return self._filled

    def add(self, examples: Arrays) -> None:
        """Rows of any number, as long as dtypes and shapes of a row are those of the first ones."""
        if not self._columns:
            self._columns = tuple(
                torch.empty((self._size, *column.shape[1:]), dtype=torch.from_numpy(column).dtype, device=self._device)
                for column in examples
            )
        count = len(examples[0])
        places = torch.from_numpy((self._at + np.arange(count)) % self._size).to(self._device)
        for column, new in zip(self._columns, examples, strict=True):
            column[places] = torch.from_numpy(np.ascontiguousarray(new)).to(self._device)
        self.added += count
        self._at = (self._at + count) % self._size
        self._filled = min(self._filled + count, self._size)

    def pick(self, count: int) -> tuple[Tensor, ...]:
        """`count` rows by chance, with repetition."""
        chosen = torch.randint(self._filled, (count,), device=self._device)
        return tuple(column[chosen] for column in self._columns)
