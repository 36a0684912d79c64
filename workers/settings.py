"""Settings of a GPU worker, read from the environment: its device, joined passes, and the network that compares faces.

- `VERIDASK_DEVICE` (auto): `auto`, `cpu`, `cuda` or `cuda:N`. `auto` is the first GPU that torch sees, otherwise the
  CPU.
- `VERIDASK_BATCH_ITEMS` (64 on a GPU, 0 on the CPU): maximum frames or chips in a pass joined across tasks, 2 to 256;
  0 runs each call alone.
- `VERIDASK_BATCH_WAIT_MS` (2): maximum wait for calls that are being prepared, 0 to 100.
- `VERIDASK_EMBEDDER` and its companions: the variables of `EMBEDDER_SETTINGS`.

Only `preload` and `selfcheck` read them, because processes start there. A worker with the label CPU reads none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from workers.errors import WorkerSettingError

if TYPE_CHECKING:
    from models.face.onnx_embedder import EmbedderWeights

DEVICE, BATCH_ITEMS, BATCH_WAIT_MS = "VERIDASK_DEVICE", "VERIDASK_BATCH_ITEMS", "VERIDASK_BATCH_WAIT_MS"
MOST_ITEMS, MOST_WAIT_MS = 256, 100.0

EMBEDDER = "VERIDASK_EMBEDDER"
EMBEDDER_SETTINGS = {
    EMBEDDER: "ONNX file of a network for faces, a path or a file:// URL. Empty means dlib's, which comes with this.",
    f"{EMBEDDER}_SHA256": "Its digest, 64 hexadecimal digits. Another file refuses to start.",
    f"{EMBEDDER}_NAME": "What results call it, up to 60 letters.",
    f"{EMBEDDER}_LICENCE": "Its licence as you read it, up to 200 letters; logged at start.",
    f"{EMBEDDER}_MAX_DISTANCE": "Its own threshold: Euclidean distance of embeddings of length 1, above 0 and below 2.",
    f"{EMBEDDER}_SIZE": "Side of its chips in pixels, 32 to 512; by default 112.",
    f"{EMBEDDER}_MEAN": "Taken from each pixel of 0 to 255, 0 to 255; by default 127.5.",
    f"{EMBEDDER}_SCALE": "What that is divided by, 1 to 255; by default 127.5.",
    f"{EMBEDDER}_CHANNELS": "RGB, which is the default, or BGR.",
}
"""The variables of another embedder, with their meaning. If the first is set, the next four are required: a threshold
is valid for one network only, and what decides about people must be named.
"""
_LONGEST_NAME, _LONGEST_LICENCE = 60, 200
_ITEMS_ON_CUDA, _WAIT_MS = 64, 2.0


@dataclass(frozen=True)
class TorchSettings:
    """How a worker runs its face networks.

    device: `cpu`, `cuda` or `cuda:N`. batch_items: maximum frames or chips in a joined pass; 0 runs each call alone.
    batch_wait_s: maximum seconds that a call waits for other calls that are being prepared.
    """

    device: str = "cpu"
    batch_items: int = 0
    batch_wait_s: float = _WAIT_MS / 1000

    @property
    def on_cuda(self) -> bool:
        """Whether the networks run on a GPU."""
        return self.device.startswith("cuda")


def torch_settings(environment: Mapping[str, str]) -> TorchSettings:
    """The settings from these variables. An empty variable counts as unset.

    Raises WorkerSettingError for a value out of bounds or a missing device.
    """
    device = _device(environment.get(DEVICE) or "auto", _gpus())
    items = _number(environment, BATCH_ITEMS, _ITEMS_ON_CUDA if device != "cpu" else 0, MOST_ITEMS)
    if items == 1 or items != int(items):
        raise WorkerSettingError(f"{BATCH_ITEMS} is {items:g}: set it to 0 (no joining) or to 2 to {MOST_ITEMS}")
    wait_ms = _number(environment, BATCH_WAIT_MS, _WAIT_MS, MOST_WAIT_MS)
    return TorchSettings(device, int(items), wait_ms / 1000)


def embedder_settings(environment: Mapping[str, str]) -> EmbedderWeights | None:
    """The face network named by these variables; None if all are unset, in which case dlib's is used.

    Does not read the file: `models.face.onnx_embedder` does, and checks its digest. Raises WorkerSettingError if a
    value is missing or out of bounds, or if other variables of an embedder are set without `VERIDASK_EMBEDDER`.
    """
    given = {name: value.strip() for name in EMBEDDER_SETTINGS if (value := environment.get(name, "")).strip()}
    if not given:
        return None
    required = list(EMBEDDER_SETTINGS)[:5]
    if missing := [name for name in required if name not in given]:
        raise WorkerSettingError(
            f"{', '.join(missing)} is not set, but {', '.join(given)} is: another network for faces needs its file, "
            "digest, name, licence and its own threshold; unset all of them to use dlib's"
        )
    # Imported here because it loads torch and onnxruntime, which are not needed without this setting.
    from models.face.onnx_embedder import EmbedderWeights

    digest, channels = given[f"{EMBEDDER}_SHA256"].lower(), given.get(f"{EMBEDDER}_CHANNELS", "RGB")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise WorkerSettingError(f"{EMBEDDER}_SHA256 is not 64 hexadecimal digits: set it to what sha256sum prints")
    if channels not in ("RGB", "BGR"):
        raise WorkerSettingError(f"{EMBEDDER}_CHANNELS is {channels!r}: set it to RGB or BGR")
    size = _number(given, f"{EMBEDDER}_SIZE", 112, 512, least=32)
    if size != int(size):
        raise WorkerSettingError(f"{EMBEDDER}_SIZE is {size:g}: set it to a whole number of pixels")
    most = _number(given, f"{EMBEDDER}_MAX_DISTANCE", 0, 2)
    if not 0 < most < 2:
        raise WorkerSettingError(
            f"{EMBEDDER}_MAX_DISTANCE is {most:g}: set it above 0 and below 2, at 2 all faces match"
        )
    return EmbedderWeights(
        path=_file(given[EMBEDDER]),
        sha256=digest,
        name=_text(given, f"{EMBEDDER}_NAME", _LONGEST_NAME),
        licence=_text(given, f"{EMBEDDER}_LICENCE", _LONGEST_LICENCE),
        max_distance=most,
        size=int(size),
        mean=_number(given, f"{EMBEDDER}_MEAN", 127.5, 255),
        scale=_number(given, f"{EMBEDDER}_SCALE", 127.5, 255, least=1),
        channels="RGB" if channels == "RGB" else "BGR",
    )


def _file(given: str) -> Path:
    """The path of a file or of a file:// URL. Nothing is downloaded: a worker must start without a network."""
    if "://" not in given:
        return Path(given)
    parts = urlsplit(given)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise WorkerSettingError(
            f"{EMBEDDER} is a URL of {parts.scheme}: fetch the file, look at its licence and name its path here"
        )
    return Path(unquote(parts.path))


def _text(given: Mapping[str, str], name: str, longest: int) -> str:
    text = given[name]
    if len(text) > longest or not text.isprintable():
        raise WorkerSettingError(f"{name} is set to more than {longest} letters, or to what cannot be printed")
    return text


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


def _number(environment: Mapping[str, str], name: str, default: float, most: float, *, least: float = 0) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:  # false for NaN
        raise WorkerSettingError(f"{name} is {text!r}: set it to a number from {least:g} to {most:g}")
    return value
