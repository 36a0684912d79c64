"""Trains both page networks on the same scenes, which are drawn on the fly.

    python -m models.training.pages --seed 0 --minutes 120
    python -m models.training.pages --go-on --seed 1                            starts from the current weights
    python -m models.training.pages --go-on --seed 2 --device cuda --drawers 15

To use the weights written to `--out`, copy them to `models/weights` and enter their digests in its table. `veridask
evaluate page --seeds 1-30` measures both networks together, as in use, on other scenes, cards and specimens.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.networks.weights import FOLDER, own
from models.page.corners import VIEW_CHANNELS, VIEW_SIDE, CornerNet, is_convex
from models.page.finder import INPUT_SIDE, MASK_SIDE, PageFinder, PageNet
from models.page.quad import overlap, shrunk
from models.training import page_corners, page_finder
from models.training.drawing import Example, Layout
from models.training.fitting import Losses, Part, Run, fit
from models.training.page_cards import ChangingCards, Image
from models.training.page_others import KINDS, draw_other
from models.training.page_scenes import Corners, PageScene, draw_scene
from models.training.page_views import LEVELS, Frames, packed

TRAINING_SPECIMENS = 1_000_000_000
"""First seed of specimens; tests, the demo and measurements use others."""
_NEW_CARD, _SPECIMEN_CARDS = 6, 60
"""Scenes after which a card is drawn anew, and cards after which a specimen is: that costs as much as forty scenes."""
_SIDES = (200, 240, 280, 340, 400)
"""Pixels of the scenes' shorter side: pages are seen both enlarged and reduced, as in use."""
_LARGE, _LARGE_SHARE = 540, 0.15
"""Some are drawn larger and kept halved, as film is seen: less noise, sharper, with finer detail."""
_MOST_PIXELS = 400 * 711 + 200 * 355
_OTHERS = 0.2
"""Part of the scenes that show other documents, or are scans or drawings."""
_OUTLINED, _ROUGH = 0.25, 4
"""Part of the scenes of which the page finder on record draws rough outlines, and how many are kept of each."""
_DIFFERENT = 0.93
"""Overlap up to which two of them count as two."""
LAYOUT: Layout = (
    ((_MOST_PIXELS, 3), np.uint8),  # the scene and its halves
    ((LEVELS, 3), np.int32),
    ((2, 4, 2), np.float32),  # pages
    ((_ROUGH, 4, 2), np.float32),
    ((2,), np.int32),  # how many of both there are
    ((INPUT_SIDE, INPUT_SIDE, 3), np.uint8),  # the scene as the mask's network sees it
    ((MASK_SIDE, MASK_SIDE), np.uint8),  # how much of each cell the pages cover
)
_POOLS = {"cpu": 2_000, "cuda": 24_000}
_BATCHES = {"cpu": (16, 16), "cuda": (256, 512)}
_START_RATE, _GO_ON_RATE = 3e-3, 2e-3


def scenes(seed: int) -> Iterator[Example]:
    """One scene after the other, as `LAYOUT` has them."""
    rng = np.random.default_rng([seed, 1])
    changing, drawn = ChangingCards(rng, TRAINING_SPECIMENS + 1000 * seed, _SPECIMEN_CARDS), 0
    # Only what its mask outlines is asked of it.
    finder = PageFinder(own("page_finder"), CornerNet().state_dict())
    while True:
        drawn += 1
        if drawn % _NEW_CARD == 0:
            changing.renew()
        yield _example(_scene(rng, changing.cards), finder if rng.random() < _OUTLINED else None)


def _scene(rng: np.random.Generator, cards: list[Image]) -> PageScene:
    large = rng.random() < _LARGE_SHARE
    side = _LARGE if large else int(rng.choice(_SIDES))
    if rng.random() < _OTHERS:
        scene = draw_other(rng, cards, side, KINDS[int(rng.integers(len(KINDS)))])
    else:
        scene = draw_scene(rng, cards, side)
    if not large:
        return scene
    height, width = scene.image.shape[:2]
    half = np.asarray(cv2.resize(scene.image, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.asarray((half.shape[1] / width, half.shape[0] / height), np.float32)
    return PageScene(half, tuple(np.asarray((page + 0.5) * scale - 0.5, np.float32) for page in scene.pages))


def _example(scene: PageScene, finder: PageFinder | None) -> Example:
    pixels, levels = packed(scene.image, _MOST_PIXELS)
    pages, rough = np.zeros((2, 4, 2), np.float32), np.zeros((_ROUGH, 4, 2), np.float32)
    outlines = _different(finder.rough(scene.image[None])[0])[:_ROUGH] if finder else []
    for places, found in ((pages, scene.pages), (rough, outlines)):
        for place, corners in zip(places, found, strict=False):
            place[:] = _clockwise(corners)
    counts = np.asarray((len(scene.pages), len(outlines)), np.int32)
    small = shrunk(scene.image, (INPUT_SIDE, INPUT_SIDE))
    return pixels, levels, pages, rough, counts, small, _cover(scene)


def _clockwise(corners: Corners) -> Corners:
    return corners if cv2.contourArea(corners, oriented=True) > 0 else np.ascontiguousarray(corners[::-1])


def _different(outlines: list[Corners]) -> list[Corners]:
    """Without those that are nearly the same as one before."""
    kept: list[Corners] = []
    for outline in outlines:
        if is_convex(outline) and all(overlap(outline, other) < _DIFFERENT for other in kept):
            kept.append(outline)
    return kept


def _cover(scene: PageScene) -> npt.NDArray[np.uint8]:
    mask = np.zeros(scene.image.shape[:2], np.uint8)
    for corners in scene.pages:
        cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(mask, (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _mask_losses(net: nn.Module, columns: tuple[Tensor, ...], rows: Tensor) -> Iterator[Losses]:
    return page_finder.losses(net, columns[5][rows], columns[6][rows])


def _corner_losses(net: nn.Module, columns: tuple[Tensor, ...], rows: Tensor) -> Iterator[Losses]:
    pixels, levels, pages, rough, counts = columns[:5]
    return page_corners.losses(net, page_corners.Scenes(Frames(pixels, levels), pages, rough, counts), rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="by the clock, from when there are examples")
    parser.add_argument("--go-on", action="store_true", help="from the weights on record")
    parser.add_argument("--out", type=Path, default=Path("out/training"), help="folder that the weights go to")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--drawers", type=int, default=1, help="processes that draw, one for each core to spare")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    torch.manual_seed(arguments.seed)
    mask, corners = PageNet(), CornerNet()
    if arguments.go_on:
        for net, name in ((mask, "page_finder"), (corners, "page_corners")):
            net.load_state_dict(load_file(FOLDER / f"{name}.safetensors"))
    rate = _GO_ON_RATE if arguments.go_on else _START_RATE
    masks, views = _BATCHES[arguments.device]
    seen, flat = (masks, 3, INPUT_SIDE, INPUT_SIDE), (views, VIEW_CHANNELS, VIEW_SIDE, VIEW_SIDE)
    parts = [
        Part(mask, _mask_losses, seen, rate, arguments.out / "page_finder.safetensors"),
        Part(corners, _corner_losses, flat, rate, arguments.out / "page_corners.safetensors"),
    ]
    run = Run(arguments.seed, arguments.minutes, arguments.device, arguments.drawers)
    fit(parts, scenes, LAYOUT, _POOLS[arguments.device], run)


if __name__ == "__main__":
    main()
