"""Splits the motion between two aligned chips of a face into what a plane can do and what only a face's relief can do.

Five landmarks contain little depth: four of them lie nearly on a line, and a plane can move the fifth anywhere (their
projective invariants are De Marsico, Nappi, Riccio and Dugelay's, ICB 2012). So some eighty points of the skin are
followed (`skin_flow`) from one neutral chip to every other, and each chip's motion is fitted with

    x' · (1 + h·x)  =  A·x + b  +  c·z(x)

A, b, h: a homography, which describes a flat photo under any motion, and nearly all the motion of a bent one. z: the
depth of an average face (nose, lips and chin in front, cheeks and temples behind), the same for everybody. c is the
parallax: for a head it is the chip's scale times (sin yaw, -sin pitch); for paper and screens it stays near zero
however they move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

EYES_Y, NOSE_Y, MIDDLE_X, CM = 46.0, 88.0, 74.0, 8.2
"""Where dlib's mean face lies in a 150-pixel chip with padding 0.25, and pixels per cm (outer corners 9 cm apart)."""
MAX_ERROR = 6.0
"""Standard error in degrees over which angles tell no pose."""
MAX_ANGLE = 60.0
"""Degrees over which angles are a fit gone astray: the skin of a face turned so far cannot be followed."""
_UNIT = 50.0
_CENTRE = np.array([74.0, 75.0])


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

    @property
    def told(self) -> bool:
        """Whether the angles can be believed."""
        return self.error <= MAX_ERROR and max(abs(self.yaw), abs(self.pitch)) <= MAX_ANGLE


@dataclass(frozen=True)
class Warp:
    """Where points of the neutral chip are in another: homography and parallax. theta: float64 (10,), rows of (A, b, c)
    for x and for y, then h; about the chip's middle, in units of 50 pixels.
    """

    theta: F64

    def places(self, points: F64) -> F64:
        """Where points (P, 2) of the neutral chip are, chip pixels (P, 2)."""
        x, theta = (points - _CENTRE) / _UNIT, self.theta
        base = np.column_stack([x, np.ones(len(x)), face_depth(points) / _UNIT])
        there = np.column_stack([base @ theta[0:4], base @ theta[4:8]]) / (1 + x @ theta[8:10])[:, None]
        return np.asarray(there * _UNIT + _CENTRE)


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


def fit_relief(start: F64, now: F64) -> tuple[Relief, Warp]:
    """Fit homography and parallax to points of the neutral chip, (P, 2), that are at `now` in another; P of 6 or more.

    One outlying point in three does no harm.
    """
    x, y = (start - _CENTRE) / _UNIT, (now - _CENTRE) / _UNIT
    flat = np.column_stack([x, np.ones(len(x))])
    _, plane_residual, _ = _solve(flat, x, y)
    theta, residual, covariance = _solve(np.column_stack([flat, face_depth(start) / _UNIT]), x, y)
    a = np.array([theta[0:2], theta[4:6]])
    large, small = np.linalg.svd(a, compute_uv=False)
    parallax = np.array([theta[3], theta[7]]) / large
    yaw, pitch = np.degrees(np.arcsin(np.clip([parallax[0], -parallax[1]], -1, 1)))
    relief = Relief(
        yaw=float(yaw),
        pitch=float(pitch),
        error=float(np.degrees(np.sqrt(max(covariance[3, 3], covariance[7, 7], 0.0)) / large)),
        tilt=float(np.degrees(np.arccos(np.clip(small / large, 0, 1)))),
        residual=residual * _UNIT,
        plane_residual=plane_residual * _UNIT,
        points=len(start),
    )
    return relief, Warp(theta)


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
