"""The challenge as drawn, and whether a head's motion follows it: tables, no pictures."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from models.face.faces import FaceTrack
from models.liveness.active import follow, match_motion
from models.liveness.challenge import Action, Challenge, draw
from models.liveness.planar import judge_motion
from models.liveness.pose import HeadMotion

REACH = {
    "turn_left": (22.0, 0.0, 0.0),
    "turn_right": (-22.0, 0.0, 0.0),
    "look_up": (0.0, 15.0, 0.0),
    "look_down": (0.0, -15.0, 0.0),
    "move_closer": (0.0, 0.0, 0.35),
}


def motion(*words: str, share: float = 1.0) -> HeadMotion:
    """Half a second still, then each action over a second, at 10 Hz."""
    bump = share * np.sin(np.linspace(0, np.pi, 10))
    path = np.concatenate([np.zeros((5, 3)), *(bump[:, None] * REACH[word] for word in words)])
    n, zero = len(path), np.zeros(len(path))
    yaw, pitch, closer = path.T
    return HeadMotion(np.arange(n) / 10, yaw, pitch, zero, closer, np.hypot(yaw, pitch), zero, zero, n)


def leaking(words: tuple[str, ...], *, closer: float = 0.0, pitch: float = 0.0) -> HeadMotion:
    """The motion of these words, of which each turn looks nearer by `closer` and each approach pitched by `pitch`."""
    clean = motion(*words, share=2.0)
    turned = np.abs(clean.yaw) / max(float(np.abs(clean.yaw).max()), 1e-9)
    nearer = clean.closer / max(float(clean.closer.max()), 1e-9)
    return replace(clean, closer=clean.closer + closer * turned, pitch=clean.pitch + pitch * nearer)


def test_what_a_turn_or_an_approach_leaks_is_no_action() -> None:
    """A turn by 45° looked 25 % nearer, coming closer like a look down: two recordings in thirty passed by that."""
    turned = leaking(("turn_left", "turn_left"), closer=0.25)
    assert match_motion(turned, Challenge.from_list(["turn_left", "move_closer"])).score < 0.7
    came = leaking(("move_closer", "turn_left"), pitch=-14.0)
    assert match_motion(came, Challenge.from_list(["look_down", "turn_left"])).score < 0.7
    assert match_motion(came, Challenge.from_list(["move_closer", "turn_left"])).score > 1


def test_who_stays_near_may_look_down() -> None:
    clean = motion("move_closer", "look_down", "turn_left")
    peak = int(clean.closer.argmax())
    near = replace(clean, closer=np.where(np.arange(len(clean.closer)) > peak, clean.closer[peak], clean.closer))
    assert match_motion(near, Challenge.from_list(["move_closer", "look_down", "turn_left"])).score > 0.9


def test_draw_is_seeded_distinct_and_always_turns() -> None:
    drawn = [draw(random.Random(seed)) for seed in range(300)]
    assert drawn == [draw(random.Random(seed)) for seed in range(300)]
    for challenge in drawn:
        assert len(set(challenge.actions)) == len(challenge.actions) in (2, 3)
        assert {Action.TURN_LEFT, Action.TURN_RIGHT} & set(challenge.actions)
    assert len({c.actions for c in drawn if len(c.actions) == 2}) == 14
    assert len(draw(random.Random(1), 5).actions) == 5


@pytest.mark.parametrize("count", [0, 6, -1])
def test_draw_refuses_impossible_counts(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 5"):
        draw(random.Random(0), count)


def test_challenge_travels_as_words() -> None:
    challenge = Challenge((Action.LOOK_UP, Action.TURN_LEFT))
    assert challenge.to_list() == ["look_up", "turn_left"]
    assert Challenge.from_list(challenge.to_list()) == challenge
    with pytest.raises(ValueError, match="stand_up"):
        Challenge.from_list(["stand_up"])


def test_every_two_action_challenge_is_followed_only_in_its_own_order() -> None:
    words = list(REACH)
    for first in words:
        for second in words:
            if first == second:
                continue
            asked = Challenge.from_list([first, second])
            right = match_motion(motion(first, second), asked)
            assert right.judged
            assert right.score > 1
            assert right.stray < 0.2
            assert [seen.action.value for seen in right.actions] == [first, second]
            assert right.actions[0].at_s < right.actions[1].at_s
            assert match_motion(motion(second, first), asked).score < 0.2


def test_half_hearted_motion_scores_half() -> None:
    asked = Challenge.from_list(["turn_left", "look_up"])
    assert match_motion(motion("turn_left", "look_up", share=0.2), asked).score == pytest.approx(
        match_motion(motion("turn_left", "look_up"), asked).score * 0.2, rel=1e-6
    )


def test_a_head_waved_everywhere_shows_as_stray() -> None:
    waved = motion("turn_right", "look_down", "turn_left", "look_up", "move_closer")
    found = match_motion(waved, Challenge.from_list(["turn_left", "look_up"]))
    assert found.score > 1
    assert found.stray > 1


@pytest.mark.parametrize("words", [["turn_left"], ["turn_left", "look_up"], list(REACH)])
def test_stillness_follows_nothing(words: list[str]) -> None:
    found = match_motion(motion("turn_left", "look_up", share=0.0), Challenge.from_list(words))
    assert found.judged
    assert found.score == 0


def test_without_a_face_nothing_is_judged() -> None:
    nobody = FaceTrack((), np.arange(30) / 10, (480, 640))
    assert not follow(nobody, Challenge.from_list(["turn_left"])).judged
    assert follow(nobody, Challenge.from_list(["turn_left"])).score == 0


def test_stillness_has_no_geometry() -> None:
    assert not judge_motion(motion("turn_left", share=0.1)).judged
    turned = judge_motion(motion("turn_left"))
    assert turned.judged
    assert turned.score > 0.9
