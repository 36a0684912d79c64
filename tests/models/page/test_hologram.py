"""Elements whose hue turns with tilt against everything else that moves on a page: glare, shadow, noise, moiré."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.page.hologram import MIN_FRAMES, hologram
from models.specimens.attacks import DocumentAttack
from tests.support.document_films import film

Pages = npt.NDArray[np.uint8]
FRAMES = 12


def printed() -> npt.NDArray[np.float32]:
    """A page with print in several colours: float32 (319, 506, 3)."""
    rng = np.random.default_rng(2)
    page = np.full((319, 506, 3), (205, 220, 235), np.uint8)
    page[:40] = (40, 60, 130)
    cv2.rectangle(page, (20, 60), (170, 270), (150, 110, 90), -1)
    for row in range(6):
        cv2.putText(page, "SPECIMEN TEXT", (200, 90 + 36 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (30, 30, 40), 2)
    coarse = cv2.resize(rng.normal(0, 8, (40, 63, 3)).astype(np.float32), (506, 319))
    return np.asarray(page + coarse, np.float32)


def finished(pages: list[npt.NDArray[np.float32]], seed: int = 0) -> Pages:
    """Noise, then bytes."""
    rng = np.random.default_rng(seed)
    return np.stack([np.clip(page + rng.normal(0, 4, page.shape), 0, 255).astype(np.uint8) for page in pages])


def rainbow(pages: list[npt.NDArray[np.float32]], box: tuple[int, int, int, int], turn: float) -> None:
    """Tint a box (left, top, right, bottom) with a hue that goes `turn` of the wheel round over the film, in place."""
    left, top, right, bottom = box
    for index, page in enumerate(pages):
        hue = np.full((1, 1, 3), (180 * turn * index / len(pages), 230, 255), np.uint8)
        tint = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB).astype(np.float32)
        page[top:bottom, left:right] = 0.6 * page[top:bottom, left:right] + 0.4 * tint


def test_a_turning_hue_is_seen_where_it_is() -> None:
    pages = [printed() for _ in range(FRAMES)]
    rainbow(pages, (300, 100, 420, 220), 0.8)
    found = hologram(finished(pages))
    assert found.judged
    assert found.frames == FRAMES
    assert found.score == pytest.approx(120 * 120 / (506 * 319), rel=0.2)
    assert found.area.shape == (20, 32)
    assert found.area[7:13, 20:25].min() > 0.8
    assert found.area[:, :17].max() == 0.0


def test_print_alone_has_none() -> None:
    found = hologram(finished([printed() for _ in range(FRAMES)]))
    assert found.judged
    assert found.score == 0.0


def test_moving_white_glare_is_disregarded() -> None:
    """It slides over print of all colours; some of it clips."""
    pages = []
    x, y = np.meshgrid(np.arange(506), np.arange(319))
    for index in range(FRAMES):
        spot = 190 * np.exp(-(((x - 40 * index) / 45) ** 2 + ((y - 150) / 60) ** 2))
        pages.append((printed() + spot[..., None]).astype(np.float32))
    found = hologram(finished(pages))
    assert found.judged
    assert found.score < 0.003


def test_a_moving_shadow_and_a_drifting_white_balance_are_disregarded() -> None:
    pages = []
    for index in range(FRAMES):
        edge = 1 / (1 + np.exp(-(np.arange(506) - 40 * index) / 15))
        tint = np.array((1 + 0.01 * index, 1.0, 1 - 0.008 * index), np.float32)
        pages.append((printed() * (0.55 + 0.45 * edge)[None, :, None] * tint).astype(np.float32))
    found = hologram(finished(pages))
    assert found.judged
    assert found.score < 0.003


def test_a_static_rainbow_is_print() -> None:
    pages = [printed() for _ in range(FRAMES)]
    for index, hue in enumerate(np.linspace(0, 170, 12)):
        colour = cv2.cvtColor(np.full((1, 1, 3), (hue, 230, 255), np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
        for page in pages:
            page[100:220, 300 + 10 * index : 310 + 10 * index] = colour
    assert hologram(finished(pages)).score == 0.0


def test_pages_that_are_a_little_off_are_registered() -> None:
    pages = [printed() for _ in range(FRAMES)]
    still = hologram(finished(shaken(pages)))
    rainbow(pages, (300, 100, 420, 220), 0.8)
    found = hologram(finished(shaken(pages)))
    assert found.frames == FRAMES
    assert found.score == pytest.approx(0.089, rel=0.25)
    assert still.score < 0.003


def shaken(pages: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
    """Each page shifted by some pixels."""
    rng = np.random.default_rng(5)
    out = []
    for page in pages:
        shift = np.array([[1, 0, rng.normal(0, 3)], [0, 1, rng.normal(0, 3)]], np.float32)
        moved = cv2.warpAffine(page, shift, (506, 319), borderMode=cv2.BORDER_REPLICATE)
        out.append(np.asarray(moved, np.float32))
    return out


def test_too_few_pages_are_not_judged() -> None:
    pages = [printed() for _ in range(MIN_FRAMES - 1)]
    rainbow(pages, (300, 100, 420, 220), 0.8)
    few = hologram(finished(pages))
    assert (few.judged, few.score, few.frames) == (False, 0.0, MIN_FRAMES - 1)
    none = hologram(np.empty((0, 319, 506, 3), np.uint8))
    assert (none.judged, none.frames) == (False, 0)


def test_colour_that_swims_everywhere_is_not_judged() -> None:
    """Wide moiré on a screen: coloured bands that wander as the camera moves."""
    x = np.arange(506)[None, :, None]
    bands = [np.cos(2 * np.pi * (x / 60 - index / 5 + np.arange(3) / 3)) for index in range(FRAMES)]
    found = hologram(finished([(printed() * (1 + 0.12 * band)).astype(np.float32) for band in bands]))
    assert found.unrest > 0.01
    assert (found.judged, found.score) == (False, 0.0)


@pytest.mark.parametrize("seed", [11, 12])
def test_specimens_show_theirs(seed: int) -> None:
    found = hologram(film("front", None, seed).small)
    assert found.judged
    assert found.score > 0.05


@pytest.mark.parametrize("attack", [DocumentAttack.COLOUR_COPY, DocumentAttack.GREY_COPY])
def test_copies_of_the_same_specimen_do_not(attack: DocumentAttack) -> None:
    found = hologram(film("front", attack, 11).small)
    assert found.judged
    assert found.score < 0.005


def test_a_screen_is_not_credited_with_one() -> None:
    found = hologram(film("front", DocumentAttack.PHOTO_OF_SCREEN, 11).small)
    assert found.score < 0.005
