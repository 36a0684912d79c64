"""The pictures of a report: converts the findings of a case to JPEGs inside the page. Blocks; call it in a thread."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from graphs.records import Step
from service.pages.report.words import STEPS

if TYPE_CHECKING:
    import zarr

_QUALITY = 82
_SHOWN = 6
"""Most pictures of each kind: with all face crops of a scan the page would be several times as large."""
_KINDS = {
    "pages": ("Document, straightened", "page"),
    "chips": ("Face", "face"),
    "frames": ("Frame of the recording", "frame"),
}
"""Arrays that are stacks of pictures, in the order shown: title and CSS class of each."""


@dataclass(frozen=True)
class Picture:
    """A picture in the page. uri: a `data:` URI; style: its CSS class; width, height: in pixels."""

    title: str
    uri: str
    style: str
    width: int
    height: int


@dataclass(frozen=True)
class Shown:
    """The stored pictures of a step, and the attempt they are from."""

    title: str
    attempt: int | None
    pictures: tuple[Picture, ...]


def shown(findings: zarr.Group) -> list[Shown]:
    """The pictures of each step that has any in the findings."""
    steps = []
    for step in STEPS:
        if step in findings:
            group: Any = findings[step]
            attempt = group.attrs.get("attempt")
            pictures = tuple(_pictures(group, step))
            steps.append(Shown(STEPS[step], int(attempt) if attempt is not None else None, pictures))
    return steps


def _pictures(group: Any, step: Step) -> Iterator[Picture]:
    for name, (what, style) in _KINDS.items():
        if name not in group:
            continue
        array = group[name]
        if array.ndim != 4 or array.dtype != np.uint8 or 0 in array.shape:
            continue
        count = array.shape[0]
        spread = np.linspace(0, count - 1, min(_SHOWN, count)).round().astype(int)
        for number, index in enumerate(np.unique(spread), 1):
            image = np.asarray(array[int(index)])
            height, width = image.shape[:2]
            yield Picture(f"{STEPS[step]}: {what.lower()} {number}", _jpeg(image), style, width, height)


def _jpeg(image: npt.NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
