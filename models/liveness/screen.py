"""Passive liveness: whether the picture looks like one of a screen.

Two traces. Where the sensor's grid and a panel's beat, moiré stands in the spectrum as sharp peaks, which skin, hair
and cloth do not have (they fall off smoothly). A panel covers the picture, so its moiré is looked for all over, in
small squares at the camera's own scale: perspective moves the peak from place to place, and resizing takes it away.
It fades when the panel is finer than about half a pixel of the picture, and is gone after strong blur. And a backlight
that flickers against the shutter draws bands across the picture that move from frame to frame; some room lamps do so
too, so bands alone say little. Prints leave neither: `planar` looks at those.

Published single-frame detectors do not carry over to other cameras and screens. Take these as one voice of several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from models.faces import Face, FaceTrack
from models.liveness.pose import main_faces
from models.media import Frames

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
_SAMPLES = 10
_NEARER = 1.2
"""Faces larger than this many times the smallest are left out of the bands: a face that moves closer leaves no room."""
MIN_FRAMES = 3


@dataclass(frozen=True)
class PassiveLiveness:
    """Traces of a screen, in natural units without a threshold.

    moire: how far the sharpest peak of a square's luma spectrum stands over its surroundings, natural log of power,
    median over all squares; 2.0 to 2.4 for people in rooms, 3 to 6 for clear moiré. colour_moire: the same for green
    against magenta. banding: root mean square in percent of brightness that comes and goes by rows, alike on both sides
    of the face. frames: with a face. judged: False with fewer than MIN_FRAMES faces, or frames smaller than SQUARE.
    """

    moire: float
    colour_moire: float
    banding: float
    frames: int
    judged: bool


def screen_texture(frames: Frames, track: FaceTrack) -> PassiveLiveness:
    """Look for traces of a screen. track: of these frames, which were sampled with details; about 15 ms a detail."""
    faces = main_faces(track)
    squares = [peaks for detail in frames.details for peaks in _peaks(detail)]
    if len(faces) < MIN_FRAMES or not squares:
        return PassiveLiveness(0.0, 0.0, 0.0, len(faces), judged=False)
    luma, colour = np.median(squares, axis=0)
    return PassiveLiveness(
        moire=float(luma),
        colour_moire=float(colour),
        banding=_banding(frames.images, [seen[0] for seen in track.per_frame() if len(seen) == 1]),
        frames=len(faces),
        judged=True,
    )


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


def _banding(pictures: U8, faces: list[Face]) -> float:
    """Percent; 0 without room beside the face. faces: of frames in which each is the only one, because two people
    move on both sides. A band runs through the whole row, so only what the picture's two sides have in common counts.
    """
    if len(faces) < MIN_FRAMES:
        return 0.0
    widths = np.array([face.box[2] - face.box[0] for face in faces])
    far = [face for face, width in zip(faces, widths, strict=True) if width <= _NEARER * widths.min()]
    chosen = [far[i] for i in np.unique(np.linspace(0, len(far) - 1, _SAMPLES).round().astype(int))]
    images, boxes = pictures[[face.frame for face in chosen]], np.stack([face.box for face in chosen])
    left, right = float(boxes[:, 0].min()), float(boxes[:, 2].max())
    margin, w = 0.1 * (right - left), images.shape[2]  # hair may cover some of a side: the median over it holds
    above = images[:, : max(int(boxes[:, 3].min()), 0)]  # shoulders reach to both sides and move together
    sides = (above[:, :, : max(int(left - margin), 0)], above[:, :, min(int(right + margin), w) :])
    if min(side.shape[2] for side in sides) < w // 24 or above.shape[1] < images.shape[1] // 4:
        return 0.0
    one, other = (_row_flicker(side) for side in sides)
    return float(100 * np.sqrt(max(0.0, float(np.median((one * other).mean(1))))))


def _row_flicker(images: U8) -> npt.NDArray[np.floating]:
    """Log brightness of each row against its own median over time, (N, H), without what all rows have in common (the
    exposure) or what runs evenly down the picture (a lamp that moves).
    """
    luma = np.log(images.mean(3, dtype=np.float32) + 8)
    # Median over columns: what moves before the wall covers few of them.
    rows = np.median(luma - np.median(luma, axis=0), axis=2)
    y = np.linspace(-1, 1, rows.shape[1])
    trend = np.polynomial.polynomial.polyvander(y, 1)
    return np.asarray(rows - (trend @ np.linalg.lstsq(trend, rows.T, rcond=None)[0]).T)
