"""What is kept of a step for people who analyse later: small arrays and plain facts, written by the service to Zarr.

Made on the worker, so that only these few megabytes travel, and never whole frames; the worker holds no credentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

KEPT_FRAMES = 6
KEPT_SIDE = 480


@dataclass(frozen=True)
class Findings:
    """One step's arrays by name, and JSON-able attributes."""

    arrays: Mapping[str, npt.NDArray[Any]]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def thumbnails(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A few frames spread over time, thinned to at most KEPT_SIDE pixels a side. images: uint8 (N, H, W, 3)."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(KEPT_FRAMES, len(images))).round().astype(int))
    stride = -(-max(images.shape[1:3]) // KEPT_SIDE)
    return np.ascontiguousarray(images[chosen, ::stride, ::stride])
