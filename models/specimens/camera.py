"""A pinhole camera held by a hand over a plane.

Plane: x right and y down in millimetres, origin at the centre of the document, z = 0; the camera is at negative z.
Frames: pixels as in cv2, with whole numbers at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """width, height in pixels; focal: focal length in pixels, principal point in the middle, no distortion."""

    width: int
    height: int
    focal: float

    def matrix(self) -> Matrix:
        """Calibration matrix, float64 (3, 3)."""
        return np.array([[self.focal, 0, (self.width - 1) / 2], [0, self.focal, (self.height - 1) / 2], [0, 0, 1.0]])


@dataclass(frozen=True)
class Pose:
    """Plane to camera: rotation float64 (3, 3), translation float64 (3,) in mm. tilt: about x and y, radians."""

    rotation: Matrix
    translation: Matrix
    tilt: tuple[float, float]

    def homography(self, camera: Camera) -> Matrix:
        """From plane coordinates in mm to frame pixels, float64 (3, 3) (Hartley and Zisserman 2004, §8.1.1)."""
        columns = np.column_stack([self.rotation[:, 0], self.rotation[:, 1], self.translation])
        return np.asarray(camera.matrix() @ columns)

    def centre(self) -> Matrix:
        """Where the camera stands, float64 (3,) in plane coordinates."""
        return np.asarray(-self.rotation.T @ self.translation)


def project(homography: Matrix, points: npt.ArrayLike) -> Matrix:
    """Apply a homography to points (..., 2)."""
    given = np.asarray(points, np.float64)
    mapped = np.concatenate([given, np.ones((*given.shape[:-1], 1))], axis=-1) @ homography.T
    return np.asarray(mapped[..., :2] / mapped[..., 2:])


def hand_motion(
    rng: np.random.Generator,
    camera: Camera,
    times: Matrix,
    *,
    extent_mm: tuple[float, float],
    fill: float,
    tilt: float,
) -> tuple[Pose, ...]:
    """A hand that holds still badly and tilts on purpose: one pose for each of `times` (seconds).

    extent_mm: width and height of what must stay inside the frame, centred at the origin. fill: its share of the
    frame's width when level; less where it would leave the frame. tilt: amplitude of the tilts in radians.
    """
    tilt_x, tilt_y = (_sway(rng, times, tilt * rng.uniform(0.8, 1.1), 2.0, 3.2) for _ in range(2))
    roll = rng.uniform(-0.05, 0.05) + _sway(rng, times, 0.02, 1.6, 3.0)
    # Tremor of a hand: 8–12 Hz, a fraction of a millimetre.
    drift_x, drift_y = (
        _sway(rng, times, 0.018 * extent_mm[0], 1.4, 3.0) + _sway(rng, times, 0.05, 0.085, 0.12) for _ in range(2)
    )
    depth = 1 + _sway(rng, times, 0.025, 1.5, 3.5)
    half_x, half_y = extent_mm[0] / 2, extent_mm[1] / 2
    corners = [[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]]
    distance = camera.focal * extent_mm[0] / (fill * camera.width)
    low = np.array([0.01 * camera.width, 0.01 * camera.height])
    high = np.array([camera.width, camera.height]) - low
    while True:
        poses = tuple(
            Pose(_rotation(a, b, c), np.array([x, y, distance * z]), (float(a), float(b)))
            for a, b, c, x, y, z in zip(tilt_x, tilt_y, roll, drift_x, drift_y, depth, strict=True)
        )
        seen = np.concatenate([project(pose.homography(camera), corners) for pose in poses])
        if np.all(seen > low) and np.all(seen < high):
            return poses
        distance *= 1.02


def _sway(rng: np.random.Generator, times: Matrix, amplitude: float, shortest: float, longest: float) -> Matrix:
    """A smooth motion: two sines whose periods (seconds) lie between `shortest` and `longest`."""
    periods = rng.uniform(shortest, longest, 2)
    phases = rng.uniform(0, 2 * np.pi, 2)
    waves = np.sin(2 * np.pi * times[:, None] / periods + phases)
    return np.asarray(amplitude * (waves @ np.array([0.8, 0.2])))


def _rotation(about_x: float, about_y: float, about_z: float) -> Matrix:
    cx, cy, cz = np.cos([about_x, about_y, about_z])
    sx, sy, sz = np.sin([about_x, about_y, about_z])
    first = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    second = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    third = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1.0]])
    return np.asarray(first @ second @ third)
