"""How the page networks are trained: on examples drawn meanwhile, each batch turned and mirrored, the moving average of
the weights kept. What is drawn and what the loss is belong to `page_finder` and `page_corners`.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.training.drawing import Drawers, Make, Pool

TURNS = 8
"""Ways to turn and mirror a square; batches are multiples of it, and each part is turned another way."""
_AVERAGING = 0.998
"""Of the moving average of the weights: over about 500 steps. With batches this small a step's weights are noisy."""
_WARM_STEPS = 200
_FIRST_PART = 10
"""Training begins when a pool is filled to one part of so many."""
_SAVED_EVERY_S = 20.0
_log = logging.getLogger(__name__)

Losses = dict[str, Tensor]
"""The loss under the name `loss`, and other figures to be told, by name; scalars."""


@dataclass(frozen=True)
class Sizes:
    """batch: examples in a step; pool: examples at hand."""

    batch: int
    pool: int


@dataclass(frozen=True)
class Run:
    """What the command line asks for. minutes: by the clock, from when there are examples; drawers: processes."""

    seed: int
    minutes: float
    out: Path
    device: str
    drawers: int


def fit(
    net: nn.Module, make: Make, losses_of: Callable[..., Losses], sizes: dict[str, Sizes], rate: float, run: Run
) -> None:
    """Train `net` on what `make` draws, and save the average of its weights to `run.out` at the start, now and then and
    at the end.

    losses_of: from a batch's columns, untouched. sizes: by kind of device. rate: the highest; it rises at first and
    falls to nothing over the time.
    """
    device = torch.device(run.device)
    net.to(device)
    torch.backends.cudnn.benchmark = True  # all batches have one size
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING), use_buffers=True)  # type: ignore[no-untyped-call]
    _save(average, run.out)
    size = sizes[device.type]
    pool, step, told = Pool(size.pool, device), 0, dict[str, Tensor]()
    with Drawers(make, [1000 * run.seed + n for n in range(run.drawers)]) as drawn:
        while len(pool) < size.pool // _FIRST_PART:
            for examples in drawn.take(wait=True):
                pool.add(examples)
        started = saved = time.monotonic()
        while (done := (time.monotonic() - started) / (60 * run.minutes)) < 1:
            for examples in drawn.take(wait=False):
                pool.add(examples)
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / _WARM_STEPS) * (0.5 + 0.5 * math.cos(math.pi * done))
            losses = losses_of(*pool.pick(size.batch))
            optimiser.zero_grad(set_to_none=True)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            average.update_parameters(net)
            # Kept on the device: asking for a number each step would make it wait for the GPU.
            for name, value in losses.items():
                told[name] = torch.lerp(told[name], value.detach(), 0.02) if step else value.detach()
            step += 1
            if time.monotonic() - saved > _SAVED_EVERY_S:
                saved = time.monotonic()
                _save(average, run.out)
                figures = ", ".join(f"{name} {float(value):.4f}" for name, value in told.items())
                _log.info("step %d, %d drawn, %.0f %% of the time, %s", step, pool.added, 100 * done, figures)
    _save(average, run.out)
    _log.info("%d steps of %d out of %d", step, size.batch, pool.added)


def turned(pictures: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Squares (N, S, S, …) and the places of four corners in each, clockwise, (N, 4, 2), x and y of 0 to 1: the same,
    each eighth turned or mirrored another way. Corners keep their order on the picture: the first is the top left one.
    """
    parts = []
    for n, (picture, corners) in enumerate(zip(pictures.chunk(TURNS), places.chunk(TURNS), strict=True)):
        for _ in range(n % 4):  # a quarter turn: what was top right is top left now
            corners = torch.stack((corners[..., 1], 1 - corners[..., 0]), dim=2).roll(-1, 1)
        if n >= 4:
            corners = torch.stack((1 - corners[..., 0], corners[..., 1]), dim=2)[:, [1, 0, 3, 2]]
        parts.append((_turned(picture, n), corners))
    return torch.cat([picture for picture, _ in parts]), torch.cat([corners for _, corners in parts])


def turned_pictures(pictures: Tensor) -> Tensor:
    """Squares (N, S, S, …), each eighth turned or mirrored another way, as `turned` does it."""
    return torch.cat([_turned(picture, n) for n, picture in enumerate(pictures.chunk(TURNS))])


def _turned(picture: Tensor, way: int) -> Tensor:
    picture = picture.rot90(way % 4, (1, 2))
    return picture.flip(2) if way >= 4 else picture


def _save(average: AveragedModel, out: Path) -> None:
    """In one go: others read it meanwhile."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in average.module.state_dict().items()}
    part = out.with_suffix(".part")
    save_file(state, part)
    part.replace(out)


def options(about: str | None, on_record: Path) -> argparse.ArgumentParser:
    """The command line of a training. on_record: where its weights are."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="by the clock, from when there are examples")
    parser.add_argument("--go-on", type=Path, nargs="?", const=on_record, help="from the weights on record or a file")
    parser.add_argument("--out", type=Path, default=on_record)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--drawers", type=int, default=1, help="processes that draw, one for each core to spare")
    return parser


def begun(arguments: argparse.Namespace) -> Run:
    """What the command line asked for; one thread for each part from now on."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.manual_seed(arguments.seed)
    return Run(arguments.seed, arguments.minutes, arguments.out, arguments.device, arguments.drawers)
