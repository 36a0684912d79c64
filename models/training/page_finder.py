"""Trains the page finder's mask on scenes drawn on the fly.

    python -m models.training.page_finder --seed 0 --minutes 60
    python -m models.training.page_finder --go-on --seed 1         from the weights on record

Minutes are CPU time of one thread, so that a busy machine trains no less. Each step draws a few new scenes into a pool
and trains on a batch out of it, turned and mirrored at random. `veridask evaluate page --seeds 1-30` measures what
is used, with `models.page_corners`, on other scenes, cards and specimens.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.page_finder import INPUT_SIDE, MASK_SIDE, PageNet
from models.training.page_cards import Image, draw_card, specimen_cards
from models.training.page_others import KINDS, draw_other
from models.training.page_scenes import Corners, draw_scene
from models.weights import own

BATCH = 8
_POOL, _NEW = 600, 2
"""Scenes at hand, and new ones each step, in place of the oldest: each is seen four times on average. Drawing a scene
costs about half as much as training on one.
"""
TRAINING_SPECIMENS = 1_000_000
"""First seed of specimens; tests, the demo and measurements use others."""
_PROCEDURAL, _SPECIMENS, _NEW_SPECIMEN = 72, 18, 40
"""Cards at hand at any time: two procedural ones to one side of a specimen. One procedural card is new each step; a
specimen is drawn anew every so many steps, which costs thirty times as much.
"""
_OTHERS = 0.15
"""Part of the scenes that show other documents, or are scans or drawings."""
_START_RATE, _GO_ON_RATE = 2e-3, 5e-4
Example = tuple[Image, npt.NDArray[np.float32]]
_log = logging.getLogger(__name__)


def train(seed: int, minutes: float, start: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Weights after `minutes` of CPU time, from `start` or from nothing."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    cards = [draw_card(rng) for _ in range(_PROCEDURAL)] + specimen_cards(_SPECIMENS, TRAINING_SPECIMENS)
    pool = deque[Example](maxlen=_POOL)
    net = PageNet()
    if start is not None:
        net.load_state_dict(start)
    rate = _START_RATE if start is None else _GO_ON_RATE
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    started, step, mean_loss = time.process_time(), 0, 1.0
    while (done := (time.process_time() - started) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done))
        cards[step % _PROCEDURAL] = draw_card(rng)
        if step % _NEW_SPECIMEN == 0:
            turn = step // _NEW_SPECIMEN
            at = _PROCEDURAL + 2 * (turn % _SPECIMENS)
            cards[at : at + 2] = specimen_cards(1, TRAINING_SPECIMENS + _SPECIMENS + turn)
        for _ in range(_NEW if len(pool) == _POOL else _POOL):
            pool.append(_example(rng, cards))
        loss = _loss(net, *_batch(rng, pool))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        mean_loss += 0.02 * (float(loss.detach()) - mean_loss)
        step += 1
        if step % 200 == 0:
            _log.info("step %d, %.0f %% of the time, loss %.3f", step, 100 * done, mean_loss)
    _log.info("%d steps, %d scenes", step, _POOL + step * _NEW)
    return {name: tensor.contiguous() for name, tensor in net.state_dict().items()}


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


def _batch(rng: np.random.Generator, pool: deque[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """float (8, 3, 192, 192), (8, 48, 48) and (8,)."""
    images, masks = [], []
    for i in rng.integers(len(pool), size=BATCH):
        image, mask = pool[i]
        turns, mirror = int(rng.integers(4)), int(rng.choice((-1, 1)))
        images.append(np.rot90(image, turns)[:, ::mirror])
        masks.append(np.rot90(mask, turns)[:, ::mirror])
    covered = torch.from_numpy(np.stack(masks))
    # A page that is all but out of the frame counts as none: nobody could find it.
    presence = (covered.mean(dim=(1, 2)) > 0.02).float()
    # Stacked with the channels last and left so: torch then takes its faster path, twice as fast on one thread.
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
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
    parser.add_argument("--minutes", type=float, default=60.0, help="CPU time")
    parser.add_argument("--go-on", action="store_true", help="from the weights on record, at a lower rate")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "weights" / "page_finder.safetensors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    state = train(arguments.seed, arguments.minutes, own("page_finder") if arguments.go_on else None)
    save_file(state, arguments.out)


if __name__ == "__main__":
    main()
