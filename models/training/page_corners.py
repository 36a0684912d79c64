"""Trains the network that looks at roughly found pages again (`models.page_corners`), on scenes drawn on the fly.

    python -m models.training.page_corners --seed 0 --minutes 60
    python -m models.training.page_corners --go-on --seed 1         from the weights on record, or from a named file

Minutes are CPU time of one thread. Each scene gives some outlines: those that the page finder itself draws on it, whose
faults are the ones to mend, and true ones moved, turned, stretched or bent at random. Outlines that lie on no page
teach the score. The figures that count are the page finder's, of both networks together:
`veridask evaluate page --seeds 1-30`.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections import deque
from collections.abc import Iterator
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
from models.training.page_cards import Image, draw_card, specimen_cards
from models.training.page_finder import TRAINING_SPECIMENS
from models.training.page_others import KINDS, draw_other
from models.training.page_scenes import PageScene, draw_scene
from models.weights import FOLDER, own

BATCH = 16
_POOL, _EACH = 3000, 3
"""Views at hand; every so many steps a scene is drawn, which costs as much as a step, and gives about eight in place of
the oldest: each is seen six times, turned and mirrored.
"""
_SIDES = (200, 280, 400)
"""Pixels of the scenes' shorter side: so that pages are seen both enlarged and reduced, as in use."""
_OTHERS = 0.2
"""Part of the scenes that show other documents, or are scans or drawings."""
_MOVED, _MOVED_MORE, _HARD = 2, 4, 0.05
"""Outlines made from each true one, and more of them in scenes in which the network itself is off by more than that
part of the view: the hardest are seen more often.
"""
_PROCEDURAL, _SPECIMENS, _NEW_SPECIMEN = 72, 18, 90
_START_RATE, _GO_ON_RATE = 2e-3, 1e-3
_AVERAGING = 0.998
"""Of the moving average of the weights: over about 500 steps."""
_ON_PAGE, _OFF_PAGE = 0.35, 0.1
"""Overlap with a page from which an outline lies on it, and up to which on none; those between teach nothing."""
_SPREAD = 0.8
"""Of the wanted spot on a map, standard deviation in cells."""
_ON_RECORD = FOLDER / "page_corners.safetensors"
_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


class Example(NamedTuple):
    """picture: uint8 (128, 128, 4); corners: float32 (4, 2), 0..1 over the view, zeros without a page; page: 0 or 1."""

    picture: Image
    corners: Floats
    page: float


def train(seed: int, minutes: float, out: Path, start: dict[str, Tensor] | None = None) -> None:
    """Weights after `minutes` of CPU time, from `start` or from nothing, saved to `out` now and then and at the end."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 3])
    cards = [draw_card(rng) for _ in range(_PROCEDURAL)] + specimen_cards(_SPECIMENS, TRAINING_SPECIMENS + 100_000)
    # Only what its mask outlines is asked of it.
    finder = PageFinder(own("page_finder"), CornerNet().state_dict())
    pool = deque[Example](maxlen=_POOL)
    net = CornerNet()
    if start is not None:
        # Layers that the weights on record lack begin as doing nothing.
        net.load_state_dict(start, strict=False)
    rate = _START_RATE if start is None else _GO_ON_RATE
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    # With batches this small a step's weights are noisy; what is kept is their moving average.
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING), use_buffers=True)  # type: ignore[no-untyped-call]
    started, step, mean_loss, mean_error = time.process_time(), 0, 1.0, 0.1
    while (done := (time.process_time() - started) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done))
        if step % _NEW_SPECIMEN == 0:
            turn = step // _NEW_SPECIMEN
            at = _PROCEDURAL + 2 * (turn % _SPECIMENS)
            cards[at : at + 2] = specimen_cards(1, TRAINING_SPECIMENS + 100_000 + _SPECIMENS + turn)
        while step % _EACH == 0 or len(pool) < _POOL // 4:
            cards[int(rng.integers(_PROCEDURAL))] = draw_card(rng)
            pool.extend(_examples(rng, _scene(rng, cards), finder, net))
            if len(pool) >= _POOL // 4:
                break
        views, corners, page = _batch(rng, pool)
        looked = net(as_input(views))
        loss = _loss(looked, corners, page)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(net)
        mean_loss += 0.02 * (float(loss.detach()) - mean_loss)
        off = ((looked.corners.detach() - corners).norm(dim=2).mean(1) * page).sum() / page.sum().clamp(min=1)
        mean_error += 0.02 * (float(off) - mean_error)
        step += 1
        if step % 200 == 0:
            _save(average, out)
            _log.info(
                "step %d, %.0f %% of the time, loss %.3f, corners off by %.4f", step, 100 * done, mean_loss, mean_error
            )
    _save(average, out)
    _log.info("%d steps", step)


def _save(average: AveragedModel, out: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in average.module.state_dict().items()}, out)


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


def _batch(rng: np.random.Generator, pool: deque[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 (16, 128, 128, 4), float (16, 4, 2) and (16,), each turned and mirrored at random."""
    pictures, places, pages = [], [], []
    for i in rng.integers(len(pool), size=BATCH):
        picture, corners, page = pool[i]
        for _ in range(int(rng.integers(4))):  # a quarter turn: what was top right is top left now
            picture = np.rot90(picture)
            corners = np.roll(np.stack([corners[:, 1], 1 - corners[:, 0]], axis=1), -1, axis=0)
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
            corners = np.stack([1 - corners[:, 0], corners[:, 1]], axis=1)[[1, 0, 3, 2]]
        pictures.append(picture)
        places.append(corners)
        pages.append(page)
    return (
        torch.from_numpy(np.stack(pictures)),
        torch.from_numpy(np.stack(places).astype(np.float32)),
        torch.tensor(pages, dtype=torch.float32),
    )


def _loss(looked: Looked, corners: Tensor, page: Tensor) -> Tensor:
    """Of the corners' places, of their maps (a spot each), of the score, and of the fit that it claims."""
    centres = (torch.arange(MAP_SIDE, dtype=torch.float32) + 0.5) / MAP_SIDE
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
    parser.add_argument("--minutes", type=float, default=60.0, help="CPU time")
    parser.add_argument("--go-on", type=Path, nargs="?", const=_ON_RECORD, help="from the weights on record or a file")
    parser.add_argument("--out", type=Path, default=_ON_RECORD)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    start = load_file(arguments.go_on) if arguments.go_on else None
    train(arguments.seed, arguments.minutes, arguments.out, start)


if __name__ == "__main__":
    main()
