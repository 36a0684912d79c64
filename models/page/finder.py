"""Finds the document in each frame: one small network draws the page's mask, another locates the corners around it.

The mask network is a U-Net (Ronneberger, Fischer, Brox 2015) of 0.93 M parameters. It sees the frame stretched to
192 × 192: pages lie at any angle anyway, and no pixels are lost to borders. The mask covers the whole page, including
the parts under a hand. The mask's outline is refined by `models.page.corners`, then moved onto the picture's own edges
where those are distinct (`models.page.outline.refine`). Trained by `models.training.pages` on synthetic scenes only;
model card and figures: `models/weights/page_finder.md`.

This module does not find which way up the page lies; the MRZ reader and the portrait show that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.page.corners import CornerFinder, Outline
from models.page.layers import Residual, layer, ready
from models.page.outline import box, parts, refine
from models.page.quad import Quad, area, clipped, frame_corners, order_corners, overlap, shrunk, within

INPUT_SIDE = 192
MASK_SIDE = 48
_DRAWN_SIDE = 192
THRESHOLDS = (0.85, 0.95, 0.7, 0.5, 0.3)
"""Of the mask: the one tried first, and those for pages of which that one leaves doubt."""
_LEAST_PRESENCE = 0.05
"""Presence below which no outline is looked at."""
_SURE = 1.5
"""Quality from which an outline is taken as it is. Of 1,910 scenes 10 % go on to other thresholds (seeds 2000–2039 and
2500–2650).
"""
_PRESENCE_COUNTS = 0.25
"""Weight of the mask's network in the score. With half, it overrules the other one, which sees the page closer."""
_IN_COMMON = 0.3
"""Part of the smaller of two outlines that lies in both, from which they are of one page."""
_NEARLY_SAME = 0.9
"""Overlap of two rough outlines above which the second is not looked at: it would be moved to where the first was."""
_LEAST_BESIDE = 0.25
"""Of the largest page: a document beside another is about as large as that one."""
_FILLED = 0.97
"""Overlap of an outline that was looked at with the frame, from which the page is a scan that fills it: its edges are
the frame's.
"""
_SUPPORT_OF_FILLED = 0.8
"""Support of such a page, whose edges are not in the picture."""
LEAST_SCORE = 0.6
"""Score below which an outline is no page. The score is a geometric mean of what both networks say. Of 672 scenes
without a page (seeds 2000–2039 and 2500–2650) 6 have an outline at 0.6, as many at 0.5, 14 at 0.4; with one (1,238) 3
have none at 0.6, 6 at 0.7.
"""


class _Candidate(NamedTuple):
    """corners: float32 (4, 2), final; score: 0..1, of both networks; quality: 0..2, how well the outline fits by the
    second network's word and the edges under it; whole: it is the frame.
    """

    corners: npt.NDArray[np.float32]
    score: float
    quality: float
    whole: bool


class PageNet(nn.Module):
    """float (N, 3, 192, 192), RGB / 127.5 - 1 → mask logits (N, 48, 48) and presence logits (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            (
                nn.Sequential(*layer(3, 16, stride=2)),
                nn.Sequential(*layer(16, 24, stride=2)),
                nn.Sequential(*layer(24, 40, stride=2), *layer(40, 40), Residual(40, 40)),
                nn.Sequential(*layer(40, 56, stride=2), *layer(56, 56), Residual(56, 56)),
                nn.Sequential(*layer(56, 72, stride=2), *layer(72, 72)),
            )
        )  # sides 96, 48, 24, 12, 6
        self.context = nn.Sequential(*layer(72, 72), *layer(72, 72), *(Residual(72, 96) for _ in range(3)))
        self.up = nn.ModuleList(
            (
                nn.Sequential(*layer(72 + 56, 56), *layer(56, 56), Residual(56, 56)),
                nn.Sequential(*layer(56 + 40, 32), *layer(32, 32), Residual(32, 32)),
                nn.Sequential(*layer(32 + 24, 16), *layer(16, 16)),
            )
        )  # sides 12, 24, 48
        self.mask = nn.Conv2d(16, 1, 1)
        self.presence = nn.Sequential(nn.Linear(72 * 2, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        skips: list[Tensor] = []
        x = images
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.context(x)
        pooled = torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3))), dim=1)
        for block, skip in zip(self.up, (skips[3], skips[2], skips[1]), strict=True):
            x = block(torch.cat((nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip), dim=1))
        return self.mask(x)[:, 0].float(), self.presence(pooled)[:, 0].float()


class PageFinder:
    """`PageNet` with weights, and what looks at its outlines again. Thread-safe: nothing changes after construction."""

    def __init__(self, state: dict[str, Tensor], corners: dict[str, Tensor], device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._net = ready(PageNet(), state, self._device)
        self._corners = CornerFinder(corners, device)

    def find(self, images: npt.NDArray[np.uint8]) -> list[Quad | None]:
        """The page in each frame, None where there is none: the largest of those that `find_all` gives."""
        return [pages[0] if pages else None for pages in self.find_all(images)]

    def find_all(self, images: npt.NDArray[np.uint8]) -> list[tuple[Quad, ...]]:
        """The pages in each frame, the largest first. images: uint8 (N, H, W, 3) RGB; one forward pass for all.

        Corners are in pixels of the frame, pixel centres at whole numbers; those of a page that is cut off may lie
        outside. A scan that the page fills gives the frame itself. Pages one above the other that touch are taken for
        one, and one less than a third as large as the largest for none.
        """
        if not len(images):
            return []
        masks, presence = self._look(images)
        shape = images.shape[1:3]
        found: list[list[_Candidate]] = [[] for _ in images]
        tried: list[list[npt.NDArray[np.float32]]] = [[] for _ in images]
        for thresholds in (THRESHOLDS[:1], THRESHOLDS[1:]):
            doubtful = [n for n, seen in enumerate(presence) if seen >= _LEAST_PRESENCE and not _sure(found[n])]
            boxes = [(n, corners) for n in doubtful for corners in _boxes(masks[n], shape, thresholds)]
            rough = [(n, corners) for n, corners in boxes if _another(corners, tried[n])]
            # A page may fill the picture without showing in the mask as one part.
            frames = [(n, frame_corners(shape)) for n in doubtful if thresholds[0] != THRESHOLDS[0]]
            looked = self._corners.look([(images[n], corners) for n, corners in rough + frames])
            for at, ((n, _), one) in enumerate(zip(rough + frames, looked, strict=True)):
                candidate = _candidate(images[n], one, float(presence[n]))
                if candidate.score >= LEAST_SCORE and (at < len(rough) or candidate.whole):
                    found[n].append(candidate)
        return [tuple(Quad(one.corners, one.score, one.whole) for one in _pages(seen, shape)) for seen in found]

    def rough(self, images: npt.NDArray[np.uint8]) -> list[list[npt.NDArray[np.float32]]]:
        """Boxes around what the mask shows in each frame, whatever the scores, at each of its thresholds: float32
        (4, 2) in pixels of the frame, clockwise.
        """
        masks, _ = self._look(images)
        shape = images.shape[1:3]
        return [_boxes(mask, shape, THRESHOLDS) for mask in masks]

    @torch.inference_mode()
    def _look(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        small = np.stack([shrunk(image, (INPUT_SIDE, INPUT_SIDE)) for image in images])
        # Channels stay last in memory: half the time on a CPU.
        batch = torch.from_numpy(small).to(self._device).permute(0, 3, 1, 2)
        masks, presence = self._net(batch.to(torch.float32).div(127.5).sub(1))
        # Enlarged before the threshold, so that the contour runs between the network's cells.
        masks = nn.functional.interpolate(masks[:, None], size=(_DRAWN_SIDE, _DRAWN_SIDE), mode="bilinear")[:, 0]
        return masks.sigmoid().cpu().numpy(), presence.sigmoid().cpu().numpy()


def _another(corners: npt.NDArray[np.float32], tried: list[npt.NDArray[np.float32]]) -> bool:
    """Whether this outline was not tried yet, nor one that is nearly the same; from now on it was."""
    if any(overlap(corners, other) > _NEARLY_SAME for other in tried):
        return False
    tried.append(corners)
    return True


def _boxes(
    mask: npt.NDArray[np.float32], shape: tuple[int, ...], thresholds: tuple[float, ...]
) -> list[npt.NDArray[np.float32]]:
    """Boxes around the parts of a mask at each threshold."""
    return [box(part, shape) for threshold in thresholds for part in parts(mask, shape, threshold)]


def _sure(found: list[_Candidate]) -> bool:
    return bool(found) and all(one.quality >= _SURE for one in found)


def _candidate(image: npt.NDArray[np.uint8], one: Outline, presence: float) -> _Candidate:
    score = presence**_PRESENCE_COUNTS * one.score ** (1 - _PRESENCE_COUNTS)
    frame = frame_corners(image.shape)
    if overlap(one.corners, frame) > _FILLED:
        return _Candidate(order_corners(frame), score, one.score * (one.fit + _SUPPORT_OF_FILLED), whole=True)
    if score < LEAST_SCORE:
        return _Candidate(one.corners, score, 0.0, whole=False)
    corners, support = refine(image, order_corners(one.corners))
    return _Candidate(corners, score, one.score * (one.fit + support), whole=False)


def _pages(found: list[_Candidate], shape: tuple[int, ...]) -> list[_Candidate]:
    """Of candidates that lie on one another the one that fits best, the largest page first."""
    kept: list[_Candidate] = []
    for one in sorted(found, key=lambda one: -one.quality):
        if not any(_same(one.corners, other.corners) for other in kept):
            kept.append(one)
    sized = [(area(within(one.corners, shape)), one) for one in kept]
    sized.sort(key=lambda pair: -pair[0])
    return [one for area, one in sized if area >= _LEAST_BESIDE * sized[0][0]]


def _same(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    """Whether a good part of the smaller outline lies in the other."""
    return area(clipped(one, other)) > _IN_COMMON * min(area(one), area(other))
