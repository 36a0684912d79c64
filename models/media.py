"""Media as received → frames. PyAV decodes from memory; no cv2 and no torch here, because the API process probes too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class MediaLimits:
    """Bounds checked from the header, before anything is decoded."""

    max_bytes: int = 64 * 1024 * 1024
    max_seconds: float = 30.0
    max_side: int = 4096
    max_pixels: int = 16_000_000
    max_frames: int = 1800


@dataclass(frozen=True)
class MediaInfo:
    """What the container says. Width and height are as shown, after the rotation of the metadata is applied."""

    kind: Literal["video", "image"]
    mime: str
    width: int
    height: int
    rotation: int
    size_bytes: int
    duration_s: float
    frame_rate: float


@dataclass(frozen=True)
class Frames:
    """Decoded sample of a media.

    images: uint8 (N, H, W, 3) RGB, upright as shown. timestamps: float64 (N,) seconds from the start.
    source_timestamps: float64 (M,), one per frame of the source; source_differences: float32 (M-1,), mean absolute
    luma difference (0..255) of consecutive source frames on a coarse grid: 0.0 is a repeated frame.
    """

    images: npt.NDArray[np.uint8]
    timestamps: npt.NDArray[np.float64]
    source_timestamps: npt.NDArray[np.float64]
    source_differences: npt.NDArray[np.float32]
    info: MediaInfo
