"""Pictures of invented documents, from which the page finder learns what a page is.

Procedural cards (bands, lines of writing, portraits, guilloches, machine readable lines) in every colour scheme, and
the fronts and backs of the project's own specimens. Nothing is photographed or downloaded.
"""

from __future__ import annotations

import string
from datetime import date
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.specimens.document import make_specimen, render_back, render_front

Image = npt.NDArray[np.uint8]

HEIGHT = 200
"""Pixels of a card's shorter side: about what a page has in a frame at the network's size, so that warps stay cheap."""
UNSEEN_SPECIMENS = 2_000_000
"""First seed of the specimens that are measured on."""
_UNSEEN = 8
"""Procedural ones among the cards that are measured on: two to one side of a specimen, as in training."""
_ASPECTS = (1.586, 1.586, 1.586, 1.42, 1.3, 1.41)
"""ID-1 (three times), ID-3, a large residence permit, A-format paper: width by height, ISO/IEC 7810 and ISO 216."""


def draw_card(rng: np.random.Generator) -> Image:
    """A procedural card, uint8 (HEIGHT, W, 3)."""
    height, width = HEIGHT, int(HEIGHT * rng.choice(_ASPECTS))
    base = _colour(rng, light=rng.random() < 0.8)
    ground = base + _gradient(rng, width, height) * rng.uniform(-40, 40, 3)
    if rng.random() < 0.6:
        ground = ground + _guilloche(rng, width, height)[..., None] * rng.uniform(-25, 25, 3)
    card = np.clip(ground, 0, 255).astype(np.uint8)
    ink = _contrasting(rng, base)
    if rng.random() < 0.6:
        band = int(height * rng.uniform(0.08, 0.22))
        top = 0 if rng.random() < 0.8 else height - band
        card[top : top + band] = _colour(rng, light=rng.random() < 0.3)
    mrz = rng.random() < 0.45
    lines_from, lines_to = (
        int(height * rng.uniform(0.1, 0.25)),
        int(height * (0.68 if mrz else rng.uniform(0.75, 0.95))),
    )
    left, right = int(width * 0.05), int(width * 0.95)
    if rng.random() < 0.7:
        share = rng.uniform(0.2, 0.36)
        at = left if rng.random() < 0.7 else int(right - share * width)
        _portrait(card, rng, at, lines_from, int(share * width), lines_to - lines_from)
        left, right = (int(at + share * width + 8), right) if at == left else (left, at - 8)
    _writing(card, rng, ink, (left, lines_from, right, lines_to))
    if mrz:
        machine_lines(card, rng)
    if rng.random() < 0.25:
        _code(card, rng)
    return np.clip(card + rng.normal(0, 2, card.shape), 0, 255).astype(np.uint8)


def draw_page_facing(rng: np.random.Generator, page: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """The page of an open passport beside the one with the portrait, float32 of the same size: of the same paper or
    another, a pattern, some writing, an emblem or stamps; no portrait and nothing machine readable.
    """
    height, width = page.shape[:2]
    ground = page.mean(axis=(0, 1)) if rng.random() < 0.6 else _colour(rng, light=True)
    facing = np.empty((height, width, 3), np.float32)
    facing[:] = ground + rng.uniform(-25, 25)
    facing += _gradient(rng, width, height) * rng.uniform(0, 20)
    if rng.random() < 0.6:
        facing += _guilloche(rng, width, height)[..., None] * rng.uniform(-20, 20, 3).astype(np.float32)
    drawn = np.clip(facing, 0, 255).astype(np.uint8)
    ink = _contrasting(rng, ground.astype(np.float32))
    if rng.random() < 0.6:
        top = int(height * rng.uniform(0.1, 0.5))
        _writing(drawn, rng, ink, (int(width * 0.1), top, int(width * 0.9), int(height * rng.uniform(0.6, 0.95))))
    for _ in range(int(rng.integers(0, 3))):
        centre = (int(width * rng.uniform(0.2, 0.8)), int(height * rng.uniform(0.25, 0.75)))
        axes = (int(height * rng.uniform(0.08, 0.25)), int(height * rng.uniform(0.08, 0.25)))
        cv2.ellipse(drawn, centre, axes, rng.uniform(0, 180), 0, 360, ink, int(rng.integers(1, 4)), cv2.LINE_AA)
    return drawn.astype(np.float32)


def unseen_cards(rng: np.random.Generator, seed: int) -> list[Image]:
    """Cards to measure on: procedural ones of `rng`, and two specimens of seeds that training never uses."""
    return [draw_card(rng) for _ in range(_UNSEEN)] + specimen_cards(2, UNSEEN_SPECIMENS + 2 * seed)


class ChangingCards:
    """Cards at hand in training, two procedural ones to one side of a specimen: `cards`. of_seed: of the first
    specimen; each: scenes after which a specimen is drawn anew, which costs as much as fifty procedural cards.
    """

    _PROCEDURAL, _SPECIMENS, _AT_FIRST = 72, 18, 5

    def __init__(self, rng: np.random.Generator, of_seed: int, each: int) -> None:
        self._rng, self._of_seed, self._each = rng, of_seed, each
        self._scenes = 0
        self.cards = [draw_card(rng) for _ in range(self._PROCEDURAL)] + specimen_cards(self._AT_FIRST, of_seed)

    def renew(self) -> None:
        """For the next scene: one procedural card is new, now and then a specimen."""
        self.cards[self._scenes % self._PROCEDURAL] = draw_card(self._rng)
        self._scenes += 1
        turn, left = divmod(self._scenes, self._each)
        if left == 0:
            # One that is not there yet is added.
            number = self._AT_FIRST + turn - 1
            at = self._PROCEDURAL + 2 * (number % self._SPECIMENS)
            self.cards[at : at + 2] = specimen_cards(1, self._of_seed + number, after=number)


def specimen_cards(count: int, seed: int, after: int = 0) -> list[Image]:
    """Fronts and backs of specimens whose seeds start at `seed`, uint8 at HEIGHT, designs and portraits by turns from
    the one `after` so many on. About half a second each.
    """
    cards: list[Image] = []
    for i in range(count):
        specimen = make_specimen(
            seed + i,
            design=("azure", "ochre")[(after + i) % 2],
            portrait=("astronaut", "grace_hopper")[(after + i) // 2 % 2],
            today=date(2026, 1, 1),
        )
        for side in (render_front(specimen), render_back(specimen)):
            width = round(HEIGHT * side.shape[1] / side.shape[0])
            cards.append(np.asarray(cv2.resize(side, (width, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8))
    return cards


def _colour(rng: np.random.Generator, *, light: bool) -> npt.NDArray[np.float32]:
    grey = rng.uniform(150, 245) if light else rng.uniform(25, 140)
    return np.clip(grey + rng.uniform(-45, 45, 3) * rng.uniform(0, 1), 5, 250).astype(np.float32)


def _contrasting(rng: np.random.Generator, base: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    direction = -1 if base.mean() > 110 else 1
    r, g, b = np.clip(base + direction * rng.uniform(70, 190) + rng.uniform(-25, 25, 3), 0, 255)
    return float(r), float(g), float(b)


def _gradient(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """Smooth field between -1 and 1, float32 (H, W, 1)."""
    coarse = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)[..., None]


def _guilloche(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    a, b, c = rng.uniform(0.1, 0.8), rng.uniform(0.02, 0.1), rng.uniform(3, 25)
    return np.asarray(np.sin(a * y + c * np.sin(b * x) + rng.uniform(0, 6)), np.float32)


def _portrait(card: Image, rng: np.random.Generator, x: int, y: int, w: int, h: int) -> None:
    """A head's outline on a plain ground: no real face is needed to learn that documents carry one."""
    h = min(h, int(w * 1.35))
    card[y : y + h, x : x + w] = _colour(rng, light=True)
    r, g, b = np.asarray([200, 160, 135]) * rng.uniform(0.35, 1.15)
    hair = float(rng.uniform(15, 150))
    centre = (x + w // 2, y + int(h * 0.45))
    shirt = tuple(float(v) for v in _colour(rng, light=False))
    patch = np.ascontiguousarray(card[y : y + h, x : x + w])
    centre = (w // 2, int(h * 0.45))
    cv2.ellipse(patch, (w // 2, int(h * 1.05)), (int(w * 0.45), int(h * 0.32)), 0, 0, 360, shirt, -1)
    cv2.ellipse(patch, (centre[0], int(h * 0.38)), (int(w * 0.30), int(h * 0.31)), 0, 0, 360, (hair, hair, hair), -1)
    cv2.ellipse(patch, centre, (int(w * 0.23), int(h * 0.28)), 0, 0, 360, (float(r), float(g), float(b)), -1)
    card[y : y + h, x : x + w] = patch


def _writing(card: Image, rng: np.random.Generator, ink: tuple[float, float, float], box: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    y = top
    while y < bottom - 8:
        size = float(rng.choice((0.25, 0.3, 0.38, 0.5)))
        letters = rng.choice(list(string.ascii_uppercase + string.digits + "   "), int(rng.integers(4, 26)))
        x = left + int(rng.uniform(0, 0.15) * (right - left))
        room = max(2, int((right - x) / (size * 19)))
        cv2.putText(card, "".join(letters[:room]), (x, y + 8), int(rng.integers(0, 4)), size, ink, 1, cv2.LINE_AA)
        y += int(rng.uniform(10, 22))


def machine_lines(card: Image, rng: np.random.Generator) -> None:
    """Draws two or three lines of capitals, digits and fillers along the lower edge of a card."""
    height, width = card.shape[:2]
    if rng.random() < 0.7:
        strip = card[int(height * 0.72) :]
        strip[:] = strip * 0.3 + 0.7 * rng.uniform(170, 240)
    rows = int(rng.integers(2, 4))
    for row in range(rows):
        letters = rng.choice(list(string.ascii_uppercase + string.digits + "<" * 20), 30 if rows == 3 else 40)
        y = int(height * (0.81 + row * 0.16 / rows * 1.1))
        step = width * 0.92 / len(letters)
        for i, letter in enumerate(letters):
            at = (int(width * 0.04 + i * step), y)
            cv2.putText(card, str(letter), at, cv2.FONT_HERSHEY_PLAIN, 0.6, (30, 30, 30), 1, cv2.LINE_AA)


def _code(card: Image, rng: np.random.Generator) -> None:
    """A two-dimensional code: a block of random black and white cells."""
    height, width = card.shape[:2]
    rows, columns = int(rng.integers(6, 20)), int(rng.integers(10, 50))
    h, w = int(height * rng.uniform(0.12, 0.3)), int(width * rng.uniform(0.15, 0.7))
    y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
    cells = (rng.random((rows, columns)) < 0.5).astype(np.float32) * 230 + 15
    card[y : y + h, x : x + w] = cv2.resize(cells, (w, h), interpolation=cv2.INTER_NEAREST)[..., None]
