"""Presentation attacks on the face scan, filmed in the same room as a genuine one (`face_scan`). Seeded.

Each tries to get through: the photo is moved and tilted in answer to the challenge, the screen plays a person who
follows it. What is not here: masks, and faces injected into the camera's stream.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from models.liveness.challenge import Challenge, draw
from models.specimens.face_scan import FaceCapture, FaceConditions, Scene, encode, face_scan, plan_poses, wander
from models.specimens.head import PORTRAITS, Head, Pose, build_head, load_portrait

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


class FaceAttack(StrEnum):
    """What is put before the camera, or done to the video."""

    MOVED_PHOTO = "moved_photo"
    BENT_PHOTO = "bent_photo"
    SCREEN_REPLAY = "screen_replay"
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
    1 cm. SCREEN_REPLAY: a video that follows the challenge, shown on a screen. OLD_RECORDING: a genuine scan of
    another challenge. NO_ACTION: the person only looks. FROZEN: the video stands still from the middle on. REPEATED:
    one second is played again and again. SWAPPED: another person from the middle on. TWO_PEOPLE: another person
    behind. NO_FACE: an empty room. OTHER_PERSON: a genuine scan of somebody else.
    """
    rng = random.Random(f"{attack} {seed}")
    conditions = conditions or FaceConditions.draw(rng)
    other = next(name for name in PORTRAITS if name != portrait)
    match attack:
        case FaceAttack.OTHER_PERSON:
            return face_scan(other, challenge, seed=rng.getrandbits(32), conditions=conditions)
        case FaceAttack.OLD_RECORDING:
            before = next(c for c in iter(lambda: draw(rng), None) if c.actions[: len(challenge.actions)] != challenge.actions)
            return face_scan(portrait, before, seed=rng.getrandbits(32), conditions=conditions)
        case FaceAttack.SCREEN_REPLAY:
            conditions = replace(conditions, frame_rate=20)
    poses = plan_poses(Challenge(()) if attack is FaceAttack.NO_ACTION else challenge, rng, conditions)
    if attack is FaceAttack.NO_ACTION:
        poses = _longer(poses, 3 * conditions.frame_rate)
    scene = Scene(rng, conditions, len(poses))
    frames: Iterator[U8]
    match attack:
        case FaceAttack.MOVED_PHOTO | FaceAttack.BENT_PHOTO:
            frames = _print(scene, portrait, poses, rng, bend_cm=1.0 if attack is FaceAttack.BENT_PHOTO else 0.0)
        case FaceAttack.SCREEN_REPLAY:
            frames = _screen(scene, portrait, poses, rng)
        case FaceAttack.FROZEN | FaceAttack.REPEATED:
            frames = iter(_looped([scene.frame(i, [(build_head(portrait), p)]) for i, p in enumerate(poses)], attack, conditions))
        case FaceAttack.SWAPPED:
            heads = [build_head(portrait), build_head(other)]
            frames = (scene.frame(i, [(heads[2 * i >= len(poses)], p)]) for i, p in enumerate(poses))
        case FaceAttack.TWO_PEOPLE:
            frames = _company(scene, portrait, other, poses, rng)
        case FaceAttack.NO_FACE:
            frames = (scene.frame(i, []) for i in range(len(poses)))
        case _:
            frames = (scene.frame(i, [(build_head(portrait), p)]) for i, p in enumerate(poses))
    shown = () if attack is FaceAttack.NO_FACE else tuple(poses)
    return FaceCapture(encode(frames, conditions), conditions.frame_rate, shown or (None,) * len(poses))


def _longer(poses: list[Pose], n: int) -> list[Pose]:
    """n poses, walking the given ones to and fro."""
    there_and_back = poses + poses[-2:0:-1]
    return [there_and_back[i % len(there_and_back)] for i in range(n)]


def _looped(pictures: list[U8], attack: FaceAttack, conditions: FaceConditions) -> list[U8]:
    n = len(pictures)
    if attack is FaceAttack.FROZEN:
        return [pictures[min(i, n // 2)] for i in range(n)]
    second = pictures[: conditions.frame_rate]
    return [second[i % len(second)] for i in range(n)]


def _print(scene: Scene, portrait: str, poses: list[Pose], rng: random.Random, bend_cm: float) -> Iterator[U8]:
    """A glossy print of the head and shoulders, about 20 cm high, moved in the hand in place of the head."""
    sheet = build_sheet(portrait)
    reach = rng.uniform(1.0, 1.5)  # a print is tilted further than a head is turned: nothing else seems to happen
    bends = bend_cm * np.clip(wander(rng, len(poses), scene.conditions.frame_rate, 1)[:, 0], -1, 1)
    for i, (pose, bend) in enumerate(zip(poses, bends, strict=True)):
        held = replace(pose, yaw=pose.yaw * reach, pitch=pose.pitch * reach, place=(pose.place[0], pose.place[1], pose.place[2] - 8))
        yield scene.frame(i, [(bent(sheet, float(bend)) if bend_cm else sheet, held)])


def build_sheet(portrait: str, margin_cm: float = 1.0) -> Head:
    """A print of the portrait at the size of life with a white margin, as a head without depth."""
    photo, head, points = load_portrait(portrait), build_head(portrait), np.array(PORTRAITS[portrait].head)
    low, high = points.min(0), points.max(0)
    size = high - low
    left, top = np.maximum(low - size * 0.35, 0).astype(int)
    right, bottom = np.minimum(high + size * (0.35, 0.45), (photo.shape[1], photo.shape[0])).astype(int)
    edge = round(margin_cm / head.scale)
    paper = cv2.copyMakeBorder(
        photo[top:bottom, left:right], edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(245, 245, 243)
    )
    # A frame of one pixel off the sheet, so that the ray marcher finds its end.
    relief = np.full(paper.shape[:2], 0.05, np.float32)
    relief[[0, -1]] = relief[:, [0, -1]] = -1
    faded = 255 * (0.06 + 0.86 * (paper / 255.0))  # paper is never black, ink never as bright as light
    return Head(
        photo=faded.astype(np.uint8),
        relief=relief,
        normals=np.broadcast_to(np.float32([0, 0, -1]), (*relief.shape, 3)).copy(),
        body=np.zeros((2, 2, 4), np.uint8),
        origin=(head.origin[0] - left + edge, head.origin[1] - top + edge),
        scale=head.scale,
    )


def bent(sheet: Head, sagitta_cm: float) -> Head:
    """The sheet as part of an upright cylinder whose middle stands out (positive) or in by this much."""
    across = np.linspace(-1, 1, sheet.relief.shape[1], dtype=np.float32)
    curve = np.abs(sagitta_cm) * (1 - across**2 if sagitta_cm > 0 else across**2)
    relief = np.where(sheet.relief < 0, sheet.relief, 0.05 + curve[None, :]).astype(np.float32)
    slope = np.gradient(curve, sheet.scale)
    normals = np.stack([-slope, np.zeros_like(slope), -np.ones_like(slope)], -1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return replace(sheet, relief=relief, normals=np.broadcast_to(normals.astype(np.float32), sheet.normals.shape))


def _screen(scene: Scene, portrait: str, poses: list[Pose], rng: random.Random) -> Iterator[U8]:
    """A clean video that follows the challenge on an LCD: subpixels, black matrix, glow, bands of the backlight.

    The camera samples the panel's pixels without anything that blurs them first; that is where moiré comes from.
    """
    c = scene.conditions
    w, h = c.camera.size
    inner = Scene(random.Random(rng.getrandbits(32)), replace(c, gain=1.0, noise=1.5, blur=0.6), len(poses))
    head = build_head(portrait)
    pitch_cm = rng.uniform(0.018, 0.035)
    cover = rng.uniform(0.95, 1.25)  # width of the shown video against the camera's picture; below 1 shows the bezel
    distance = rng.uniform(30, 50)
    panel = cover * w / c.camera.focal * distance / pitch_cm  # panel pixels under the video's width
    shake = wander(rng, len(poses), c.frame_rate, 4)
    lean, bands = rng.uniform(-3, 3), rng.uniform(0.02, 0.06)
    n = 2  # samples per camera pixel and axis, so its own area averages a little
    gy, gx = np.mgrid[0 : h * n, 0 : w * n].astype(np.float32) / n
    for i, pose in enumerate(poses):
        shown = inner.frame(i, [(head, pose)])
        turn = np.radians(lean + 0.4 * shake[i, 2])
        zoom = (1 + 0.01 * shake[i, 3]) / cover
        x, y = gx - w / 2 + 3 * shake[i, 0], gy - h / 2 + 3 * shake[i, 1]
        # Camera pixel → video pixel, with a slight keystone as nobody holds a phone square to a screen.
        key = 1 + 2e-5 * lean * x
        u = (np.cos(turn) * x - np.sin(turn) * y) * zoom / key + w / 2
        v = (np.sin(turn) * x + np.cos(turn) * y) * zoom / key + h / 2
        light = cv2.remap(shown, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderValue=(9, 9, 9))
        lit = (light / 255.0).astype(np.float32) ** 2.2 * _subpixels(u * panel / w, v * panel / w) * 2.2 + 0.004
        lit = cv2.resize(lit, (w, h), interpolation=cv2.INTER_AREA)
        lit *= 1 + bands * np.sin(2 * np.pi * (np.arange(h)[:, None, None] / h * 1.7 + i * 0.37)).astype(np.float32)
        picture = np.clip(lit ** (1 / 2.2) * np.float32([0.94, 0.99, 1.06]) * 255, 0, 255).astype(np.uint8)
        yield scene.finish(i, picture)


def _subpixels(u: F32, v: F32) -> F32:
    """Share of light that a striped panel lets through at (u, v) in its pixels: float32 (..., 3), mean about 0.27."""
    column, row = u % 1, v % 1
    stripes = [(np.abs(column - centre) < 0.15) & (np.abs(row - 0.5) < 0.42) for centre in (1 / 6, 3 / 6, 5 / 6)]
    return np.stack(stripes, -1).astype(np.float32)


def _company(scene: Scene, portrait: str, other: str, poses: list[Pose], rng: random.Random) -> Iterator[U8]:
    """Somebody else stands half a metre behind, beside the person."""
    side, sway = rng.choice((-1, 1)), wander(rng, len(poses), scene.conditions.frame_rate, 3)
    for i, pose in enumerate(poses):
        z = scene.conditions.distance_cm + 28
        place = (side * 24 + sway[i, 0], -4 + sway[i, 1] * 0.5, z)
        behind = Pose(yaw=float(-side * 6 + 3 * sway[i, 2]), pitch=0.0, roll=0.0, place=(float(place[0]), float(place[1]), z))
        moved = replace(pose, place=(pose.place[0] - side * 4, pose.place[1], pose.place[2]))
        yield scene.frame(i, [(build_head(other), behind), (build_head(portrait), moved)])
