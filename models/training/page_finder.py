"""Trains the page finder's mask on scenes drawn on the fly.

    python -m models.training.page_finder --seed 0 --minutes 60
    python -m models.training.page_finder --go-on --seed 1         from the weights on record
    python -m models.training.page_finder --go-on --seed 2 --device cuda --drawers 15

Each batch is turned and mirrored by chance. `veridask evaluate page --seeds 1-30` measures what is used, with
`models.page_corners`, on other scenes, cards and specimens.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file
from torch import Tensor, nn

from models.page_finder import INPUT_SIDE, MASK_SIDE, PageNet
from models.training.drawing import Arrays
from models.training.fitting import Losses, Sizes, begun, fit, options, turned_pictures
from models.training.page_cards import ChangingCards, Image
from models.training.page_others import KINDS, draw_other
from models.training.page_scenes import Corners, draw_scene
from models.weights import FOLDER

SIZES = {"cpu": Sizes(batch=8, pool=600), "cuda": Sizes(batch=64, pool=20_000)}
"""A scene has 120 KB."""
TRAINING_SPECIMENS = 1_000_000_000
"""First seed of specimens; tests, the demo and measurements use others."""
_NEW_SPECIMEN = 80
"""Scenes after which a specimen is drawn anew, which costs thirty times as much."""
_OTHERS = 0.15
"""Part of the scenes that show other documents, or are scans or drawings."""
_START_RATE, _GO_ON_RATE = 2e-3, 5e-4
_ON_RECORD = FOLDER / "page_finder.safetensors"
Example = tuple[Image, npt.NDArray[np.float32]]


def _scenes(seed: int) -> Iterator[Arrays]:
    """Scenes, eight at a time."""
    rng = np.random.default_rng([seed, 1])
    changing, waiting = ChangingCards(rng, TRAINING_SPECIMENS + 1000 * seed, _NEW_SPECIMEN), list[Example]()
    while True:
        changing.renew()
        waiting.append(_example(rng, changing.cards))
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


def _losses(net: PageNet, images: Tensor, covers: Tensor) -> Losses:
    """uint8 (N, 192, 192, 3) and float (N, 48, 48): cross-entropy of mask and presence, and the Dice loss on scenes
    with a page, which small pages need.
    """
    masks = turned_pictures(covers)
    # A page that is all but out of the frame counts as none: nobody could find it.
    presence = (masks.mean(dim=(1, 2)) > 0.02).float()
    # Stacked with the channels last and left so: torch then takes its faster path, twice as fast on one thread.
    logits, present = net(turned_pictures(images).permute(0, 3, 1, 2).float().div(127.5).sub(1))
    entropy = nn.functional.binary_cross_entropy_with_logits
    drawn = logits.sigmoid()
    common, total = (drawn * masks).sum((1, 2)), (drawn + masks).sum((1, 2))
    dice = ((1 - (2 * common + 1) / (total + 1)) * presence).sum() / presence.sum().clamp(min=1)
    return {"loss": entropy(logits, masks) + dice + 0.3 * entropy(present, presence)}


def _fill(mask: npt.NDArray[np.uint8], corners: Corners) -> None:
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 1, cv2.LINE_8, 4)


def main() -> None:
    """Command line."""
    arguments = options(__doc__, _ON_RECORD).parse_args()
    run, net = begun(arguments), PageNet()
    if arguments.go_on:
        net.load_state_dict(load_file(arguments.go_on))
    fit(net, _scenes, partial(_losses, net), SIZES, _GO_ON_RATE if arguments.go_on else _START_RATE, run)


if __name__ == "__main__":
    main()
