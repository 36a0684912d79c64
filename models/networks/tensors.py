"""Converts arrays of pixels to torch tensors on the device of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt


def on_device(pixels: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """The same pixels, uint8 of the same shape, on that device; on the CPU without a copy where torch allows it."""
    # What comes from another process is read-only, which torch does not take: copied then.
    tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    if device.type != "cuda":
        return tensor.to(device)
    # A GPU fetches by itself only from pinned memory. torch keeps the pinned block until the copy is over.
    return tensor.pin_memory().to(device, non_blocking=True)
