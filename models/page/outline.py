"""Turns a page mask into four corners: fits a quadrilateral to it, then moves its sides onto the picture's edges."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from models.page.quad import order_corners

Floats = npt.NDArray[np.float32]

_SAMPLES = 64
"""Profiles across each side."""
_ENDS = 0.07
"""Part of a side left out at both ends: rounded corners (ISO/IEC 7810: radius 3.18 mm, 4 % of the longer side)."""
_REACH = 0.03
"""How far a profile reaches to both sides, as a part of the page's mean side: the mask's own error is below it."""
_LEAST_AGREEMENT = 0.35
"""Part of the profiles that must agree on a line; with less (hand, glare, page cut off there) the mask's side stays."""


_LEAST_PART = 0.012
"""Of the mask: smaller parts are no page."""
_LEAST_BESIDE = 0.3
"""Of the largest part: a document beside another is about as large as that one, crumbs of the mask are not."""
_CORE = 0.35
"""Of the largest distance from a part's border: what is thinner than twice that is a neck between two pages, or a smear
at the edge of one.
"""

_LONGEST = 2.1
"""Longer by shorter side past which a part is two pages side by side. An ID-1 card tilted by 40° is at 1.586 / cos 40°,
which is 2.07.
"""
_CUTS = 64
"""Steps along such a part in which the place to cut it is looked for."""

_PIXEL = np.asarray([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)], np.float32)

Part = npt.NDArray[np.bool_]


def parts(mask: Floats, shape: tuple[int, ...], threshold: float) -> list[Part]:
    """The pages that a mask shows, the largest first: bool (H, W) each, without smears at their edges.

    mask: float32 (H, W), probability of page; it counts from `threshold` on. shape: height and width of the picture
    that the mask lies over. Pages that a neck joins are parted there, two side by side that run into one another are
    cut apart where the mask is thinnest; those one above the other along a whole side are taken for one. Empty when no
    part is large enough.
    """
    pages = _large((mask > threshold).astype(np.uint8))
    pages = [core for page in pages for core in _cores(page)]
    pages = [half for page in pages for half in _halves(page, shape)]
    pages.sort(key=lambda page: -int(page.sum()))
    return [page for page in pages if page.sum() >= _LEAST_BESIDE * pages[0].sum()]


def _large(part: npt.NDArray[np.uint8]) -> list[Part]:
    """The connected parts that are large enough."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return [labels == 1 + int(n) for n in np.flatnonzero(areas >= _LEAST_PART * part.size)]


def _cores(part: Part) -> list[Part]:
    """A part without what is much thinner than its thickest place: the opening by a disc (Serra 1982)."""
    padded = np.pad(part.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
    reach = _CORE * float(distance.max())
    _, labels = cv2.connectedComponents((distance > reach).astype(np.uint8), connectivity=4)
    cores = []
    for label in range(1, int(labels.max()) + 1):
        away = cv2.distanceTransform((labels != label).astype(np.uint8), cv2.DIST_L2, 5)
        core = (away <= reach)[1:-1, 1:-1] & part
        if core.sum() >= _LEAST_PART * part.size:
            cores.append(core)
    return cores


def _halves(part: Part, shape: tuple[int, ...]) -> list[Part]:
    """A part of a mask, cut in two where it is thinnest when it is too long for one page."""
    ys, xs = np.nonzero(part)
    points = np.stack([xs * shape[1] / part.shape[1], ys * shape[0] / part.shape[0]], axis=1).astype(np.float32)
    _, (width, height), angle = cv2.minAreaRect(points)
    if max(width, height) < _LONGEST * min(width, height):
        return [part]
    turn = np.radians(angle if width > height else angle + 90)
    along = points @ np.asarray([np.cos(turn), np.sin(turn)])
    steps = np.floor((along - along.min()) / max(float(np.ptp(along)), 1e-6) * (_CUTS - 1)).astype(int)
    thickness = np.bincount(steps, minlength=_CUTS)
    low, high = _CUTS * 3 // 10, _CUTS * 7 // 10
    cut = low + int(np.argmin(np.convolve(thickness, np.ones(3), "same")[low:high]))
    halves = []
    for chosen in (steps <= cut, steps > cut):
        half = np.zeros_like(part)
        half[ys[chosen], xs[chosen]] = True
        halves.append(half)
    return halves


def box(part: Part, shape: tuple[int, ...]) -> Floats:
    """The rectangle of least area around a part of a mask: float32 (4, 2) in pixels of the picture of that shape
    (height, width) that the mask lies over, clockwise. A rectangle of the picture, not of the mask, which is stretched.
    """
    contours, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Contours run through pixel centres; the mask reaches half a pixel further.
    points = (cv2.convexHull(max(contours, key=len)).astype(np.float32) + _PIXEL).reshape(-1, 2) + 0.5
    scale = np.asarray([shape[1] / part.shape[1], shape[0] / part.shape[0]], np.float32)
    return order_corners(np.asarray(cv2.boxPoints(cv2.minAreaRect(points * scale - 0.5)), np.float32))


class Refined(NamedTuple):
    """corners: float32 (4, 2) as `Quad` has them; support: part of the profiles across the sides, 0..1, that agree on
    an edge of the picture there.
    """

    corners: Floats
    support: float


def refine(image: npt.NDArray[np.uint8], corners: Floats) -> Refined:
    """Corners moved to sub-pixel accuracy: across each side, the strongest step of brightness near it; a line through
    the steps that agree; corners where neighbouring lines meet.

    image: uint8 (H, W, 3). corners: float32 (4, 2) in its pixels, clockwise. Three passes: the second begins where the
    first has moved some sides, so that others come within reach; the third is four times closer.
    """
    support = 0.0
    for narrowing in (1.0, 1.0, 0.25):
        reach = max(
            3.0, narrowing * _REACH * float(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).mean())
        )
        sides = [_side(image, corners[i], corners[(i + 1) % 4], reach) for i in range(4)]
        moved = np.asarray([_meet(sides[i - 1], sides[i]) for i in range(4)], np.float32)
        # Two sides drawn onto one and the same edge fold the outline: then the mask knows better.
        if not np.isfinite(moved).all() or np.abs(moved - corners).max() > 3 * reach:
            break
        corners, support = moved, sum(side.agreeing for side in sides) / 4
    return Refined(order_corners(corners), support)


class _Side(NamedTuple):
    """A point on a side's line, its direction, and the part of the profiles, 0..1, that agree on it."""

    point: Floats
    direction: Floats
    agreeing: float


def _side(image: npt.NDArray[np.uint8], start: Floats, end: Floats, reach: float) -> _Side:
    direction = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
    normal = np.asarray([-direction[1], direction[0]], np.float32)
    offsets = np.linspace(-reach, reach, 2 * int(np.ceil(reach)) + 1, dtype=np.float32)
    along = np.linspace(_ENDS, 1 - _ENDS, _SAMPLES, dtype=np.float32)
    centres = start + along[:, None] * (end - start)
    grid = centres[:, None] + offsets[None, :, None] * normal
    profiles = cv2.remap(image, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Against noise, across the side only: the whole picture would cost 5 ms, and hands would smear along the side.
    profiles = cv2.GaussianBlur(np.asarray(profiles, np.float32), (5, 1), 1.0)
    # Largest step over the three channels: pages of the background's brightness still differ in colour.
    steps = np.abs(np.gradient(profiles, axis=1)).max(axis=2)
    steps *= np.exp(-0.5 * (offsets / (0.6 * reach)) ** 2)
    best = steps.argmax(axis=1)
    height, width = image.shape[:2]
    at = centres + offsets[best][:, None] * normal
    seen = (at >= 0).all(axis=1) & (at[:, 0] <= width - 1) & (at[:, 1] <= height - 1)
    strong = seen & (steps.max(axis=1) > 2.0)
    line = _agreeing_line(along[strong], _peak(steps[strong], best[strong], offsets), reach)
    if line is None:
        return _Side(start, direction, 0.0)
    first, last = (start + a * (end - start) + (line[0] + line[1] * a) * normal for a in (0.0, 1.0))
    return _Side(first.astype(np.float32), (last - first).astype(np.float32), line[2])


def _peak(steps: Floats, best: npt.NDArray[np.intp], offsets: Floats) -> Floats:
    """Offset of each profile's strongest step, by a parabola through its neighbours."""
    inner = np.clip(best, 1, len(offsets) - 2)
    rows = np.arange(len(steps))
    left, middle, right = (steps[rows, inner + d] for d in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend < -1e-6, 0.5 * (left - right) / np.minimum(bend, -1e-6), 0.0)
    return np.asarray(offsets[inner] + np.clip(shift, -1, 1) * (offsets[1] - offsets[0]), np.float32)


def _agreeing_line(along: Floats, offset: Floats, reach: float) -> tuple[float, float, float] | None:
    """offset ≈ a + b·along through the largest group that agrees within a tenth of the reach, at least a pixel: a, b,
    and that group's part of all profiles.

    All pairs of every fourth profile are tried as candidates: at most 120, and no random numbers.
    """
    if len(along) < _LEAST_AGREEMENT * _SAMPLES:
        return None
    tolerance = max(1.0, 0.1 * reach)
    i, j = np.triu_indices(len(along[::4]), 1)
    x, y = along[::4], offset[::4]
    apart = x[j] - x[i] > 0.2
    slope = (y[j] - y[i])[apart] / (x[j] - x[i])[apart]
    base = y[i][apart] - slope * x[i][apart]
    if not len(base):
        return None
    agree = np.abs(base[:, None] + slope[:, None] * along - offset) < tolerance
    best = agree[int(agree.sum(axis=1).argmax())]
    if best.sum() < _LEAST_AGREEMENT * _SAMPLES:
        return None
    b, a = np.polyfit(along[best].astype(np.float64), offset[best].astype(np.float64), 1)
    return float(a), float(b), float(best.sum()) / _SAMPLES


def _meet(first: _Side, second: _Side) -> Floats:
    """Where two lines meet; infinite when they are parallel."""
    (p, u, _), (q, v, _) = first, second
    cross = float(u[0] * v[1] - u[1] * v[0])
    if abs(cross) < 1e-9:
        return np.full(2, np.inf, np.float32)
    gap = q - p
    return np.asarray(p + float(gap[0] * v[1] - gap[1] * v[0]) / cross * u, np.float32)
