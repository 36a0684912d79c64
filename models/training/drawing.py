"""Draws training examples in separate processes while networks are trained on the examples already drawn.

On a CPU, drawing a scene costs as much as training on it; with a GPU for training, hundreds of times as much. So
drawing has as many processes as there are spare cores, and the newest examples are kept on the training device. They
are passed through shared memory: a thousand scenes a second through a pipe would keep the trainer's only thread busy.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore

Example = tuple[npt.NDArray[Any], ...]
"""One example: an array for each column."""
Layout = Sequence[tuple[tuple[int, ...], npt.DTypeLike]]
"""Shape and dtype of an example's columns."""
Make = Callable[[int], Iterator[Example]]
"""Examples without end out of a seed; a function of a module, so that another process can import it."""
_SLOTS = 12
"""Examples of each process that wait to be taken: more would be older than need be, and fill memory."""
_LONGEST_WAIT_S = 300.0
_ALIGNED = 64
_NICER = 10


class Drawers:
    """Processes that draw, one for each seed; as a context, which ends them.

    Raises RuntimeError from `take` when one has ended by itself: what it printed says why.
    """

    def __init__(self, make: Make, layout: Layout, seeds: list[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._layout = tuple(layout)
        memory = context.RawArray("B", len(seeds) * _SLOTS * _places(self._layout)[-1])
        self.memory: npt.NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        """What examples lie in, for those who can copy faster out of memory that they know."""
        self._rows = _rows(self.memory, self._layout, len(seeds) * _SLOTS)
        self._ready: multiprocessing.Queue[int] = context.Queue()
        self._free = [context.Semaphore(_SLOTS) for _ in seeds]
        self._given: list[int] = []
        self._processes = [
            context.Process(
                target=_draw, args=(make, seed, memory, self._layout, n, self._free[n], self._ready), daemon=True
            )
            for n, seed in enumerate(seeds)
        ]

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
        self._ready.close()

    def take(self, *, wait: bool) -> list[Example]:
        """What has been drawn since, and with `wait` at least one example: arrays in the shared memory, which are drawn
        over after the next call.
        """
        for slot in self._given:
            self._free[slot // _SLOTS].release()
        self._given = [self._next()] if wait else []
        with suppress(queue.Empty):
            # No more than there are slots, because none is given back meanwhile.
            while True:
                self._given.append(self._ready.get_nowait())
        return [self._rows[slot] for slot in self._given]

    def _next(self) -> int:
        started = time.monotonic()
        while time.monotonic() - started < _LONGEST_WAIT_S:
            with suppress(queue.Empty):
                return self._ready.get(timeout=1)
            if ended := [process.exitcode for process in self._processes if process.exitcode is not None]:
                raise RuntimeError(f"{len(ended)} of {len(self._processes)} processes that draw ended: {ended}")
        raise RuntimeError(f"nothing was drawn for {_LONGEST_WAIT_S:.0f} s")


def _places(layout: Layout) -> list[int]:
    """Where each column begins in an example's bytes, and where the next example does."""
    places = [0]
    for shape, dtype in layout:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        places.append(places[-1] + -(-size // _ALIGNED) * _ALIGNED)
    return places


def _rows(memory: npt.NDArray[np.uint8], layout: Layout, count: int) -> list[Example]:
    """The memory's examples, as arrays in it."""
    places = _places(layout)
    return [
        tuple(
            np.frombuffer(memory, dtype, int(np.prod(shape)), row * places[-1] + start).reshape(shape)
            for start, (shape, dtype) in zip(places, layout, strict=False)
        )
        for row in range(count)
    ]


def _draw(
    make: Make,
    seed: int,
    memory: Any,  # a ctypes array, whose type has no public name
    layout: Layout,
    number: int,
    free: Semaphore,
    ready: multiprocessing.Queue[int],
) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # The one that trains has one thread, and many are waiting for it.
    os.nice(_NICER)
    parent, slot = os.getppid(), 0
    mine = _rows(np.frombuffer(memory, np.uint8), layout, (number + 1) * _SLOTS)[-_SLOTS:]
    for example in make(seed):
        # A trainer that was killed takes nothing more and ends nobody.
        while not free.acquire(timeout=1):
            if os.getppid() != parent:
                return
        for place, column in zip(mine[slot], example, strict=True):
            place[...] = column
        ready.put(number * _SLOTS + slot)
        slot = (slot + 1) % _SLOTS


class Pool:
    """The newest `size` examples, on one device, in place of the oldest, for `parts` who pick from them. added: how
    many there were in all; columns: tensors (size, …) as in the layout.
    """

    def __init__(self, layout: Layout, size: int, parts: int, device: torch.device) -> None:
        self._size = size
        self.columns = tuple(
            torch.zeros((size, *shape), dtype=torch.from_numpy(np.zeros(0, dtype)).dtype, device=device)
            for shape, dtype in layout
        )
        self._weights = torch.zeros((parts, size), device=device)
        self._copied = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, self._size)

    def add(self, examples: Sequence[Example]) -> None:
        """Some more. On a GPU they may still be on their way there when this returns."""
        for example in examples:
            at = self.added % self._size
            for column, new in zip(self.columns, example, strict=True):
                column[at].copy_(torch.from_numpy(new), non_blocking=True)
            self._weights[:, at] = 1
            self.added += 1
        if self._copied is not None:
            self._copied.record()

    def arrived(self) -> None:
        """Returns when what was added is there."""
        if self._copied is not None:
            self._copied.synchronize()

    def pick(self, part: int, count: int) -> Tensor:
        """Numbers of `count` rows by chance, with repetition: int64 (count,)."""
        return torch.multinomial(self._weights[part, : len(self)], count, replacement=True)

    def weigh(self, part: int, rows: Tensor, weights: Tensor) -> None:
        """How often these rows are picked by this part from now on, beside 1 for a new one."""
        self._weights[part, rows] = weights
