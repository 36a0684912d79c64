"""From a page mask to its outline by way of the picture's straight edges.

The mask knows roughly where the page is, the edges know exactly where straight things end; neither knows both. For each
side of the mask's rectangle the straight edges near it are candidates, and of all combinations of four the one is taken
that agrees best with the mask and is best covered by edges. Print inside the page loses against the mask, so do papers
and table tops outside it. Segments: the line segment detector of von Gioi et al. (LSD, IPOL 2012).
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from models.page import shrunk
from models.page_outline import outline

Floats = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

_WIDTH = 480
"""Pixels of the longer side that segments are looked for at: a page's edge is then sharp, its print is not yet. On 112
frames of specimens' films (seeds 71–78) 6 outlines overlapped by less than 0.9 with the truth; at 320 to 440, 10 to 14.
"""
_GRID = 64
"""Pixels of the longer side that outlines are compared with the mask at."""
_LEAN = np.cos(np.radians(20.0))
"""Segments that lean more than 20° against a side of the mask's rectangle are none of that side's."""
_NEAR = 0.25
"""How far from a side a segment may lie, as a part of the rectangle's extent across that side."""
_LEAST_LENGTH = 0.12
"""Shortest segment, as a part of the side's length."""
_CANDIDATES = 4
"""Edges tried for each side, beside the rectangle's own: 5⁴ = 625 outlines a frame, compared all at once."""
_EDGE_WEIGHT = 0.5
"""What full coverage of all four sides by edges is worth against the overlap with the mask, both 0..1."""
_SHAPES = (85.60 / 53.98, 105.0 / 74.0, 125.0 / 88.0)
"""Longer by shorter side of ID-1, ID-2 and ID-3 (ISO/IEC 7810): a page without its header band is none of them."""
_TILTED = 0.05
"""How far, as a natural log, a tilt of some 25° takes the sides' proportion; only what goes beyond counts."""
_SHAPE_WEIGHT = 3.0
"""Cost of a proportion that is off by a factor of e."""
_FILLED = 0.95
"""Part of the frame that the mask covers in a scan which the page fills: its edges are the frame's."""
_STEPS = 64
"""Steps along a side in which it counts whether an edge covers it."""


class _Line(NamedTuple):
    """A point on a line and its direction, of length 1: float64 (2,) each."""

    point: Exact
    way: Exact

    def distances(self, points: Exact) -> Exact:
        """Of points (..., 2) from the line, in pixels: (...)."""
        return np.asarray(np.abs((points - self.point) @ np.array([-self.way[1], self.way[0]])))


class _Candidate(NamedTuple):
    """A line that may bear a side, and the part of the side that edges cover along it, 0..1."""

    line: _Line
    coverage: float


class _Side(NamedTuple):
    """A side of the mask's rectangle: its line from the first corner on, its length, and the rectangle's extent across
    it, in pixels.
    """

    line: _Line
    length: float
    across: float

    def along(self, points: Exact) -> Exact:
        """Where points (..., 2) lie along the side: 0 at its first corner, 1 at its second."""
        return np.asarray((points - self.line.point) @ self.line.way / self.length)


def fit_outline(image: Image, mask: Floats) -> tuple[Floats, float] | None:
    """The outline that mask and edges agree on.

    image: uint8 (H, W, 3) RGB. mask: float32 (h, w), probability of page, over the same view. Gives corners float32
    (4, 2) in pixels of the image, clockwise, and their overlap with the soft mask (0..1); None when no part of the mask
    covers at least 1.5 %.
    """
    drawn = outline(mask)
    if drawn is None:
        return None
    if mask.mean() > _FILLED:
        width, height = image.shape[1] - 1, image.shape[0] - 1
        return np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32), float(mask.mean())
    scale = np.array([image.shape[1] / mask.shape[1], image.shape[0] / mask.shape[0]])
    segments = _segments(image)
    sides = [_side_candidates(side, segments) for side in _sides(_rectangle(mask, scale))]
    outlines, coverage = _combined(sides)
    # What the mask alone says is one more candidate: a page in strong perspective, or cut off by the frame.
    outlines = np.concatenate([outlines, ((drawn[0] + 0.5) * scale - 0.5)[None]])
    coverage = np.append(coverage, 0.0)
    overlap = _overlaps(outlines, mask, image.shape[1], image.shape[0])
    best = int(np.argmax(overlap + _EDGE_WEIGHT * coverage - _SHAPE_WEIGHT * _misshapen(outlines)))
    return outlines[best].astype(np.float32), float(overlap[best])


def _rectangle(mask: Floats, scale: Exact) -> Exact:
    """Corners (4, 2), clockwise, of the least rectangle around the largest part of the mask, in pixels of the image."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0.5).astype(np.uint8), connectivity=4)
    ys, xs = np.nonzero(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))
    points = ((np.stack([xs, ys], axis=1) + 0.5) * scale - 0.5).astype(np.float32)
    corners: Exact = np.array(cv2.boxPoints(cv2.minAreaRect(points)), np.float64)
    clockwise = cv2.contourArea(corners.astype(np.float32), oriented=True) > 0
    ordered: Exact = corners if clockwise else corners[::-1]
    return ordered


def _segments(image: Image) -> Exact:
    """Straight edges, float64 (K, 4): x and y of both ends, in pixels of the image."""
    scale = _WIDTH / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = shrunk(image, size)
    found: Any = cv2.createLineSegmentDetector().detect(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))[0]
    if found is None:
        return np.zeros((0, 4))
    ends: Exact = np.asarray(found, np.float64).reshape(-1, 4) / scale
    return ends


def _sides(rectangle: Exact) -> list[_Side]:
    """The four sides of a rectangle's corners (4, 2)."""
    runs = np.roll(rectangle, -1, axis=0) - rectangle
    lengths = np.maximum(np.linalg.norm(runs, axis=1), 1e-6)
    return [
        _Side(_Line(rectangle[n], runs[n] / lengths[n]), float(lengths[n]), float(lengths[(n + 1) % 4]))
        for n in range(4)
    ]


def _side_candidates(side: _Side, segments: Exact) -> list[_Candidate]:
    """Lines for one side: the rectangle's own first, then edges, the best covered ones first."""
    ends = segments.reshape(-1, 2, 2)
    runs = ends[:, 1] - ends[:, 0]
    sizes = np.maximum(np.linalg.norm(runs, axis=1), 1e-6)
    middles = ends.mean(axis=1)
    along = side.along(middles)
    fits = (
        (np.abs(runs @ side.line.way) / sizes > _LEAN)
        & (side.line.distances(middles) < _NEAR * side.across)
        & (sizes > _LEAST_LENGTH * side.length)
        & (along > -0.15)
        & (along < 1.15)
    )
    chosen = np.flatnonzero(fits)
    chosen = chosen[np.argsort(-sizes[chosen])]
    points, ways = ends[chosen, 0], runs[chosen] / sizes[chosen, None]
    same = _same_lines(points, ways, side)
    kept: list[int] = []
    for index in range(len(chosen)):
        if not same[index, kept].any():
            kept.append(index)
    lines = [_Line(points[index], ways[index]) for index in kept]
    edges = [_Candidate(line, _coverage(line, ends[chosen], side)) for line in lines]
    edges.sort(key=lambda edge: -edge.coverage)
    return [_Candidate(side.line, 0.0), *edges[:_CANDIDATES]]


def _same_lines(points: Exact, ways: Exact, side: _Side) -> npt.NDArray[np.bool_]:
    """Whether each line (row) runs close to each other one (column) over the side's length to both sides of its point.

    points, ways: (K, 2). Gives (K, K). All pairs at once: one pair at a time was a fifth of the search for a page.
    """
    along = points[:, None] + np.array([[0.0], [side.length], [-side.length]]) * ways[:, None]
    off = along[:, :, None] - points  # (K, 3, K, 2)
    distances = np.abs(off[..., 1] * ways[:, 0] - off[..., 0] * ways[:, 1])
    return np.asarray((distances < 0.015 * side.across).all(axis=1))


def _coverage(line: _Line, ends: Exact, side: _Side) -> float:
    """Part of the side, 0..1, along which some segment, of those with these ends (K, 2, 2), lies on the line."""
    on_line = ends[(line.distances(ends) < 0.012 * side.across).all(axis=1)]
    covered = np.zeros(_STEPS, bool)
    for reach in np.sort(side.along(on_line), axis=1):
        low, high = np.clip(np.round(reach * _STEPS), 0, _STEPS).astype(int)
        covered[low:high] = True
    return float(covered.mean())


def _combined(sides: list[list[_Candidate]]) -> tuple[Exact, Exact]:
    """All outlines of one line from each side: corners (K, 4, 2) where neighbours meet, and mean coverage (K,)."""
    picked = np.array(list(product(*(range(len(side)) for side in sides))))
    points = [np.stack([edge.line.point for edge in side])[picked[:, n]] for n, side in enumerate(sides)]
    ways = [np.stack([edge.line.way for edge in side])[picked[:, n]] for n, side in enumerate(sides)]
    covered = [np.array([edge.coverage for edge in side])[picked[:, n]] for n, side in enumerate(sides)]
    corners = []
    for n in range(4):
        p, u, q, v = points[n - 1], ways[n - 1], points[n], ways[n]
        cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        gap = q - p
        t = (gap[:, 0] * v[:, 1] - gap[:, 1] * v[:, 0]) / np.where(np.abs(cross) < 1e-9, 1e-9, cross)
        corners.append(p + t[:, None] * u)
    return np.stack(corners, axis=1), np.asarray(np.mean(covered, axis=0))


def _misshapen(outlines: Exact) -> Exact:
    """How far (K,), as a natural log beyond _TILTED, each outline's proportion is from that of the nearest format."""
    sides = np.linalg.norm(np.roll(outlines, -1, axis=1) - outlines, axis=2)
    one, other = sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]
    longer = np.log(np.maximum(one, other) / np.maximum(np.minimum(one, other), 1e-6))
    off = np.abs(longer[:, None] - np.log(_SHAPES)).min(axis=1)
    return np.asarray(np.maximum(off - _TILTED, 0.0))


def _overlaps(outlines: Exact, mask: Floats, width: int, height: int) -> Exact:
    """Soft intersection over union (K,) of each outline with the mask, both inside the frame."""
    scale = _GRID / max(width, height)
    size = (round(width * scale), round(height * scale))
    soft = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.float32).reshape(-1)
    x, y = np.meshgrid((np.arange(size[0]) + 0.5) / scale, (np.arange(size[1]) + 0.5) / scale)
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32)  # (3, P)
    inside = np.ones((len(outlines), pixels.shape[1]), bool)
    for n in range(4):
        a, b = outlines[:, n], outlines[:, (n + 1) % 4]
        line = np.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0], a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]], axis=1)
        inside &= (line.astype(np.float32) @ pixels) >= 0
    common = inside @ soft
    return np.asarray(common / np.maximum(soft.sum() + inside.sum(axis=1) - common, 1e-6))
