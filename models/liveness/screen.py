"""Passive liveness: whether the picture looks like one of a screen.

Two traces. Where the sensor's grid and a panel's beat, moiré stands in the spectrum as sharp peaks, which skin, hair
and cloth do not have (they fall off smoothly); it fades when the panel is finer than about half a pixel of the
picture, and is gone after strong blur. And a backlight that flickers against the shutter draws bands across the
picture that move from frame to frame; some room lamps do so too, so bands alone say little. Prints leave neither:
`planar` looks at those.

Published single-frame detectors do not carry over to other cameras and screens. Take these as one voice of several.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.faces import FaceTrack
from models.liveness.pose import main_faces

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

WINDOW = 192
"""Side of the square around the face whose spectrum is taken, pixels of the frame."""
_LOWEST = 0.06
"""Cycles per pixel: below it lie the face's own shapes."""
_SAMPLES = 10
MIN_FRAMES = 3


@dataclass(frozen=True)
class PassiveLiveness:
    """Traces of a screen; medians over up to ten frames, all in natural units without a threshold.

    moire: how far the sharpest peak of the luma spectrum stands over its surroundings, natural log of power; about 2
    for skin and hair, 3 to 6 for moiré. colour_moire: the same for the differences of the colours; about 3 without.
    banding: root mean square in percent of brightness that comes and goes by rows, alike on both sides of the face.
    frames: used. judged: False with fewer than MIN_FRAMES faces, or frames smaller than WINDOW.
    """

    moire: float
    colour_moire: float
    banding: float
    frames: int
    judged: bool


def screen_texture(images: U8, track: FaceTrack) -> PassiveLiveness:
    """Look for traces of a screen. images: uint8 RGB (N, H, W, 3), the frames of the track. About 15 ms a frame
    used.
    """
    faces = main_faces(track)
    if len(faces) < MIN_FRAMES or min(images.shape[1:3]) < WINDOW:
        return PassiveLiveness(0.0, 0.0, 0.0, len(faces), judged=False)
    chosen = [faces[i] for i in np.unique(np.linspace(0, len(faces) - 1, _SAMPLES).round().astype(int))]
    peaks = np.array([_peaks(_around(images[face.frame], face.box)) for face in chosen])
    luma, colour = np.median(peaks, axis=0)
    boxes = np.stack([face.box for face in faces])
    return PassiveLiveness(
        moire=float(luma),
        colour_moire=float(colour),
        banding=_banding(images[[face.frame for face in chosen]], boxes),
        frames=len(chosen),
        judged=True,
    )


def _around(image: U8, box: npt.NDArray[np.float32]) -> F32:
    """The window around the face, moved inside the picture: float32 (WINDOW, WINDOW, 3)."""
    h, w = image.shape[:2]
    x = int(np.clip((box[0] + box[2] - WINDOW) / 2, 0, w - WINDOW))
    y = int(np.clip((box[1] + box[3] - WINDOW) / 2, 0, h - WINDOW))
    return image[y : y + WINDOW, x : x + WINDOW].astype(np.float32)


def _peaks(window: F32) -> tuple[float, float]:
    """The sharpest peak of luma, and of the two colour differences: natural log of power over the surroundings."""
    red, green, blue = window[..., 0], window[..., 1], window[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return _peak(luma), max(_peak(red - blue), _peak(green - (red + blue) / 2))


def _peak(channel: npt.NDArray[np.floating]) -> float:
    taper = np.hanning(WINDOW)
    detail = (channel - cv2.GaussianBlur(channel, (0, 0), 4)) * np.outer(taper, taper)
    power = np.fft.fftshift(np.log(np.abs(np.fft.rfft2(detail)) ** 2 + 1), axes=0).astype(np.float32)
    above = cv2.GaussianBlur(power, (0, 0), 1) - cv2.blur(power, (21, 21))
    fy, fx = np.fft.fftshift(np.fft.fftfreq(WINDOW)), np.fft.rfftfreq(WINDOW)
    return float(above[np.hypot(fy[:, None], fx[None, :]) > _LOWEST].max())


def _banding(images: U8, boxes: npt.NDArray[np.float32]) -> float:
    """Percent; 0 when there is no room beside the face. A band runs through the whole row, so only what the picture's
    two sides have in common counts: somebody who moves on one side does not.
    """
    left, right = float(boxes[:, 0].min()), float(boxes[:, 2].max())
    margin, w = 0.25 * (right - left), images.shape[2]
    sides = (images[:, :, : max(int(left - margin), 0)], images[:, :, min(int(right + margin), w) :])
    if min(side.shape[2] for side in sides) < w // 16:
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
