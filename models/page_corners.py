"""Looks again at a page that was roughly found: a small network sees it flattened and tells where its corners are.

The page finder's mask knows that a page is there and about where; at its resolution it cannot tell a card from the
sheet or screen around it, nor see an edge of low contrast. Here each outline is flattened with a margin, at a scale of
its own, so that every page fills the network's view whatever its size in the frame: corners are at about the same
places, any side can be judged from print and pattern as well as from its edge, and one hidden by a hand or cut off by
the frame is continued. Done twice, the second time closer. Trained by `models.training.page_corners` on synthetic
scenes only; card and figures: `models/weights/page_corners.md`.

Corners out of a map by the mean of its softmax: Luvizon, Tabia and Picard, "Human pose regression by combining
indirect part detection and contextual information" (2019).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

VIEW_SIDE = 128
MAP_SIDE = 32
MARGINS = (0.35, 0.2)
"""Room around the outline in each look, in sides of the page: a rough outline may be off by a fifth."""

FIT_SCALE = 0.03
"""The fit of corners is exp(-e / FIT_SCALE), with e their mean distance from the true ones in sides of the view."""

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Looked(NamedTuple):
    """corners: Tensor (N, 4, 2), x and y of the page's corners, 0..1 over the view, in the outline's order; maps: their
    logits (N, 4, 32, 32); score: logits (N,) of there being a page where the outline is; fit: logits (N,) of how near
    the corners are, see `FIT_SCALE`.
    """

    corners: Tensor
    maps: Tensor
    score: Tensor
    fit: Tensor


class Outline(NamedTuple):
    """corners: float32 (4, 2) in pixels of the frame, clockwise; score: 0..1, the probability that a page is there;
    fit: 0..1, how near the corners are by the network's own guess, see `FIT_SCALE`.
    """

    corners: Floats
    score: float
    fit: float


class _Residual(nn.Module):
    """Two layers that add to what they see (He et al. 2016); they begin as doing nothing, so that a network can be
    given one after it was trained.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(width)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(*_layer(width, width), nn.Conv2d(width, width, 3, 1, 1, bias=False), last)

    def forward(self, x: Tensor) -> Tensor:
        """float (N, width, H, W), and the same out."""
        return nn.functional.relu(x + self.body(x))


class CornerNet(nn.Module):
    """float (N, 4, 128, 128): RGB / 127.5 - 1, and 1 where the frame is, -1 beyond it → Looked."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            (
                nn.Sequential(*_layer(4, 16, stride=2)),
                nn.Sequential(*_layer(16, 24, stride=2), *_layer(24, 24)),
                nn.Sequential(*_layer(24, 40, stride=2), *_layer(40, 40)),
                nn.Sequential(*_layer(40, 64, stride=2), *_layer(64, 64)),
            )
        )  # sides 64, 32, 16, 8
        self.context = nn.Sequential(*_layer(64, 96, stride=2), *_layer(96, 96))
        self.up = nn.ModuleList(
            (
                nn.Sequential(*_layer(96 + 64, 64)),
                nn.Sequential(*_layer(64 + 40, 48)),
                nn.Sequential(*_layer(48 + 24, 32), *_layer(32, 32)),
            )
        )  # sides 8, 16, 32
        # Where a corner is that a hand hides is told by the rest of the page: more layers where each sees all of it.
        self.further = nn.ModuleList(
            (_Residual(64), nn.Sequential(_Residual(96), _Residual(96)), _Residual(64))
        )  # sides 8, 4, 8
        self.maps = nn.Conv2d(32, 4, 1)
        self.score = nn.Sequential(nn.Linear(96 * 2, 32), nn.ReLU(), nn.Linear(32, 1))
        self.fit = nn.Sequential(nn.Linear(96 * 2, 32), nn.ReLU(), nn.Linear(32, 1))
        centres = (torch.arange(MAP_SIDE, dtype=torch.float32) + 0.5) / MAP_SIDE
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, views: Tensor) -> Looked:
        """See the class."""
        skips: list[Tensor] = []
        x = views
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips[3] = self.further[0](skips[3])
        x = self.further[1](self.context(skips[3]))
        pooled = torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1)
        for n, (block, skip) in enumerate(zip(self.up, (skips[3], skips[2], skips[1]), strict=True)):
            x = block(torch.cat((nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip), dim=1))
            x = self.further[2](x) if n == 0 else x
        maps = self.maps(x)
        centres = torch.as_tensor(self.centres)
        shares = maps.flatten(2).softmax(dim=2).view_as(maps)
        corners = torch.stack(((shares.sum(dim=2) * centres).sum(2), (shares.sum(dim=3) * centres).sum(2)), dim=2)
        return Looked(corners, maps, self.score(pooled)[:, 0], self.fit(pooled)[:, 0])


def _layer(before: int, after: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)


class CornerFinder:
    """`CornerNet` with weights. Thread-safe: nothing changes after construction."""

    def __init__(self, state: dict[str, Tensor], device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._net = CornerNet().to(self._device)
        self._net.load_state_dict(state)
        self._net.eval()

    def look(self, outlines: list[tuple[Image, Floats]]) -> list[Outline]:
        """Better corners for each rough outline, in the same order, and how sure they are.

        outlines: a frame, uint8 (H, W, 3) RGB, and corners in it, float32 (4, 2), clockwise, pixel centres at whole
        numbers. Corners that fold over get the score 0. Two forward passes for all of them.
        """
        if not outlines:
            return []
        found = [Outline(corners, 1.0, 1.0) for _, corners in outlines]
        frames: dict[int, list[Image]] = {}
        for image, _ in outlines:
            if id(image) not in frames:
                frames[id(image)] = halves(image)
        for margin in MARGINS:
            seen = [
                view(frames[id(image)], one.corners, margin) for (image, _), one in zip(outlines, found, strict=True)
            ]
            places, scores, fits = self._run(np.stack([one.picture for one in seen]))
            for n, (one, place) in enumerate(zip(seen, places, strict=True)):
                moved = one.to_frame(place)
                # One that folds over cannot be flattened again: it stays where it was, and is no page.
                if is_convex(moved):
                    found[n] = Outline(moved, float(scores[n]), float(fits[n]))
                else:
                    found[n] = Outline(found[n].corners, 0.0, 0.0)
        return found

    @torch.inference_mode()
    def _run(self, views: Image) -> tuple[Floats, Floats, Floats]:
        looked = self._net(as_input(torch.from_numpy(views).to(self._device)))
        return looked.corners.cpu().numpy(), looked.score.sigmoid().cpu().numpy(), looked.fit.sigmoid().cpu().numpy()


def as_input(views: Tensor) -> Tensor:
    """uint8 (N, 128, 128, 4), RGB and frame mask (0 or 255) → the network's input. Channels stay last in memory."""
    return views.permute(0, 3, 1, 2).to(torch.float32).div(127.5).sub(1)


class View(NamedTuple):
    """A flattened outline. picture: uint8 (128, 128, 4), RGB and 255 where the frame is; transform: float64 (3, 3),
    from the view, 0..1, to pixels of the frame.
    """

    picture: Image
    transform: npt.NDArray[np.float64]

    def to_frame(self, places: Floats) -> Floats:
        """Places (K, 2), 0..1 over the view, in pixels of the frame."""
        moved = cv2.perspectiveTransform(places[None].astype(np.float64), self.transform)[0]
        return np.asarray(moved, np.float32)

    def to_view(self, places: Floats) -> Floats:
        """Places (K, 2) in pixels of the frame, 0..1 over the view."""
        moved = cv2.perspectiveTransform(places[None].astype(np.float64), np.linalg.inv(self.transform))[0]
        return np.asarray(moved, np.float32)


def halves(image: Image) -> list[Image]:
    """The frame, and its halves down to 128 pixels: what views are taken from, so that none skips pixels."""
    out = [image]
    while min(out[-1].shape[:2]) >= 2 * VIEW_SIDE:
        height, width = out[-1].shape[:2]
        out.append(np.asarray(cv2.resize(out[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8))
    return out


def view(frames: list[Image], corners: Floats, margin: float) -> View:
    """The outline flattened, with `margin` (in sides) around it. frames: see `halves`."""
    low = margin / (1 + 2 * margin)
    square = np.asarray([(low, low), (1 - low, low), (1 - low, 1 - low), (low, 1 - low)], np.float32)
    transform = cv2.getPerspectiveTransform(square, corners.astype(np.float32))
    # The level at which the page has at least as many pixels as in the view, but not twice as many.
    shown = VIEW_SIDE / (1 + 2 * margin)
    side = float(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).mean())
    level = int(np.clip(np.floor(np.log2(max(side / shown, 1.0))), 0, len(frames) - 1))
    frame = frames[level]
    to_pixel = np.diag([1 / VIEW_SIDE, 1 / VIEW_SIDE, 1.0]) @ np.asarray([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    scale_x, scale_y = frame.shape[1] / frames[0].shape[1], frame.shape[0] / frames[0].shape[0]
    to_level = np.asarray([[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5], [0, 0, 1.0]])
    warp = to_level @ transform @ to_pixel
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpPerspective(frame, warp, (VIEW_SIDE, VIEW_SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = np.full(frame.shape[:2], 255, np.uint8)
    within = cv2.warpPerspective(inside, warp, (VIEW_SIDE, VIEW_SIDE), flags=flags)
    return View(np.dstack([picture, within]), np.asarray(transform, np.float64))


def is_convex(corners: Floats) -> bool:
    """Whether four corners (4, 2), in order, go round once without a dent, and enclose something."""
    sides = np.roll(corners, -1, axis=0) - corners
    after = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0]
    return bool((turns > 1).all() or (turns < -1).all())
