"""Converts arrays of pixels to torch tensors on the device of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt


def on_device(pixels: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Moves pixels (uint8) to a device, same shape; on the CPU without a copy where torch allows it."""
    # Arrays from another process are read-only, which torch does not accept: copy them.
    tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
    if device.type != "cuda":
        return tensor.to(device)
    # Only pinned memory can be copied asynchronously to a GPU. torch keeps the pinned block until the copy is done.
    return tensor.pin_memory().to(device, non_blocking=True)
