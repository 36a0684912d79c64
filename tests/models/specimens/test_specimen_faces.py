"""Face scans as specimens: found by the real detector, still the same person, moving as was asked; attacks as named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.face.detector import FaceDetector
from models.face.embedder import FaceEmbedder
from models.face.faces import FaceTrack
from models.face.landmarks import LandmarkFinder
from models.face.track import largest_face, track
from models.liveness.active import follow
from models.liveness.challenge import Challenge
from models.liveness.planar import planarity
from models.media.decoding import Frames, MediaLimits, probe, sample_frames
from models.networks.weights import dlib_path
from models.specimens.face_attacks import FaceAttack, attack_scan
from models.specimens.face_scan import FaceCapture, FaceConditions, face_scan
from models.specimens.head import load_portrait

CHALLENGE = Challenge.from_list(["turn_left", "look_up"])
TENTH = FaceConditions(frame_rate=10)
"""Filmed at the rate that is sampled: a third of the time to render."""
BRIEF, COARSE = Challenge.from_list(["turn_right"]), FaceConditions(frame_rate=4)
"""Where only what is in the picture matters."""
Follow = Callable[[FaceCapture], tuple[Frames, FaceTrack]]


@pytest.fixture(scope="module")
def networks() -> tuple[FaceDetector, LandmarkFinder, FaceEmbedder]:
    return (
        FaceDetector(dlib_path("mmod_human_face_detector")),
        LandmarkFinder(dlib_path("shape_predictor_5_face_landmarks")),
        FaceEmbedder(dlib_path("dlib_face_recognition_resnet_model_v1")),
    )


@pytest.fixture(scope="module")
def tracked(networks: tuple[FaceDetector, LandmarkFinder, FaceEmbedder]) -> Follow:
    def follow_faces(capture: FaceCapture) -> tuple[Frames, FaceTrack]:
        frames = sample_frames(capture.data, rate_hz=10, max_frames=40, max_side=640, limits=MediaLimits())
        return frames, track(frames.images, frames.timestamps, *networks, embed_best=6)

    return follow_faces


def test_scan_is_seeded_and_playable() -> None:
    one, same, other = (face_scan("astronaut", BRIEF, seed=s, conditions=COARSE) for s in (501, 501, 502))
    assert one.data == same.data
    assert one.poses == same.poses
    assert one.data != other.data
    info = probe(one.data, MediaLimits())
    assert (info.mime, info.width, info.height) == ("video/mp4", 640, 480)
    assert info.duration_s == pytest.approx(len(one.poses) / 4, abs=0.3)


@pytest.mark.parametrize(("portrait", "seed"), [("astronaut", 511), ("grace_hopper", 512)])
def test_scan_is_the_person_and_follows(
    portrait: str, seed: int, tracked: Follow, networks: tuple[FaceDetector, LandmarkFinder, FaceEmbedder]
) -> None:
    capture = face_scan(portrait, CHALLENGE, seed=seed, conditions=TENTH)
    frames, faces = tracked(capture)
    assert {face.frame for face in faces.faces} == set(range(len(frames.images)))
    photo = largest_face(load_portrait(portrait), *networks)
    assert photo is not None
    embedded = np.array([face.embedding for face in faces.faces if face.embedding.size])
    assert np.linalg.norm(embedded - photo.embedding, axis=1).min() < 0.5
    assert follow(faces, CHALLENGE).score > 0.8
    assert planarity(faces).score > 0.6


def test_moved_photo_is_a_face_without_depth(tracked: Follow) -> None:
    frames, faces = tracked(attack_scan(FaceAttack.MOVED_PHOTO, "astronaut", CHALLENGE, seed=521, conditions=TENTH))
    assert len({face.frame for face in faces.faces}) > 0.9 * len(frames.images)
    assert follow(faces, CHALLENGE).score < 0.5
    found = planarity(faces)
    assert found.judged
    assert found.score < 0.4


def test_company_and_nobody(tracked: Follow) -> None:
    _, both = tracked(attack_scan(FaceAttack.TWO_PEOPLE, "astronaut", BRIEF, seed=531, conditions=COARSE))
    assert np.median([len(found) for found in both.per_frame()]) == 2
    _, nobody = tracked(attack_scan(FaceAttack.NO_FACE, "astronaut", BRIEF, seed=532, conditions=COARSE))
    assert not nobody.faces


@pytest.mark.parametrize("attack", list(FaceAttack))
def test_every_attack_films(attack: FaceAttack) -> None:
    capture = attack_scan(attack, "grace_hopper", BRIEF, seed=541, conditions=COARSE)
    info = probe(capture.data, MediaLimits())
    assert info.duration_s == pytest.approx(len(capture.poses) / capture.frame_rate, abs=0.3)
