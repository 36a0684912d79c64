"""A rough outline is mended by looking at it again, flattened."""

from __future__ import annotations

from datetime import date

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.networks.weights import own
from models.page.corners import VIEW_SIDE, CornerFinder, halves, is_convex, view
from models.specimens.document import make_specimen, render_front

Corners = npt.NDArray[np.float32]
TRUE = np.array([(210, 120), (930, 160), (905, 610), (190, 560)], np.float32)


@pytest.fixture(scope="module")
def finder() -> CornerFinder:
    return CornerFinder(own("page_corners"))


def scene(corners: Corners, ground: int = 90) -> npt.NDArray[np.uint8]:
    """A specimen's front laid on a plain ground."""
    card = render_front(make_specimen(73, design="azure", portrait="astronaut", today=date(2026, 1, 1)))
    height, width = card.shape[:2]
    flat = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    warp = cv2.getPerspectiveTransform(flat, corners)
    picture = np.full((720, 1280, 3), ground, np.uint8)
    return np.asarray(
        cv2.warpPerspective(card, warp, (1280, 720), picture, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT), np.uint8
    )


@pytest.mark.parametrize(
    ("rough", "what"),
    [
        (TRUE, "right"),
        (TRUE + np.array([25, -12], np.float32), "shifted"),
        ((TRUE - TRUE.mean(axis=0)) * np.float32(1.2) + TRUE.mean(axis=0), "too large"),
        (TRUE + np.array([(0, 60), (0, 60), (0, 0), (0, 0)], np.float32), "without its band"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rough_outline_is_mended(finder: CornerFinder, rough: Corners, what: str) -> None:
    """The mask once missed dark header bands, and took in light desks."""
    [(corners, score, _)] = finder.look([(scene(TRUE), rough.astype(np.float32))])
    assert np.linalg.norm(corners - TRUE, axis=1).max() < 20, what
    assert score > 0.9


def test_where_nothing_lies_there_is_no_page(finder: CornerFinder) -> None:
    [(_, score, _)] = finder.look([(np.full((720, 1280, 3), 120, np.uint8), TRUE)])
    assert score < 0.5


def test_the_side_beyond_the_frame_is_continued(finder: CornerFinder) -> None:
    out = TRUE - np.array([250, 0], np.float32)
    [(corners, score, _)] = finder.look([(scene(out), np.maximum(out, 0))])
    assert score > 0.5
    assert corners[:, 0].min() < -10


def test_no_outlines() -> None:
    assert CornerFinder(own("page_corners")).look([]) == []


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 3.0])
def test_a_view_and_the_frame_agree_on_places_at_any_scale(scale: float) -> None:
    """Half a pixel lost between levels of the halved frame would be two in the frame."""
    picture = np.asarray(cv2.resize(scene(TRUE), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    corners = (TRUE + 0.5) * np.float32(scale) - 0.5
    one = view(halves(picture), corners.astype(np.float32), 0.15)
    assert one.picture.shape == (VIEW_SIDE, VIEW_SIDE, 4)
    low = 0.15 / 1.3
    assert one.to_view(corners) == pytest.approx(
        np.array([(low, low), (1 - low, low), (1 - low, 1 - low), (low, 1 - low)]), abs=1e-3
    )
    assert one.to_frame(one.to_view(corners)) == pytest.approx(corners, abs=1e-2)
    # Inside the page it is not the ground's grey, and outside it is.
    edge = round(low * VIEW_SIDE)
    assert np.all(np.abs(one.picture[VIEW_SIDE // 2, : edge - 2, :3].astype(int) - 90) < 12)
    assert np.abs(one.picture[VIEW_SIDE // 2, edge + 2 : -edge - 2, :3].astype(int) - 90).mean() > 20


def test_an_outline_that_folds_over_is_not_convex() -> None:
    assert is_convex(TRUE)
    assert is_convex(TRUE[::-1])
    assert not is_convex(TRUE[[0, 2, 1, 3]])
    assert not is_convex(np.zeros((4, 2), np.float32))
