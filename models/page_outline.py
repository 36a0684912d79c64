"""From a page mask to four corners: a quadrilateral around the mask, then its sides moved onto the picture's edges."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from models.page import order_corners

Floats = npt.NDArray[np.float32]

_SAMPLES = 64
"""Profiles across each side."""
_ENDS = 0.07
"""Part of a side left out at both ends: rounded corners (ISO/IEC 7810: radius 3.18 mm, 4 % of the longer side)."""
_REACH = 0.03
"""How far a profile reaches to both sides, as a part of the page's mean side: the mask's own error is below it."""
_LEAST_AGREEMENT = 0.35
"""Part of the profiles that must agree on a line; with less (hand, glare, page cut off there) the mask's side stays."""


_LEAST_PART = 0.015
"""Of the mask: smaller parts are no page."""
_LEAST_BESIDE = 0.3
"""Of the largest part: a document beside another is about as large as that one, crumbs of the mask are not."""
_SKIRT = 9
"""Pixels around another page's part of the mask that belong to it as well: there the mask fades out."""

_LONGEST = 2.1
"""Longer by shorter side past which a part is two pages side by side. An ID-1 card tilted by 40° is at 1.586 / cos 40°,
which is 2.07.
"""
_CUTS = 64
"""Steps along such a part in which the place to cut it is looked for."""

_PIXEL = np.asarray([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)], np.float32)


def parts(mask: Floats, shape: tuple[int, int]) -> list[Floats]:
    """The mask of each page that a mask shows, the largest first: what belongs to the others is 0 in it.

    mask: float32 (H, W), probability of page. shape: height and width of the picture that the mask lies over. Two pages
    side by side that run into one another are cut apart where the mask is thinnest; those one above the other, or one
    over the other, are taken for one. Empty when no part is large enough.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0.5).astype(np.uint8), connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = [int(i) + 1 for i in np.argsort(-areas, kind="stable") if areas[i] >= _LEAST_PART * mask.size]
    pages = [labels == label for label in order if areas[label - 1] >= _LEAST_BESIDE * areas[order[0] - 1]]
    pages = [half for page in pages for half in _halves(page, shape)]
    pages.sort(key=lambda page: -int(page.sum()))
    masks = []
    for page in pages:
        others = np.any([other for other in pages if other is not page] or [np.zeros_like(page)], axis=0)
        skirt = cv2.dilate(others.astype(np.uint8), np.ones((_SKIRT, _SKIRT), np.uint8)) > 0
        masks.append(np.where(skirt & ~page, np.float32(0), mask))
    return masks


def _halves(part: npt.NDArray[np.bool_], shape: tuple[int, int]) -> list[npt.NDArray[np.bool_]]:
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


def outline(mask: npt.NDArray[np.float32]) -> tuple[Floats, float] | None:
    """The quadrilateral of least area around the largest part of a mask.

    mask: float32 (H, W), probability of page. Gives corners float32 (4, 2) in pixels of the mask's grid (pixel centres
    are whole numbers), clockwise, and the overlap (intersection over union, 0..1) with the mask, or None when no part
    covers at least 1.5 % of the mask. Corners may lie outside: where the frame cuts a corner off, the hull has a fifth
    side there, and dropping it first restores the corner.
    """
    found, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0.5).astype(np.uint8), connectivity=4)
    if found < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    area = int(stats[largest, cv2.CC_STAT_AREA])
    if area < _LEAST_PART * mask.size:
        return None
    part = (labels == largest).astype(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Contours run through pixel centres; the mask reaches half a pixel further.
    centres = cv2.convexHull(max(contours, key=len)).astype(np.float32)
    hull = cv2.convexHull((centres + _PIXEL).reshape(-1, 1, 2))[:, 0].astype(np.float64)
    corners = _four_sides(hull)
    if corners is None:
        return None
    drawn = np.zeros_like(part)
    cv2.fillConvexPoly(drawn, np.round(corners * 16).astype(np.int32), 1, cv2.LINE_8, 4)
    union = int(np.count_nonzero(drawn | part))
    overlap = np.count_nonzero(drawn & part) / union
    return corners.astype(np.float32), float(overlap)


def _four_sides(hull: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Drop sides of a convex polygon, extending their neighbours until they meet, always the one that adds the least
    area, until four are left. None for fewer than four sides or sides that never meet.
    """
    points = hull[::-1] if cv2.contourArea(hull.astype(np.float32), oriented=True) < 0 else hull
    while len(points) > 4:
        before, start = np.roll(points, 1, axis=0), points
        end, after = np.roll(points, -1, axis=0), np.roll(points, -2, axis=0)
        # Side start–end is dropped: lines before–start and after–end meet at start + t (start - before).
        u, v, gap = start - before, end - after, end - start
        cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (gap[:, 0] * v[:, 1] - gap[:, 1] * v[:, 0]) / cross
            s = (gap[:, 0] * u[:, 1] - gap[:, 1] * u[:, 0]) / cross
        meets = np.isfinite(t) & np.isfinite(s) & (t > 0) & (s > 0)
        added = np.where(meets, np.abs(gap[:, 0] * u[:, 1] - gap[:, 1] * u[:, 0]) * np.where(meets, t, 0), np.inf)
        i = int(np.argmin(added))
        if not np.isfinite(added[i]):
            return None
        points = points.copy()
        points[i] = start[i] + t[i] * u[i]
        points = np.delete(points, (i + 1) % len(points), axis=0)
    return points if len(points) == 4 else None


def refine(image: npt.NDArray[np.uint8], corners: Floats) -> Floats:
    """Corners moved to sub-pixel accuracy: across each side, the strongest step of brightness near it; a line through
    the steps that agree; corners where neighbouring lines meet.

    image: uint8 (H, W, 3). corners: float32 (4, 2) in its pixels, clockwise. Two passes, the second four times closer.
    """
    for narrowing in (1.0, 0.25):
        reach = max(
            3.0, narrowing * _REACH * float(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).mean())
        )
        lines = [_side(image, corners[i], corners[(i + 1) % 4], reach) for i in range(4)]
        moved = np.asarray([_meet(lines[i - 1], lines[i]) for i in range(4)], np.float32)
        # Two sides drawn onto one and the same edge fold the outline: then the mask knows better.
        if not np.isfinite(moved).all() or np.abs(moved - corners).max() > 3 * reach:
            break
        corners = moved
    return order_corners(corners)


def _side(image: npt.NDArray[np.uint8], start: Floats, end: Floats, reach: float) -> tuple[Floats, Floats]:
    """A point on the side's line and its direction."""
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
        return start, direction
    first, last = (start + a * (end - start) + (line[0] + line[1] * a) * normal for a in (0.0, 1.0))
    return first.astype(np.float32), (last - first).astype(np.float32)


def _peak(steps: Floats, best: npt.NDArray[np.intp], offsets: Floats) -> Floats:
    """Offset of each profile's strongest step, by a parabola through its neighbours."""
    inner = np.clip(best, 1, len(offsets) - 2)
    rows = np.arange(len(steps))
    left, middle, right = (steps[rows, inner + d] for d in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend < -1e-6, 0.5 * (left - right) / np.minimum(bend, -1e-6), 0.0)
    return np.asarray(offsets[inner] + np.clip(shift, -1, 1) * (offsets[1] - offsets[0]), np.float32)


def _agreeing_line(along: Floats, offset: Floats, reach: float) -> tuple[float, float] | None:
    """offset ≈ a + b·along through the largest group that agrees within a tenth of the reach, at least a pixel.

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
    return float(a), float(b)


def _meet(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> Floats:
    """Where two lines (point, direction) meet; infinite when they are parallel."""
    (p, u), (q, v) = first, second
    cross = float(u[0] * v[1] - u[1] * v[0])
    if abs(cross) < 1e-9:
        return np.full(2, np.inf, np.float32)
    gap = q - p
    return np.asarray(p + float(gap[0] * v[1] - gap[1] * v[0]) / cross * u, np.float32)
