"""A screen that shows a picture, as a lens sees it up close: pixels, their colour stripes, and what blurs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Image3 = npt.NDArray[np.uint8]
TEXELS = 3
"""Texels to a side of a display pixel."""
Layout = Literal["stripes", "reversed", "upright", "diamonds"]


@dataclass(frozen=True)
class Display:
    """pitch_mm: from one pixel to the next. card_pixels: how many of them a card's width takes. layout: red, green and
    blue stripes side by side, in the other order (BGR), one above the other (a tablet turned by a quarter), or, as on
    most OLED phones, a green point in each pixel and red and blue ones in turn. contrast: of picture to black, 0..1;
    brightness: factor; coolness: of its white, 0 to 1.
    """

    pitch_mm: float
    card_pixels: float
    layout: Layout = "stripes"
    brightness: float = 1.0
    black: float = 0.0
    coolness: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, filmed_width: float, *, fine: bool) -> Display:
        """A monitor, a tablet or a phone, filmed from near. filmed_width: camera pixels that the card will take.

        A camera pixel sees a half to 1.1 of the display's pixels; fine: 1.15 to 1.4 of them, so that no single one can
        be told from the next any more.
        """
        layouts: tuple[Layout, ...] = ("stripes", "stripes", "reversed", "upright", "diamonds")
        return cls(
            pitch_mm=float(rng.uniform(0.09, 0.28)),
            card_pixels=filmed_width * float(rng.uniform(1.15, 1.4) if fine else rng.uniform(0.5, 1.1)),
            layout=layouts[int(rng.integers(len(layouts)))],
            brightness=float(rng.uniform(0.7, 1.05)),
            black=float(rng.uniform(0.0, 0.06)),
            coolness=float(rng.uniform(0.0, 0.8)),
        )

    def glowing(self, picture: Image3, blur: float) -> Image3:
        """A picture of the display's own pixels, uint8 (H, W, 3) → uint8 (3 H, 3 W, 3) as it glows.

        blur: standard deviation in texels over which lens and sensor take the mean before they sample.
        """
        level = (1 - self.black) * picture.astype(np.float32) + 255 * self.black
        level *= self.brightness * np.array([1 - 0.08 * self.coolness, 1.0, 1 + 0.06 * self.coolness], np.float32)
        fine = np.repeat(np.repeat(np.clip(level, 0, 255).astype(np.uint8), TEXELS, axis=0), TEXELS, axis=1)
        cells = _cells(self.layout)
        down, across = fine.shape[0] // cells.shape[0] + 1, fine.shape[1] // cells.shape[1] + 1
        lit = fine * np.tile(cells, (down, across, 1))[: fine.shape[0], : fine.shape[1]]
        # The camera exposes for the screen: its stripes and gaps let a part of the light through.
        alpha = 0.933 / cells.reshape(-1, 3).mean(axis=0)
        return np.asarray(cv2.transform(cv2.GaussianBlur(lit, (0, 0), blur), np.diag(alpha)), np.uint8)


def _cells(layout: Layout) -> Image3:
    """Which texels of the repeating cell glow in which colour: uint8 (h, w, 3) of 0 and 1."""
    if layout == "diamonds":
        cells = np.zeros((2 * TEXELS, 2 * TEXELS, 3), np.uint8)
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            y, x = TEXELS * row, TEXELS * column
            cells[y : y + 2, x, 1] = 1
            cells[y + 1 : y + 3, x + 1 : x + 3, 0 if (row + column) % 2 == 0 else 2] = 1
        return cells
    cells = np.zeros((TEXELS, TEXELS, 3), np.uint8)
    for channel in range(3):
        cells[:2, 2 - channel if layout == "reversed" else channel, channel] = 1  # the third row is the black matrix
    return np.ascontiguousarray(cells.transpose(1, 0, 2)) if layout == "upright" else cells
