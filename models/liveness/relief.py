"""Motion of the skin between aligned chips, split into what a plane can do and what only a face's relief can.

Five landmarks say little of depth: four of them lie nearly on a line, and a plane may carry the fifth anywhere (their
projective invariants are De Marsico, Nappi, Riccio and Dugelay's, ICB 2012). So some eighty points of the skin are
followed (pyramidal Lucas and Kanade) from one neutral chip to every other, and each chip's motion is fitted with

    x' · (1 + h·x)  =  A·x + b  +  c·z(x)

A, b, h: a homography, all that a flat photo under any motion can show, and nearly all of a bent one. z: the depth of an
average face (nose, lips and chin in front, cheeks and temples behind), the same for everybody. c is the parallax: for a
head it is the chip's scale times (sin yaw, -sin pitch); for paper and screens it stays near zero however they move.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.faces import Face

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

CHIP = 150
EYES_Y, NOSE_Y, MIDDLE_X, CM = 46.0, 88.0, 74.0, 8.2
"""Where dlib's mean face lies in a 150-pixel chip with padding 0.25, and pixels per cm (outer corners 9 cm apart)."""
MIN_POINTS = 20
_POINTS = 90
_UNIT = 50.0
_CENTRE = np.array([74.0, 75.0])
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03)


@dataclass(frozen=True)
class Relief:
    """How one chip differs from the neutral one.

    yaw, pitch: degrees that the parallax shows (signs as in `pose`); error: their standard error. tilt: degrees that
    foreshortening shows, whichever way, of a plane or a head (its noise is about 5° when there is none). residual,
    plane_residual: root mean square in chip pixels of the fit with and without parallax. points: followed.
    """

    yaw: float
    pitch: float
    error: float
    tilt: float
    residual: float
    plane_residual: float
    points: int


def face_depth(points: F64) -> F64:
    """float64 (P,): depth of an average face towards the camera, in chip pixels, at chip points (P, 2).

    In rounded centimetres from the nose bridge, after mean measures of adults (Farkas 1994): tip of the nose +2.2,
    its base +1.2, lips and chin +0.8, outer eye corners and cheeks 4.5 cm to the side -1.7.
    """
    x, y = (points[:, 0] - MIDDLE_X) / CM, (points[:, 1] - EYES_Y) / CM
    base = (NOSE_Y - EYES_Y) / CM
    ridge = np.interp(y / base, [-0.3, 0.0, 0.8, 1.0, 1.3], [0.0, 0.3, 2.2, 1.2, 0.0])
    low = 0.8 * np.exp(-(((y - 1.6 * base) / 3.0) ** 2) - (x / 3.0) ** 2)
    return np.asarray(CM * (ridge * np.exp(-((x / 1.2) ** 2)) + low - 1.7 * (x / 4.5) ** 2))


def relief_motion(faces: Sequence[Face], neutral: int) -> list[Relief | None]:
    """Follow the skin from faces[neutral] to each other face. None where fewer than MIN_POINTS could be followed.

    About 8 ms a face. The chips must be of one track in time, at some ten a second: points are handed from chip to
    chip.
    """
    grey = [np.asarray(cv2.cvtColor(face.chip, cv2.COLOR_RGB2GRAY), np.uint8) for face in faces]
    found = cv2.goodFeaturesToTrack(grey[neutral], _POINTS, 0.005, 6, mask=_skin())
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
    mask = np.zeros((CHIP, CHIP), np.uint8)
    cv2.ellipse(mask, (74, 78), (50, 64), 0, 0, 360, 255, -1)
    return mask


def _along(grey: list[U8], neutral: int, start: F64, order: Iterable[int]) -> Iterable[tuple[int, Relief | None]]:
    """The relief of each chip in order, each starting from where the points were in the chip before."""
    depth = face_depth(start) / _UNIT
    before, at = neutral, start.copy()
    for i in order:
        # From the chip before, which looks alike; then from the neutral one, so that no drift adds up.
        near, near_ok = _flow(grey[before], grey[i], at, at)
        guess = np.where(near_ok[:, None], near, at)
        far, far_ok = _flow(grey[neutral], grey[i], start, guess)
        far_ok &= np.linalg.norm(far - guess, axis=1) < 4
        now, ok = np.where(far_ok[:, None], far, guess), far_ok | near_ok
        before = i
        if ok.sum() < MIN_POINTS:
            at = now
            yield i, None
            continue
        relief, everywhere = _fit(start, now, depth, ok)
        at = np.where(ok[:, None] & (np.linalg.norm(now - everywhere, axis=1, keepdims=True) < 4), now, everywhere)
        yield i, relief


def _flow(one: U8, other: U8, points: F64, guess: F64) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Points of `one` found in `other` (P, 2), and which of them lead back to within a pixel."""
    p, g = points[:, None].astype(np.float32), guess[:, None].astype(np.float32)
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW
    there, ok, _ = cv2.calcOpticalFlowPyrLK(
        one, other, p, g.copy(), winSize=(17, 17), maxLevel=3, criteria=_STOP, flags=flags
    )
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(
        other, one, there, p.copy(), winSize=(17, 17), maxLevel=3, criteria=_STOP, flags=flags
    )
    good = (ok[:, 0] > 0) & (ok_back[:, 0] > 0) & (np.linalg.norm(back[:, 0] - p[:, 0], axis=1) < 1)
    return there[:, 0].astype(np.float64), good


def _fit(start: F64, now: F64, depth: F64, ok: npt.NDArray[np.bool_]) -> tuple[Relief, F64]:
    """Fit homography and parallax to the points that are ok; also where the fit puts all points (P, 2)."""
    x, y = (start - _CENTRE) / _UNIT, (now - _CENTRE) / _UNIT
    flat = np.column_stack([x, np.ones(len(x))])
    full = np.column_stack([flat, depth])
    _, plane_residual, _ = _solve(flat[ok], x[ok], y[ok])
    theta, residual, covariance = _solve(full[ok], x[ok], y[ok])
    a = np.array([theta[0:2], theta[4:6]])
    large, small = np.linalg.svd(a, compute_uv=False)
    parallax = np.array([theta[3], theta[7]]) / large
    yaw, pitch = np.degrees(np.arcsin(np.clip([parallax[0], -parallax[1]], -1, 1)))
    error = np.degrees(np.sqrt(max(covariance[3, 3], covariance[7, 7], 0.0)) / large)
    placed = np.column_stack([full @ theta[0:4], full @ theta[4:8]]) / (1 + x @ theta[8:10])[:, None]
    relief = Relief(
        yaw=float(yaw),
        pitch=float(pitch),
        error=float(error),
        tilt=float(np.degrees(np.arccos(np.clip(small / large, 0, 1)))),
        residual=residual * _UNIT,
        plane_residual=plane_residual * _UNIT,
        points=int(ok.sum()),
    )
    return relief, placed * _UNIT + _CENTRE


def _solve(base: F64, x: F64, y: F64) -> tuple[F64, float, F64]:
    """Least squares of y·(1 + h·x) = base·theta, robust by six rounds of Cauchy-like weights: theta with h last, root
    mean square, covariance. One outlying point in three does no harm.
    """
    n, k = base.shape
    system = np.zeros((2 * n, 2 * k + 2))
    system[:n, :k] = system[n:, k : 2 * k] = base
    system[:n, 2 * k :], system[n:, 2 * k :] = -y[:, :1] * x, -y[:, 1:] * x
    wanted = np.concatenate([y[:, 0], y[:, 1]])
    weight = np.ones(n)
    for _ in range(6):
        both = np.concatenate([weight, weight])
        theta = np.linalg.lstsq(system * both[:, None], wanted * both, rcond=None)[0]
        off = wanted - system @ theta
        distance = np.hypot(off[:n], off[n:])
        weight = 1 / np.sqrt(1 + (distance / max(1.5 * float(np.median(distance)), 0.3 / _UNIT)) ** 2)
    square = float(np.average(distance**2, weights=weight**2))
    scaled = system * np.concatenate([weight, weight])[:, None]
    return theta, float(np.sqrt(square)), np.linalg.pinv(scaled.T @ scaled) * square / 2
