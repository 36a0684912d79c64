"""Trains the page finder's mask on scenes drawn on the fly.

    python -m models.training.page_finder --seed 0 --minutes 60
    python -m models.training.page_finder --go-on --seed 1         from the weights on record
    python -m models.training.page_finder --go-on --seed 2 --device cuda --drawers 15

Each batch is turned and mirrored by chance. `veridask evaluate page --seeds 1-30` measures what is used, with
`models.page_corners`, on other scenes, cards and specimens.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.page_finder import INPUT_SIDE, MASK_SIDE, PageNet
from models.training.drawing import Arrays, Drawers, Pool
from models.training.page_cards import Image, draw_card, specimen_cards
from models.training.page_others import KINDS, draw_other
from models.training.page_scenes import Corners, draw_scene
from models.weights import own

BATCH = {"cpu": 8, "cuda": 64}
"""A multiple of 8: each eighth is turned or mirrored another way."""
_POOL = {"cpu": 600, "cuda": 20_000}
"""Scenes at hand, 120 KB each."""
TRAINING_SPECIMENS = 1_000_000_000
"""First seed of specimens; tests, the demo and measurements use others."""
_PROCEDURAL, _SPECIMENS, _NEW_SPECIMEN = 72, 18, 80
"""Cards at hand at any time: two procedural ones to one side of a specimen. One procedural card is new in each scene; a
specimen is drawn anew every so many scenes, which costs thirty times as much.
"""
_OTHERS = 0.15
"""Part of the scenes that show other documents, or are scans or drawings."""
_START_RATE, _GO_ON_RATE = 2e-3, 5e-4
_AVERAGING = 0.998
"""Of the moving average of the weights: over about 500 steps."""
_SAVED_EVERY_S = 20.0
Example = tuple[Image, npt.NDArray[np.float32]]
_log = logging.getLogger(__name__)


def train(
    seed: int, minutes: float, out: Path, start: dict[str, Tensor] | None = None, device: str = "cpu", drawers: int = 1
) -> None:
    """Weights after `minutes` by the clock, from `start` or from nothing, saved to `out` now and then and at the end.

    drawers: processes that draw.
    """
    torch.manual_seed(seed)
    where = torch.device(device)
    net = PageNet().to(where)
    if start is not None:
        net.load_state_dict(start)
    rate = _START_RATE if start is None else _GO_ON_RATE
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING), use_buffers=True)  # type: ignore[no-untyped-call]
    torch.backends.cudnn.benchmark = True  # all batches have one size
    batch, pool = BATCH[where.type], Pool(_POOL[where.type], where)
    with Drawers(_scenes, [1000 * seed + n for n in range(drawers)]) as drawn:
        while len(pool) < _POOL[where.type] // 20:
            for scenes in drawn.take(wait=True):
                pool.add(scenes)
        started = saved = time.monotonic()
        step, mean_loss = 0, torch.ones((), device=where)
        while (done := (time.monotonic() - started) / (60 * minutes)) < 1:
            for scenes in drawn.take(wait=False):
                pool.add(scenes)
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done))
            loss = _loss(net, *_turned(*pool.pick(batch)))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            average.update_parameters(net)
            mean_loss.lerp_(loss.detach(), 0.02)
            step += 1
            if time.monotonic() - saved > _SAVED_EVERY_S:
                saved = time.monotonic()
                _save(average, out)
                _log.info(
                    "step %d, %d scenes, %.0f %% of the time, loss %.3f",
                    step, pool.added, 100 * done, float(mean_loss),
                )  # fmt: skip
    _save(average, out)
    _log.info("%d steps of %d out of %d scenes", step, batch, pool.added)


def _save(average: AveragedModel, out: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in average.module.state_dict().items()}, out)


def _scenes(seed: int) -> Iterator[Arrays]:
    """Scenes, eight at a time."""
    rng = np.random.default_rng([seed, 1])
    of_seed = TRAINING_SPECIMENS + 1000 * seed
    cards = [draw_card(rng) for _ in range(_PROCEDURAL)] + specimen_cards(_SPECIMENS, of_seed)
    scenes, waiting = 0, list[Example]()
    while True:
        cards[scenes % _PROCEDURAL] = draw_card(rng)
        scenes += 1
        if scenes % _NEW_SPECIMEN == 0:
            turn = scenes // _NEW_SPECIMEN
            at = _PROCEDURAL + 2 * (turn % _SPECIMENS)
            cards[at : at + 2] = specimen_cards(1, of_seed + _SPECIMENS + turn)
        waiting.append(_example(rng, cards))
        if len(waiting) == 8:
            yield np.stack([image for image, _ in waiting]), np.stack([cover for _, cover in waiting])
            waiting = []


def _example(rng: np.random.Generator, cards: list[Image]) -> Example:
    """A scene as the network sees it: uint8 (192, 192, 3), and the part of each cell that the page covers: (48, 48)."""
    other = rng.random() < _OTHERS
    kind = KINDS[int(rng.integers(len(KINDS)))]
    scene = draw_other(rng, cards, INPUT_SIDE, kind) if other else draw_scene(rng, cards, INPUT_SIDE)
    mask = np.zeros(scene.image.shape[:2], np.uint8)
    for corners in scene.pages:
        _fill(mask, corners)
    image = cv2.resize(scene.image, (INPUT_SIDE, INPUT_SIDE), interpolation=cv2.INTER_AREA)
    cover = cv2.resize(mask.astype(np.float32), (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(image, np.uint8), np.asarray(cover, np.float32)


def _turned(images: Tensor, covers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 (N, 192, 192, 3) and float (N, 48, 48) → float (N, 3, 192, 192), (N, 48, 48), (N,), each eighth turned or
    mirrored another way.
    """
    turned = []
    for n, (image, cover) in enumerate(zip(images.chunk(8), covers.chunk(8), strict=True)):
        image, cover = image.rot90(n % 4, (1, 2)), cover.rot90(n % 4, (1, 2))
        turned.append((image.flip(2), cover.flip(2)) if n >= 4 else (image, cover))
    covered = torch.cat([cover for _, cover in turned])
    # A page that is all but out of the frame counts as none: nobody could find it.
    presence = (covered.mean(dim=(1, 2)) > 0.02).float()
    # Stacked with the channels last and left so: torch then takes its faster path, twice as fast on one thread.
    pixels = torch.cat([image for image, _ in turned]).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return pixels, covered, presence


def _loss(net: PageNet, images: Tensor, masks: Tensor, presence: Tensor) -> Tensor:
    """Cross-entropy of mask and presence, and the Dice loss on scenes with a page, which small pages need."""
    logits, present = net(images)
    entropy = nn.functional.binary_cross_entropy_with_logits
    drawn = logits.sigmoid()
    common, total = (drawn * masks).sum((1, 2)), (drawn + masks).sum((1, 2))
    dice = ((1 - (2 * common + 1) / (total + 1)) * presence).sum() / presence.sum().clamp(min=1)
    return torch.as_tensor(entropy(logits, masks) + dice + 0.3 * entropy(present, presence))


def _fill(mask: npt.NDArray[np.uint8], corners: Corners) -> None:
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 1, cv2.LINE_8, 4)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="by the clock, from when there are scenes")
    parser.add_argument("--go-on", action="store_true", help="from the weights on record, at a lower rate")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "weights" / "page_finder.safetensors")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--drawers", type=int, default=1, help="processes that draw, one for each core to spare")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    start = own("page_finder") if arguments.go_on else None
    train(arguments.seed, arguments.minutes, arguments.out, start, arguments.device, arguments.drawers)


if __name__ == "__main__":
    main()
