"""Our detector finds what dlib's finds, box for box."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import dlib
import matplotlib.cbook
import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import WeightsError
from models.face.detector import Detection, FaceDetector, _tiling
from models.networks.weights import dlib_path

U8 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(dlib_path("mmod_human_face_detector"))


@pytest.fixture(scope="module")
def reference() -> dlib.cnn_face_detection_model_v1:
    return dlib.cnn_face_detection_model_v1(str(dlib_path("mmod_human_face_detector")))


def astronaut() -> U8:
    return np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]


def hopper() -> U8:
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return np.asarray(matplotlib.image.imread(path), np.uint8)


def seen(image: U8, size: tuple[int, int], scale: float, turn: float, shift: tuple[float, float] = (0, 0)) -> U8:
    """The middle of the upper half of a portrait, scaled, turned by degrees and shifted by pixels, on grey."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width * 0.45, height * 0.3), turn, scale)
    matrix[:, 2] += np.array(size) / 2 - (width * 0.45, height * 0.3) + shift
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_AREA, borderValue=(90, 90, 90)), np.uint8)


VIEWS: dict[str, Callable[[], U8]] = {
    "astronaut": lambda: seen(astronaut(), (320, 280), 1.0, 0),
    "astronaut, turned and over the edge": lambda: seen(astronaut(), (300, 260), 1.3, 20, (95, -30)),
    "astronaut, as small as is seen": lambda: seen(astronaut(), (280, 280), 0.75, -12),
    "hopper": lambda: seen(hopper(), (320, 300), 0.8, 0),
    "hopper, large and turned": lambda: seen(hopper(), (360, 360), 1.1, -15),
    "both": lambda: np.hstack([seen(astronaut(), (230, 280), 1.0, 0), seen(hopper(), (230, 280), 0.7, 5)]),
    "astronaut, too small": lambda: seen(astronaut(), (200, 200), 0.5, 0),
    "nobody": lambda: seen(astronaut(), (240, 240), 1.0, 0, (0, -400)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_same_faces_as_dlib(view: str, detector: FaceDetector, reference: dlib.cnn_face_detection_model_v1) -> None:
    """At full resolution the steps are dlib's own, so boxes agree to a pixel (rounding) and scores to 1e-3."""
    image = VIEWS[view]()
    theirs = sorted(reference(image), key=lambda found: -found.confidence)
    ours = detector.detect(image[None])[0]
    assert len(ours) == len(theirs) == {"both": 2, "nobody": 0, "astronaut, too small": 0}.get(view, 1)
    for mine, his in zip(ours, theirs, strict=True):
        box = [his.rect.left(), his.rect.top(), his.rect.right(), his.rect.bottom()]
        assert mine.box == pytest.approx(box, abs=1)
        assert mine.score == pytest.approx(his.confidence, abs=1e-3)


def overlap(a: Detection, b: Detection) -> float:
    low, high = np.maximum(a.box[:2], b.box[:2]), np.minimum(a.box[2:], b.box[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(one.box[2:] - one.box[:2])) for one in (a, b)]
    return shared / (sum(areas) - shared)


def test_smaller_faces_are_found_when_asked_for(detector: FaceDetector) -> None:
    large = seen(astronaut(), (320, 280), 1.0, 0)
    small = np.asarray(cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    assert detector.detect(small[None]) == [[]]
    enlarged = detector.detect(small[None], min_face=40)[0]
    assert len(enlarged) == 1
    assert overlap(Detection(enlarged[0].box * 2, 0), detector.detect(large[None])[0][0]) > 0.7


def test_larger_faces_are_found_faster_at_the_same_place(detector: FaceDetector) -> None:
    image = seen(hopper(), (640, 480), 1.5, 0)
    whole, reduced = detector.detect(image[None])[0], detector.detect(image[None], min_face=150)[0]
    assert len(whole) == len(reduced) == 1
    assert overlap(whole[0], reduced[0]) > 0.7


def test_a_batch_gives_what_single_frames_give(detector: FaceDetector) -> None:
    frames = np.stack([seen(astronaut(), (300, 260), 1.0, turn) for turn in range(-20, 30, 10)])
    for alone, together in zip(frames, detector.detect(frames), strict=True):
        (one,) = detector.detect(alone[None])[0]
        assert [found.box.tolist() for found in together] == [one.box.tolist()]
        assert together[0].score == pytest.approx(one.score, abs=1e-4)


def test_read_only_frames_are_taken(detector: FaceDetector) -> None:
    """Arrays that Dask hands to a task are read-only; torch warned about them, and warnings are errors here."""
    frames = seen(astronaut(), (200, 200), 1.0, 0)[None]
    frames.flags.writeable = False
    assert len(detector.detect(frames)[0]) == 1


@pytest.mark.parametrize("shape", [(0, 480, 640, 3), (2, 1, 1, 3), (1, 3, 400, 3), (1, 400, 3, 3), (1, 0, 0, 3)])
def test_frames_too_small_for_a_face_have_none(shape: tuple[int, ...], detector: FaceDetector) -> None:
    assert detector.detect(np.zeros(shape, np.uint8)) == [[] for _ in range(shape[0])]


@pytest.mark.parametrize(
    ("images", "min_face"),
    [
        (np.zeros((1, 90, 90, 3), np.float32), 80),
        (np.zeros((90, 90, 3), np.uint8), 80),
        (np.zeros((1, 90, 90, 4), np.uint8), 80),
        (np.zeros((1, 90, 90, 3), np.uint8), 0),
    ],
)
def test_other_arrays_are_refused(images: npt.NDArray[np.uint8], min_face: int, detector: FaceDetector) -> None:
    with pytest.raises(ValueError, match="images are"):
        detector.detect(images, min_face=min_face)


def test_another_network_is_refused() -> None:
    with pytest.raises(WeightsError):
        FaceDetector(dlib_path("dlib_face_recognition_resnet_model_v1"))


@settings(max_examples=200)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_levels_of_the_pyramid_lie_apart_and_inside(width: int, height: int) -> None:
    tile = _tiling(width, height)
    covered = np.zeros((tile.height, tile.width), bool)
    for left, top, w, h in tile.levels:
        assert left >= 0
        assert top >= 0
        assert left + w <= tile.width
        assert top + h <= tile.height
        assert not covered[top : top + h, left : left + w].any()
        covered[top : top + h, left : left + w] = True
    assert tile.levels[0][2:] == (width, height)
