"""Refines the outline of a page: a small network sees the page flattened and locates its corners.

The page finder's mask shows that there is a page and roughly where. At its resolution it cannot separate a card from
the sheet or screen around it, and it misses edges of low contrast. Here each outline is flattened with a margin and
scaled so that every page fills the network's view, whatever its size in the frame. The corners then lie at about the
same places, each side can be inferred from print and pattern as well as from its edge, and a side that is hidden by a
hand or cut off by the frame can be extrapolated. This is done twice, the second time with a closer view. Trained by
`models.training.pages` on synthetic scenes only; model card and figures: `models/weights/page_corners.md`.

A corner is the mean of its map's softmax: Luvizon, Tabia and Picard, "Human pose regression by combining indirect part
detection and contextual information" (2019).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.page.layers import Residual, layer, ready
from models.page.quad import side_lengths

VIEW_SIDE = 128
VIEW_CHANNELS = 5
MAP_SIDE = 32
MARGINS = (0.35, 0.2)
"""Room around the outline in each look, in sides of the page: a rough outline may be off by a fifth."""

FIT_SCALE = 0.03
"""The fit of corners is exp(-e / FIT_SCALE), with e their mean distance from the true ones in sides of the view."""

MOST_PROPORTION = 1.5
"""Of `View.proportion`, either way: what is longer than 4.5 to 1 is no document, however much."""

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


class CornerNet(nn.Module):
    """float (N, 5, 128, 128): RGB / 127.5 - 1, 1 where the frame is and -1 beyond it, proportion → Looked."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            (
                nn.Sequential(*layer(VIEW_CHANNELS, 16, stride=2)),
                nn.Sequential(*layer(16, 24, stride=2), *layer(24, 24)),
                nn.Sequential(*layer(24, 40, stride=2), *layer(40, 40), Residual(40, 80), Residual(40, 80)),
                nn.Sequential(*layer(40, 64, stride=2), *layer(64, 64), *(Residual(64, n) for n in (64, 128, 128))),
            )
        )  # sides 64, 32, 16, 8
        # Where a corner is that a hand hides is told by the rest of the page: most layers where each sees all of it.
        self.context = nn.Sequential(*layer(64, 96, stride=2), *layer(96, 96), *(Residual(96, 96) for _ in range(5)))
        self.up = nn.ModuleList(
            (
                nn.Sequential(*layer(96 + 64, 64), Residual(64, 64), Residual(64, 128)),
                nn.Sequential(*layer(64 + 40, 48), Residual(48, 96)),
                nn.Sequential(*layer(48 + 24, 32), *layer(32, 32), Residual(32, 32)),
            )
        )  # sides 8, 16, 32
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
        x = self.context(x)
        pooled = torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1)
        for block, skip in zip(self.up, (skips[3], skips[2], skips[1]), strict=True):
            x = block(torch.cat((nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip), dim=1))
        maps = self.maps(x).float()
        centres = torch.as_tensor(self.centres)
        shares = maps.flatten(2).softmax(dim=2).view_as(maps)
        corners = torch.stack(((shares.sum(dim=2) * centres).sum(2), (shares.sum(dim=3) * centres).sum(2)), dim=2)
        return Looked(corners, maps, self.score(pooled)[:, 0].float(), self.fit(pooled)[:, 0].float())


class CornerFinder:
    """`CornerNet` with weights. Thread-safe: nothing changes after construction."""

    def __init__(self, state: dict[str, Tensor], device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._net = ready(CornerNet(), state, self._device)

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
            places, scores, fits = self._run(seen)
            for n, (one, place) in enumerate(zip(seen, places, strict=True)):
                moved = one.to_frame(place)
                # One that folds over cannot be flattened again: it stays where it was, and is no page.
                if is_convex(moved):
                    found[n] = Outline(moved, float(scores[n]), float(fits[n]))
                else:
                    found[n] = Outline(found[n].corners, 0.0, 0.0)
        return found

    @torch.inference_mode()
    def _run(self, seen: list[View]) -> tuple[Floats, Floats, Floats]:
        pictures = torch.from_numpy(np.stack([one.picture for one in seen])).to(self._device)
        proportions = torch.tensor([one.proportion for one in seen], dtype=torch.float32, device=self._device)
        looked = self._net(as_input(pictures, proportions))
        return looked.corners.cpu().numpy(), looked.score.sigmoid().cpu().numpy(), looked.fit.sigmoid().cpu().numpy()


def as_input(views: Tensor, proportions: Tensor) -> Tensor:
    """uint8 (N, 128, 128, 4), RGB and frame mask (0 or 255), and float (N,) → the network's input. Channels stay last
    in memory.
    """
    seen = views.to(torch.float32).div(127.5).sub(1)
    planes = proportions[:, None, None, None].expand(-1, VIEW_SIDE, VIEW_SIDE, 1)
    return torch.cat((seen, planes), dim=3).permute(0, 3, 1, 2)


class View(NamedTuple):
    """A flattened outline. picture: uint8 (128, 128, 4), RGB and 255 where the frame is; transform: float64 (3, 3),
    from the view, 0..1, to pixels of the frame; proportion: logarithm of the outline's width by its height as they are
    in the frame, which flattening it to a square hides: documents come in few formats.
    """

    picture: Image
    transform: npt.NDArray[np.float64]
    proportion: float

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
    sides = side_lengths(corners)
    side = float(sides.mean())
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
    width, height = float(sides[0] + sides[2]), float(sides[1] + sides[3])
    proportion = float(np.clip(np.log(max(width, 1e-6) / max(height, 1e-6)), -MOST_PROPORTION, MOST_PROPORTION))
    return View(np.dstack([picture, within]), np.asarray(transform, np.float64), proportion)


def is_convex(corners: Floats) -> bool:
    """Whether four corners (4, 2), in order, go round once without a dent, and enclose something."""
    sides = np.roll(corners, -1, axis=0) - corners
    after = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0]
    return bool((turns > 1).all() or (turns < -1).all())
