"""From frames to faces to a match: same person near, others far, nobody is no match."""

from __future__ import annotations

from dataclasses import replace

import cv2
import matplotlib.cbook
import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from models.face.detector import FaceDetector
from models.face.embedder import FaceEmbedder
from models.face.faces import Face, FaceTrack, joined
from models.face.landmarks import LandmarkFinder
from models.face.match import BEST_PAIRS, PUBLISHED_THRESHOLD, match
from models.face.track import KEY_EVERY, SMALLEST_IN_SCAN, fitness, largest_face, track
from models.networks.weights import dlib_path

U8 = npt.NDArray[np.uint8]
Models = tuple[FaceDetector, LandmarkFinder, FaceEmbedder]


@pytest.fixture(scope="module")
def models() -> Models:
    return (
        FaceDetector(dlib_path("mmod_human_face_detector")),
        LandmarkFinder(dlib_path("shape_predictor_5_face_landmarks")),
        FaceEmbedder(dlib_path("dlib_face_recognition_resnet_model_v1")),
    )


def portrait(name: str) -> U8:
    if name == "astronaut":
        return np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return np.asarray(matplotlib.image.imread(path), np.uint8)


CENTRES = {"astronaut": (215, 116), "hopper": (273, 228)}


def frame(name: str, turn: float = 0.0, scale: float = 1.0, at: tuple[int, int] = (160, 130)) -> U8:
    """A 320×240 frame with the face at a place, turned and scaled."""
    matrix = cv2.getRotationMatrix2D(CENTRES[name], turn, scale)
    matrix[:, 2] += np.subtract(at, CENTRES[name])
    return np.asarray(cv2.warpAffine(portrait(name), matrix, (320, 240), flags=cv2.INTER_AREA), np.uint8)


def filmed(frames: list[U8], models: Models, embed_best: int = 4) -> FaceTrack:
    times = np.arange(len(frames)) / 10
    return track(np.stack(frames), times, *models, embed_best=embed_best)


@pytest.fixture(scope="module")
def scan(models: Models) -> FaceTrack:
    """Ten frames of the astronaut who leans; the third is empty."""
    frames = [frame("astronaut", turn) for turn in range(-20, 20, 4)]
    frames[2] = np.full_like(frames[0], 120)
    return filmed(frames, models)


def test_every_frame_is_accounted_for(scan: FaceTrack) -> None:
    assert [len(group) for group in scan.per_frame()] == [1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    assert scan.shape == (240, 320)
    for face in scan.faces:
        assert face.chip.shape == (150, 150, 3)
        assert face.landmarks.shape == (5, 2)
        # The base of a nose seen from the side lies at the box's edge; boxes come in steps of some pixels.
        left, top, right, bottom = face.box + np.array([-3, -3, 3, 3], np.float32)
        assert (left < face.landmarks[:, 0]).all()
        assert (face.landmarks[:, 0] < right).all()
        assert (top < face.landmarks[:, 1]).all()
        assert (face.landmarks[:, 1] < bottom).all()


def test_embedded_faces_are_spread_over_time(scan: FaceTrack) -> None:
    embedded = [face.frame for face in scan.faces if face.embedding.size]
    assert len(embedded) == 4
    assert [min(round(index / 9 * 4 - 0.5), 3) for index in embedded] == [0, 1, 2, 3]


def test_same_person_is_near_and_another_far(scan: FaceTrack, models: Models) -> None:
    for name, near in (("astronaut", True), ("hopper", False)):
        face = largest_face(portrait(name), *models)
        assert face is not None
        found = match(scan, face)
        assert found is not None
        assert (found.distance < 0.3) if near else (found.distance > PUBLISHED_THRESHOLD)


def test_a_change_of_person_shows_in_the_embeddings(models: Models) -> None:
    changed = filmed([frame("astronaut")] * 6 + [frame("hopper", 0, 0.6)] * 2, models, embed_best=4)
    embedded = [face for face in changed.faces if face.embedding.size]
    assert embedded[0].frame < 6 <= embedded[-1].frame
    assert np.linalg.norm(embedded[0].embedding - embedded[-1].embedding) > PUBLISHED_THRESHOLD


def test_small_faces_are_dropped(models: Models) -> None:
    """The face measures 96 pixels at full scale; boxes come in steps of a fifth, so the limit is that sharp."""
    assert 96 * 0.4 < SMALLEST_IN_SCAN * 240 / 1.2 < SMALLEST_IN_SCAN * 240 < 96
    assert not filmed([frame("astronaut", 0, 0.4)], models).faces


def test_two_people_are_both_kept_and_the_larger_is_embedded(models: Models) -> None:
    both = np.hstack([frame("astronaut", 0, 1.3)[:, 40:280], frame("hopper", 0, 0.5)[:, 60:260]])
    (group,) = filmed([both], models, embed_best=2).per_frame()
    assert len(group) == 2
    assert group[0].embedding.size == 128
    assert group[1].embedding.size == 0


def test_nobody_is_never_a_match(models: Models) -> None:
    empty = filmed([np.full((240, 320, 3), 120, np.uint8)] * 2, models)
    assert empty.faces == ()
    assert match(empty, bare(0, np.zeros(128, np.float32))) is None
    assert largest_face(np.full((240, 320, 3), 120, np.uint8), *models) is None


def test_no_embedding_on_the_portrait_is_never_a_match(scan: FaceTrack) -> None:
    assert match(scan, bare(0, np.empty(0, np.float32))) is None


def bare(index: int, embedding: npt.NDArray[np.float32]) -> Face:
    nothing = np.zeros(0, np.float32)
    return Face(index, nothing, 1.0, nothing, np.zeros((0, 0, 3), np.uint8), embedding, FaceEmbedder.model)


def test_match_takes_the_mean_of_the_best_pairs() -> None:
    distances = [0.9, 0.2, 0.5, 0.3, 1.4]
    faces = [bare(index, np.array([distance, 0], np.float32)) for index, distance in enumerate(distances)]
    faces.append(bare(5, np.empty(0, np.float32)))
    found = match(FaceTrack(tuple(faces), np.arange(6.0), (240, 320)), bare(0, np.zeros(2, np.float32)))
    assert found is not None
    assert BEST_PAIRS == 3
    assert found.distance == pytest.approx((0.2 + 0.3 + 0.5) / 3)
    assert [pair.frame for pair in found.pairs] == [1, 3, 2, 0, 4]


def test_embeddings_of_two_sizes_are_not_compared() -> None:
    faces = (bare(0, np.zeros(128, np.float32)),)
    with pytest.raises(ValueError, match="portrait's shape"):
        match(FaceTrack(faces, np.zeros(1), (240, 320)), bare(0, np.zeros(512, np.float32)))


def test_fitness_prefers_sharp_frontal_and_large_faces(scan: FaceTrack) -> None:
    face = scan.faces[4]
    blurred = replace(face, chip=np.asarray(cv2.GaussianBlur(face.chip, (0, 0), 4), np.uint8))
    aside = replace(face, landmarks=face.landmarks + np.array([[0, 0]] * 4 + [[12, 0]], np.float32))
    small = replace(face, box=(face.box / 2).astype(np.float32))
    assert fitness(face) > max(fitness(blurred), fitness(aside), fitness(small)) > 0


def test_a_scan_is_searched_whole_now_and_then_and_near_the_face_between(models: Models) -> None:
    """Same faces in the same places as a search of every frame, to a step of the pyramid."""
    frames = np.stack([frame("astronaut", 3 * i, 1 + i / 40, (150 + 4 * i, 125 + 2 * i)) for i in range(-5, 6)])
    tracked = track(frames, np.arange(11) / 8, *models, embed_best=0)
    smallest = round(SMALLEST_IN_SCAN * 240)
    whole = [found[0].box for found in models[0].detect(frames, min_face=smallest)]
    assert [len(group) for group in tracked.per_frame()] == [1] * 11
    for (face,), box in zip(tracked.per_frame(), whole, strict=True):
        assert np.abs(face.box - box).max() < 0.25 * (box[2] - box[0])


def test_someone_who_joins_between_two_whole_searches_is_found(models: Models) -> None:
    """The near search sees only the first person; the next whole frame shows both, and those before it are redone."""
    alone = np.hstack([frame("astronaut", 0, 1.3)[:, 40:280], np.full((240, 200, 3), 120, np.uint8)])
    both = np.hstack([frame("astronaut", 0, 1.3)[:, 40:280], frame("hopper", 0, 0.5)[:, 60:260]])
    frames = np.stack([alone] * (KEY_EVERY + 2) + [both] * (KEY_EVERY - 1))
    found = [len(group) for group in track(frames, np.arange(len(frames)) / 8, *models, embed_best=0).per_frame()]
    assert found == [1] * (KEY_EVERY + 2) + [2] * (KEY_EVERY - 1)


def test_a_face_that_leaves_its_surroundings_is_searched_for_everywhere(models: Models) -> None:
    frames = np.stack([frame("astronaut", at=(90, 130))] * 5)
    frames[2] = frame("astronaut", at=(250, 130))
    tracked = track(frames, np.arange(5) / 8, *models, embed_best=0)
    centres = [float(group[0].box[[0, 2]].mean()) for group in tracked.per_frame()]
    assert abs(centres[2] - centres[1]) > 100
    assert abs(centres[3] - centres[1]) < 25


def test_two_halves_of_a_scan_join_to_one(models: Models) -> None:
    frames = np.stack([frame("astronaut", turn) for turn in (-4, 0, 4)])
    times = np.arange(3) / 8
    early, late = (track(frames[part], times[part], *models, embed_best=1) for part in (slice(0, 1), slice(1, 3)))
    both = joined(early, late)
    assert [face.frame for face in both.faces] == [0, 1, 2]
    assert both.timestamps.tolist() == times.tolist()
    assert [bool(face.embedding.size) for face in both.faces].count(True) == 2
    nobody = track(frames[:0], times[:0], *models, embed_best=1)
    assert joined(early, nobody).faces == early.faces


@pytest.mark.parametrize("at", [(-60.0, -60.0), (0.0, 0.0), (700.0, 500.0)])
def test_a_place_at_or_beyond_the_edge_can_be_searched(models: Models, at: tuple[float, float]) -> None:
    blank = np.full((1, 240, 320, 3), 120, np.uint8)
    assert models[0].detect_near(blank, np.array([[*at, at[0] + 90, at[1] + 90]])) == [[]]


def test_boxes_and_frames_must_be_as_many(models: Models) -> None:
    with pytest.raises(ValueError, match="1 images and 2 boxes"):
        models[0].detect_near(np.zeros((1, 9, 9, 3), np.uint8), np.zeros((2, 4)))
