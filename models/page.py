"""The document in a picture: where its corners are, and its rectified view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ID1_SIZE = (1012, 638)
"""Width and height in pixels of a rectified ID-1 page: 85.60 × 53.98 mm at 300 dpi (ISO/IEC 7810)."""


@dataclass(frozen=True)
class Quad:
    """A document's outline. corners: float32 (4, 2), x and y in pixels, clockwise from the corner that is top left
    when the longer side lies level (which of the two level ways is up is not known here). score: 0..1.
    """

    corners: npt.NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class Page:
    """A rectified page. image: uint8 (H, W, 3) RGB, level but possibly upside down; index: of its frame; sharpness:
    variance of the Laplacian on the page at this size, higher is sharper.
    """

    image: npt.NDArray[np.uint8]
    index: int
    quad: Quad
    sharpness: float
