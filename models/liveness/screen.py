"""Passive liveness: whether the picture looks like a picture of a screen. It measures two traces.

Moiré: where the sensor's grid and a panel's grid interfere, the spectrum has sharp peaks. Skin, hair and cloth have
none (their spectra fall off smoothly). A panel covers the picture, so moiré is searched for everywhere, in small
squares at the camera's own scale: perspective moves the peak from place to place, and resizing removes it. It fades
when the panel is finer than about half a pixel of the picture, and is gone after strong blur.

Bands: a backlight that flickers against the shutter draws bands across the picture. They move evenly from frame to
frame, however fine the panel. Some room lamps cause bands too, so bands alone prove nothing.

Where each trace is too faint to decide, all of them together may be enough. Prints leave neither: `planar` detects
them.

Published single-frame detectors do not carry over to other cameras and screens. Treat these measures as one signal
among several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from models.face.faces import FaceTrack
from models.liveness.pose import main_faces
from models.media.decoding import Frames

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

SQUARE = 128
"""Side of the squares whose spectra are taken, pixels of the camera: in 192, perspective smears a peak over several
frequencies; in 96 there are too few to stand out from."""
_LOWEST = 0.06
"""Cycles per pixel: below it lie the face's own shapes."""
_AXES = 1.5 / SQUARE
"""Cycles per pixel about both axes that are left out: door frames, shelves and the codec's blocks lie there."""
_FLOOR = 30.0
"""Power added to all frequencies: less than any sensor's noise, so that black corners do not count by roundings."""
_HAIR = 0.25
"""Room on either side of a face, in widths of it, that is left out of the bands."""
_LEAST_ROOM = 24
"""A side counts when it is at least this part of the picture's width."""
_WIDEST, _NARROWEST = 1.0, 6.0
"""Bands looked for, in periods to the height of the picture; a lamp that moves draws wider ones."""
_REDUCED = 2
"""Columns and rows that are taken together before bands are looked for."""
_EDGE = 3.0
"""Times the median row's change over frames: rows beyond it show an edge that moves."""
MIN_FRAMES = 3
_MOST_CHANGE = 1.5
"""Of two amplitudes, by which a wave can change at most between frames."""
_LEAST_FOR_BANDS = 8
"""Frames with room on both sides, under which a wave is not told from a movement."""


class Bands(NamedTuple):
    """amplitude: in percent of brightness, of the strongest even wave; quick: of the strongest where each counts by how
    much it changes from one frame to the next, up to `_MOST_CHANGE` times: people and cameras move slowly.
    """

    amplitude: float
    quick: float


NO_BANDS = Bands(0.0, 0.0)
_WEIGHTS, _ADDED = np.array([3.4, 7.1, 3.0]), -14.2
"""Of `evidence`: logistic regression on 180 replays and 460 scans of living people, synthetic
(`benchmarks.checks.screen_traces`).
"""
_MOST_OF_ONE = (0.3, 3.2, 3.5)
"""Beyond it a trace speaks for itself and counts no more."""
_LEAST_BANDS = 0.01
"""Percent added to all bands: where there are none, their logarithm stays finite."""


@dataclass(frozen=True)
class PassiveLiveness:
    """Traces of a screen, in natural units without a threshold.

    moire: how far the sharpest peak of a square's luma spectrum stands over its surroundings, natural log of power,
    median over all squares; 2.0 to 2.4 for people in rooms, 3 to 6 for clear moiré. colour_moire: the same for green
    against magenta. banding: amplitude, in percent of brightness, of the strongest even wave that runs through the
    rows, alike on both sides of the face; without a screen mostly under 0.03, in one of 460 over 0.06. quick_bands: see
    `Bands`. traces: what all of them say together, natural log of the odds of a screen to none where both are as
    frequent. frames: with a face. judged: False with fewer than MIN_FRAMES faces, or frames smaller than SQUARE.
    """

    moire: float
    colour_moire: float
    banding: float
    quick_bands: float
    traces: float
    frames: int
    judged: bool


def screen_texture(frames: Frames, track: FaceTrack) -> PassiveLiveness:
    """Look for traces of a screen. track: of these frames, which were sampled with details; about 15 ms a detail."""
    faces = main_faces(track)
    squares = [peaks for detail in frames.details for peaks in _peaks(detail)]
    if len(faces) < MIN_FRAMES or not squares:
        return PassiveLiveness(0.0, 0.0, 0.0, 0.0, 0.0, len(faces), judged=False)
    luma, colour = np.median(squares, axis=0)
    bands = _banding(frames.images, track)
    return PassiveLiveness(
        moire=float(luma),
        colour_moire=float(colour),
        banding=bands.amplitude,
        quick_bands=bands.quick,
        traces=float(evidence(luma, colour, bands.quick) @ _WEIGHTS) + _ADDED,
        frames=len(faces),
        judged=True,
    )


def evidence(moire: float, colour_moire: float, quick_bands: float) -> npt.NDArray[np.float64]:
    """What `traces` are weighed from: float64 (3,), the logarithm of quick bands, and both moirés, each up to where it
    speaks for itself.
    """
    bands, luma, colour = (
        min(one, most) for one, most in zip((quick_bands, moire, colour_moire), _MOST_OF_ONE, strict=True)
    )
    return np.array([np.log(bands + _LEAST_BANDS), luma, colour])


def _peaks(detail: U8) -> Iterator[tuple[float, float]]:
    """The sharpest peak of luma and of green against magenta in each square, which overlap by about a third."""
    h, w = detail.shape[:2]
    if min(h, w) < SQUARE:
        return
    red, green, blue = (detail[..., channel].astype(np.float32) for channel in range(3))
    planes = (0.299 * red + 0.587 * green + 0.114 * blue, green - (red + blue) / 2)  # ITU-R BT.601
    fine = [np.asarray(plane - cv2.GaussianBlur(plane, (0, 0), 4), np.float32) for plane in planes]
    tops, lefts = (np.linspace(0, side - SQUARE, max(2, round(1.5 * side / SQUARE))).astype(int) for side in (h, w))
    for top in tops:
        for left in lefts:
            luma, colour = (_peak(plane[top : top + SQUARE, left : left + SQUARE]) for plane in fine)
            yield luma, colour


def _peak(square: F32) -> float:
    taper, looked_at = _taper_and_band()
    power = np.log(np.abs(np.fft.rfft2(square * taper)) ** 2 + _FLOOR)
    level = np.fft.fftshift(power, axes=0).astype(np.float32)
    above = cv2.GaussianBlur(level, (0, 0), 0.8) - cv2.blur(level, (17, 17))
    return float(above[looked_at].max())


@cache
def _taper_and_band() -> tuple[F32, npt.NDArray[np.bool_]]:
    """Hann window of a square, and which bins of its half spectrum are looked at, rows shifted to run from -1/2 on."""
    hann = np.hanning(SQUARE)
    down, across = np.fft.fftshift(np.fft.fftfreq(SQUARE))[:, None], np.fft.rfftfreq(SQUARE)[None, :]
    radius = np.hypot(down, across)
    looked_at = (radius > _LOWEST) & (radius < 0.5) & (np.abs(down) > _AXES) & (across > _AXES)
    return np.outer(hann, hann).astype(np.float32), looked_at


def _banding(pictures: U8, track: FaceTrack) -> Bands:
    """Zeros without room beside the face. Where two people are seen, both sides move: such frames are left out.

    A band runs through the whole row, so only what both sides have in common counts, by their cross spectrum over rows
    and time (Bendat and Piersol 2010, chapter 9). About 20 ms.
    """
    alone = [faces[0] for faces in track.per_frame() if len(faces) == 1]
    if len(alone) < _LEAST_FOR_BANDS:
        return NO_BANDS
    height, width = pictures.shape[1] // _REDUCED, pictures.shape[2] // _REDUCED
    boxes = np.stack([face.box for face in alone])
    # Shoulders reach to both sides and move together: only above all chins.
    above = min(int(boxes[:, 3].min()) // _REDUCED, height)
    hair = _HAIR * (boxes[:, 2] - boxes[:, 0])
    left = np.clip((boxes[:, 0] - hair) / _REDUCED, 0, width).astype(int)
    right = np.clip((boxes[:, 2] + hair) / _REDUCED + 1, 0, width).astype(int)
    kept = np.flatnonzero(np.minimum(left, width - right) >= max(1, width // _LEAST_ROOM))
    if above < height // 4 or len(kept) < _LEAST_FOR_BANDS:
        return NO_BANDS
    shown = [pictures[alone[i].frame, : _REDUCED * above] for i in kept]
    small = np.stack([cv2.resize(one, (width, above), interpolation=cv2.INTER_AREA) for one in shown])
    light = np.log(small.mean(axis=3, dtype=np.float32) + 8)
    columns = np.arange(width)
    free = ((columns < left[kept, None]) | (columns >= right[kept, None])).astype(np.float32)
    still = np.einsum("nhw,nw->hw", light, free) / np.maximum(free.sum(axis=0), 1)
    # Median over columns: what moves before the wall covers few of them.
    sides = [
        np.stack([np.median(rows[:, part], axis=1) for rows, part in zip(light - still, parts, strict=True)])
        for parts in ([slice(0, end) for end in left[kept]], [slice(start, None) for start in right[kept]])
    ]
    return _common_wave(sides[0], sides[1], track.timestamps[[alone[i].frame for i in kept]], above / height)


def _without_edges(side: F32) -> F32:
    """Changes of brightness over frames (N, H), without those that all rows have in common, as the exposure's, and
    without rows that change much more than most: an edge of something moves there, and a band spares no row.
    """
    changes = side - side.mean(axis=0)
    changes = changes - np.median(changes, axis=1, keepdims=True)
    spread = np.sqrt((changes**2).mean(axis=0))
    even = spread <= _EDGE * np.median(spread)
    return np.asarray((changes - changes[:, even].mean(axis=1, keepdims=True)) * even, np.float32)


def _common_wave(one: F32, other: F32, times: npt.NDArray[np.float64], part: float) -> Bands:
    """Of the strongest wave that both sides show as bands do: in step, equally strong, and running one way. Where
    camera or person move, the sides are seldom in step, and waves run both ways alike.

    one, other: float32 (N, H), log of brightness by frame and row; times: float64 (N,) seconds; part: of the picture's
    height that the rows cover.
    """
    frames, rows = one.shape
    per_rows = np.arange(_WIDEST, _NARROWEST + 0.01, 0.25) * part
    # From -1/2 up without 1/2: the wave at -i runs the other way than that at i.
    per_second = np.linspace(-0.5, 0.5, 4 * frames, endpoint=False) / float(np.median(np.diff(times)))
    over_rows, over_time = np.hanning(rows + 2)[1:-1], np.hanning(frames + 2)[1:-1]
    in_rows = np.exp(-2j * np.pi * np.outer(np.arange(rows) / rows, per_rows)) * over_rows[:, None]
    in_time = np.exp(-2j * np.pi * np.outer(per_second, times)) * over_time
    first, second = (in_time @ _without_edges(side) @ in_rows for side in (one, other))
    cross = first * np.conj(second)
    powers = np.abs(np.stack([first, second])) ** 2
    weaker, stronger = powers.min(axis=0), powers.max(axis=0)
    alike = (cross.real - np.abs(cross.imag)) * np.sqrt(weaker / np.maximum(stronger, 1e-12))
    backwards = stronger[-np.arange(len(stronger)) % len(stronger)]
    power = np.maximum(alike - backwards, 0) / (over_rows.sum() * over_time.sum() / 2) ** 2
    step = float(np.median(np.diff(times)))
    change = np.minimum(np.abs(2 * np.sin(np.pi * per_second * step)), _MOST_CHANGE)[:, None]
    return Bands(100 * float(np.sqrt(power.max())), 100 * float(np.sqrt((power * change**2).max())))
