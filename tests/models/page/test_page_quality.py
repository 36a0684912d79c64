"""Each fault of a frame changes the measure meant for it, in the right direction, and no other."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.page.quad import Quad, rectify
from models.page.quality import FrameQuality, agreeing, best, measure

Image = npt.NDArray[np.uint8]
SHAPE = (720, 1280)
CORNERS = np.asarray([(300, 150), (980, 150), (980, 579), (300, 579)], np.float32)


def frame() -> Image:
    rng = np.random.default_rng(8)
    image = np.full((*SHAPE, 3), 60, np.uint8)
    image[150:579, 300:980] = (190, 200, 205)
    for y in range(180, 560, 28):
        for x in range(320, 960, 16):
            if rng.random() < 0.6:
                image[y : y + 12, x : x + int(rng.integers(3, 13))] = 50
    return image


def measured(image: Image, corners: npt.NDArray[np.float32] = CORNERS) -> FrameQuality:
    quad = Quad(corners, 1.0)
    return measure(rectify(image, quad, (506, 319)), quad, image.shape[:2], 3)


PLAIN = measured(frame())


def test_a_good_frame() -> None:
    assert PLAIN.index == 3
    assert PLAIN.sharpness > 500
    assert 100 < PLAIN.brightness < 210
    assert PLAIN.contrast > 100
    assert PLAIN.glare == 0
    assert PLAIN.coverage == pytest.approx(680 * 429 / (720 * 1280), rel=0.01)
    assert not PLAIN.cut_off
    assert PLAIN.resolution == pytest.approx(680)


def test_blur_lowers_sharpness_step_by_step() -> None:
    blurred = [measured(np.asarray(cv2.GaussianBlur(frame(), (0, 0), s), np.uint8)).sharpness for s in (1.0, 2.0, 4.0)]
    assert PLAIN.sharpness > blurred[0] > 2 * blurred[1] > 4 * blurred[2]


def test_motion_blur_lowers_sharpness() -> None:
    smeared = np.asarray(cv2.blur(frame(), (25, 1)), np.uint8)
    assert measured(smeared).sharpness < PLAIN.sharpness / 2


def test_darkness_shows_in_brightness_and_contrast() -> None:
    dark = measured((frame() * 0.2).astype(np.uint8))
    assert dark.brightness == pytest.approx(PLAIN.brightness * 0.2, rel=0.05)
    assert dark.contrast < PLAIN.contrast / 3


def test_glare_is_the_saturated_part_of_the_page() -> None:
    image = frame()
    image[200:300, 400:600] = 255
    assert measured(image).glare == pytest.approx(100 * 200 / (680 * 429), rel=0.1)


def test_bright_colours_thin_strokes_and_the_ground_are_no_glare() -> None:
    image = frame()
    image[200:300, 400:600] = (255, 255, 120)
    image[400:402, 320:960] = 255
    image[:100] = 255
    assert measured(image).glare == 0


@pytest.mark.parametrize("shift", [(-310, 0), (400, 0), (0, -149), (0, 141)])
def test_a_page_over_the_border_is_cut_off(shift: tuple[int, int]) -> None:
    moved = measured(frame(), CORNERS + np.asarray(shift, np.float32))
    assert moved.cut_off
    assert moved.coverage <= PLAIN.coverage + 1e-6


def test_a_scan_that_the_page_fills_is_whole() -> None:
    corners = np.asarray([(-0.5, -0.5), (1279.5, -0.5), (1279.5, 719.5), (-0.5, 719.5)], np.float32)
    scan = measured(frame(), corners)
    assert not scan.cut_off
    assert scan.coverage == pytest.approx(1)


def test_measures_mean_the_same_at_every_resolution() -> None:
    half = np.asarray(cv2.resize(frame(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    small = measured(half, (CORNERS + 0.5) * 0.5 - 0.5)
    assert small.brightness == pytest.approx(PLAIN.brightness, abs=2)
    assert small.coverage == pytest.approx(PLAIN.coverage, rel=0.01)
    assert small.resolution == pytest.approx(PLAIN.resolution / 2)


def test_a_page_of_any_size_is_measured_at_one() -> None:
    quad = Quad(CORNERS, 1.0)
    large = measure(rectify(frame(), quad), quad, SHAPE)
    assert large.brightness == pytest.approx(PLAIN.brightness, abs=2)
    assert large.sharpness == pytest.approx(PLAIN.sharpness, rel=0.4)


def test_the_best_frames_are_whole_sharp_and_free_of_glare() -> None:
    base = replace(PLAIN, sharpness=100.0)
    frames = [
        replace(base, index=0, sharpness=60.0),
        replace(base, index=1, sharpness=90.0, cut_off=True),
        replace(base, index=2, sharpness=100.0, glare=0.2),
        replace(base, index=3, sharpness=70.0),
        replace(base, index=4, sharpness=70.0),
    ]
    assert [q.index for q in best(frames, 3)] == [3, 4, 0]
    assert [q.index for q in best(frames, 9)] == [3, 4, 0, 2, 1]
    assert best([], 3) == []


def test_a_page_that_was_outlined_wrongly_is_outvoted() -> None:
    """Clutter beside the document once made a wrong outline look like the sharpest page."""
    rng = np.random.default_rng(4)
    right = cv2.GaussianBlur(rng.integers(0, 256, (319, 506, 3), dtype=np.uint8), (0, 0), 9).astype(np.float32)
    right = (right - right.min()) / (right.max() - right.min()) * 200
    wrong = np.asarray(cv2.resize(right[:, 60:440], (506, 319)), np.float32)
    pages = np.stack([np.clip(p + rng.normal(0, 8, p.shape), 0, 255) for p in (wrong, *[right] * 5)]).astype(np.uint8)
    assert 0 not in agreeing(pages)
    assert len(agreeing(pages)) == 3
    assert list(agreeing(pages[:1])) == [0]
    assert len(agreeing(pages[:0])) == 0
