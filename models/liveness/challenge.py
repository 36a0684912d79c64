"""The face challenge: what a person is asked to do in front of the camera. `active` judges whether they did it.

Left and right are the person's own. The video is not mirrored (it is as the camera records it, not as a selfie preview
shows it), so a person who turns to their own left moves their nose towards the *right* edge of the picture.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


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
