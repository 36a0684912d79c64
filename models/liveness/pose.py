"""Head pose per frame out of five landmarks, relative to the person's own neutral pose.

Four eye corners and the base of the nose give three numbers that do not depend on where the face is, how large it is
or how it leans: the nose's offset along and across the line of the eyes, in units of the eyes' width. The nose stands
in front of the eyes, so a turn moves it along that line and a nod across it. Seen from far (weak perspective), with
the nose b0 below and d in front of the line of the eyes, in widths of the eyes:

    along  = a0 + d · tan(yaw)          across · cos(yaw) = b0 · cos(pitch) - d · sin(pitch)

a0 and b0 are the person's own, out of the first moments, in which the page asks to look straight ahead; so a crooked
nose or a camera held low does no harm. d is a mean of adults, an error in it scales the angles. Degrees here are good
to about ±20 % and are for telling actions apart, not for measuring heads. Looking down moves the nose least (the
formula saturates at about -20°). A flat photo turned about its upright middle shows no yaw here at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.faces import Face, FaceTrack

F64 = npt.NDArray[np.float64]

NOSE_DEPTH = 0.30
"""Base of the nose in front of the plane of the eye corners, in widths between the outer corners (Farkas 1994)."""
NEUTRAL_S = 0.6
"""The first seconds with a face count as neutral; the capture page asks to look straight ahead there."""


@dataclass(frozen=True)
class HeadMotion:
    """Pose of the largest face over the frames that have one; arrays are float64 (M,).

    frames: int64 indices into the track. yaw: degrees, positive to the person's own left. pitch: positive looks up.
    roll: degrees, positive leans clockwise in the picture. closer: natural log of the face's size against neutral.
    neutral: bool (M,), the frames that gave the neutral pose.
    """

    frames: npt.NDArray[np.int64]
    times: F64
    yaw: F64
    pitch: F64
    roll: F64
    closer: F64
    neutral: npt.NDArray[np.bool_]


def main_faces(track: FaceTrack) -> list[Face]:
    """The largest face of each frame that has one, in time."""
    return [faces[0] for faces in track.per_frame() if faces]


def head_motion(track: FaceTrack) -> HeadMotion | None:
    """The head's motion, or None when no frame has a face."""
    faces = main_faces(track)
    if not faces:
        return None
    points = np.stack([face.landmarks for face in faces]).astype(np.float64)
    frames = np.array([face.frame for face in faces], dtype=np.int64)
    times = track.timestamps[frames]
    right = points[:, 0:2].mean(1)  # the eye on the picture's right
    left = points[:, 2:4].mean(1)
    axis = (points[:, 0] - points[:, 2] + points[:, 1] - points[:, 3]) / 2
    width = np.maximum(np.linalg.norm(points[:, 0] - points[:, 2], axis=1), 1e-6)
    unit = axis / np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-6)
    nose = (points[:, 4] - (left + right) / 2) / width[:, None]
    along = (nose * unit).sum(1)
    across = nose[:, 1] * unit[:, 0] - nose[:, 0] * unit[:, 1]

    neutral = times <= times[0] + NEUTRAL_S
    a0, b0 = float(np.median(along[neutral])), max(float(np.median(across[neutral])), 0.2)
    yaw = np.arctan((along - a0) / NOSE_DEPTH)
    reach, lead = np.hypot(b0, NOSE_DEPTH), np.arctan2(NOSE_DEPTH, b0)
    pitch = np.arccos(np.clip(across * np.cos(yaw) / reach, -1, 1)) - lead
    size = np.log(width / np.cos(yaw))
    return HeadMotion(
        frames=frames,
        times=times,
        yaw=np.degrees(yaw),
        pitch=np.degrees(pitch),
        roll=np.degrees(np.arctan2(unit[:, 1], unit[:, 0])),
        closer=size - float(np.median(size[neutral])),
        neutral=neutral,
    )
