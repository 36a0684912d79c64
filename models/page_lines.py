"""From a page mask to its outline by way of the picture's straight edges.

The mask knows roughly where the page is, the edges know exactly where straight things end; neither knows both. For each
side of the mask's rectangle the straight edges near it are candidates, and of all combinations of four the one is taken
that agrees best with the mask and is best covered by edges. Print inside the page loses against the mask, so do papers
and table tops outside it. Segments: the line segment detector of von Gioi et al. (LSD, IPOL 2012).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.page import shrunk
from models.page_outline import outline

Floats = npt.NDArray[np.float32]
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
    rectangle = _rectangle(mask, scale)
    segments = _segments(image)
    sides = [_side_candidates(rectangle[i], rectangle[(i + 1) % 4], rectangle, segments) for i in range(4)]
    outlines, coverage = _combined(sides)
    # What the mask alone says is one more candidate: a page in strong perspective, or cut off by the frame.
    outlines = np.concatenate([outlines, ((drawn[0] + 0.5) * scale - 0.5)[None]])
    coverage = np.append(coverage, 0.0)
    overlap = _overlaps(outlines, mask, image.shape[1], image.shape[0])
    best = int(np.argmax(overlap + _EDGE_WEIGHT * coverage - _SHAPE_WEIGHT * _misshapen(outlines)))
    return outlines[best].astype(np.float32), float(overlap[best])


def _rectangle(mask: Floats, scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Corners (4, 2), clockwise, of the least rectangle around the largest part of the mask, in pixels of the image."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0.5).astype(np.uint8), connectivity=4)
    ys, xs = np.nonzero(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))
    points = ((np.stack([xs, ys], axis=1) + 0.5) * scale - 0.5).astype(np.float32)
    corners: npt.NDArray[np.float64] = np.array(cv2.boxPoints(cv2.minAreaRect(points)), np.float64)
    clockwise = cv2.contourArea(corners.astype(np.float32), oriented=True) > 0
    ordered: npt.NDArray[np.float64] = corners if clockwise else corners[::-1]
    return ordered


def _segments(image: Image) -> npt.NDArray[np.float64]:
    """Straight edges, float64 (K, 4): x and y of both ends, in pixels of the image."""
    scale = _WIDTH / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = shrunk(image, size)
    found: Any = cv2.createLineSegmentDetector().detect(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))[0]
    if found is None:
        return np.zeros((0, 4))
    ends: npt.NDArray[np.float64] = np.asarray(found, np.float64).reshape(-1, 4) / scale
    return ends


def _side_candidates(
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    rectangle: npt.NDArray[np.float64],
    segments: npt.NDArray[np.float64],
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]]:
    """Lines (point, direction) for one side, with the part of the side that edges cover along each, 0..1."""
    length = max(float(np.linalg.norm(end - start)), 1e-6)
    direction = (end - start) / length
    normal = np.array([-direction[1], direction[0]])
    across = max(float(np.ptp(rectangle @ normal)), 1e-6)
    candidates = [(start, direction, 0.0)]
    first, last = segments[:, :2] - start, segments[:, 2:] - start
    run = last - first
    sizes = np.maximum(np.linalg.norm(run, axis=1), 1e-6)
    middle = (first + last) / 2
    along = middle @ direction / length
    fits = (
        (np.abs(run @ direction) / sizes > _LEAN)
        & (np.abs(middle @ normal) < _NEAR * across)
        & (sizes > _LEAST_LENGTH * length)
        & (along > -0.15)
        & (along < 1.15)
    )
    chosen = np.flatnonzero(fits)
    for index in chosen[np.argsort(-sizes[chosen])]:
        point, way = segments[index, :2], run[index] / sizes[index]
        if any(_same_line(point, way, p, d, 0.015 * across, length) for p, d, c in candidates if c):
            continue
        candidates.append((point, way, _coverage(point, way, segments[chosen], start, direction, length, across)))
    edges = sorted(candidates[1:], key=lambda candidate: -candidate[2])
    return [candidates[0], *edges[:_CANDIDATES]]


def _same_line(
    point: npt.NDArray[np.float64],
    way: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
    other_way: npt.NDArray[np.float64],
    tolerance: float,
    length: float,
) -> bool:
    """Whether both lines run within `tolerance` of one another over `length` from the first one's point."""
    normal = np.array([-other_way[1], other_way[0]])
    return all(abs(float((point + t * way - other) @ normal)) < tolerance for t in (0.0, length, -length))


def _coverage(
    point: npt.NDArray[np.float64],
    way: npt.NDArray[np.float64],
    segments: npt.NDArray[np.float64],
    start: npt.NDArray[np.float64],
    direction: npt.NDArray[np.float64],
    length: float,
    across: float,
) -> float:
    """Part of the side, 0..1, along which some segment lies on the line."""
    normal = np.array([-way[1], way[0]])
    ends = np.abs((segments.reshape(-1, 2, 2) - point) @ normal)
    on_line = segments[(ends < 0.012 * across).all(axis=1)].reshape(-1, 2, 2)
    covered = np.zeros(64, bool)
    for reach in np.sort((on_line - start) @ direction / length, axis=1):
        low, high = np.clip(np.round(reach * 64), 0, 64).astype(int)
        covered[low:high] = True
    return float(covered.mean())


def _combined(
    sides: list[list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """All outlines of one line from each side: corners (K, 4, 2) where neighbours meet, and mean coverage (K,)."""
    picked = np.array(list(product(*(range(len(side)) for side in sides))))
    points = [np.stack([side[i][0] for i in picked[:, n]]) for n, side in enumerate(sides)]
    ways = [np.stack([side[i][1] for i in picked[:, n]]) for n, side in enumerate(sides)]
    coverage = np.mean([np.array([c for *_, c in side])[picked[:, n]] for n, side in enumerate(sides)], axis=0)
    corners = []
    for n in range(4):
        p, u, q, v = points[n - 1], ways[n - 1], points[n], ways[n]
        cross = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        gap = q - p
        t = (gap[:, 0] * v[:, 1] - gap[:, 1] * v[:, 0]) / np.where(np.abs(cross) < 1e-9, 1e-9, cross)
        corners.append(p + t[:, None] * u)
    return np.stack(corners, axis=1), coverage


def _misshapen(outlines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far (K,), as a natural log beyond _TILTED, each outline's proportion is from that of the nearest format."""
    sides = np.linalg.norm(np.roll(outlines, -1, axis=1) - outlines, axis=2)
    one, other = sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]
    longer = np.log(np.maximum(one, other) / np.maximum(np.minimum(one, other), 1e-6))
    off = np.abs(longer[:, None] - np.log(_SHAPES)).min(axis=1)
    return np.asarray(np.maximum(off - _TILTED, 0.0))


def _overlaps(outlines: npt.NDArray[np.float64], mask: Floats, width: int, height: int) -> npt.NDArray[np.float64]:
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
