"""Landmarks, chips and embeddings: equal to dlib's, of the two portraits, also turned, scaled and disturbed."""

from __future__ import annotations

import cv2
import dlib
import matplotlib.cbook
import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from models.errors import WeightsError
from models.face.embedder import FaceEmbedder
from models.face.landmarks import LandmarkFinder, face_chip
from models.networks.weights import dlib_path

U8 = npt.NDArray[np.uint8]
BOXES = {"astronaut": (168, 69, 263, 164), "hopper": (191, 146, 355, 310)}
"""Where dlib's MMOD detector finds the faces: left, top, right, bottom."""
VIEWS = [(name, scale, turn) for name in BOXES for scale in (0.7, 1.0, 3.0) for turn in (0.0, 17.0)]
RESNET, POINTS = "dlib_face_recognition_resnet_model_v1", "shape_predictor_5_face_landmarks"


@pytest.fixture(scope="module")
def embedder() -> FaceEmbedder:
    return FaceEmbedder(dlib_path(RESNET))


@pytest.fixture(scope="module")
def reference() -> dlib.face_recognition_model_v1:
    return dlib.face_recognition_model_v1(str(dlib_path(RESNET)))


@pytest.fixture(scope="module")
def finder() -> LandmarkFinder:
    return LandmarkFinder(dlib_path(POINTS))


def view(name: str, scale: float = 1.0, turn: float = 0.0) -> tuple[U8, dlib.full_object_detection]:
    """A portrait, scaled and turned about its face, and dlib's landmarks in it."""
    if name == "astronaut":
        image = np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    else:
        path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
        image = np.asarray(matplotlib.image.imread(path), np.uint8)
    left, top, right, bottom = BOXES[name]
    matrix = cv2.getRotationMatrix2D(((left + right) / 2, (top + bottom) / 2), turn, 1)
    turned = cv2.warpAffine(image, matrix, image.shape[1::-1])
    scaled = np.ascontiguousarray(cv2.resize(turned, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    box = dlib.rectangle(*(round(side * scale) for side in BOXES[name]))
    return scaled, dlib.shape_predictor(str(dlib_path(POINTS)))(scaled, box)


def points(shape: dlib.full_object_detection) -> npt.NDArray[np.float32]:
    return np.array([(part.x, part.y) for part in shape.parts()], np.float32)


def test_landmarks_of_large_faces_are_dlibs(finder: LandmarkFinder) -> None:
    for name, box in BOXES.items():
        scale = 400 / (box[2] - box[0])
        image, shape = view(name, scale)
        found = finder.find(image, np.array([round(side * scale) for side in box], np.float32))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, points(shape))


def test_landmarks_of_small_faces_are_finer_than_dlibs(finder: LandmarkFinder) -> None:
    """dlib rounds to whole pixels: the chips of small faces were cut up to a hundredth of their width aside."""
    for name, box in BOXES.items():
        fine = points(view(name, 400 / (box[2] - box[0]))[1])
        scale = 80 / (box[2] - box[0])
        image, shape = view(name, scale)
        found = finder.find(image, np.array([round(side * scale) for side in box], np.float32))
        assert np.abs(found - points(shape)).max() < 1.5
        # Pixels are squares: places scale from their outer edges, at -0.5.
        errors = [np.abs((one + 0.5) * 5 - 0.5 - fine).mean() for one in (found, points(shape))]
        assert errors[0] < 0.7 * errors[1], name


@pytest.mark.parametrize("corner", [(-30.0, -40.0), (470.0, 470.0), (-500.0, -500.0), (700.0, 20.0)])
def test_a_box_over_the_edge_has_landmarks(finder: LandmarkFinder, corner: tuple[float, float]) -> None:
    image, _ = view("astronaut")
    found = finder.find(image, np.array([*corner, corner[0] + 90, corner[1] + 90], np.float32))
    assert found.shape == (5, 2)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("name", "scale", "turn"), VIEWS)
def test_chip_is_dlibs(name: str, scale: float, turn: float) -> None:
    """Same geometry: within a grey level or two, which dlib loses by cutting fractions off where cv2 rounds."""
    image, shape = view(name, scale, turn)
    ours = face_chip(image, points(shape)).astype(int)
    difference = np.abs(ours - dlib.get_face_chip(image, shape, 150, 0.25))
    assert difference.mean() < 2
    assert np.percentile(difference, 99) <= 8


def test_a_chip_over_the_edge_is_black_there() -> None:
    image, shape = view("astronaut")
    left = int(points(shape)[:, 0].min())
    cut = np.ascontiguousarray(image[:, left:])
    chip = face_chip(cut, points(shape) - (left, 0))
    assert (chip[:, :20] == 0).all()
    assert chip[:, 75:].mean() > 50
    assert not face_chip(cut, points(shape) + 5000).any()


def test_embeddings_are_dlibs(embedder: FaceEmbedder, reference: dlib.face_recognition_model_v1) -> None:
    """The promise is 1e-4; in fact they are within float32 rounding, about 3e-7."""
    random = np.random.default_rng(7)
    chips = []
    for name in BOXES:
        chip = dlib.get_face_chip(*view(name), 150, 0.25)
        noisy = np.clip(chip + random.normal(0, 12, chip.shape), 0, 255).astype(np.uint8)
        dark = (chip * 0.4).astype(np.uint8)
        chips += [chip, np.ascontiguousarray(chip[:, ::-1]), np.roll(chip, (5, -7), (0, 1)), noisy, dark]
        chips += [np.asarray(jittered, np.uint8) for jittered in dlib.jitter_image(chip, num_jitters=3)]
    chips.append(random.integers(0, 256, (150, 150, 3), np.uint8))
    theirs = np.array([reference.compute_face_descriptor(chip) for chip in chips])
    ours = embedder.embed(np.stack(chips))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_own_chips_embed_as_dlibs_chips_do(embedder: FaceEmbedder) -> None:
    """The distance that our chip adds is a thirtieth of the threshold of 0.6."""
    for name in BOXES:
        image, shape = view(name, 2.0, 9.0)
        own, dlibs = embedder.embed(
            np.stack([face_chip(image, points(shape)), dlib.get_face_chip(image, shape, 150, 0.25)])
        )
        assert np.linalg.norm(own - dlibs) < 0.02


def test_both_ways_is_the_mean_with_the_mirror_image(embedder: FaceEmbedder) -> None:
    chips = np.stack([face_chip(image, points(shape)) for image, shape in map(view, BOXES)])
    mirrored = np.ascontiguousarray(chips[:, :, ::-1])
    mean = (embedder.embed(chips) + embedder.embed(mirrored)) / 2
    np.testing.assert_allclose(embedder.embed_both_ways(chips), mean, atol=1e-6)
    np.testing.assert_allclose(embedder.embed_both_ways(mirrored), mean, atol=1e-6)
    assert embedder.embed_both_ways(chips[:0]).shape == (0, 128)


def test_batches_of_any_size_agree(embedder: FaceEmbedder) -> None:
    chips = np.random.default_rng(1).integers(0, 256, (35, 150, 150, 3), np.uint8)
    assert embedder.embed(chips[:0]).shape == (0, 128)
    np.testing.assert_allclose(embedder.embed(chips)[33:], embedder.embed(chips[33:]), atol=1e-5)


def test_read_only_chips_are_taken(embedder: FaceEmbedder) -> None:
    """Arrays that Dask hands to a task are read-only; torch warned about them, and warnings are errors here."""
    chips = np.random.default_rng(2).integers(0, 256, (1, 150, 150, 3), np.uint8)
    expected = embedder.embed(chips)
    chips.flags.writeable = False
    np.testing.assert_array_equal(embedder.embed(chips), expected)


@pytest.mark.parametrize(
    "chips",
    [
        np.zeros((1, 150, 150, 3), np.float32),
        np.zeros((150, 150, 3), np.uint8),
        np.zeros((1, 3, 150, 150), np.uint8),
        np.zeros((1, 149, 150, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(chips: U8, embedder: FaceEmbedder) -> None:
    with pytest.raises(ValueError, match="chips are"):
        embedder.embed(chips)


def test_another_network_is_refused() -> None:
    with pytest.raises(WeightsError):
        FaceEmbedder(dlib_path("mmod_human_face_detector"))
