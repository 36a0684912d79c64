"""Flattened views of outlines, as `models.page.corners.view` makes them, of many scenes at once on the training device;
and the geometry of outlines that they need.

A scene is drawn once and seen some ten times while it is in the pool, each time through other outlines. The views are
made where the scenes are stored, so no view is seen twice. Outlines are float (N, 4, 2), transforms float (N, 3, 3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.page.corners import MOST_PROPORTION, VIEW_SIDE, halves

LEVELS = 2
"""Of a scene: as drawn and halved; a third would have less than 128 pixels a side, see `models.page.corners.halves`."""


class Frames(NamedTuple):
    """Scenes at all their levels, one after the other. pixels: uint8 (P, L, 3), rows of the first level, then those of
    the next; levels: int32 (P, LEVELS, 3), where each begins, its width and its height, zeros for one that is not.
    """

    pixels: Tensor
    levels: Tensor


def packed(image: npt.NDArray[np.uint8], most: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """A scene's row of `Frames`: uint8 (most, 3) and int32 (LEVELS, 3). Raises ValueError where it does not fit."""
    pixels, levels, at = np.zeros((most, 3), np.uint8), np.zeros((LEVELS, 3), np.int32), 0
    for n, level in enumerate(halves(image)):
        height, width = level.shape[:2]
        pixels[at : at + width * height] = level.reshape(-1, 3)
        levels[n] = at, width, height
        at += width * height
    return pixels, levels


def views(frames: Frames, rows: Tensor, outlines: Tensor, margins: Tensor) -> tuple[Tensor, Tensor]:
    """Input of `models.page.corners.CornerNet`, float (N, 5, 128, 128), and the transforms from each view, 0..1, to
    pixels of its scene. rows: int64 (N,), of `frames`; margins: float (N,), in sides of the outline.
    """
    transforms = view_transforms(outlines, margins)
    sides = side_lengths(outlines)
    levels = frames.levels[rows].long()
    shown = VIEW_SIDE / (1 + 2 * margins)
    wanted = torch.floor(torch.log2((sides.mean(1) / shown).clamp(min=1.0))).long()
    level = torch.minimum(wanted, (levels[:, :, 1] > 0).sum(1) - 1).clamp(min=0)
    start, width, height = levels[torch.arange(len(rows), device=rows.device), level].unbind(1)
    centres = (torch.arange(VIEW_SIDE, dtype=torch.float32, device=rows.device) + 0.5) / VIEW_SIDE
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=2).reshape(1, -1, 2)
    places = moved_by(transforms, grid.expand(len(rows), -1, -1))
    scale = torch.stack((width, height), dim=1) / levels[:, 0, 1:]
    places = ((places + 0.5) * scale[:, None] - 0.5).nan_to_num().clamp(-1e6, 1e6)
    last = torch.stack((width, height), dim=1)[:, None] - 1
    within = (torch.minimum(places + 1, last + 1 - places).clamp(0, 1)).prod(dim=2)
    places = torch.minimum(places.clamp(min=0), last)  # beyond the frame its border goes on
    low = places.floor().long()
    part = places - low
    high = torch.minimum(low + 1, last)
    # The pool's scenes as one list of pixels: only those that a view shows are touched.
    flat: Tensor = frames.pixels.view(-1, 3)
    base = (rows * frames.pixels.shape[1] + start)[:, None]

    def at(x: Tensor, y: Tensor) -> Tensor:
        return flat.index_select(0, (base + y * width[:, None] + x).flatten()).view(*x.shape, 3).float()

    x, y = part[..., :1], part[..., 1:]
    upper = at(low[..., 0], low[..., 1]) * (1 - x) + at(high[..., 0], low[..., 1]) * x
    lower = at(low[..., 0], high[..., 1]) * (1 - x) + at(high[..., 0], high[..., 1]) * x
    seen = torch.cat((upper * (1 - y) + lower * y, 255 * within[..., None]), dim=2).div(127.5).sub(1)
    planes = proportions(sides)[:, None, None].expand(-1, VIEW_SIDE**2, 1)
    return torch.cat((seen, planes), dim=2).view(len(rows), VIEW_SIDE, VIEW_SIDE, 5).permute(0, 3, 1, 2), transforms


def relit(pictures: Tensor) -> Tensor:
    """The first three channels, RGB of -1 to 1, in another light: brighter or darker, tinted, from one side, with some
    noise. float (N, C, H, W). Drawing light anew costs less than drawing scenes.
    """
    count, _, height, width = pictures.shape

    def by_chance(*shape: int) -> Tensor:
        return 2 * torch.rand((count, *shape), device=pictures.device) - 1

    gain = (1 + 0.25 * by_chance(1, 1, 1)) * (1 + 0.08 * by_chance(3, 1, 1))
    across = torch.linspace(-1, 1, width, device=pictures.device)
    down = torch.linspace(-1, 1, height, device=pictures.device)[:, None]
    slope = 1 + 0.2 * (by_chance(1, 1, 1) * across + by_chance(1, 1, 1) * down)
    seen: Tensor = (pictures[:, :3] + 1) * gain * slope
    seen = seen + 0.03 * torch.rand((count, 1, 1, 1), device=pictures.device) * torch.randn_like(seen)
    seen = (seen - 1).clamp(-1, 1)
    return torch.cat((seen, pictures[:, 3:]), dim=1)


def proportions(sides: Tensor) -> Tensor:
    """As `models.page.corners.View` has it, of lengths of sides (N, 4): (N,)."""
    width, height = sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]
    return torch.log(width.clamp(min=1e-6) / height.clamp(min=1e-6)).clamp(-MOST_PROPORTION, MOST_PROPORTION)


def side_lengths(outlines: Tensor) -> Tensor:
    """(N, 4): of the sides 0–1, 1–2, 2–3, 3–0."""
    return torch.hypot(*(outlines.roll(-1, 1) - outlines).unbind(2))


def view_transforms(outlines: Tensor, margins: Tensor) -> Tensor:
    """From a view, 0..1, to the frame that the outlines are in."""
    grown = torch.zeros((len(outlines), 3, 3), device=outlines.device)
    grown[:, 0, 0] = grown[:, 1, 1] = 1 + 2 * margins
    grown[:, 0, 2] = grown[:, 1, 2] = -margins
    grown[:, 2, 2] = 1
    return square_to(outlines) @ grown


def square_to(outlines: Tensor) -> Tensor:
    """From the unit square to each outline (Heckbert, "Fundamentals of texture mapping", 1989, section 2.2.3)."""
    first, second, third, fourth = outlines.unbind(1)
    a, b, c = second - third, fourth - third, first - second + third - fourth
    determinant = _cross(a, b)
    g, h = _cross(c, b) / determinant, _cross(a, c) / determinant
    columns = (second - first + g[:, None] * second, fourth - first + h[:, None] * fourth, first)
    upper = torch.stack(columns, dim=2)
    return torch.cat((upper, torch.stack((g, h, torch.ones_like(g)), dim=1)[:, None]), dim=1)


def moved_by(transforms: Tensor, places: Tensor) -> Tensor:
    """Places (N, K, 2) after their transform."""
    moved = places @ transforms[:, :, :2].transpose(1, 2) + transforms[:, None, :, 2]
    return moved[..., :2] / moved[..., 2:]


def inverse(transforms: Tensor) -> Tensor:
    """Of each transform, up to its scale: rows crossed, which needs no solver."""
    a, b, c = transforms.unbind(1)
    return torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), dim=2)


def is_convex(outlines: Tensor) -> Tensor:
    """As `models.page.corners.is_convex`: bool (N,)."""
    sides = outlines.roll(-1, 1) - outlines
    turns = _cross(sides, sides.roll(-1, 1))
    return (turns > 1).all(1) | (turns < -1).all(1)


def overlaps(one: Tensor, other: Tensor, across: int = 48) -> Tensor:
    """Intersection over union of convex outlines, (N,), counted on a grid of `across` × `across` places over both."""
    both = torch.cat((one, other), dim=1)
    low, high = both.amin(1), both.amax(1)
    steps = (torch.arange(across, device=one.device) + 0.5) / across
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=2).view(1, -1, 2)
    places = low[:, None] + grid * (high - low)[:, None]
    in_one, in_other = _inside(one, places), _inside(other, places)
    return (in_one & in_other).sum(1) / (in_one | in_other).sum(1).clamp(min=1)


def _inside(outlines: Tensor, places: Tensor) -> Tensor:
    """Whether places (N, K, 2) lie in the outlines, whichever way these run: bool (N, K)."""
    sides = outlines.roll(-1, 1) - outlines
    turns = _cross(sides[:, None], places[:, :, None] - outlines[:, None])
    return (turns >= 0).all(2) | (turns <= 0).all(2)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
