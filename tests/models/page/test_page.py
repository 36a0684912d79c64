"""Geometry of the page: order of corners, rectified view, parts of a mask and their boxes, refinement of sides."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.page.outline import box, parts, refine
from models.page.quad import ID1_SIZE, Quad, area, clipped, order_corners, overlap, rectify, side_lengths, within

Image = npt.NDArray[np.uint8]
Corners = npt.NDArray[np.float32]


def card() -> Image:
    """A page with a coloured mark in each corner, on paper with writing-like strokes."""
    width, height = ID1_SIZE
    page = np.full((height, width, 3), 225, np.uint8)
    rng = np.random.default_rng(4)
    for y in range(120, 560, 40):
        for x in range(220, 940, 24):
            page[y : y + 18, x : x + int(rng.integers(4, 20))] = 60
    for (y, x), colour in zip(itertools.product((0, height - 90), (0, width - 90)), MARKS, strict=True):
        page[y : y + 90, x : x + 90] = colour
    return page


MARKS = ((200, 30, 30), (30, 160, 30), (30, 30, 200), (180, 160, 20))


def filmed(corners: Corners, *, frame: tuple[int, int] = (1280, 720), ground: int = 70) -> Image:
    """The card at `corners` (clockwise from its top left) on a plain ground; edges lie between pixels, as in a film."""
    width, height = ID1_SIZE
    source = np.asarray([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - 0.5
    transform = cv2.getPerspectiveTransform(source, corners)
    page = cv2.warpPerspective(card(), transform, frame, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return np.where(_inside(corners, frame)[..., None] > 0.5, page, ground).astype(np.uint8)


def _inside(corners: Corners, frame: tuple[int, int]) -> npt.NDArray[np.float32]:
    x, y = np.meshgrid(np.arange(frame[0], dtype=np.float32), np.arange(frame[1], dtype=np.float32))
    inside = np.ones(frame[::-1], bool)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) >= 0
    return inside.astype(np.float32)


def placed(angle: float, *, size: float = 620, centre: tuple[float, float] = (640, 360), lean: float = 0.0) -> Corners:
    """Corners of an ID-1 page turned clockwise by `angle` degrees, its far side shorter by `lean`."""
    half = np.asarray([(-1, -0.63), (1, -0.63), (1, 0.63), (-1, 0.63)]) * size / 2
    half[:2] *= (1 - lean, 1 - lean / 2)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.asarray(half @ np.asarray([(c, s), (-s, c)]) + centre, np.float32)


def corner_distance(a: Corners, b: Corners) -> float:
    """Largest distance of corners, whichever comes first."""
    return min(float(np.linalg.norm(np.roll(a, turn, axis=0) - b, axis=1).max()) for turn in range(4))


@given(
    angle=st.floats(-75, 75),
    lean=st.floats(0, 0.25),
    order=st.permutations(range(4)),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_corners_come_in_one_order_whatever_order_they_are_given_in(
    angle: float, lean: float, order: list[int]
) -> None:
    corners = placed(angle, lean=lean)
    assert order_corners(corners[order]) == pytest.approx(corners)


def test_a_page_upside_down_lies_level_too() -> None:
    corners = placed(180)
    assert order_corners(corners) == pytest.approx(np.roll(corners, 2, axis=0))


def test_the_longer_side_comes_first_even_when_it_stands_upright() -> None:
    first, second, _, _ = side_lengths(order_corners(placed(89)))
    assert first > second


@pytest.mark.parametrize(("angle", "size", "lean"), [(0, 640, 0.0), (33, 500, 0.1), (-60, 560, 0.2), (10, 300, 0.0)])
def test_a_rectified_page_shows_the_card_level(angle: float, size: float, lean: float) -> None:
    corners = placed(angle, size=size, lean=lean)
    page = rectify(filmed(corners), Quad(order_corners(corners), 1.0))
    assert page.shape == (ID1_SIZE[1], ID1_SIZE[0], 3)
    for (y, x), colour in zip(itertools.product((45, 593), (45, 967)), MARKS, strict=True):
        assert page[y, x].astype(int) == pytest.approx(colour, abs=25)


def test_a_page_of_its_own_size_comes_back_unchanged() -> None:
    width, height = ID1_SIZE
    corners = np.asarray([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - 0.5
    assert (rectify(card(), Quad(corners, 1.0)) == card()).mean() > 0.999


def test_a_much_larger_page_is_averaged_and_not_thinned_out() -> None:
    lines = np.zeros((2400, 3600, 3), np.uint8)
    lines[::2] = 255
    corners = np.asarray([(0, 0), (3600, 0), (3600, 2400), (0, 2400)], np.float32) - 0.5
    page = rectify(lines, Quad(corners, 1.0), (360, 240))
    assert abs(page[10:-10, 10:-10].astype(int) - 127).max() < 12


@given(
    angles=st.tuples(st.floats(-90, 90), st.floats(-90, 90)),
    away=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_overlap_is_that_of_drawn_outlines(angles: tuple[float, float], away: tuple[float, float]) -> None:
    one = placed(angles[0], size=300, lean=0.1)
    other = placed(angles[1], size=400, centre=(640 + away[0], 360 + away[1]))
    # Both lie whole in what is drawn: an outline has no frame.
    drawn = [_inside(corners + np.float32(300), (1900, 1300)) > 0 for corners in (one, other)]
    union = np.count_nonzero(drawn[0] | drawn[1])
    assert overlap(one, other) == pytest.approx(np.count_nonzero(drawn[0] & drawn[1]) / union, abs=0.01)
    assert overlap(one, one) == pytest.approx(1.0)


@given(shift=st.floats(-0.01, 0.01), lean=st.floats(0, 1e-3), back=st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_sides_that_lie_on_one_another_do_not_add_up_to_more(shift: float, lean: float, back: bool) -> None:
    """OpenCV's own intersection was up to 2.5 times as large as either: a box along the frame was taken for a scan."""
    frame = np.asarray([(0, 0), (959, 0), (959, 539), (0, 539)], np.float32)
    box = np.asarray([(0, shift), (400, shift), (400 + 400 * lean, 539), (shift, 539 + shift)], np.float32)
    box = box[::-1] if back else box
    assert area(clipped(box, frame)) == pytest.approx(area(box), rel=1e-3)
    assert area(within(box, (540, 960))) <= area(box) * (1 + 1e-5)
    assert overlap(box, frame) == pytest.approx(400 / 959, abs=0.01)


MASK = (192, 192)


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_the_box_of_a_mask_has_its_corners(angle: float) -> None:
    corners = placed(angle, size=150, centre=(96, 96))
    [part] = parts(_inside(corners, MASK), MASK, 0.5)
    assert corner_distance(box(part, MASK), corners) < 3


def test_a_box_is_a_rectangle_of_the_picture_and_not_of_the_stretched_mask() -> None:
    corners = placed(30, size=500, centre=(640, 360))
    mask = np.asarray(cv2.resize(_inside(corners, (1280, 720)), MASK, interpolation=cv2.INTER_AREA), np.float32)
    [part] = parts(mask, (720, 1280), 0.5)
    assert corner_distance(box(part, (720, 1280)), corners) < 15


def test_a_smear_at_a_page_does_not_move_its_box() -> None:
    """The quadrilateral around the whole mask once ran out to the tip of any smear."""
    corners = placed(20, size=120, centre=(96, 96))
    mask = _inside(corners, MASK)
    x, y = corners[1]
    cv2.line(mask, (int(x) - 8, int(y) + 4), (int(x) + 30, int(y) - 12), 1.0, 7)
    [part] = parts(mask, MASK, 0.5)
    assert corner_distance(box(part, MASK), corners) < 8


def test_pages_joined_by_a_neck_are_two() -> None:
    mask = np.zeros(MASK, np.float32)
    mask[20:90, 20:130] = 1
    mask[100:170, 60:170] = 1
    mask[85:105, 90:100] = 1
    found = sorted((box(part, MASK) for part in parts(mask, MASK, 0.5)), key=lambda corners: float(corners[0, 1]))
    assert [corners.mean(axis=0) == pytest.approx(at, abs=4) for corners, at in zip(found, MIDDLES, strict=True)]


MIDDLES = ((74.5, 54.5), (114.5, 134.5))


@pytest.mark.parametrize("value", [0.0, 0.49])
def test_an_empty_mask_has_no_part(value: float) -> None:
    assert parts(np.full(MASK, value, np.float32), MASK, 0.5) == []


def test_a_speck_is_no_part() -> None:
    mask = np.zeros(MASK, np.float32)
    mask[20:32, 20:34] = 1
    assert parts(mask, MASK, 0.5) == []


def test_a_full_mask_is_the_whole_frame() -> None:
    [part] = parts(np.ones(MASK, np.float32), MASK, 0.5)
    frame = np.asarray([(-0.5, -0.5), (191.5, -0.5), (191.5, 191.5), (-0.5, 191.5)], np.float32)
    assert corner_distance(box(part, MASK), frame) < 0.01


@given(cells=st.binary(min_size=36, max_size=36))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_mask_gives_parts_of_it_and_finite_boxes(cells: bytes) -> None:
    small = np.frombuffer(cells, np.uint8).reshape(6, 6).astype(np.float32) / 255
    mask = np.asarray(cv2.resize(small, (96, 96)), np.float32)
    for part in parts(mask, (96, 96), 0.5):
        assert (mask[part] > 0.5).all()
        assert np.isfinite(box(part, (96, 96))).all()


@pytest.mark.parametrize("angle", [0, 7, 45, 90, 160])
def test_sides_move_onto_the_picture_s_edges(angle: float) -> None:
    corners = placed(angle, lean=0.1, size=560)
    rough = corners + np.random.default_rng(int(angle)).uniform(-9, 9, (4, 2)).astype(np.float32)
    moved = refine(filmed(corners), rough).corners
    assert corner_distance(rough, corners) > 4
    assert corner_distance(moved, corners) < 1.0


def test_a_hand_over_a_side_does_not_pull_it() -> None:
    corners = placed(5, size=600)
    image = filmed(corners)
    middle = (corners[0] + corners[1]) / 2
    cv2.circle(image, (int(middle[0]), int(middle[1])), 90, (200, 150, 120), -1)
    moved = refine(image, corners + np.asarray([(5, -5), (4, 6), (-5, 4), (3, -6)], np.float32)).corners
    assert corner_distance(moved, corners) < 1.5


def test_without_edges_the_rough_sides_stay() -> None:
    corners = placed(20)
    found = refine(np.full((720, 1280, 3), 90, np.uint8), corners)
    assert corner_distance(found.corners, corners) < 0.01
    assert found.support == 0


def test_edges_support_an_outline_that_lies_on_them() -> None:
    corners = placed(15, size=600)
    on, beside = (refine(filmed(corners), corners + np.float32(away)).support for away in (4, 90))
    assert on > 0.9
    assert beside < 0.5
