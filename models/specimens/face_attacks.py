"""Presentation attacks on the face scan, filmed in the same room as a genuine one (`face_scan`). Seeded.

Each attack tries to pass: the photo is moved and tilted to follow the challenge, and the screen plays a person who
follows it. Not included: masks, and faces injected into the camera's stream.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from models.liveness.challenge import Challenge, draw
from models.specimens.face_scan import FaceCapture, FaceConditions, Scene, encode, face_scan, plan_poses, wander
from models.specimens.face_shown import film_print, film_screen
from models.specimens.head import PORTRAITS, Head, Pose, build_head

U8 = npt.NDArray[np.uint8]


class FaceAttack(StrEnum):
    """What is put before the camera, or done to the video."""

    MOVED_PHOTO = "moved_photo"
    BENT_PHOTO = "bent_photo"
    SCREEN_REPLAY = "screen_replay"
    STEADY_SCREEN_REPLAY = "steady_screen_replay"
    OLD_RECORDING = "old_recording"
    NO_ACTION = "no_action"
    FROZEN = "frozen"
    REPEATED = "repeated"
    SWAPPED = "swapped"
    TWO_PEOPLE = "two_people"
    NO_FACE = "no_face"
    OTHER_PERSON = "other_person"


def attack_scan(
    attack: FaceAttack, portrait: str, challenge: Challenge, *, seed: int, conditions: FaceConditions | None = None
) -> FaceCapture:
    """Film an attack on a case of `portrait` with this challenge.

    MOVED_PHOTO, BENT_PHOTO: a print held to the camera, moved and tilted as the challenge says, flat or bent by up to
    1 cm. SCREEN_REPLAY: a video that follows the challenge, on a screen whose backlight flickers against the shutter;
    STEADY_SCREEN_REPLAY: on one whose light does not. OLD_RECORDING: a genuine scan of another challenge. NO_ACTION:
    the person only looks. FROZEN: the video stands still from the middle on. REPEATED: one second is played again and
    again. SWAPPED: another person from the middle on. TWO_PEOPLE: another person behind. NO_FACE: an empty room.
    OTHER_PERSON: a genuine scan of somebody else.
    """
    rng = random.Random(f"{attack} {seed}")
    conditions = conditions or FaceConditions.draw(rng)
    other = next(name for name in PORTRAITS if name != portrait)
    match attack:
        case FaceAttack.OTHER_PERSON:
            return face_scan(other, challenge, seed=rng.getrandbits(32), conditions=conditions)
        case FaceAttack.OLD_RECORDING:
            before = next(
                c for c in iter(lambda: draw(rng), None) if c.actions[: len(challenge.actions)] != challenge.actions
            )
            return face_scan(portrait, before, seed=rng.getrandbits(32), conditions=conditions)
        case FaceAttack.SCREEN_REPLAY | FaceAttack.STEADY_SCREEN_REPLAY:
            conditions = replace(conditions, frame_rate=min(conditions.frame_rate, 20))
    poses = plan_poses(Challenge(()) if attack is FaceAttack.NO_ACTION else challenge, rng, conditions)
    if attack is FaceAttack.NO_ACTION:
        poses = _longer(poses, 3 * conditions.frame_rate)
    scene, me, them = Scene(rng, conditions, len(poses)), build_head(portrait), build_head(other)
    film: Iterator[U8]
    match attack:
        case FaceAttack.MOVED_PHOTO | FaceAttack.BENT_PHOTO:
            film = film_print(scene, portrait, poses, rng, bend_cm=1.0 if attack is FaceAttack.BENT_PHOTO else 0.0)
        case FaceAttack.SCREEN_REPLAY | FaceAttack.STEADY_SCREEN_REPLAY:
            film = film_screen(scene, me, poses, rng, flickers=attack is FaceAttack.SCREEN_REPLAY)
        case FaceAttack.FROZEN:
            film = _played(scene, me, poses, [min(i, len(poses) // 2) for i in range(len(poses))])
        case FaceAttack.REPEATED:
            film = _played(scene, me, poses, [i % conditions.frame_rate for i in range(len(poses))])
        case FaceAttack.SWAPPED:
            heads = [me if 2 * i < len(poses) else them for i in range(len(poses))]
            film = (scene.frame(i, scene.person(i, heads[i], pose)) for i, pose in enumerate(poses))
        case FaceAttack.TWO_PEOPLE:
            film = _company(scene, me, them, poses, rng)
        case FaceAttack.NO_FACE:
            film = (scene.frame(i, ()) for i in range(len(poses)))
        case _:
            film = (scene.frame(i, scene.person(i, me, pose)) for i, pose in enumerate(poses))
    truth: list[Pose | None] = [None if attack is FaceAttack.NO_FACE else pose for pose in poses]
    return FaceCapture(encode(film, conditions), conditions.frame_rate, tuple(truth))


def _longer(poses: list[Pose], n: int) -> list[Pose]:
    """n poses, walking the given ones to and fro."""
    there_and_back = poses + poses[-2:0:-1]
    return [there_and_back[i % len(there_and_back)] for i in range(n)]


def _played(scene: Scene, head: Head, poses: list[Pose], order: list[int]) -> Iterator[U8]:
    """Recorded frames in another order, each the same to the pixel as when it was first shown."""
    kept: dict[int, U8] = {}
    for i in order:
        if i not in kept:
            kept[i] = scene.frame(i, scene.person(i, head, poses[i]))
        yield kept[i]


def _company(scene: Scene, me: Head, them: Head, poses: list[Pose], rng: random.Random) -> Iterator[U8]:
    """Somebody else stands a little behind, beside the person."""
    side, sway = rng.choice((-1, 1)), wander(rng, len(poses), scene.conditions.frame_rate, 3)
    for i, (pose, s) in enumerate(zip(poses, sway, strict=True)):
        place = (float(side * 21 + s[0]), float(-4 + s[1] * 0.5), scene.conditions.distance_cm + 18)
        behind = Pose(yaw=float(-side * 6 + 3 * s[2]), pitch=0.0, roll=0.0, place=place)
        moved = replace(pose, place=(pose.place[0] - side * 6, *pose.place[1:]))
        yield scene.frame(i, (*scene.person(i, them, behind), *scene.person(i, me, moved)))
