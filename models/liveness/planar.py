"""Geometric liveness: whether the moving face is a head, or a flat or bent picture of one.

The motion of a photo between two frames is a homography; that of a head is not, and the difference grows with the turn
(idea: De Marsico, Nappi, Riccio and Dugelay, "Moving face spoofing detection via 3D projective invariants", ICB 2012;
here measured on skin points instead of landmarks, see `relief`). A face that hardly turns shows neither, so it is not
judged; it also fails the challenge, which always includes a turn.

Not detected here: a screen that plays a real head (`screen` looks for screens), and a mask, because it has depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.face.faces import FaceTrack
from models.liveness.pose import HeadMotion, head_motion

MIN_FRAMES = 12
MIN_TURN = 12.0
"""Degrees of turn or tilt below which depth cannot be told; the tilt's own noise is about 5° to 10°."""


@dataclass(frozen=True)
class GeometricLiveness:
    """score: parallax against what the same turn would give on a head, about 1 for a head and 0 for a picture; 0 when
    not judged. turn: degrees shown by parallax; tilt: degrees shown by foreshortening; both as the 90th percentile over
    the frames, of which there are `frames`. explained: share of what a homography leaves that parallax explains, 0..1,
    over the frames with the largest motion. judged: False with fewer than MIN_FRAMES or less motion than MIN_TURN.
    """

    score: float
    turn: float
    tilt: float
    explained: float
    frames: int
    judged: bool


def planarity(track: FaceTrack) -> GeometricLiveness:
    """Judge the track; see `judge_motion` where the motion is known already."""
    return judge_motion(head_motion(track))


def judge_motion(motion: HeadMotion) -> GeometricLiveness:
    """Judge a head's motion."""
    n = len(motion.times)
    if n < MIN_FRAMES:
        return GeometricLiveness(0.0, 0.0, 0.0, 0.0, n, judged=False)
    turned = np.hypot(motion.yaw, motion.pitch)
    turn, tilt = (float(np.percentile(angle, 90)) for angle in (turned, motion.tilt))
    moved = np.maximum(turned, motion.tilt)
    most = moved >= np.percentile(moved, 70)
    left, plane_left = float((motion.residual[most] ** 2).sum()), float((motion.plane_residual[most] ** 2).sum())
    judged = max(turn, tilt) >= MIN_TURN
    return GeometricLiveness(
        score=min(turn / max(tilt, MIN_TURN), 1.5) if judged else 0.0,
        turn=turn,
        tilt=tilt,
        explained=max(0.0, 1 - left / plane_left) if plane_left > 0 else 0.0,
        frames=n,
        judged=judged,
    )
