"""The quality measures of a face depend on the part of the box inside the frame, and react to blur and darkness."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from skimage.data import astronaut

from models.face.quality import measure_face

Image = npt.NDArray[np.uint8]


def portrait() -> Image:
    return np.asarray(astronaut(), np.uint8)  # type: ignore[no-untyped-call]


FACE = np.asarray([170, 60, 280, 190], np.float32)


def test_a_face_is_measured_in_its_box() -> None:
    image = portrait()
    sharp = measure_face(image, FACE)
    blurred = measure_face(np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8), FACE)
    dark = measure_face((image * 0.3).astype(np.uint8), FACE)
    assert sharp.size == 110
    assert blurred.sharpness < sharp.sharpness / 4
    assert dark.brightness == pytest.approx(sharp.brightness * 0.3, abs=2)


def test_a_face_box_may_reach_out_of_the_frame() -> None:
    image = portrait()
    assert measure_face(image, np.asarray([-40, -30, 100, 110], np.float32)).size == 100
    assert measure_face(image, np.asarray([600, 10, 700, 90], np.float32)).size == 0
