"""The outline of a document in a picture (its four corners), and the rectified view of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

ID1_SIZE = (1012, 638)
"""Width and height in pixels of a rectified ID-1 page: 85.60 × 53.98 mm at 300 dpi (ISO/IEC 7810)."""


@dataclass(frozen=True)
class Quad:
    """A document's outline. corners: float32 (4, 2), x and y in pixels, clockwise from the corner that is top left
    when the longer side lies level (which of the two level ways is up is not known here). score: 0..1. whole: the
    document fills the picture, as in a scan or a drawing; its corners are the picture's, and it may lie any way round.
    """

    corners: npt.NDArray[np.float32]
    score: float
    whole: bool = False


@dataclass(frozen=True)
class Page:
    """A rectified page. image: uint8 (H, W, 3) RGB, level but possibly upside down; index: of its frame; sharpness:
    of that frame as `models.page.quality` measures it, higher is sharper.
    """

    image: npt.NDArray[np.uint8]
    index: int
    quad: Quad
    sharpness: float


def order_corners(corners: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Four corners (4, 2) of a convex quadrilateral in any order → float32 (4, 2) as `Quad` wants them.

    Sides are compared by the mean of opposite ones, which perspective changes least. Of the two level ways, the one
    is taken that turns the picture by less than a half turn's half: the first side runs to the right.
    """
    points = corners.astype(np.float32)
    centre = points.mean(axis=0)
    # y grows downwards, so growing angles run clockwise as seen.
    points = points[np.argsort(np.arctan2(*(points - centre).T[::-1]))]
    lengths = side_lengths(points)
    if lengths[0] + lengths[2] < lengths[1] + lengths[3]:
        points = np.roll(points, -1, axis=0)
    along = (points[1] - points[0]) + (points[2] - points[3])
    if along[0] < 0:
        points = np.roll(points, -2, axis=0)
    return np.ascontiguousarray(points)


def side_lengths(corners: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Lengths in pixels of the sides 0–1, 1–2, 2–3, 3–0: float32 (4,)."""
    return np.asarray(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1), np.float32)


def overlap(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Intersection over union, 0..1, of two convex outlines, float32 (K, 2) each; 0 where both are empty."""
    common = area(clipped(one, other))
    both = area(one) + area(other) - common
    return common / both if both > 0 else 0.0


def area(outline: npt.NDArray[np.float32]) -> float:
    """Of a convex outline, float32 (K, 2), in square pixels; 0 for fewer than three corners."""
    return float(cv2.contourArea(outline.astype(np.float32))) if len(outline) > 2 else 0.0


def clipped(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What two convex outlines, float32 (K, 2) and (M, 2), have in common: float32 (L, 2), empty where nothing is.

    Side by side of the other one (Sutherland and Hodgman 1974). OpenCV 5.0's intersectConvexConvex gave areas up to
    2.5 times the larger outline's where sides nearly lie on one another, once in some hundred outlines.
    """
    points = one.astype(np.float64)
    edges = other.astype(np.float64)
    if len(edges) < 3:
        return np.zeros((0, 2), np.float32)
    if cv2.contourArea(other.astype(np.float32), oriented=True) < 0:
        edges = edges[::-1]
    for start, end in zip(edges, np.roll(edges, -1, axis=0), strict=True):
        along = end - start
        inside = along[0] * (points[:, 1] - start[1]) - along[1] * (points[:, 0] - start[0])
        kept: list[npt.NDArray[np.float64]] = []
        for i in range(len(points)):
            j = (i + 1) % len(points)
            if inside[i] >= 0:
                kept.append(points[i])
            if inside[i] * inside[j] < 0:
                kept.append(points[i] + inside[i] / (inside[i] - inside[j]) * (points[j] - points[i]))
        points = np.asarray(kept, np.float64).reshape(-1, 2)
    return points.astype(np.float32)


def within(outline: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The part of a convex outline (K, 2) that lies in a frame of this shape (height, width, …): float32 (M, 2)."""
    return clipped(outline, frame_corners(shape))


def frame_corners(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The corners of a frame of this shape (height, width, …), clockwise, as `Quad` has them: float32 (4, 2)."""
    right, bottom = shape[1] - 1, shape[0] - 1
    return np.asarray([(0, 0), (right, 0), (right, bottom), (0, bottom)], np.float32)


def shrunk(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The picture at a smaller size (width, height), averaged over areas: uint8 (height, width, 3).

    Halved first as often as it goes, because halves are several times faster than one step by an odd factor.
    """
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1] and not any(n % 2 for n in image.shape[:2]):
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def rectify(image: npt.NDArray[np.uint8], quad: Quad, size: tuple[int, int] = ID1_SIZE) -> npt.NDArray[np.uint8]:
    """The page seen from straight above: uint8 (H, W, 3) of `size` = (width, height). Parts outside the picture repeat
    its border.

    Where the page is more than 1.5 times as large in the picture as in the result, the picture is reduced by area
    first: the warp alone would skip pixels and alias (Moiré on guilloches, torn MRZ strokes).
    """
    width, height = size
    corners = quad.corners
    reduction = float(np.min(side_lengths(corners) / np.asarray([width, height, width, height])))
    if reduction > 1.5:
        image = np.asarray(cv2.resize(image, None, fx=1 / reduction, fy=1 / reduction, interpolation=cv2.INTER_AREA))
        corners = (corners + 0.5) / reduction - 0.5
    target = np.asarray([(0, 0), (width, 0), (width, height), (0, height)], np.float32) - 0.5
    transform = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    warped = cv2.warpPerspective(
        image, transform, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)
