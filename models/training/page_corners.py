"""Trains the network that looks at roughly found pages again (`models.page_corners`), on scenes drawn on the fly.

    python -m models.training.page_corners --seed 0 --minutes 60
    python -m models.training.page_corners --go-on --seed 1         from the weights on record, or from a named file
    python -m models.training.page_corners --go-on --seed 2 --device cuda --drawers 15

Each scene gives some outlines: those that the page finder itself draws on it, whose faults are the ones to mend, and
true ones moved, turned, stretched or bent at random. Outlines that lie on no page teach the score. The figures that
count are the page finder's, of both networks together: `veridask evaluate page --seeds 1-30`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.page import frame_corners, order_corners, overlap
from models.page_corners import (
    FIT_SCALE,
    MAP_SIDE,
    MARGINS,
    CornerNet,
    Looked,
    View,
    as_input,
    halves,
    is_convex,
    view,
)  # fmt: skip
from models.page_finder import PageFinder
from models.training.drawing import Arrays
from models.training.fitting import Losses, Sizes, begun, fit, options, turned
from models.training.page_cards import ChangingCards, Image
from models.training.page_finder import TRAINING_SPECIMENS
from models.training.page_others import KINDS, draw_other
from models.training.page_scenes import PageScene, draw_scene
from models.weights import FOLDER, own

SIZES = {"cpu": Sizes(batch=16, pool=3_000), "cuda": Sizes(batch=256, pool=50_000)}
"""A view has 66 KB."""
_SIDES = (200, 280, 400)
"""Pixels of the scenes' shorter side: so that pages are seen both enlarged and reduced, as in use."""
_OTHERS = 0.2
"""Part of the scenes that show other documents, or are scans or drawings."""
_MOVED, _MOVED_MORE, _HARD = 2, 4, 0.05
"""Outlines made from each true one, and more of them in scenes in which the network itself is off by more than that
part of the view: the hardest are seen more often.
"""
_NEW_SPECIMEN = 30
"""Scenes after which a specimen is drawn anew, which costs as much as six scenes."""
_START_RATE, _GO_ON_RATE = 2e-3, 1e-3
_ON_PAGE, _OFF_PAGE = 0.35, 0.1
"""Overlap with a page from which an outline lies on it, and up to which on none; those between teach nothing."""
_SPREAD = 0.8
"""Of the wanted spot on a map, standard deviation in cells."""
_ON_RECORD = FOLDER / "page_corners.safetensors"

Floats = npt.NDArray[np.float32]


class Example(NamedTuple):
    """picture: uint8 (128, 128, 4); corners: float32 (4, 2), 0..1 over the view, zeros without a page; page: 0 or 1."""

    picture: Image
    corners: Floats
    page: float


def _losses(net: CornerNet, pictures: Tensor, corners: Tensor, page: Tensor) -> Losses:
    """uint8 (N, 128, 128, 4), float (N, 4, 2) and (N,)."""
    pictures, corners = turned(pictures, corners)
    looked = net(as_input(pictures))
    off = ((looked.corners.detach() - corners).norm(dim=2).mean(1) * page).sum() / page.sum().clamp(min=1)
    return {"loss": _loss(looked, corners, page), "corners off by": off}


def _views(current: Path, seed: int) -> Iterator[Arrays]:
    """Examples of one scene after the other; `current`: weights as they are now, which tell which scenes are hard."""
    rng = np.random.default_rng([seed, 3])
    changing = ChangingCards(rng, TRAINING_SPECIMENS + 500_000_000 + 1000 * seed, _NEW_SPECIMEN)
    # Only what its mask outlines is asked of it.
    finder = PageFinder(own("page_finder"), CornerNet().state_dict())
    net, read = CornerNet(), 0.0
    while True:
        if current.stat().st_mtime != read:
            read = current.stat().st_mtime
            net.load_state_dict(load_file(current))
        changing.renew()
        if examples := list(_examples(rng, _scene(rng, changing.cards), finder, net)):
            pictures, corners, pages = zip(*examples, strict=True)
            yield np.stack(pictures), np.stack(corners).astype(np.float32), np.asarray(pages, np.float32)


def _scene(rng: np.random.Generator, cards: list[Image]) -> PageScene:
    side = int(rng.choice(_SIDES))
    if rng.random() < _OTHERS:
        return draw_other(rng, cards, side, KINDS[int(rng.integers(len(KINDS)))])
    return draw_scene(rng, cards, side)


def _examples(rng: np.random.Generator, scene: PageScene, finder: PageFinder, net: CornerNet) -> Iterator[Example]:
    """Views of one scene: rough outlines, and where the network moves them, as it sees them in the second look."""
    frames = halves(scene.image)
    outlines = [(outline, MARGINS[0]) for outline in _different(finder.rough(scene.image[None])[0])]
    for page in scene.pages:
        outlines += [_moved(rng, page) for _ in range(_MOVED)]
    if rng.random() < (0.2 if scene.pages else 0.5):
        outlines.append((frame_corners(scene.image.shape), float(rng.choice(MARGINS))))
    if rng.random() < (0.2 if scene.pages else 1.0):
        outlines.append((_anywhere(rng, scene.image), float(rng.choice(MARGINS))))
    outlines = [(outline, margin) for outline, margin in outlines if is_convex(outline)]
    if not outlines:
        return
    views = [view(frames, outline, margin) for outline, margin in outlines]
    off = 0.0
    for (outline, margin), one, place in zip(outlines, views, _places(net, views), strict=True):
        example = _example(scene, one, outline)
        if example is None:
            continue
        yield example
        off = max(off, float(np.linalg.norm(place - example.corners, axis=1).mean()) * example.page)
        moved = one.to_frame(place)
        if margin == MARGINS[0] and is_convex(moved):
            again = _example(scene, view(frames, moved, MARGINS[1]), moved)
            if again is not None:
                yield again
    if off > _HARD:
        for page in scene.pages:
            for _ in range(_MOVED_MORE):
                outline, margin = _moved(rng, page)
                more = _example(scene, view(frames, outline, margin), outline) if is_convex(outline) else None
                if more is not None:
                    yield more


def _different(outlines: list[Floats]) -> list[Floats]:
    """Without those that are nearly the same as one before."""
    kept: list[Floats] = []
    for outline in outlines:
        if all(overlap(outline, other) < 0.93 for other in kept):
            kept.append(outline)
    return kept


@torch.inference_mode()
def _places(net: CornerNet, views: list[View]) -> Floats:
    net.eval()
    places = net(as_input(torch.from_numpy(np.stack([one.picture for one in views])))).corners.numpy()
    net.train()
    return np.asarray(places, np.float32)


def _example(scene: PageScene, one: View, outline: Floats) -> Example | None:
    """The view of an outline with the page that it lies on; None where that is not clear or a corner is out of view."""
    overlaps = [overlap(page, outline) for page in scene.pages]
    if max(overlaps, default=0.0) < _OFF_PAGE:
        return Example(one.picture, np.zeros((4, 2), np.float32), 0.0)
    if max(overlaps) <= _ON_PAGE:
        return None
    corners = _aligned(one, scene.pages[int(np.argmax(overlaps))])
    if corners.min() < -0.02 or corners.max() > 1.02:
        return None
    return Example(one.picture, corners, 1.0)


def _moved(rng: np.random.Generator, page: Floats) -> tuple[Floats, float]:
    """A true outline made rough, and the margin to look at it with."""
    corners = order_corners(page)
    side = float(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).mean())
    if rng.random() < 0.4:  # as after the first look
        return corners + rng.normal(0, side * rng.uniform(0.003, 0.05), (4, 2)).astype(np.float32), MARGINS[1]
    if rng.random() < 0.6:  # as the mask's rectangle has it
        corners = order_corners(np.asarray(cv2.boxPoints(cv2.minAreaRect(corners)), np.float32))
    centre = corners.mean(axis=0)
    angle = np.radians(rng.normal(0, 6))
    turn = np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    along = corners[1] - corners[0] + corners[2] - corners[3]
    along = along / max(float(np.linalg.norm(along)), 1e-6)
    axes = np.stack([along, (-along[1], along[0])])
    stretch = np.exp(rng.normal(0, 0.13, 2)) * (rng.uniform(1.1, 1.5) if rng.random() < 0.2 else 1.0)
    moved = ((corners - centre) @ axes.T * stretch) @ axes @ turn.T
    moved = moved + centre + rng.normal(0, 0.07 * side, 2) + rng.normal(0, 0.02 * side, (4, 2))
    return moved.astype(np.float32), MARGINS[0]


def _anywhere(rng: np.random.Generator, image: Image) -> Floats:
    """A rectangle somewhere in the frame."""
    height, width = image.shape[:2]
    size = min(height, width) * rng.uniform(0.15, 0.7)
    box = ((rng.uniform(0, width), rng.uniform(0, height)), (size * rng.uniform(1, 1.7), size), rng.uniform(0, 180))
    return order_corners(np.asarray(cv2.boxPoints(box), np.float32))


def _aligned(one: View, page: Floats) -> Floats:
    """The page's corners, 0..1 over the view, from the one on that is nearest to the outline's first."""
    corners = one.to_view(page)
    corners = corners[np.argsort(np.arctan2(*(corners - corners.mean(axis=0)).T[::-1]))]
    square = np.asarray([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    turns = [np.roll(corners, turn, axis=0) for turn in range(4)]
    return min(turns, key=lambda turned: float(np.abs(turned - square).sum()))


def _loss(looked: Looked, corners: Tensor, page: Tensor) -> Tensor:
    """Of the corners' places, of their maps (a spot each), of the score, and of the fit that it claims."""
    centres = (torch.arange(MAP_SIDE, dtype=torch.float32, device=corners.device) + 0.5) / MAP_SIDE
    spread = _SPREAD / MAP_SIDE
    spots_x, spots_y = (
        torch.exp(-((corners[..., axis, None] - centres) ** 2) / (2 * spread**2)) + 1e-8 for axis in (0, 1)
    )
    spots = spots_y[..., None] * spots_x[..., None, :]
    spots = spots / spots.sum(dim=(2, 3), keepdim=True)
    logs = looked.maps.flatten(2).log_softmax(dim=2).view_as(looked.maps)
    on_map = -(spots * logs).sum(dim=(2, 3)).mean(1)
    off = nn.functional.smooth_l1_loss(looked.corners, corners, beta=0.01, reduction="none").mean(dim=(1, 2))
    pages = page.sum().clamp(min=1)
    score = nn.functional.binary_cross_entropy_with_logits(looked.score, page)
    error = (looked.corners.detach() - corners).norm(dim=2).mean(1)
    fits = nn.functional.binary_cross_entropy_with_logits(looked.fit, torch.exp(-error / FIT_SCALE), reduction="none")
    return torch.as_tensor(((0.1 * on_map + 20 * off + 0.3 * fits) * page).sum() / pages + 0.5 * score)


def main() -> None:
    """Command line."""
    arguments = options(__doc__, _ON_RECORD).parse_args()
    run, net = begun(arguments), CornerNet()
    if arguments.go_on:
        # Layers that the weights on record lack begin as doing nothing.
        net.load_state_dict(load_file(arguments.go_on), strict=False)
    rate = _GO_ON_RATE if arguments.go_on else _START_RATE
    fit(net, partial(_views, run.out), partial(_losses, net), SIZES, rate, run)


if __name__ == "__main__":
    main()
