"""A lamp over the plane: its falloff, soft shadow and glare on glossy things, and the direction of light that optically
variable elements respond to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.specimens.camera import Camera, Matrix, Pose, project
from models.specimens.security import PIXELS_PER_MM

GRID = (80, 45)
"""Width and height of the coarse maps below: light varies slowly, so they are enlarged to the frame afterwards."""


@dataclass(frozen=True)
class Light:
    """One lamp and what stands in its way.

    position: float64 (3,) in plane coordinates (mm), z negative. glare: brightness of the mirrored lamp on a fully
    glossy surface, 0..255; glare_mm: its size (standard deviations along and across) and its direction in radians.
    shadow: depth 0..1 of a soft shadow whose edge has the normal `shadow_normal` (unit, plane) at `shadow_at` mm.
    """

    position: Matrix
    glare: float
    glare_mm: tuple[float, float, float]
    shadow: float
    shadow_normal: tuple[float, float]
    shadow_at: float

    def maps(
        self, camera: Camera, pose: Pose, gloss: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Gain (about 1) and addend (0..255) of a frame on GRID: float32 (45, 80) each. gloss: 0..1, on GRID too."""
        width, height = GRID
        u = (np.arange(width) + 0.5) * camera.width / width
        v = (np.arange(height) + 0.5) * camera.height / height
        frame: Matrix = np.asarray(np.stack(np.meshgrid(u, v), axis=-1), np.float64)
        back = np.asarray(np.linalg.inv(pose.homography(camera)), np.float64)
        plane = project(back, frame)
        away = np.sqrt(np.sum((plane - self.position[:2]) ** 2, axis=-1) + self.position[2] ** 2)
        gain = (np.linalg.norm(self.position) / away) ** 3  # inverse square law times Lambert's cosine
        edge = plane @ np.array(self.shadow_normal) - self.shadow_at
        gain = gain * (1 - self.shadow / (1 + np.exp(-edge / 9.0)))
        radius = np.hypot(frame[..., 0] / camera.width - 0.5, (frame[..., 1] - camera.height / 2) / camera.width)
        gain = gain * (1 - 0.42 * radius**2)  # vignetting of the lens
        gain = gain / max(1.0, float(gain.max()) / 1.15)  # the camera exposes for the bright side
        eye = pose.centre()
        share = eye[2] / (eye[2] + self.position[2])
        mirror = eye[:2] + share * (self.position[:2] - eye[:2])  # where the plane shows the lamp to the camera
        along, across, turn = self.glare_mm
        d = plane - mirror
        a = (d[..., 0] * np.cos(turn) + d[..., 1] * np.sin(turn)) / along
        b = (d[..., 1] * np.cos(turn) - d[..., 0] * np.sin(turn)) / across
        spot = self.glare * np.exp(-0.5 * (a**2 + b**2)) + 0.1 * self.glare * np.exp(-0.06 * (a**2 + b**2))
        return gain.astype(np.float32), (spot * gloss).astype(np.float32)

    def direction(self, pose: Pose) -> Matrix:
        """What `security.shine` wants of a card in the middle of the plane: float64 (3, 2)."""
        eye = pose.centre()

        def sines(x: float, y: float) -> Matrix:
            point = np.array([x, y, 0.0])
            to_eye, to_light = eye - point, self.position - point
            return np.asarray((to_eye / np.linalg.norm(to_eye) + to_light / np.linalg.norm(to_light))[:2])

        step = 10.0  # mm
        here = sines(0, 0)
        pixels = step * PIXELS_PER_MM
        return np.stack([here, (sines(step, 0) - here) / pixels, (sines(0, step) - here) / pixels])


def draw_light(rng: np.random.Generator, *, aside: float, scale: float) -> Light:
    """A lamp beside and above the document, drawn so that its glare crosses a part of it now and then.

    aside: distance from above the document as a share of the lamp's height, about; from 0.8 on the glare keeps off a
    card that is held nearly level. scale: how much larger than a card the scene is, so that light and scene keep
    their proportions.
    """
    azimuth = rng.uniform(0, 2 * np.pi)
    height = rng.uniform(350, 600)
    away = height * aside * rng.uniform(0.8, 1.25)
    turn = rng.uniform(0, 2 * np.pi)
    return Light(
        position=scale * np.array([away * np.cos(azimuth), away * np.sin(azimuth), -height]),
        glare=float(rng.uniform(90, 190)),
        glare_mm=(scale * float(rng.uniform(7, 14)), scale * float(rng.uniform(4, 7)), float(rng.uniform(0, np.pi))),
        shadow=float(rng.uniform(0.08, 0.3)),
        shadow_normal=(float(np.cos(turn)), float(np.sin(turn))),
        shadow_at=scale * float(rng.uniform(10, 50)),
    )
