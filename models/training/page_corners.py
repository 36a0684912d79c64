"""Trains the network that looks at roughly found pages again (`models.page_corners`), on scenes drawn on the fly.

    python -m models.training.page_corners --seed 0 --minutes 60
    python -m models.training.page_corners --go-on --seed 1         from the weights on record, or from a named file
    python -m models.training.page_corners --go-on --seed 2 --device cuda --drawers 15

Each scene gives some outlines: those that the page finder itself draws on it, whose faults are the ones to mend, and
true ones moved, turned, stretched or bent at random. Outlines that lie on no page teach the score. The figures that
count are the page finder's, of both networks together: `veridask evaluate page --seeds 1-30`.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
from models.training.drawing import Arrays, Drawers, Pool
from models.training.page_cards import Image, draw_card, specimen_cards
from models.training.page_finder import TRAINING_SPECIMENS
from models.training.page_others import KINDS, draw_other
from models.training.page_scenes import PageScene, draw_scene
from models.weights import FOLDER, own

BATCH = {"cpu": 16, "cuda": 256}
"""A multiple of 8: each eighth is turned or mirrored another way."""
_POOL = {"cpu": 3_000, "cuda": 50_000}
"""Views at hand, 66 KB each."""
_SIDES = (200, 280, 400)
"""Pixels of the scenes' shorter side: so that pages are seen both enlarged and reduced, as in use."""
_OTHERS = 0.2
"""Part of the scenes that show other documents, or are scans or drawings."""
_MOVED, _MOVED_MORE, _HARD = 2, 4, 0.05
"""Outlines made from each true one, and more of them in scenes in which the network itself is off by more than that
part of the view: the hardest are seen more often.
"""
_PROCEDURAL, _SPECIMENS, _NEW_SPECIMEN = 72, 18, 30
"""Cards at hand at any time, two procedural ones to one side of a specimen. A procedural one is new in each scene, a
specimen every so many, which costs as much as six scenes.
"""
_START_RATE, _GO_ON_RATE = 2e-3, 1e-3
_AVERAGING = 0.998
"""Of the moving average of the weights: over about 500 steps."""
_ON_PAGE, _OFF_PAGE = 0.35, 0.1
"""Overlap with a page from which an outline lies on it, and up to which on none; those between teach nothing."""
_SPREAD = 0.8
"""Of the wanted spot on a map, standard deviation in cells."""
_SAVED_EVERY_S = 20.0
_ON_RECORD = FOLDER / "page_corners.safetensors"
_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


class Example(NamedTuple):
    """picture: uint8 (128, 128, 4); corners: float32 (4, 2), 0..1 over the view, zeros without a page; page: 0 or 1."""

    picture: Image
    corners: Floats
    page: float


def train(
    seed: int, minutes: float, out: Path, start: dict[str, Tensor] | None = None, device: str = "cpu", drawers: int = 1
) -> None:
    """Weights after `minutes` by the clock, from `start` or from nothing, saved to `out` now and then and at the end.

    drawers: processes that draw. They look at `out` for which scenes are hard.
    """
    torch.manual_seed(seed)
    where = torch.device(device)
    net = CornerNet().to(where)
    if start is not None:
        # Layers that the weights on record lack begin as doing nothing.
        net.load_state_dict(start, strict=False)
    rate = _START_RATE if start is None else _GO_ON_RATE
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    # With batches this small a step's weights are noisy; what is kept is their moving average.
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING), use_buffers=True)  # type: ignore[no-untyped-call]
    _save(average, out)
    torch.backends.cudnn.benchmark = True  # all batches have one size
    batch, pool = BATCH[where.type], Pool(_POOL[where.type], where)
    with Drawers(partial(_views, out), [1000 * seed + n for n in range(drawers)]) as drawn:
        while len(pool) < _POOL[where.type] // 10:
            for views in drawn.take(wait=True):
                pool.add(views)
        started = saved = time.monotonic()
        step, mean_loss, mean_error = 0, torch.ones((), device=where), torch.full((), 0.1, device=where)
        while (done := (time.monotonic() - started) / (60 * minutes)) < 1:
            for views in drawn.take(wait=False):
                pool.add(views)
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done))
            pictures, corners, page = _turned(*pool.pick(batch))
            looked = net(as_input(pictures))
            loss = _loss(looked, corners, page)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            average.update_parameters(net)
            # Kept on the device: asking for a number each step would make it wait for the GPU.
            mean_loss.lerp_(loss.detach(), 0.02)
            off = ((looked.corners.detach() - corners).norm(dim=2).mean(1) * page).sum() / page.sum().clamp(min=1)
            mean_error.lerp_(off, 0.02)
            step += 1
            if time.monotonic() - saved > _SAVED_EVERY_S:
                saved = time.monotonic()
                _save(average, out)
                _log.info(
                    "step %d, %d views, %.0f %% of the time, loss %.3f, corners off by %.4f",
                    step, pool.added, 100 * done, float(mean_loss), float(mean_error),
                )  # fmt: skip
    _save(average, out)
    _log.info("%d steps of %d views out of %d", step, batch, pool.added)


def _save(average: AveragedModel, out: Path) -> None:
    """In one go: others read it meanwhile."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in average.module.state_dict().items()}
    part = out.with_suffix(".part")
    save_file(state, part)
    part.replace(out)


def _views(current: Path, seed: int) -> Iterator[Arrays]:
    """Examples of one scene after the other; `current`: weights as they are now, which tell which scenes are hard."""
    rng = np.random.default_rng([seed, 3])
    of_seed = TRAINING_SPECIMENS + 500_000_000 + 1000 * seed
    cards = [draw_card(rng) for _ in range(_PROCEDURAL)] + specimen_cards(_SPECIMENS, of_seed)
    # Only what its mask outlines is asked of it.
    finder = PageFinder(own("page_finder"), CornerNet().state_dict())
    net, read, scenes = CornerNet(), 0.0, 0
    while True:
        if current.stat().st_mtime != read:
            read = current.stat().st_mtime
            net.load_state_dict(load_file(current))
        cards[int(rng.integers(_PROCEDURAL))] = draw_card(rng)
        scenes += 1
        if scenes % _NEW_SPECIMEN == 0:
            turn = scenes // _NEW_SPECIMEN
            at = _PROCEDURAL + 2 * (turn % _SPECIMENS)
            cards[at : at + 2] = specimen_cards(1, of_seed + _SPECIMENS + turn)
        if examples := list(_examples(rng, _scene(rng, cards), finder, net)):
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


def _turned(pictures: Tensor, corners: Tensor, page: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 (N, 128, 128, 4), float (N, 4, 2) and (N,): the same, each eighth turned or mirrored another way."""
    turned = []
    for n, (picture, places) in enumerate(zip(pictures.chunk(8), corners.chunk(8), strict=True)):
        picture = picture.rot90(n % 4, (1, 2))
        for _ in range(n % 4):  # a quarter turn: what was top right is top left now
            places = torch.stack((places[..., 1], 1 - places[..., 0]), dim=2).roll(-1, 1)
        if n >= 4:
            picture = picture.flip(2)
            places = torch.stack((1 - places[..., 0], places[..., 1]), dim=2)[:, [1, 0, 3, 2]]
        turned.append((picture, places))
    return torch.cat([picture for picture, _ in turned]), torch.cat([places for _, places in turned]), page


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="by the clock, from when there are views")
    parser.add_argument("--go-on", type=Path, nargs="?", const=_ON_RECORD, help="from the weights on record or a file")
    parser.add_argument("--out", type=Path, default=_ON_RECORD)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--drawers", type=int, default=1, help="processes that draw, one for each core to spare")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    start = load_file(arguments.go_on) if arguments.go_on else None
    train(arguments.seed, arguments.minutes, arguments.out, start, arguments.device, arguments.drawers)


if __name__ == "__main__":
    main()
