"""The face challenge: what a person is asked to do in front of the camera, and whether they did it, in that order.

Left and right are the person's own. The video is un-mirrored (as a camera records it, not as a selfie preview shows
it), so a person who turns to their own left moves their nose towards the *right* edge of the picture.

A challenge defeats recordings made before the case existed. It says nothing about how the face was shown: a flat
photo is `planar`'s business, a screen `screen`'s, an edited video `continuity`'s.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from models.faces import FaceTrack


class Action(StrEnum):
    """One thing to do. Left and right are the person's own."""

    TURN_LEFT = "turn_left"
    TURN_RIGHT = "turn_right"
    LOOK_UP = "look_up"
    LOOK_DOWN = "look_down"
    MOVE_CLOSER = "move_closer"


@dataclass(frozen=True)
class Challenge:
    """Ordered actions; the person returns to a neutral pose after each."""

    actions: tuple[Action, ...]

    def to_list(self) -> list[str]:
        """The actions as JSON-able words."""
        return [action.value for action in self.actions]

    @classmethod
    def from_list(cls, words: Sequence[str]) -> Challenge:
        """The challenge from its words; ValueError on a word that names no action."""
        return cls(tuple(Action(word) for word in words))


def draw(rng: random.Random, n: int | None = None) -> Challenge:
    """Draw a challenge of n different actions (2 or 3 when not given) in random order, at least one of them a turn.

    A turn is always in, because only it shows depth well enough for `planar`. Give `random.SystemRandom()` for a case,
    a seeded `random.Random` for a specimen. n actions out of five, ordered: 14 challenges for n = 2, 54 for n = 3.
    """
    count = rng.choice((2, 3)) if n is None else n
    if not 1 <= count <= len(Action):
        raise ValueError(f"a challenge has 1 to {len(Action)} actions, not {count}")
    while True:
        actions = tuple(rng.sample(list(Action), count))
        if Action.TURN_LEFT in actions or Action.TURN_RIGHT in actions:
            return Challenge(actions)


@dataclass(frozen=True)
class ActionSeen:
    """How clearly one action was seen.

    strength: the largest deflection in its direction within the action's own time, as a share of `full_deflection`
    (1.0 is a full one, above is more). at_s: the time of that deflection in seconds, NaN if the action has no time.
    """

    action: Action
    strength: float
    at_s: float


@dataclass(frozen=True)
class ActiveLiveness:
    """Whether the challenge was followed.

    score: strength of the weakest action in the best ordering, 0 when nothing was seen, 1 when each was made fully.
    actions: in the order of the challenge. strays: strongest deflection that nobody asked for, in the same unit;
    a person who waves the head in all directions follows any challenge, and shows here. neutral_frames: number of
    frames the neutral pose was taken from; frames: with a usable face. judged: False without enough of them.
    """

    score: float
    actions: tuple[ActionSeen, ...]
    stray: float
    neutral_frames: int
    frames: int
    judged: bool


FULL_DEFLECTION = {
    Action.TURN_LEFT: 15.0,
    Action.TURN_RIGHT: 15.0,
    Action.LOOK_UP: 9.0,
    Action.LOOK_DOWN: 9.0,
    Action.MOVE_CLOSER: 0.20,
}
"""Deflections that count as a full action: degrees as `pose` estimates them, and log of scale for moving closer
(0.20 is 22 % nearer). They are the unit of the score, about half of what people do when they are asked (±20 to 30°)."""
