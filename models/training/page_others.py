"""Pictures with documents other than a card on a table, drawn from a seed: open passports, scans that the document
fills, and line drawings of documents.

The page networks are trained on them too. They are measured on other pictures of these kinds, apart from the rest.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from models.page.quad import frame_corners
from models.training.page_cards import Image, draw_page_facing, machine_lines
from models.training.page_scenes import (
    Corners,
    PageScene,
    Picture,
    background,
    fingers,
    lay,
    photographed,
    placed,
    recoloured,
    reduced,
    tint,
)  # fmt: skip

Kind = Literal["open passport", "scan", "drawing"]
KINDS: tuple[Kind, ...] = ("open passport", "scan", "drawing")
_FRAMES = ((16, 9), (9, 16), (4, 3), (3, 4), (1, 1))
_CUT = 0.03
"""Most that a scan is cropped at each side, as a part of it."""


def draw_other(rng: np.random.Generator, cards: Sequence[Image], short_side: int, kind: Kind) -> PageScene:
    """One picture of that kind whose shorter side has `short_side` pixels.

    Of an open passport the page is the one with the portrait, not both: that is what is read. Scans and drawings are
    pages as large as the picture.
    """
    if kind == "open passport":
        return _open_passport(rng, cards, short_side)
    if kind == "scan":
        return _scan(rng, cards, short_side)
    return _drawing(rng, short_side)


def _open_passport(rng: np.random.Generator, cards: Sequence[Image], short_side: int) -> PageScene:
    w, h = _FRAMES[int(rng.integers(len(_FRAMES)))]
    scale = short_side / min(w, h)
    width, height = round(w * scale), round(h * scale)
    picture = background(rng, width, height)
    card = reduced(cards[int(rng.integers(len(cards)))], short_side)
    data = recoloured(rng, card, picture)
    facing = draw_page_facing(rng, data)
    # The fold lies along the longer side of both pages, the data page on either side of it as the picture is held.
    below = bool(rng.random() < 0.5)
    spread = np.vstack([facing, data] if below else [data, facing])
    fold = facing.shape[0] if below else data.shape[0]
    shade = np.exp(-np.abs(np.arange(len(spread)) - fold) / (len(spread) * rng.uniform(0.004, 0.03)))
    spread = spread * (1 - rng.uniform(0.1, 0.5) * shade[:, None, None])
    corners = placed(rng, width, height, spread.shape[1] / spread.shape[0], 1.1)
    picture = lay(rng, picture, np.asarray(spread, np.float32), corners, alone=False)
    page = _half(corners, below=below)
    if rng.random() < 0.4:
        fingers(rng, picture, corners)
    return PageScene(photographed(rng, picture, page), (page,))


def _half(corners: Corners, *, below: bool) -> Corners:
    square = np.asarray([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    low, high = (0.5, 1.0) if below else (0.0, 0.5)
    half = np.asarray([[(0, low), (1, low), (1, high), (0, high)]], np.float32)
    return np.asarray(cv2.perspectiveTransform(half, cv2.getPerspectiveTransform(square, corners))[0], np.float32)


def _scan(rng: np.random.Generator, cards: Sequence[Image], short_side: int) -> PageScene:
    card = recoloured(rng, cards[int(rng.integers(len(cards)))], np.full((1, 1, 3), 128, np.float32))
    h, w = card.shape[:2]
    top, bottom = (int(h * share) for share in rng.uniform(0, _CUT, 2) * (rng.random() < 0.5))
    left, right = (int(w * share) for share in rng.uniform(0, _CUT, 2) * (rng.random() < 0.5))
    card = card[top : h - bottom, left : w - right]
    if rng.random() < 0.3:
        card = np.ascontiguousarray(np.rot90(card))
    return _filling(rng, card, short_side)


def _drawing(rng: np.random.Generator, short_side: int) -> PageScene:
    """A document in outlines: boxes, a head, words, machine readable lines, dark on light."""
    height, width = 200, int(200 * rng.choice((1.586, 1.42, 1.42, 1.41, 1.0, 0.71)))
    paper = np.full((height, width, 3), rng.uniform(215, 255), np.float32)
    if rng.random() < 0.3:
        paper *= rng.uniform(0.85, 1.0, 3)
    drawn: Image = np.ascontiguousarray(np.clip(paper, 0, 255), np.uint8)
    ink, thick = tint(rng, 20, rng.uniform(0, 110)), int(rng.integers(1, 3))
    if rng.random() < 0.4:
        inset = int(rng.uniform(0, 0.02) * height)
        cv2.rectangle(drawn, (inset, inset), (width - 1 - inset, height - 1 - inset), ink, thick)
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.uniform(0.04, 0.6) * width), int(rng.uniform(0.05, 0.5) * height)
        end = (x + int(rng.uniform(0.15, 0.35) * width), y + int(rng.uniform(0.1, 0.45) * height))
        cv2.rectangle(drawn, (x, y), end, ink, thick)
        if rng.random() < 0.4:
            middle = ((x + end[0]) // 2, (y + end[1]) // 2)
            cv2.ellipse(drawn, middle, ((end[0] - x) // 4, (end[1] - y) // 3), 0, 0, 360, ink, thick, cv2.LINE_AA)
    for _ in range(int(rng.integers(2, 14))):
        letters = "".join(rng.choice(list(string.ascii_letters + "   "), int(rng.integers(4, 24))))
        at = (int(rng.uniform(0.03, 0.6) * width), int(rng.uniform(0.08, 0.72) * height))
        cv2.putText(drawn, letters, at, int(rng.integers(0, 4)), float(rng.uniform(0.25, 0.5)), ink, 1, cv2.LINE_AA)
    if rng.random() < 0.7:
        machine_lines(drawn, rng)
    return _filling(rng, drawn.astype(np.float32), short_side)


def _filling(rng: np.random.Generator, page: Picture, short_side: int) -> PageScene:
    """A picture that is this page and nothing else."""
    scale = short_side / min(page.shape[:2])
    size = (round(page.shape[1] * scale), round(page.shape[0] * scale))
    picture: Picture = np.asarray(cv2.resize(page.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
    if rng.random() < 0.4:
        image = photographed(rng, picture, None)
    else:
        image = np.clip(picture + rng.normal(0, rng.uniform(0, 4), picture.shape), 0, 255).astype(np.uint8)
    return PageScene(image, (frame_corners(image.shape),))
