"""Head motion over a face track, relative to the person's own neutral pose.

Yaw and pitch come from the parallax of the skin (`relief`), so a flat photo that is turned shows neither. Roll and
nearness come from the landmarks. The neutral pose is that of the first moments, when the page asks the person to look
straight ahead. Angles scale with the assumed depth of a face: they are accurate to about a quarter of their size, which
is enough to tell actions apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.face.faces import Face, FaceTrack
from models.liveness.skin_flow import relief_motion

F64 = npt.NDArray[np.float64]

NEUTRAL_S = 0.6
"""The first seconds with a face count as neutral."""


@dataclass(frozen=True)
class HeadMotion:
    """The largest face of each frame whose pose could be told; arrays are float64 (M,).

    times: seconds. yaw: degrees, positive to the person's own left (the nose goes to the right of the picture).
    pitch: positive looks up. roll: positive leans clockwise in the picture. closer: natural log of the face's size.
    All but roll are against neutral. tilt: degrees of foreshortening whichever way, of a plane as of a head.
    residual, plane_residual: chip pixels, as in `relief`. faces: frames that have a face, told or not.
    """

    times: F64
    yaw: F64
    pitch: F64
    roll: F64
    closer: F64
    tilt: F64
    residual: F64
    plane_residual: F64
    faces: int


def main_faces(track: FaceTrack) -> list[Face]:
    """The largest face of each frame that has one, in time."""
    return [faces[0] for faces in track.per_frame() if faces]


def head_motion(track: FaceTrack) -> HeadMotion:
    """Follow the largest face through the track; about 0.4 s for 40 frames. Without faces the arrays are empty."""
    faces = main_faces(track)
    if not faces:
        empty = np.zeros(0)
        return HeadMotion(*(empty,) * 8, faces=0)
    points = np.stack([face.landmarks for face in faces]).astype(np.float64)
    times = track.timestamps[[face.frame for face in faces]]
    axis = (points[:, 0] + points[:, 1] - points[:, 2] - points[:, 3]) / 2
    width = np.maximum(np.linalg.norm(axis, axis=1), 1e-6)
    first = np.flatnonzero(times <= times[0] + NEUTRAL_S)
    reliefs = relief_motion(faces, _most_typical(points[first], width[first]))
    told = [i for i, relief in enumerate(reliefs) if relief is not None and relief.told]
    kept = [relief for i in told if (relief := reliefs[i]) is not None]
    yaw = np.array([relief.yaw for relief in kept])
    # A turn shortens the line of the eyes and must not look like stepping back.
    size = np.log(width[told] / np.cos(np.radians(np.clip(yaw, -45, 45))))
    return HeadMotion(
        times=times[told],
        yaw=yaw,
        pitch=np.array([relief.pitch for relief in kept]),
        roll=np.degrees(np.arctan2(axis[told, 1], axis[told, 0])),
        closer=size - float(np.median(np.log(width[first]))),
        tilt=np.array([relief.tilt for relief in kept]),
        residual=np.array([relief.residual for relief in kept]),
        plane_residual=np.array([relief.plane_residual for relief in kept]),
        faces=len(faces),
    )


def _most_typical(points: F64, width: F64) -> int:
    """Index of the face whose landmarks (M, 5, 2), in units of its width, are nearest to the median of all."""
    shape = (points - points[:, :4].mean(1, keepdims=True)) / width[:, None, None]
    return int(np.argmin(np.abs(shape - np.median(shape, axis=0)).sum((1, 2))))
