"""Training data and losses of the network that refines roughly found outlines (`models.page.corners`). Run by
`models.training.pages`.

An outline is either one that the page finder itself drew, with the errors that are to be corrected, or a true one that
was moved, turned, stretched or bent, or that has one side at another edge. Outlines that lie on no page teach the
score. Each outline is seen twice, as in use: the second time where the first look moved it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.page.corners import FIT_SCALE, MAP_SIDE, MARGINS, Looked
from models.training.fitting import Losses, turned_places
from models.training.page_views import (
    Frames,
    inverse,
    is_convex,
    moved_by,
    overlaps,
    relit,
    side_lengths,
    square_to,
    views,
)  # fmt: skip

_ROUGH, _ANYWHERE, _WHOLE = 0.45, 0.06, 0.04
"""Shares of the outlines: those that the mask draws, where there are any; some rectangle; the frame. The others are
true ones made worse.
"""
_JITTERED, _SIDE_OFF = 0.3, 0.3
"""Of these: corners off by a little, as after the first look; one side at another edge."""
_ON_PAGE, _OFF_PAGE = 0.35, 0.1
"""Overlap with a page from which an outline lies on it, and up to which on none; those between teach no score."""
_SPREAD = 0.8
"""Of the wanted spot on a map, standard deviation in cells."""
_HARD, _HARDEST = 0.03, 5.0
"""Corners off by this part of the view make a scene one that is picked up to that many times as often."""


class Scenes(NamedTuple):
    """What is needed of the pool's scenes. pages: float (P, 2, 4, 2), those that there are first; rough: float
    (P, R, 4, 2), likewise; counts: int (P, 2), of both.
    """

    frames: Frames
    pages: Tensor
    rough: Tensor
    counts: Tensor


class _Outlines(NamedTuple):
    """outlines: float (N, 4, 2); margins: (N,); pages: (N, 4, 2), the nearest page, its corners in the outline's order;
    paged: bool (N,), whether there is one.
    """

    outlines: Tensor
    margins: Tensor
    pages: Tensor
    paged: Tensor


class _Seen(NamedTuple):
    """loss: scalar; off: (N,), how far the corners are off, in parts of the view, 0 where there is no page; found:
    (N, 4, 2), the corners in the frame, or the outline as it was where they fold over.
    """

    loss: Tensor
    off: Tensor
    found: Tensor


def losses(net: nn.Module, scenes: Scenes, rows: Tensor) -> Iterator[Losses]:
    """Of two looks at one outline of each of these rows. net: a `CornerNet`."""
    drawn = _drawn(scenes, rows)
    seen = _look(net, scenes.frames, rows, drawn)
    yield Losses(seen.loss, {"first": seen.loss, "off by": seen.off.mean()})
    closer = torch.full_like(drawn.margins, MARGINS[1])
    seen = _look(net, scenes.frames, rows, drawn._replace(outlines=seen.found, margins=closer))
    weights = 1 + (_HARDEST - 1) * (seen.off / _HARD).clamp(max=1)
    yield Losses(seen.loss, {"second": seen.loss, "then off by": seen.off.mean()}, weights)


def _look(net: nn.Module, frames: Frames, rows: Tensor, at: _Outlines) -> _Seen:
    pictures, transforms = views(frames, rows, at.outlines, at.margins)
    looked = Looked(*net(relit(pictures)))
    overlap = overlaps(at.outlines, at.pages) * at.paged
    on_page, off_page = (overlap > _ON_PAGE).float(), (overlap < _OFF_PAGE).float()
    wanted = moved_by(inverse(transforms), at.pages)
    # A corner out of view cannot be told.
    placed = on_page * ((wanted.amin((1, 2)) > -0.02) & (wanted.amax((1, 2)) < 1.02)).float()
    wanted = wanted.nan_to_num().clamp(-1, 2)
    off = (looked.corners.detach() - wanted).norm(dim=2).mean(1)
    entropy = nn.functional.binary_cross_entropy_with_logits
    places = 0.1 * _on_map(looked.maps, wanted) + 20 * _distance(looked.corners, wanted)
    places = places + 0.3 * entropy(looked.fit, torch.exp(-off / FIT_SCALE), reduction="none")
    places = (places * placed).sum() / placed.sum().clamp(min=1)
    told = on_page + off_page
    score = (entropy(looked.score, on_page, reduction="none") * told).sum() / told.sum().clamp(min=1)
    found = moved_by(transforms, looked.corners.detach())
    found = torch.where(is_convex(found)[:, None, None], found, at.outlines)
    return _Seen(places + 0.5 * score, off * on_page, found)


def _on_map(maps: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy with a spot at each wanted corner: (N,)."""
    centres = (torch.arange(MAP_SIDE, dtype=torch.float32, device=wanted.device) + 0.5) / MAP_SIDE
    spread = _SPREAD / MAP_SIDE
    spots_x, spots_y = (
        torch.exp(-((wanted[..., axis, None] - centres) ** 2) / (2 * spread**2)) + 1e-8 for axis in (0, 1)
    )
    spots = spots_y[..., None] * spots_x[..., None, :]
    spots = spots / spots.sum(dim=(2, 3), keepdim=True)
    logs = maps.flatten(2).log_softmax(dim=2).view_as(maps)
    return -(spots * logs).sum(dim=(2, 3)).mean(1)


def _distance(corners: Tensor, wanted: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(corners, wanted, beta=0.01, reduction="none").mean(dim=(1, 2))


def _drawn(scenes: Scenes, rows: Tensor) -> _Outlines:
    """One outline of each scene, with its page and a margin; turned and mirrored by chance."""
    count, device = len(rows), rows.device
    pages, rough, counts = scenes.pages[rows], scenes.rough[rows], scenes.counts[rows].long()
    paged = counts[:, 0] > 0
    every = torch.arange(count, device=device)
    page = pages[every, (torch.rand(count, device=device) * counts[:, 0].clamp(min=1)).long()]
    frame = _frame(scenes.frames, rows)
    outlines, margins = _made_worse(page)
    margins = torch.where(paged, margins, _any_margin(count, device))
    choice = torch.rand(count, device=device)
    anywhere = (choice < _ANYWHERE) | ~paged
    outlines = torch.where(anywhere[:, None, None], _anywhere(frame), outlines)
    whole = (choice > 1 - _WHOLE) | (~paged & (choice > 0.7))
    outlines = torch.where(whole[:, None, None], frame, outlines)
    margins = torch.where(anywhere | whole, _any_margin(count, device), margins)
    chosen = rough[every, (torch.rand(count, device=device) * counts[:, 1].clamp(min=1)).long()]
    by_mask = (choice > 0.1) & (choice < 0.1 + _ROUGH) & (counts[:, 1] > 0)
    outlines = torch.where(by_mask[:, None, None], chosen, outlines)
    margins = torch.where(by_mask, MARGINS[0], margins)
    outlines = torch.where(is_convex(outlines)[:, None, None], outlines, frame)
    shares = torch.stack([overlaps(pages[:, n], outlines) * (counts[:, 0] > n) for n in (0, 1)], dim=1)
    meant = pages[every, shares.argmax(1)]
    meant = torch.where(paged[:, None, None], meant, outlines)
    meant = _aligned(outlines, meant)
    ways = torch.randint(8, (count,), device=device)
    return _Outlines(turned_places(outlines, ways), margins, turned_places(meant, ways), paged)


def _any_margin(count: int, device: torch.device) -> Tensor:
    return torch.where(torch.rand(count, device=device) < 0.5, *MARGINS)


def _frame(frames: Frames, rows: Tensor) -> Tensor:
    right, bottom = (frames.levels[rows, 0, 1:] - 1).float().unbind(1)
    nothing = torch.zeros_like(right)
    corners = ((nothing, nothing), (right, nothing), (right, bottom), (nothing, bottom))
    return torch.stack([torch.stack(corner, dim=1) for corner in corners], dim=1)


def _anywhere(frame: Tensor) -> Tensor:
    """A rectangle somewhere in each frame."""
    device, count = frame.device, len(frame)
    size = frame[:, 2].amin(1) * (0.15 + 0.55 * torch.rand(count, device=device))
    half = torch.stack((size * (1 + 0.7 * torch.rand(count, device=device)), size), dim=1) / 2
    square = 2 * _square(device) - 1
    turn = _turns(2 * torch.pi * torch.rand(count, device=device))
    centre = frame[:, 2] * torch.rand((count, 2), device=device)
    return (square * half[:, None]) @ turn + centre[:, None]


def _made_worse(page: Tensor) -> tuple[Tensor, Tensor]:
    """Of true outlines, and the margin that each is looked at with."""
    count, device = len(page), page.device
    kind = torch.rand(count, device=device)
    outlines = _as_mask_has_it(page)
    outlines = torch.where((kind < _JITTERED)[:, None, None], _jittered(page, 0.003, 0.05), outlines)
    side_off = (kind > 1 - _SIDE_OFF)[:, None, None]
    outlines = torch.where(side_off, _jittered(_side_off(page, 0.3), 0.0, 0.02), outlines)
    far = (kind >= _JITTERED) & (kind <= 1 - _SIDE_OFF / 2)
    return outlines, torch.where(far, *MARGINS)


def _as_mask_has_it(page: Tensor) -> Tensor:
    """The rectangle around the page, or its true outline, turned, stretched, moved and bent."""
    count, device = len(page), page.device

    def normal(*shape: int) -> Tensor:
        return torch.randn((count, *shape), device=device)

    side = side_lengths(page).mean(1)
    corners = torch.where((torch.rand(count, device=device) < 0.6)[:, None, None], _least_rectangle(page), page)
    centre = corners.mean(1, keepdim=True)
    along = corners[:, 1] - corners[:, 0] + corners[:, 2] - corners[:, 3]
    along = along / along.norm(dim=1, keepdim=True).clamp(min=1e-6)
    axes = torch.stack((along, torch.stack((-along[:, 1], along[:, 0]), dim=1)), dim=1)
    larger = torch.where(torch.rand(count, device=device) < 0.2, 1.1 + 0.4 * torch.rand(count, device=device), 1.0)
    stretch = torch.exp(0.13 * normal(2)) * larger[:, None]
    moved = ((corners - centre) @ axes.transpose(1, 2) * stretch[:, None]) @ axes
    moved = moved @ _turns(torch.deg2rad(6 * normal())) + centre
    return moved + side[:, None, None] * (0.07 * normal(1, 2) + 0.02 * normal(4, 2))


def _jittered(page: Tensor, least: float, most: float) -> Tensor:
    """Corners off by chance, by a part of the mean side between these."""
    part = least + (most - least) * torch.rand(len(page), device=page.device)
    return page + (part * side_lengths(page).mean(1))[:, None, None] * torch.randn_like(page)


def _side_off(page: Tensor, most: float) -> Tensor:
    """One side moved in or out along its neighbours, by up to that part of them."""
    count, device = len(page), page.device
    every, first = torch.arange(count, device=device), torch.randint(4, (count,), device=device)
    share = (most * (2 * torch.rand(count, device=device) - 1))[:, None]
    second, third, fourth = ((first + n) % 4 for n in (1, 2, 3))
    moved = page.clone()
    moved[every, first] += share * (page[every, fourth] - page[every, first])
    moved[every, second] += share * (page[every, third] - page[every, second])
    return moved


@cache
def _square(device: torch.device) -> Tensor:
    """Made once: what comes from outside a GPU makes it wait."""
    return torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]], device=device)


def _turns(angles: Tensor) -> Tensor:
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.stack((torch.stack((cos, sin), dim=1), torch.stack((-sin, cos), dim=1)), dim=1)


def _least_rectangle(page: Tensor) -> Tensor:
    """The rectangle of least area around each: one of its sides lies along one of the page's."""
    along = page.roll(-1, 1) - page
    along = along / along.norm(dim=2, keepdim=True).clamp(min=1e-6)
    axes = torch.stack((along, torch.stack((-along[..., 1], along[..., 0]), dim=2)), dim=2)  # (N, 4 ways, 2, 2)
    seen = page[:, None] @ axes.transpose(2, 3)
    low, high = seen.amin(2), seen.amax(2)
    best = (high - low).prod(2).argmin(1)
    every = torch.arange(len(page), device=page.device)
    low, high, axes = low[every, best], high[every, best], axes[every, best]
    corners = ((low, low), (high, low), (high, high), (low, high))
    box = torch.stack([torch.stack((x[:, 0], y[:, 1]), dim=1) for x, y in corners], dim=1)
    return _aligned(page, box @ axes)


def _aligned(outlines: Tensor, pages: Tensor) -> Tensor:
    """The pages' corners, from the one on that is nearest to the outline's first as the outline's view shows it."""
    seen = moved_by(inverse(square_to(outlines)), pages)
    off = torch.stack([(seen.roll(-turn, 1) - _square(pages.device)).abs().sum((1, 2)) for turn in range(4)], dim=1)
    order = (torch.arange(4, device=outlines.device) + off.nan_to_num(nan=1e9).argmin(1)[:, None]) % 4
    return torch.gather(pages, 1, order[..., None].expand(-1, -1, 2))
