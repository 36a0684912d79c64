"""Mask and straight edges together: a rough mask is enough when the page's edges can be seen."""

from __future__ import annotations

from datetime import date

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.page_lines import fit_outline
from models.specimens.document import make_specimen, render_front

Corners = npt.NDArray[np.float32]
TRUE = np.array([(210, 120), (930, 160), (905, 610), (190, 560)], np.float32)


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


def mask_of(corners: Corners) -> npt.NDArray[np.float32]:
    mask = np.zeros((720, 1280), np.float32)
    cv2.fillConvexPoly(mask, corners.astype(np.int32), 1.0)
    return np.asarray(cv2.resize(mask, (192, 192), interpolation=cv2.INTER_AREA), np.float32)


def furthest(found: Corners, truth: Corners) -> float:
    """Largest distance of a corner, whichever corner comes first."""
    turns = [np.linalg.norm(np.roll(found, turn, axis=0) - truth, axis=1).max() for turn in range(4)]
    return float(min(turns))


@pytest.mark.parametrize(
    ("rough", "what"),
    [
        (TRUE, "right"),
        (TRUE + np.array([25, -12], np.float32), "shifted"),
        ((TRUE - TRUE.mean(axis=0)) * np.float32(1.08) + TRUE.mean(axis=0), "too large"),
        (TRUE * np.array([1, 1], np.float32) + np.array([(0, 35), (0, 35), (0, 0), (0, 0)], np.float32), "no band"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rough_mask_is_mended_by_the_edges(rough: Corners, what: str) -> None:
    """The net once missed dark header bands, and took in light desks."""
    found = fit_outline(scene(TRUE), mask_of(rough.astype(np.float32)))
    assert found is not None
    assert furthest(found[0], TRUE) < 12, what


def test_without_edges_the_mask_decides() -> None:
    found = fit_outline(np.full((720, 1280, 3), 120, np.uint8), mask_of(TRUE))
    assert found is not None
    assert furthest(found[0], TRUE) < 12
    assert found[1] > 0.9


def test_no_mask_no_outline() -> None:
    assert fit_outline(scene(TRUE), np.zeros((192, 192), np.float32)) is None
