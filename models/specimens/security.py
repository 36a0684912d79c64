"""The features that make a card hard to copy: the guilloche background, and the optically variable elements.

The optically variable elements are diffraction gratings. By the grating equation d (sin a + sin b) = n λ, the visible
hue depends on the components, along the grating, of the directions to the eye and to the light. So hue and brightness
change when the card or the camera tilts, and stay the same in a copy (the idea that MIDV-Holo records: L. I. Koliaskina
et al., "MIDV-Holo: a dataset for ID document hologram detection in a video stream", ICDAR 2023).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from models.page.quad import ID1_SIZE
from models.specimens.designs import DESIGNS, Colour, Design, DesignName, Patch

PIXELS_PER_MM = ID1_SIZE[0] / 85.60
"""Of a card picture of ID1_SIZE: 11.82, which is 300 dpi."""

_HUE_CYCLES = 3.2  # cycles of hue for each unit of sin(view) + sin(light): about one colour wheel in 18° of tilt
_GLOW_CYCLES = 1.6  # cycles of brightness across the grating, so that an element also fades and flares

Plane = npt.NDArray[np.float32]


def rgb(colour: Colour) -> Plane:
    """A colour to mix pictures with: float32 (3,)."""
    return np.asarray(colour, np.float32)


def guilloche(design: Design, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The printed background: float32 (H, W, 3), 0..255, for `size` = (width, height) in pixels."""
    width, height = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x *= 85.6 / width  # mm
    y *= 85.6 / width
    rng = np.random.default_rng([design.pattern, 2])
    fade = np.clip((x + 0.6 * y) / 110.0, 0.0, 1.0)[..., None]
    picture = rgb(design.paper) * (1 - fade) + rgb(design.paper_far) * fade
    for index, colour in enumerate(design.lines):
        k = rng.uniform(0.08, 0.22, size=3).astype(np.float32)
        p = rng.uniform(0, 2 * np.pi, size=3).astype(np.float32)
        wave = 3.2 * np.sin(k[0] * x + p[0]) + 1.8 * np.sin(2.1 * k[1] * x + 0.11 * y + p[1])
        if index == 2:  # a rosette instead of a band
            cx, cy = rng.uniform(38, 56), rng.uniform(24, 34)
            radius, angle = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
            phase = radius * 1.3 + 1.3 * np.sin(12 * angle + p[2]) + 0.8 * np.sin(7 * angle)
        else:
            phase = (y + wave) * (1.55 + 0.3 * index) + 0.4 * np.sin(k[2] * 3 * y)
        line = np.clip((np.abs(np.sin(np.pi * phase)) - 0.84) / 0.16, 0.0, 1.0).astype(np.float32)
        strength = (0.45 if index == 2 else 0.55) * line[..., None]
        picture = picture * (1 - strength) + rgb(colour) * strength
    return picture.astype(np.float32)


@dataclass(frozen=True)
class VariableElements:
    """The optically variable elements of a design: one entry per pixel of an ID1_SIZE picture that they touch.

    index: int64 (n,) into the picture's pixels in row order; x, y: float32 (n,), pixels from the card's centre;
    strength: float32 (n,) 0..1, how much of the picture they cover; phase: float32 (n,), hue offset in cycles;
    along_x, along_y: float32 (n,), the grating's direction; region: x0, y0, x1, y1 that holds them all.
    """

    index: npt.NDArray[np.int64]
    x: Plane
    y: Plane
    strength: Plane
    phase: Plane
    along_x: Plane
    along_y: Plane
    region: tuple[int, int, int, int]


def _shape(patch: Patch, x: Plane, y: Plane) -> Plane:
    """Where a patch has ink: float32 0..1; x and y are mm inside its box."""
    left, top, right, bottom = patch.box
    w, h = right - left, bottom - top
    u, v = x - left, y - top
    inside = np.asarray((u > 0) & (u < w) & (v > 0) & (v < h), np.float32)
    if patch.kind == "rosette":
        radius = np.hypot(u - w / 2, v - h / 2) / (w / 2)
        angle = np.arctan2(v - h / 2, u - w / 2)
        rim = 0.82 + 0.14 * np.cos(8 * angle)
        rings = 0.62 + 0.38 * np.sin(2 * np.pi * (3.2 * radius + 0.35 * np.sin(8 * angle)))
        return np.asarray(inside * np.clip((rim - radius) * 12, 0, 1) * np.clip(rings * 1.6, 0, 1), np.float32)
    if patch.kind == "waves":
        body = np.clip((h * 0.46 - np.abs(v - h / 2 + 1.1 * np.sin(2 * np.pi * u / w * 1.5))) * 2, 0, 1)
        stripes = 0.6 + 0.4 * np.sin(2 * np.pi * (v * 0.7 + 0.8 * np.sin(2 * np.pi * u / w)))
        return np.asarray(inside * body * np.clip(stripes * 1.5, 0, 1), np.float32)
    if patch.kind == "stars":
        radius = np.hypot(u - w / 2, v - h / 2) / (w / 2)
        angle = np.arctan2(v - h / 2, u - w / 2)
        star = np.clip((0.62 + 0.3 * np.cos(5 * angle) - radius) * 9, 0, 1)
        inner = np.clip((radius - 0.22 - 0.1 * np.cos(5 * angle + np.pi)) * 9, 0, 1)
        return np.asarray(inside * star * np.clip(inner + 0.25, 0, 1), np.float32)
    canvas = np.zeros(x.shape, np.uint8)
    step_x, step_y = 9.2, 4.9
    scale = PIXELS_PER_MM
    for row in range(int(h / step_y) + 1):
        for column in range(int(w / step_x) + 1):
            at = (
                round((left - x[0, 0] + column * step_x + (row % 2) * 2.2) * scale),
                round((top - y[0, 0] + row * step_y + 3.9) * scale),
            )
            cv2.putText(canvas, "UTO", at, cv2.FONT_HERSHEY_DUPLEX, 1.45, 255, 4, cv2.LINE_AA)
    return np.asarray(inside * canvas / 255.0, np.float32)


@cache
def variable_elements(name: DesignName) -> VariableElements:
    """Rasterise a design's optically variable elements, once per process."""
    width, height = ID1_SIZE
    px, py = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = (px / PIXELS_PER_MM).astype(np.float32), (py / PIXELS_PER_MM).astype(np.float32)
    strength, phase, turn = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for patch in DESIGNS[name].patches:
        shape = cv2.GaussianBlur(_shape(patch, x, y), (0, 0), 1.0)
        mine = shape > strength
        left, top, right, bottom = patch.box
        u, v = (x - left) / (right - left), (y - top) / (bottom - top)
        strength = np.where(mine, shape, strength)
        phase = np.where(mine, patch.phase + 0.45 * u + 0.3 * v, phase)
        turn = np.where(mine, patch.grating + 0.5 * u, turn)  # the grating turns slowly over the element
    rows, columns = np.nonzero(strength > 0.02)
    at = (rows, columns)
    return VariableElements(
        index=np.asarray(rows * width + columns, np.int64),
        x=px[at] - width / 2,
        y=py[at] - height / 2,
        strength=strength[at],
        phase=phase[at],
        along_x=np.cos(turn[at]),
        along_y=np.sin(turn[at]),
        region=(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1),
    )


_WHEEL = np.array([colorsys.hsv_to_rgb(i / 256, 0.92, 1.0) for i in range(256)], np.float32) * 255.0


def shine(picture: npt.NDArray[np.uint8], name: DesignName, direction: npt.NDArray[np.float64], gain: float) -> None:
    """Add, in place, what the optically variable elements of a card show.

    picture: uint8 (638, 1012, 3) RGB of the front, contiguous. direction: float (3, 2): at the card's centre, and its
    change per pixel along x and along y, of the sum of the sines of the directions to eye and light on the card's own
    x and y. gain: brightness of the light, about 1.
    """
    elements = variable_elements(name)
    centre, by_x, by_y = direction.astype(np.float32)
    sx = centre[0] + by_x[0] * elements.x + by_y[0] * elements.y
    sy = centre[1] + by_x[1] * elements.x + by_y[1] * elements.y
    cycles = elements.phase + _HUE_CYCLES * (elements.along_x * sx + elements.along_y * sy)
    glow = np.cos(np.pi * _GLOW_CYCLES * (elements.along_x * sy - elements.along_y * sx)) ** 2
    alpha = (elements.strength * (0.16 + 0.5 * gain * glow))[:, None]
    pixels = picture.reshape(-1, 3)
    part = pixels[elements.index].astype(np.float32)
    part += alpha * (_WHEEL[(cycles * 256).astype(np.int32) & 255] - 0.72 * part)
    pixels[elements.index] = np.clip(part, 0, 255).astype(np.uint8)
