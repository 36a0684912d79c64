"""Where a worker's networks for faces live, and whether its tasks share their passes: read from the environment.

- `VERIDASK_DEVICE` (auto): of a GPU worker; `auto` is the first GPU that torch sees, else the CPU; or `cpu`, `cuda`,
  `cuda:N`.
- `VERIDASK_BATCH_ITEMS` (64 on a GPU, 0 on the CPU): frames or chips in a pass joined across tasks, 2 to 256; 0: each
  call runs alone.
- `VERIDASK_BATCH_WAIT_MS` (2): longest wait for calls that are on their way, 0 to 100.

Read by `preload` and `selfcheck`, which are where processes begin. A worker with the label CPU reads none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workers.errors import WorkerSettingError

DEVICE, BATCH_ITEMS, BATCH_WAIT_MS = "VERIDASK_DEVICE", "VERIDASK_BATCH_ITEMS", "VERIDASK_BATCH_WAIT_MS"
MOST_ITEMS, MOST_WAIT_MS = 256, 100.0
_ITEMS_ON_CUDA, _WAIT_MS = 64, 2.0


@dataclass(frozen=True)
class TorchSettings:
    """device: `cpu`, `cuda` or `cuda:N`. batch_items: frames or chips in a joined pass; 0: each call runs alone.
    batch_wait_s: seconds that a call waits at most for others on their way.
    """

    device: str = "cpu"
    batch_items: int = 0
    batch_wait_s: float = _WAIT_MS / 1000

    @property
    def on_cuda(self) -> bool:
        """Whether the networks live on a GPU."""
        return self.device.startswith("cuda")


def torch_settings(environment: Mapping[str, str]) -> TorchSettings:
    """The settings that these variables give; one that is empty counts as absent.

    Raises WorkerSettingError for a value out of bounds, or a device that this process does not have.
    """
    device = _device(environment.get(DEVICE) or "auto", _gpus())
    items = _number(environment, BATCH_ITEMS, _ITEMS_ON_CUDA if device != "cpu" else 0, MOST_ITEMS)
    if items == 1 or items != int(items):
        raise WorkerSettingError(f"{BATCH_ITEMS} is {items:g}: set it to 0 (no joining) or to 2 to {MOST_ITEMS}")
    wait_ms = _number(environment, BATCH_WAIT_MS, _WAIT_MS, MOST_WAIT_MS)
    return TorchSettings(device, int(items), wait_ms / 1000)


def _gpus() -> int:
    """How many GPUs torch can use in this process; CUDA_VISIBLE_DEVICES limits them."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _device(wanted: str, gpus: int) -> str:
    if wanted == "auto":
        return "cuda" if gpus else "cpu"
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", wanted)
    if match is None:
        raise WorkerSettingError(f"{DEVICE} is {wanted!r}: set it to auto, cpu, cuda or cuda:N")
    if wanted != "cpu" and not gpus:
        raise WorkerSettingError(
            f"{DEVICE} is {wanted}, but torch sees no GPU here: set it to auto or cpu, or install a torch with CUDA, "
            "and look at CUDA_VISIBLE_DEVICES and the driver (nvidia-smi)"
        )
    if wanted != "cpu" and int(match[1] or 0) >= gpus:
        raise WorkerSettingError(
            f"{DEVICE} is {wanted}, but torch sees {gpus} GPU(s) here, numbered from 0: take one of these, "
            "or look at CUDA_VISIBLE_DEVICES"
        )
    return wanted


def _number(environment: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= most:  # false for NaN
        raise WorkerSettingError(f"{name} is {text!r}: set it to a number from 0 to {most:g}")
    return value
