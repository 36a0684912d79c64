"""Trains the page networks: several at once on the same examples, which are drawn meanwhile.

The moving average of the weights is kept. `pages`, `page_finder` and `page_corners` define the examples and the losses.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.training.drawing import Drawers, Layout, Make, Pool

TURNS = 8
"""Ways to turn and mirror a square; batches are multiples of it, and each part is turned another way."""
_AVERAGING = 0.998
"""Of the moving average of the weights: over about 500 steps. With batches this small a step's weights are noisy."""
_WARM_STEPS = 200
_FIRST_PART = 20
"""Training begins when a pool is filled to one part of so many."""
_SAVED_EVERY_S = 20.0
_HALF = torch.float16
"""Weights of convolutions are kept at half precision: half the bytes in the repository, and no figure that changes."""
_log = logging.getLogger(__name__)


class Losses(NamedTuple):
    """loss: what is minimised; told: other scalars to be told, by name; weights: (N,), how often each row is to be
    picked from now on, beside 1 for a new one, if that is known.
    """

    loss: Tensor
    told: dict[str, Tensor]
    weights: Tensor | None = None


@dataclass(frozen=True)
class Part:
    """One network. losses_of: of some rows of the pool, by the network, the columns and the rows' numbers; each of
    them goes back before the next is asked for. input: shape of what the network is given, the rows first; rate: the
    highest; out: where its weights go.
    """

    net: nn.Module
    losses_of: Callable[[nn.Module, tuple[Tensor, ...], Tensor], Iterator[Losses]]
    input: tuple[int, ...]
    rate: float
    out: Path


@dataclass(frozen=True)
class Run:
    """What the command line asks for. minutes: by the clock, from when there are examples; drawers: processes."""

    seed: int
    minutes: float
    device: str
    drawers: int


class _Fitted:
    """A part while it is trained."""

    def __init__(self, part: Part, device: torch.device) -> None:
        self.part = part
        # Channels last in memory is faster on both kinds of device.
        part.net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(part.net, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING), use_buffers=True)  # type: ignore[no-untyped-call]
        on_gpu = device.type == "cuda"
        self._optimiser = torch.optim.AdamW(part.net.parameters(), lr=part.rate, weight_decay=1e-3, fused=on_gpu)
        self._net = _recorded(part, device) if on_gpu else part.net
        # Made once: a recorded network's gradients lie where the next ones will, and must be added up elsewhere.
        for parameter in part.net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._steps = 0
        self.told: dict[str, Tensor] = {}
        self.save()

    def step(self, pool: Pool, number: int, done: float) -> None:
        """One step. done: part of the time that is over."""
        rows = pool.pick(number, self.part.input[0])
        for group in self._optimiser.param_groups:
            rising = min(1.0, (self._steps + 1) / _WARM_STEPS)
            group["lr"] = self.part.rate * rising * (0.5 + 0.5 * math.cos(math.pi * done))
        self._optimiser.zero_grad(set_to_none=False)
        for losses in self.part.losses_of(self._net, pool.columns, rows):
            losses.loss.backward()  # type: ignore[no-untyped-call]
            if losses.weights is not None:
                pool.weigh(number, rows, losses.weights)
            # Kept on the device: asking for a number each step would make it wait for the GPU.
            for name, value in losses.told.items():
                self.told[name] = torch.lerp(self.told.get(name, value.detach()), value.detach(), 0.02)
        nn.utils.clip_grad_norm_(self.part.net.parameters(), 5.0)
        self._optimiser.step()
        self.average.update_parameters(self.part.net)
        self._steps += 1

    def save(self) -> None:
        """In one go: others may read it meanwhile."""
        state = {
            name: tensor.detach().cpu().contiguous().to(_HALF if tensor.ndim == 4 else tensor.dtype)
            for name, tensor in self.average.module.state_dict().items()
        }
        unfinished = self.part.out.with_suffix(".part")
        save_file(state, unfinished)
        unfinished.replace(self.part.out)

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {float(value):.4f}" for name, value in self.told.items())
        return f"{self.part.out.stem}: {figures}"


def fit(parts: list[Part], make: Make, layout: Layout, pool_size: int, run: Run) -> None:
    """Train the parts by turns on what `make` draws, and save the averages of their weights at the start, now and then
    and at the end.

    Rates rise at first and fall to nothing over the time.
    """
    device = torch.device(run.device)
    torch.backends.cudnn.benchmark = True  # all batches have one size
    fitted = [_Fitted(part, device) for part in parts]
    pool, steps = Pool(layout, pool_size, len(parts), device), 0
    drawers = Drawers(make, layout, [1000 * run.seed + n for n in range(run.drawers)])
    with drawers as drawn, _known(drawn.memory, device):
        while len(pool) < pool_size // _FIRST_PART:
            _add(pool, drawn, wait=True)
        started = saved = time.monotonic()
        while (done := (time.monotonic() - started) / (60 * run.minutes)) < 1:
            _add(pool, drawn, wait=False)
            for number, one in enumerate(fitted):
                one.step(pool, number, done)
            steps += 1
            if time.monotonic() - saved > _SAVED_EVERY_S:
                saved = time.monotonic()
                for one in fitted:
                    one.save()
                told = "; ".join(map(str, fitted))
                _log.info("step %d, %d drawn, %.0f %% of the time; %s", steps, pool.added, 100 * done, told)
    for one in fitted:
        one.save()
    _log.info("%d steps out of %d examples", steps, pool.added)


class _Halved(nn.Module):
    """A network that computes at half precision where that loses nothing."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pictures: Tensor) -> Any:
        """What the network gives."""
        # What is recorded must not use weights that were cast before.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return self.net(pictures)


def _recorded(part: Part, device: torch.device) -> nn.Module:
    """The network's steps forth and back recorded once and played from then on: such small layers are done sooner than
    one thread can ask for them.
    """
    kept = {name: tensor.clone() for name, tensor in part.net.state_dict().items()}
    sample = torch.randn(part.input, device=device).contiguous(memory_format=torch.channels_last)
    halved = _Halved(part.net)
    torch.cuda.make_graphed_callables(halved, (sample,))
    part.net.load_state_dict(kept)  # recording has moved the means of what the layers see
    return halved


def _add(pool: Pool, drawn: Drawers, *, wait: bool) -> None:
    # What was taken before must have left the memory that it is drawn over in.
    pool.arrived()
    pool.add(drawn.take(wait=wait))


@contextmanager
def _known(memory: npt.NDArray[np.uint8], device: torch.device) -> Iterator[None]:
    """The memory made known to a GPU's driver, so that copies out of it run beside the training."""
    if device.type != "cuda":
        yield
        return
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    torch.cuda.check_error(runtime.cudaHostRegister(memory.ctypes.data, memory.nbytes, 0))
    try:
        yield
    finally:
        torch.cuda.synchronize(device)
        torch.cuda.check_error(runtime.cudaHostUnregister(memory.ctypes.data))


def turned_pictures(pictures: Tensor) -> Tensor:
    """Squares (N, S, S, …), each eighth turned or mirrored another way."""
    return torch.cat([_turned(picture, n) for n, picture in enumerate(pictures.chunk(TURNS))])


def _turned(picture: Tensor, way: int) -> Tensor:
    picture = picture.rot90(way % 4, (1, 2))
    return picture.flip(2) if way >= 4 else picture


def turned_places(places: Tensor, ways: Tensor) -> Tensor:
    """Four corners in order, (N, 4, …), renamed as if what they mark had been turned by `ways` % 4 quarters, and
    mirrored from 4 on. ways: int64 (N,), 0..7.
    """
    order = _orders(places.device)[ways]
    return torch.gather(places, 1, order.view(*order.shape, *([1] * (places.ndim - 2))).expand_as(places))


@cache
def _orders(device: torch.device) -> Tensor:
    """Made once: what comes from outside a GPU makes it wait."""
    turns = [[(n + turn) % 4 for n in range(4)] for turn in range(4)]
    return torch.tensor(turns + [[second, first, fourth, third] for first, second, third, fourth in turns]).to(device)
