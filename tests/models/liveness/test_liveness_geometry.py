"""Parallax told from planes, on rendered heads and prints whose poses are known; landmarks are the true ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.face.faces import Face, FaceTrack
from models.face.landmarks import face_chip
from models.liveness.active import follow
from models.liveness.challenge import Challenge
from models.liveness.planar import planarity
from models.liveness.pose import head_motion
from models.specimens.face_shown import build_sheet, render_sheet
from models.specimens.head import PORTRAITS, Camera, Pose, build_head, project, render_head

CAMERA = Camera()
TURNS = [0, 0, 0, 0, 0, 0, 4, 9, 15, 20, 22, 22, 18, 12, 6, 0, -6, -12, -18, -22, -22, -16, -9, -3, 0]
NODS = [0, 0, 0, 0, 0, 0, 3, 7, 11, 15, 15, 12, 7, 3, 0, -3, -7, -11, -15, -15, -12, -7, -3, 0, 0]


def landmarks(portrait: str) -> npt.NDArray[np.float64]:
    """(5, 2) in the photo: outer and inner corners at 29 % of the eyes' width, base of the nose."""
    left, right = np.array(PORTRAITS[portrait].eyes, float)
    inner = 0.29 * (right - left)
    return np.array([right, right - inner, left, left + inner, PORTRAITS[portrait].nose])


def film(portrait: str, poses: list[Pose], *, flat: bool = False, bend_cm: float = 0.0) -> FaceTrack:
    head, points = build_head(portrait), landmarks(portrait)
    sheet = build_sheet(portrait)
    depth = [0.0 if flat else -float(head.relief[int(y), int(x)]) for x, y in points]
    at = np.column_stack([(points - head.origin) * head.scale, depth])
    faces = []
    noise = np.random.default_rng(5)
    for i, pose in enumerate(poses):
        bend = bend_cm * np.sin(i / 4)
        layer = render_sheet(sheet, pose, CAMERA, bend) if flat else render_head(head, pose, CAMERA)
        alpha = layer[..., 3:] / 255
        picture = layer[..., :3] * alpha + 120 * (1 - alpha) + noise.normal(0, 3, (480, 640, 1))
        seen = (project(at, pose, CAMERA) + noise.normal(0, 0.7, (5, 2))).astype(np.float32)
        box = np.array([*(seen.min(0) - 40), *(seen.max(0) + 40)], np.float32)
        chip = face_chip(np.clip(picture, 0, 255).astype(np.uint8), seen)
        faces.append(Face(i, box, 1.0, seen, chip, np.empty(0, np.float32)))
    return FaceTrack(tuple(faces), np.arange(len(poses)) / 10, (480, 640))


def posed(yaw: list[int], pitch: list[int], reach: float = 1.0) -> list[Pose]:
    return [Pose(y * reach, p * reach, 0.0, (0.0, 0.0, 58.0)) for y, p in zip(yaw, pitch, strict=True)]


@pytest.mark.parametrize("portrait", list(PORTRAITS))
def test_turns_and_nods_are_read_with_the_right_sign_and_size(portrait: str) -> None:
    still = [0] * len(TURNS)
    turned = head_motion(film(portrait, posed(TURNS, still)))
    index = np.round(turned.times * 10).astype(int)
    assert len(index) >= 20
    assert np.corrcoef(turned.yaw, np.array(TURNS)[index])[0, 1] > 0.95
    assert 0.7 < np.polyfit(np.array(TURNS)[index], turned.yaw, 1)[0] < 2.0
    nodded = head_motion(film(portrait, posed(still, NODS)))
    index = np.round(nodded.times * 10).astype(int)
    assert np.corrcoef(nodded.pitch, np.array(NODS)[index])[0, 1] > 0.85


@pytest.mark.parametrize("portrait", list(PORTRAITS))
def test_a_head_has_depth_and_follows(portrait: str) -> None:
    track = film(portrait, posed(TURNS, [0] * len(TURNS)))
    found = planarity(track)
    assert found.judged
    assert found.score > 0.7
    assert follow(track, Challenge.from_list(["turn_left", "turn_right"])).score > 1
    assert follow(track, Challenge.from_list(["turn_right", "turn_left"])).score < 0.5


@pytest.mark.parametrize("bend_cm", [0.0, 1.0])
@pytest.mark.parametrize("portrait", list(PORTRAITS))
def test_a_print_moved_like_a_head_stays_flat(portrait: str, bend_cm: float) -> None:
    track = film(portrait, posed(TURNS, NODS, 1.5), flat=True, bend_cm=bend_cm)
    found = planarity(track)
    assert found.judged
    assert found.tilt > 15
    assert found.score < 0.25
    assert follow(track, Challenge.from_list(["turn_left", "turn_right"])).score < 0.4


def test_shifting_and_leaning_alone_is_not_judged() -> None:
    poses = [Pose(0, 0, 8 * np.sin(i / 3), (2 * np.sin(i / 4), np.cos(i / 5), 58 + i / 4)) for i in range(25)]
    assert not planarity(film("astronaut", poses, flat=True)).judged
    assert not planarity(film("astronaut", poses)).judged
