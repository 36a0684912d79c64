"""Finds the document in each frame: a small network draws the page's mask, another finds the corners around it.

Network: a U-Net (Ronneberger, Fischer, Brox 2015) of 0.39 M parameters that sees the frame at 192 × 192, stretched:
pages lie at any angle anyway, and no pixels are lost to borders. Its mask covers the page as if no hand lay on it.
What the mask outlines is looked at again (`models.page_corners`), then moved onto the picture's own edges where they
are plain (`models.page_outline.refine`). Trained by `models.training.page_finder` on synthetic scenes only; card and
figures: `models/weights/page_finder.md`.
Which way up the page lies is not found here; the MRZ reader and the portrait tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.page import Quad, frame_corners, order_corners, overlap, shrunk
from models.page_corners import CornerFinder
from models.page_outline import outline, parts, refine

INPUT_SIDE = 192
MASK_SIDE = 48
_DRAWN_SIDE = 192
_FILLED = 0.95
"""Overlap of an outline, rough or looked at again, with the frame from which it is a scan that the page fills: its
edges are the frame's.
"""
LEAST_SCORE = 0.6
"""Score below which an outline is no page. The score is the geometric mean of what both networks say. Fitted on 200
scenes (seeds 2000–2019): at 0.5 one outline of 145 lies on no page, at 0.6 none, and two of 144 good ones are lost.
"""


class PageNet(nn.Module):
    """float (N, 3, 192, 192), RGB / 127.5 - 1 → mask logits (N, 48, 48) and presence logits (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            (
                nn.Sequential(*_layer(3, 16, stride=2)),
                nn.Sequential(*_layer(16, 24, stride=2)),
                nn.Sequential(*_layer(24, 40, stride=2), *_layer(40, 40)),
                nn.Sequential(*_layer(40, 56, stride=2), *_layer(56, 56)),
                nn.Sequential(*_layer(56, 72, stride=2), *_layer(72, 72)),
            )
        )  # sides 96, 48, 24, 12, 6
        self.context = nn.Sequential(*_layer(72, 72), *_layer(72, 72))
        self.up = nn.ModuleList(
            (
                nn.Sequential(*_layer(72 + 56, 56), *_layer(56, 56)),
                nn.Sequential(*_layer(56 + 40, 32), *_layer(32, 32)),
                nn.Sequential(*_layer(32 + 24, 16), *_layer(16, 16)),
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
        return self.mask(x)[:, 0], self.presence(pooled)[:, 0]


def _layer(before: int, after: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)


class PageFinder:
    """`PageNet` with weights, and what looks at its outlines again. Thread-safe: nothing changes after construction."""

    def __init__(self, state: dict[str, Tensor], corners: dict[str, Tensor], device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._net = PageNet().to(self._device)
        self._net.load_state_dict(state)
        self._net.eval()
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
        outlines = [(n, corners) for n, mask in enumerate(masks) for corners in _outlines(mask, shape)]
        looked = self._corners.look([(images[n], corners) for n, corners in outlines])
        found: list[list[Quad]] = [[] for _ in images]
        for (n, rough), (corners, score) in zip(outlines, looked, strict=True):
            certainty = float(np.sqrt(presence[n] * score))
            if certainty >= LEAST_SCORE:
                frame = frame_corners(shape)
                filled = max(overlap(rough, frame), overlap(corners, frame)) > _FILLED
                found[n].append(Quad(frame if filled else refine(images[n], order_corners(corners)), certainty))
        return [tuple(pages) for pages in found]

    def rough(self, images: npt.NDArray[np.uint8]) -> list[list[npt.NDArray[np.float32]]]:
        """The mask's outlines in each frame, whatever the scores: float32 (4, 2) in pixels of the frame, clockwise."""
        return [_outlines(mask, images.shape[1:3]) for mask in self._look(images)[0]]

    @torch.inference_mode()
    def _look(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        small = np.stack([shrunk(image, (INPUT_SIDE, INPUT_SIDE)) for image in images])
        # Channels stay last in memory: half the time on a CPU.
        batch = torch.from_numpy(small).to(self._device).permute(0, 3, 1, 2)
        masks, presence = self._net(batch.to(torch.float32).div(127.5).sub(1))
        # Enlarged before the threshold, so that the contour runs between the network's cells.
        masks = nn.functional.interpolate(masks[:, None], size=(_DRAWN_SIDE, _DRAWN_SIDE), mode="bilinear")[:, 0]
        return masks.sigmoid().cpu().numpy(), presence.sigmoid().cpu().numpy()


def _outlines(mask: npt.NDArray[np.float32], shape: tuple[int, ...]) -> list[npt.NDArray[np.float32]]:
    """The quadrilaterals around the parts of a mask, in pixels of the frame of that shape (height, width)."""
    scale = np.asarray([shape[1] / mask.shape[1], shape[0] / mask.shape[0]], np.float32)
    drawn = [outline(part) for part in parts(mask, (shape[0], shape[1]))]
    return [order_corners((one[0] + 0.5) * scale - 0.5) for one in drawn if one is not None]
