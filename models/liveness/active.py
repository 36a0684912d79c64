"""Active liveness: whether the head followed the case's challenge, action by action, in the given order.

It defeats recordings made before the case existed. It does not detect how the face was shown: `planar` detects a flat
photo, `screen` a screen and `continuity` an edited video.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.face.faces import FaceTrack
from models.liveness.challenge import Action, Challenge
from models.liveness.pose import HeadMotion, head_motion

F64 = npt.NDArray[np.float64]

FULL_DEFLECTION = {
    Action.TURN_LEFT: 12.0,
    Action.TURN_RIGHT: 12.0,
    Action.LOOK_UP: 8.0,
    Action.LOOK_DOWN: 8.0,
    Action.MOVE_CLOSER: 0.20,
}
"""Deflections that count as a full action: degrees as `pose` estimates them, and log of scale for moving closer
(0.20 is 22 % nearer). They are the unit of the score, about half of what people do when they are asked."""
_TURNED = 20.0
"""Degrees of yaw beyond which nearness is not believed: the line of the eyes is foreshortened, and what is left of it
after the correction looked up to 30 % nearer at 45°."""
_APPROACH, _APPROACH_S = 0.25, 1.0
"""Who came nearer by this much (log of scale) within this time shows another perspective, which looked like up to 23°
of pitch either way: it is not believed then. Who stays near may look up or down."""
MIN_FRAMES = 8
IDLE = 0.5
"""Strength of every asked action below which the head counts as doing nothing that was asked."""


@dataclass(frozen=True)
class ActionSeen:
    """How clearly one action was seen.

    strength: the largest deflection in its direction within the action's own time, as a share of FULL_DEFLECTION
    (1 is a full one, more is above). at_s: when, in seconds.
    """

    action: Action
    strength: float
    at_s: float


@dataclass(frozen=True)
class ActiveLiveness:
    """Whether the challenge was followed.

    score: strength of the weakest action when the time is cut into consecutive parts, one per action, in the way
    that makes it largest; 0 when not judged. actions: in the order of the challenge. stray: the strongest deflection
    that nobody asked for, at moments when nothing asked is being done, in the same unit: a head that is waved in all
    directions follows any challenge, and so may a recording of a longer one; both show here. frames: how many show a
    pose. judged: False with fewer than MIN_FRAMES, or an empty challenge.
    """

    score: float
    actions: tuple[ActionSeen, ...]
    stray: float
    frames: int
    judged: bool


def follow(track: FaceTrack, challenge: Challenge) -> ActiveLiveness:
    """Match the track with the challenge; see `match_motion` where the motion is known already."""
    return match_motion(head_motion(track), challenge)


def match_motion(motion: HeadMotion, challenge: Challenge) -> ActiveLiveness:
    """Match a head's motion with the challenge."""
    if len(motion.times) < MIN_FRAMES or not challenge.actions:
        return ActiveLiveness(0.0, (), 0.0, len(motion.times), judged=False)
    deflections = _deflections(motion)
    wanted = np.stack([deflections[action] for action in challenge.actions])
    parts = _best_parts(wanted)
    seen = []
    for action, signal, (start, end) in zip(challenge.actions, wanted, parts, strict=True):
        peak = start + int(np.argmax(signal[start:end]))
        seen.append(ActionSeen(action, float(signal[peak]), float(motion.times[peak])))
    # A large turn leaks into pitch and nearness, so strays count only while nothing asked is being done.
    idle = wanted.max(0) < IDLE
    unasked = [
        float(signal[idle].max(initial=0.0))
        for action, signal in deflections.items()
        if action not in challenge.actions
    ]
    return ActiveLiveness(
        score=min(one.strength for one in seen),
        actions=tuple(seen),
        stray=max(unasked, default=0.0),
        frames=len(motion.times),
        judged=True,
    )


def _deflections(motion: HeadMotion) -> dict[Action, F64]:
    """Each action's deflection over the frames, in units of a full one; a median of three frames drops lone slips.

    One movement leaks into the estimate of another: a recording of other actions once passed by that.
    """
    yaw, pitch, closer = (_median_of_three(signal) for signal in (motion.yaw, motion.pitch, motion.closer))
    before = (motion.times <= motion.times[:, None]) & (motion.times > motion.times[:, None] - _APPROACH_S)
    approach = closer - np.where(before, closer, np.inf).min(axis=1)
    pitch = np.where(approach > _APPROACH, 0, pitch)
    directions = {
        Action.TURN_LEFT: yaw,
        Action.TURN_RIGHT: -yaw,
        Action.LOOK_UP: pitch,
        Action.LOOK_DOWN: -pitch,
        Action.MOVE_CLOSER: np.where(abs(yaw) > _TURNED, 0, closer),
    }
    return {action: np.maximum(signal / FULL_DEFLECTION[action], 0) for action, signal in directions.items()}


def _median_of_three(signal: F64) -> F64:
    padded = np.concatenate([signal[:1], signal, signal[-1:]])
    return np.asarray(np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0))


def _best_parts(wanted: F64) -> list[tuple[int, int]]:
    """Cut M frames into consecutive parts, one per row of wanted (A, M), so that the least maximum is largest.

    Dynamic programme over the cuts, O(A·M²): M is some forty frames. Parts are [start, end) and cover all frames.
    """
    rows, n = wanted.shape
    best = np.maximum.accumulate(wanted[0])  # best[j]: rows so far within frames 0..j
    cuts: list[npt.NDArray[np.int64]] = []
    for row in range(1, rows):
        longer, cut = np.full(n, -1.0), np.zeros(n, np.int64)  # -1: too few frames for the rows so far
        for end in range(row, n):
            inside = np.maximum.accumulate(wanted[row, end:0:-1])[::-1]  # inside[k]: this row's peak in k+1..end
            worth = np.minimum(best[:end], inside)
            cut[end] = int(np.argmax(worth))
            longer[end] = worth[cut[end]]
        best = longer
        cuts.append(cut)
    end, parts = n - 1, []
    for cut in reversed(cuts):
        parts.append((int(cut[end]) + 1, end + 1))
        end = int(cut[end])
    parts.append((0, end + 1))
    return parts[::-1]
