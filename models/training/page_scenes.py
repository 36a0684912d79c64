"""Synthetic scenes with one page, two or none, drawn from a seed: the page finder is trained and measured on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.training.photographs import draw_photograph

Image = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.floating[Any]]
Corners = npt.NDArray[np.float32]

EMPTY_SHARE = 0.35
"""Part of the scenes without a page."""
SECOND_SHARE = 0.3
"""Part of the scenes with a page in which another is tried to be laid beside it; where there is room, it stays."""
_BESIDE, _APART, _TRIES = 0.7, 1.06, 12
"""The longest side of pages that lie side by side, as a part of the room; how much they are enlarged to tell whether
they touch; how often a free place is looked for.
"""
_ASPECTS = ((16, 9), (16, 9), (9, 16), (9, 16), (4, 3), (3, 4), (1, 1), (3, 2))


@dataclass(frozen=True)
class PageScene:
    """image: uint8 (H, W, 3). pages: for each, float32 (4, 2), its corners in pixels, clockwise, outside where it is
    cut off; none, one or two that do not touch.
    """

    image: Image
    pages: tuple[Corners, ...]


def draw_scene(rng: np.random.Generator, cards: Sequence[Image], short_side: int) -> PageScene:
    """One scene whose shorter side has `short_side` pixels, with one of `cards`, two or none."""
    w, h = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    scale = short_side / min(w, h)
    width, height = round(w * scale), round(h * scale)
    pages: tuple[Corners, ...] = ()
    empty = rng.random() < EMPTY_SHARE
    from_photo = rng.random() < (0.5 if empty else 0.2)
    picture = draw_photograph(rng, width, height) if from_photo else background(rng, width, height)
    if not empty:
        chosen = [reduced(cards[int(i)], short_side) for i in rng.integers(len(cards), size=2)]
        pages = _places(rng, width, height, [card.shape[1] / card.shape[0] for card in chosen])
        for card, corners in zip(chosen, pages, strict=False):
            picture = lay(rng, picture, recoloured(rng, card, picture), corners, alone=len(pages) == 1)
    elif not from_photo and rng.random() < 0.25:
        _person(rng, picture)
    held = pages[0] if pages else None
    if rng.random() < 0.4:
        fingers(rng, picture, held)
    return PageScene(photographed(rng, picture, held), pages)


def reduced(card: Image, short_side: int) -> Image:
    """A card no higher than the scene: warping a much larger one would skip pixels."""
    height, width = card.shape[:2]
    if height <= short_side:
        return card
    size = (round(width * short_side / height), short_side)
    return np.asarray(cv2.resize(card, size, interpolation=cv2.INTER_AREA), np.uint8)


def recoloured(rng: np.random.Generator, card: Image, ground: Picture) -> Picture:
    """The card in other light and colours, either way up: float32 (H, W, 3)."""
    page: Picture = card.astype(np.float32)
    if rng.random() < 0.15:  # a grey copy
        page = np.repeat(page.mean(axis=2, keepdims=True), 3, axis=2)
    page = (page - 128) * rng.uniform(0.55, 1.1) + 128 + rng.uniform(-45, 25, 3) * rng.uniform(0, 1)
    if rng.random() < 0.2:  # hardly brighter or darker than what it lies on
        page += ground.mean(axis=(0, 1)) + rng.uniform(-18, 18) - page.mean(axis=(0, 1))
    if rng.random() < 0.5:
        page = page[::-1, ::-1]
    return np.ascontiguousarray(page)


def background(rng: np.random.Generator, width: int, height: int) -> Picture:
    """What a document lies on: float32 (height, width, 3), 0..255."""
    picture = np.empty((height, width, 3), np.float32)
    grey = rng.uniform(20, 235)
    picture[:] = np.clip(grey + rng.uniform(-60, 60, 3) * rng.uniform(0, 1), 0, 255)
    picture += _field(rng, width, height, 4) * rng.uniform(0, 45)
    kind = rng.integers(6)
    if kind == 0:  # wood
        grain = _noise(rng, int(rng.integers(2, 6)), int(rng.integers(40, 160)))
        grain = grain if rng.random() < 0.5 else grain.T
        picture += _stretched(grain, width, height) * rng.uniform(8, 30) * np.asarray([1.0, 0.8, 0.55], np.float32)
    elif kind == 1:  # carpet, cloth
        cells = int(rng.integers(20, 160))
        picture += _stretched(_noise(rng, cells, cells), width, height) * rng.uniform(5, 35)
    elif kind == 2:  # tiles, checks
        columns, rows = np.arange(width) // rng.integers(8, 90), np.arange(height) // rng.integers(8, 90)
        picture += (((columns[None] + rows[:, None]) % 2)[..., None] - 0.5) * rng.uniform(-60, 60, 3)
    elif kind == 3:  # keys, a shelf
        step = int(rng.integers(14, 50))
        for y in range(0, height, step):
            for x in range(0, width, step):
                cv2.rectangle(picture, (x, y), (x + step - 4, y + step - 5), tint(rng, 25, grey), -1)
    if rng.random() < 0.75:
        _clutter(rng, picture)
    return picture


def _clutter(rng: np.random.Generator, picture: Picture) -> None:
    """Plain shapes of any colour: cups, pens, cables, boxes; now and then a written sheet, which is no page either."""
    height, width = picture.shape[:2]
    size = min(width, height)
    if rng.random() < 0.2:
        _written_sheet(rng, picture)
    for _ in range(int(rng.integers(1, 14))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        colour = tint(rng, 80, rng.uniform(20, 235))
        kind = rng.integers(4)
        if kind == 0:
            axes = (int(size * rng.uniform(0.02, 0.3)), int(size * rng.uniform(0.02, 0.3)))
            cv2.ellipse(picture, (x, y), axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            end = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.line(picture, (x, y), end, colour, int(rng.integers(1, max(2, size // 18))), cv2.LINE_AA)
        elif kind == 2:
            offsets = rng.normal(0, size * rng.uniform(0.05, 0.2), (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(picture, [(offsets + np.asarray((x, y))).astype(np.int32)], colour, cv2.LINE_AA)
        else:
            box = cv2.boxPoints(((x, y), tuple(size * rng.uniform(0.05, 0.5, 2)), rng.uniform(0, 90)))
            cv2.fillPoly(picture, [box.astype(np.int32)], colour, cv2.LINE_AA)


def _written_sheet(rng: np.random.Generator, picture: Picture) -> None:
    """A light sheet that reaches over the frame's border, with lines of words: a letter below the page."""
    height, width = picture.shape[:2]
    size = min(width, height)
    angle = rng.uniform(0, 2 * np.pi)
    along, down = np.asarray([np.cos(angle), np.sin(angle)]), np.asarray([-np.sin(angle), np.cos(angle)])
    corner = np.asarray([width, height]) * rng.uniform(0, 1, 2)
    long, high = size * rng.uniform(0.8, 1.6, 2)
    sheet = [corner, corner + long * along, corner + long * along + high * down, corner + high * down]
    cv2.fillPoly(picture, [np.asarray(sheet).astype(np.int32)], tint(rng, 12, rng.uniform(185, 250)), cv2.LINE_AA)
    ink, step = tint(rng, 10, rng.uniform(20, 110)), size * rng.uniform(0.035, 0.08)
    for line in range(1, int(high / step)):
        at = 0.06 * long
        while at < 0.9 * long:
            word = step * rng.uniform(0.6, 3)
            start, end = (corner + line * step * down + (at + offset) * along for offset in (0, word))
            thickness = max(1, int(step * 0.35))
            cv2.line(picture, start.astype(int).tolist(), end.astype(int).tolist(), ink, thickness)
            at += word + step * 0.5


def _person(rng: np.random.Generator, picture: Picture) -> None:
    """A head and shoulders before the background: the picture that is sent in place of a document most often."""
    height, width = picture.shape[:2]
    size = min(width, height) * rng.uniform(0.5, 1.1)
    x, y = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.55)
    skin = _skin(rng)
    hair = tint(rng, 20, rng.uniform(20, 160))
    for dx, dy, w, h, colour in (
        (0, 0.75, 0.62, 0.42, tint(rng, 80, rng.uniform(20, 220))),
        (0, -0.08, 0.29, 0.37, hair),
        (0, 0.25, 0.13, 0.25, skin),
        (0, 0, 0.23, 0.32, skin),
        (-0.09, -0.04, 0.035, 0.015, hair),
        (0.09, -0.04, 0.035, 0.015, hair),
        (0, 0.16, 0.07, 0.02, (150.0, 70.0, 70.0)),
    ):
        axes = (max(1, int(w * size)), max(1, int(h * size)))
        cv2.ellipse(picture, (int(x + dx * size), int(y + dy * size)), axes, 0, 0, 360, colour, -1, cv2.LINE_AA)


def _places(rng: np.random.Generator, width: int, height: int, aspects: Sequence[float]) -> tuple[Corners, ...]:
    """Where pages lie: one by any angle and tilt, half the time about level, or filling the frame, as a scan does; or
    two that do not touch.
    """
    if rng.random() < SECOND_SHARE:
        for _ in range(_TRIES):
            first, second = (placed(rng, width, height, aspect, _BESIDE) for aspect in aspects)
            if not cv2.intersectConvexConvex(_enlarged(first), _enlarged(second))[0]:
                return first, second
    if rng.random() < 0.08:
        margin = rng.choice((0.0, 0.0, rng.uniform(0, 0.05)))
        x, y = margin * width, margin * height
        return (np.asarray([(x, y), (width - x, y), (width - x, height - y), (x, height - y)], np.float32),)
    return (placed(rng, width, height, aspects[0], 1.15),)


def _enlarged(corners: Corners) -> Corners:
    centre = corners.mean(axis=0)
    return np.asarray(centre + (corners - centre) * _APART, np.float32)


def lay(rng: np.random.Generator, picture: Picture, page: Picture, corners: Corners, *, alone: bool) -> Picture:
    """The picture with the page in it, at these corners."""
    height, width = picture.shape[:2]
    h, w = page.shape[:2]
    frame = np.asarray([(0, 0), (w, 0), (w, h), (0, h)], np.float32) - 0.5
    transform = cv2.getPerspectiveTransform(frame, corners - 0.5)
    if alone and rng.random() < 0.12:  # on a larger sheet or screen
        border = rng.uniform(0.05, 0.3)
        sheet = frame + np.sign(frame - frame.mean(axis=0)) * border * h * rng.uniform(0.5, 1.5, (4, 1)).mean()
        around = cv2.perspectiveTransform(sheet[None].astype(np.float32), transform)[0]
        cv2.fillPoly(picture, [around.astype(np.int32)], tint(rng, 10, rng.choice((15.0, 235.0))), cv2.LINE_AA)
    alpha = np.zeros((h, w), np.float32)
    radius = int(h * 0.059) if rng.random() < 0.7 else 0  # 3.18 mm of 53.98 mm, ISO/IEC 7810
    cv2.rectangle(alpha, (radius, 0), (w - 1 - radius, h - 1), 1.0, -1)
    cv2.rectangle(alpha, (0, radius), (w - 1, h - 1 - radius), 1.0, -1)
    for x in (radius, w - 1 - radius):
        for y in (radius, h - 1 - radius):
            cv2.circle(alpha, (x, y), radius, 1.0, -1)
    there = cv2.warpPerspective(alpha, transform, (width, height))[..., None]
    laid = cv2.warpPerspective(page, transform, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:  # the page's own shadow
        dx, dy = rng.integers(-6, 7, 2)
        shade = np.roll(cv2.GaussianBlur(there, (0, 0), rng.uniform(1, 5)), (int(dy), int(dx)), axis=(0, 1))
        picture = picture * (1 - rng.uniform(0.1, 0.6) * shade[..., None])
    return picture * (1 - there) + laid * there


def placed(rng: np.random.Generator, width: int, height: int, aspect: float, largest: float) -> Corners:
    """Corners of a page seen by a pinhole camera, its longer side 30 % of the room that its angle leaves to `largest`
    of it (1.0 for all).
    """
    angle = rng.normal(0, 0.15) + rng.integers(4) * np.pi / 2 if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    tilt = np.radians(rng.uniform(0, 42) * rng.random())
    about = rng.uniform(0, 2 * np.pi)
    plane = np.asarray([(-aspect, -1, 0), (aspect, -1, 0), (aspect, 1, 0), (-aspect, 1, 0)]) / np.hypot(aspect, 1)
    turn = cv2.Rodrigues(np.asarray([0, 0, angle]))[0]
    lean = cv2.Rodrigues(np.asarray([np.cos(about), np.sin(about), 0]) * tilt)[0]
    points = plane @ (lean @ turn).T
    seen = points[:, :2] / (points[:, 2:] / rng.uniform(2.2, 5) + 1)
    extent = seen.max(axis=0) - seen.min(axis=0)
    size = min(largest, rng.uniform(0.3, 0.98) if rng.random() < 0.8 else rng.uniform(0.98, 1.15))
    seen *= size / max(extent[0] / width, extent[1] / height)
    low, high = seen.min(axis=0), seen.max(axis=0)
    room = np.asarray([width, height]) - (high - low)
    centre = -low + room * rng.uniform(0, 1, 2)
    if rng.random() < 0.12:  # pushed over the frame's edge
        centre += rng.uniform(-0.15, 0.15, 2) * (high - low)
    return np.asarray(seen + centre, np.float32)


def fingers(rng: np.random.Generator, picture: Picture, corners: Corners | None) -> None:
    """A hand from outside over a side of the page: one to four fingers, or a thumb."""
    height, width = picture.shape[:2]
    size = min(width, height)
    if corners is None:
        tip = rng.uniform(0.1, 0.9, 2) * (width, height)
        outwards = rng.normal(0, 1, 2)
    else:
        side = int(rng.integers(4))
        start, end = corners[side], corners[(side + 1) % 4]
        on_edge = start + rng.uniform(0.05, 0.95) * (end - start)
        outwards = on_edge - corners.mean(axis=0)
        tip = on_edge - outwards * rng.uniform(0.05, 0.35)
    outwards = outwards / (np.linalg.norm(outwards) + 1e-6)
    across = np.asarray([-outwards[1], outwards[0]])
    thickness = size * rng.uniform(0.06, 0.15)
    skin = np.asarray(_skin(rng))
    for i in range(int(rng.integers(1, 5))):
        at = tip + across * i * thickness * 1.05 + outwards * rng.uniform(-0.3, 0.5) * thickness
        back = at + (outwards + across * rng.uniform(-0.2, 0.2)) * size * 1.5
        for width_part, light in ((1.0, 0.8), (0.75, 1.0), (0.35, 1.07)):
            r, g, b = np.clip(skin * light, 0, 255)
            cv2.line(
                picture,
                (int(at[0]), int(at[1])),
                (int(back[0]), int(back[1])),
                (float(r), float(g), float(b)),
                max(1, int(thickness * width_part)),
                cv2.LINE_AA,
            )


def photographed(rng: np.random.Generator, picture: Picture, corners: Corners | None) -> Image:
    """Light, shadow, glare, lens, sensor."""
    height, width = picture.shape[:2]
    if rng.random() < 0.6:
        picture = picture * (1 + rng.uniform(0.1, 0.45) * _field(rng, width, height, 3))
    if rng.random() < 0.3:  # the edge of a shadow
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4) * width
        x, y = np.arange(width, dtype=np.float32) - width / 2, np.arange(height, dtype=np.float32) - height / 2
        distance = x[None] * np.cos(angle) + y[:, None] * np.sin(angle) - offset
        dimmed = 1 - rng.uniform(0.2, 0.6) / (1 + np.exp(-distance / rng.uniform(1, 20)))
        picture = picture * dimmed[..., None].astype(np.float32)
    if rng.random() < 0.3:
        x, y = (
            (rng.uniform(0, 1, 2) * (width, height))
            if corners is None
            else corners[rng.integers(4)] * 0.5 + corners.mean(axis=0) * 0.5
        )
        spot: Picture = np.zeros((height, width), np.float32)
        axes = (int(width * rng.uniform(0.02, 0.18)), int(height * rng.uniform(0.02, 0.18)))
        cv2.ellipse(spot, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
        spot = np.asarray(cv2.GaussianBlur(spot, (0, 0), rng.uniform(2, 14)), np.float32)
        picture = picture + spot[..., None] * rng.uniform(60, 260)
    picture = picture * (rng.uniform(0.5, 1.25) * rng.uniform(0.9, 1.1, 3)).astype(np.float32)
    if rng.random() < 0.45:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 2.0)), np.float32)
    if rng.random() < 0.15:
        length = int(rng.integers(3, 12))
        kernel = np.zeros((length, length), np.float32)
        cv2.line(kernel, (0, int(rng.integers(length))), (length - 1, int(rng.integers(length))), 1.0)
        picture = np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)
    picture = picture + rng.standard_normal(picture.shape, np.float32) * rng.uniform(0.5, 9)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _field(rng: np.random.Generator, width: int, height: int, cells: int) -> Picture:
    """Smooth field, about -1..1: float32 (H, W, 1)."""
    return _stretched(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), width, height)


def _stretched(cells: npt.NDArray[np.float32], width: int, height: int) -> Picture:
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)[..., None]


def _noise(rng: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal((rows, columns), np.float32)


def tint(rng: np.random.Generator, spread: float, grey: float) -> tuple[float, float, float]:
    """A colour near a grey of that brightness."""
    r, g, b = np.clip(grey + rng.uniform(-spread, spread, 3), 0, 255)
    return float(r), float(g), float(b)


def _skin(rng: np.random.Generator) -> tuple[float, float, float]:
    r, g, b = np.asarray([215, 170, 145]) * rng.uniform(0.3, 1.1) + rng.uniform(-12, 12, 3)
    return float(r), float(g), float(b)
