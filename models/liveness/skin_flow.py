"""Follows points of a face's skin from its neutral chip to every other chip, and fits the motion that explains them.

Pyramidal Lucas and Kanade (Bouguet 2001): first from the previous chip, which looks similar, then from the neutral one,
so that drift does not add up. A quick turn may move the points too far between two chips. The points found then agree
with one another on a motion that never happened, and pass it on to the next chip. So each chip is warped back by the
motion found and compared with the neutral one. Where they differ, the points are also searched for without using the
previous chip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from models.face.embedder import CHIP_SIZE
from models.face.faces import Face
from models.liveness.relief import Relief, Warp, fit_relief

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

MIN_POINTS = 20
_POINTS = 90
_WINDOW, _LEVELS = (17, 17), 1
"""A chip of half the size at most: on smaller ones a window holds half a face, and jaws went astray together."""
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03)
_SURE = 0.95
"""Correlation with the neutral chip from which on a motion is not questioned: four chips in ten reach it."""


@dataclass(frozen=True)
class _Followed:
    """How a chip moved, where that says that all the points are, (P, 2), and its `correlation` under that motion."""

    relief: Relief
    at: F64
    correlation: float


def relief_motion(faces: Sequence[Face], neutral: int) -> list[Relief | None]:
    """Follow the skin from faces[neutral] to each other face. None where fewer than MIN_POINTS could be followed.

    About 2 ms a face. The chips must be of one track in time, at some ten a second: points are handed from chip to
    chip.
    """
    grey = [np.asarray(cv2.cvtColor(face.chip, cv2.COLOR_RGB2GRAY), np.uint8) for face in faces]
    found = cv2.goodFeaturesToTrack(grey[neutral], _POINTS, 0.005, 6, mask=_SKIN)
    reliefs: list[Relief | None] = [None] * len(faces)
    if found is None or len(found) < MIN_POINTS:
        return reliefs
    start = found[:, 0].astype(np.float64)
    for order in (range(neutral, len(faces)), range(neutral - 1, -1, -1)):
        for i, relief in _along(grey, neutral, start, order):
            reliefs[i] = relief
    return reliefs


def _skin() -> U8:
    """Mask of the chip's face: an ellipse from the forehead to the chin."""
    mask = np.zeros((CHIP_SIZE, CHIP_SIZE), np.uint8)
    cv2.ellipse(mask, (74, 78), (50, 64), 0, 0, 360, 255, -1)
    return mask


_SKIN = _skin()
_SEEN = 2 * np.argwhere(_SKIN[::2, ::2])[:, ::-1].astype(np.float64)
"""Every second pixel of the skin, (x, y): enough to compare chips by."""


def _along(grey: Sequence[U8], neutral: int, start: F64, order: Iterable[int]) -> Iterator[tuple[int, Relief]]:
    """The relief of each chip in order in which the points were found."""
    before, at = neutral, start
    for i in order:
        handed_on = _followed(grey, neutral, i, start, *_flow(grey[before], grey[i], at, at))
        found = [handed_on] if handed_on is not None else []
        if handed_on is None or handed_on.correlation < _SURE:
            anew = _followed(grey, neutral, i, start, start, np.zeros(len(start), bool))
            found += [anew] if anew is not None else []
        if found:
            best = max(found, key=lambda one: (one.relief.told, one.correlation))
            before, at = i, best.at
            yield i, best.relief


def _followed(
    grey: Sequence[U8], neutral: int, i: int, start: F64, near: F64, near_ok: npt.NDArray[np.bool_]
) -> _Followed | None:
    """Seek the neutral chip's points in chip i, from where the chip before says they are (`near`, where `near_ok`)."""
    far, far_ok = _flow(grey[neutral], grey[i], start, near)
    if near_ok.any():
        far_ok &= np.linalg.norm(far - near, axis=1) < 4
    now, ok = np.where(far_ok[:, None], far, near), far_ok | near_ok
    if ok.sum() < MIN_POINTS:
        return None
    relief, warp = fit_relief(start[ok], now[ok])
    everywhere = warp.places(start)
    fits = ok & (np.linalg.norm(now - everywhere, axis=1) < 4)
    return _Followed(relief, np.where(fits[:, None], now, everywhere), correlation(grey[neutral], grey[i], warp))


def correlation(neutral: U8, other: U8, warp: Warp) -> float:
    """Zero-mean normalised cross-correlation, -1..1, of the neutral chip's skin with the other chip laid back onto it.

    neutral, other: uint8 (150, 150) grey chips; warp: where points of the first are in the other. 1 where it explains
    all that changed but brightness.
    """
    at = warp.places(_SEEN).astype(np.float32)
    seen = np.asarray(cv2.remap(other, at[:, :1], at[:, 1:], cv2.INTER_LINEAR), np.float64)[:, 0]
    was = neutral[_SEEN[:, 1].astype(int), _SEEN[:, 0].astype(int)].astype(np.float64)
    was, seen = was - was.mean(), seen - seen.mean()
    return float(was @ seen / max(float(np.linalg.norm(was) * np.linalg.norm(seen)), 1e-9))


def _flow(one: U8, other: U8, points: F64, guess: F64) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Points of `one` in `other` (P, 2): where they are found, and which of them lead back to within a pixel; those
    that do not are left where they were guessed.
    """
    seek = partial(
        cv2.calcOpticalFlowPyrLK,
        winSize=_WINDOW,
        maxLevel=_LEVELS,
        criteria=_STOP,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    p, g = points[:, None].astype(np.float32), guess[:, None].astype(np.float32)
    there, ok, _ = seek(one, other, p, g)
    back, ok_back, _ = seek(other, one, there, p.copy())
    good = (ok[:, 0] > 0) & (ok_back[:, 0] > 0) & (np.linalg.norm(back[:, 0] - p[:, 0], axis=1) < 1)
    return np.where(good[:, None], there[:, 0].astype(np.float64), guess), good
