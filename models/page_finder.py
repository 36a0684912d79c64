"""Finds the document in each frame: a small network draws the page's mask, geometry turns the mask into corners.

Network: a U-Net (Ronneberger, Fischer, Brox 2015) of 0.39 M parameters that sees the frame at 128 × 128, stretched:
pages lie at any angle anyway, and no pixels are lost to borders. Its mask covers the page as if no hand lay on it.
Trained by `models.training.page_finder` on synthetic scenes only; card and figures: `models/weights/page_finder.md`.
Which way up the page lies is not found here; the MRZ reader and the portrait tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.page import Quad, shrunk
from models.page_lines import fit_outline
from models.page_outline import parts, refine

INPUT_SIDE = 128
MASK_SIDE = 32
_DRAWN_SIDE = 192
LEAST_SCORE = 0.5
"""Presence × overlap below this is no page. From the network's own calibration (0.5 is even odds), tuned on nothing."""


class PageNet(nn.Module):
    """float (N, 3, 128, 128), RGB / 127.5 - 1 → mask logits (N, 32, 32) and presence logits (N,)."""

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
        )  # sides 64, 32, 16, 8, 4
        self.context = nn.Sequential(*_layer(72, 72), *_layer(72, 72))
        self.up = nn.ModuleList(
            (
                nn.Sequential(*_layer(72 + 56, 56), *_layer(56, 56)),
                nn.Sequential(*_layer(56 + 40, 32), *_layer(32, 32)),
                nn.Sequential(*_layer(32 + 24, 16), *_layer(16, 16)),
            )
        )  # sides 8, 16, 32
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
    """`PageNet` with weights, and the geometry after it. Thread-safe: nothing changes after construction."""

    def __init__(self, state: dict[str, Tensor], device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._net = PageNet().to(self._device)
        self._net.load_state_dict(state)
        self._net.eval()

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
        return [_quads(image, mask, float(p)) for image, mask, p in zip(images, masks, presence, strict=True)]

    @torch.inference_mode()
    def _look(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        small = np.stack([shrunk(image, (INPUT_SIDE, INPUT_SIDE)) for image in images])
        # Channels stay last in memory: half the time on a CPU.
        batch = torch.from_numpy(small).to(self._device).permute(0, 3, 1, 2)
        masks, presence = self._net(batch.to(torch.float32).div(127.5).sub(1))
        # Enlarged before the threshold, so that the contour runs between the network's cells.
        masks = nn.functional.interpolate(masks[:, None], size=(_DRAWN_SIDE, _DRAWN_SIDE), mode="bilinear")[:, 0]
        return masks.sigmoid().cpu().numpy(), presence.sigmoid().cpu().numpy()


def _quads(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.float32], presence: float) -> tuple[Quad, ...]:
    if presence < LEAST_SCORE:
        return ()
    outlines = [fit_outline(image, part) for part in parts(mask, image.shape[:2])]
    return tuple(
        Quad(refine(image, corners), presence * overlap)
        for corners, overlap in (found for found in outlines if found is not None)
        if presence * overlap >= LEAST_SCORE
    )
