"""What is stored of a step for later analysis: small arrays and plain facts. The service writes them to Zarr.

They are made on the worker, so that only these few megabytes travel, never whole frames. The service writes them, so
workers need no credentials.
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
    """One step's arrays by name, and JSON-serialisable attributes."""

    arrays: Mapping[str, npt.NDArray[Any]]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def thumbnails(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """At most KEPT_FRAMES frames, evenly spread over time and subsampled to at most KEPT_SIDE pixels a side.

    images: uint8 (N, H, W, 3).
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(KEPT_FRAMES, len(images))).round().astype(int))
    stride = -(-max(images.shape[1:3]) // KEPT_SIDE)
    return np.ascontiguousarray(images[chosen, ::stride, ::stride])
