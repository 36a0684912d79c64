"""Signs of a screen and of a grey copy, on synthetic gratings and on filmed specimens."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from models.page.recapture import Recapture, grey_score, recapture, screen_score
from models.specimens.attacks import DocumentAttack
from models.specimens.document import render_front
from tests.support.document_films import film

Page = npt.NDArray[np.uint8]
SCREEN = 0.265
SCREEN_BACK = 0.215
GREY = 0.6
"""Those of the profile `standard`; the films here have other seeds than those that they were fitted on."""


def front() -> Page:
    return np.asarray(render_front(film("front", None, 11).specimen))


def noisy(page: npt.NDArray[np.floating], seed: int = 0) -> Page:
    return np.clip(page + np.random.default_rng(seed).normal(0, 3, page.shape), 0, 255).astype(np.uint8)


def moire(page: Page, period: float, strength: float) -> Page:
    """A beat of stripes whose colours are a third of a period apart, bent a little, as perspective bends it."""
    y, x = np.mgrid[0 : page.shape[0], 0 : page.shape[1]].astype(np.float32)
    phase = 2 * np.pi * (x + 0.3 * y + 4e-5 * x * y) / period
    stripes = np.stack([np.cos(phase + 2 * np.pi * channel / 3) for channel in range(3)], axis=-1)
    return noisy(page * (1 + strength * stripes))


@pytest.mark.parametrize("period", [6.0, 9.0, 16.0])
def test_coloured_moire_stands_out(period: float) -> None:
    page = front()
    assert screen_score(noisy(page.astype(np.float32))) < SCREEN
    assert screen_score(moire(page, period, 0.15)) > SCREEN


def test_more_moire_scores_more() -> None:
    scores = [screen_score(moire(front(), 9.0, strength)) for strength in (0.0, 0.03, 0.1)]
    assert scores == sorted(scores)


def test_fine_print_of_one_tone_is_no_screen() -> None:
    """A guilloche of black lines on white is periodic, but not coloured."""
    y, x = np.mgrid[0:638, 0:1012].astype(np.float32)
    lines = 200 + 40 * np.cos(2 * np.pi * (x + 0.4 * y + 6 * np.sin(y / 40)) / 8)
    assert screen_score(noisy(np.repeat(lines[..., None], 3, axis=2))) < SCREEN


@pytest.mark.parametrize("shift", [0.3, 0.6])
def test_channels_that_do_not_quite_lie_on_one_another_are_no_screen(shift: float) -> None:
    """Lenses pull red out and blue in at the rim of a picture, and a press lays its inks down one after the other."""
    page = front()
    for channel, sign in ((0, 1), (2, -1)):
        aside = np.array([[1, 0, sign * shift], [0, 1, 0.5 * sign * shift]], np.float32)
        moved = cv2.warpAffine(
            page[..., channel], aside, page.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        page[..., channel] = moved
    assert screen_score(noisy(page.astype(np.float32))) < SCREEN


@pytest.mark.parametrize("quality", [70, 95])
@pytest.mark.parametrize("width", [700, 1012])
def test_a_still_is_no_screen_for_being_a_jpeg(quality: int, width: int) -> None:
    """More than half of the stills of genuine specimens were once taken for screens."""
    small = cv2.resize(front(), (width, round(width * 638 / 1012)), interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", noisy(small.astype(np.float32))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    still = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    assert screen_score(np.ascontiguousarray(still)) < SCREEN


def test_colours_in_one_corner_are_no_screen() -> None:
    """An optically variable element has stripes of all colours, but only where it is."""
    page, striped = noisy(front().astype(np.float32)), moire(front(), 8.0, 0.3)
    page[40:240, 700:960] = striped[40:240, 700:960]
    assert screen_score(page) < SCREEN


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (1.1, 1.0, 0.85), (0.85, 1.0, 1.1)])
def test_a_grey_page_is_grey_in_any_light(tint: tuple[float, float, float]) -> None:
    grey = cv2.cvtColor(front(), cv2.COLOR_RGB2GRAY).astype(np.float32)
    copy = np.repeat(grey[..., None], 3, axis=2) * 0.85 * np.array(tint, np.float32)
    assert grey_score(noisy(copy)) > 0.9
    assert grey_score(noisy(front() * 0.85 * np.array(tint, np.float32))) < 0.1


def test_fading_colours_score_in_between() -> None:
    page = front().astype(np.float32)
    mean = page.mean(axis=2, keepdims=True)
    scores = [grey_score(noisy(mean + keep * (page - mean))) for keep in (1.0, 0.6, 0.3, 0.1, 0.0)]
    assert scores == sorted(scores)


def test_a_black_or_white_page_says_nothing() -> None:
    assert grey_score(np.zeros((638, 1012, 3), np.uint8)) == 0.0
    assert grey_score(np.full((638, 1012, 3), 255, np.uint8)) == 0.0
    assert screen_score(np.full((638, 1012, 3), 255, np.uint8)) < SCREEN


def test_other_sizes_are_measured_too() -> None:
    half = np.asarray(cv2.resize(front(), (700, 441), interpolation=cv2.INTER_AREA), np.uint8)
    assert screen_score(half) < SCREEN


def test_no_pages() -> None:
    assert recapture([]) == Recapture(0.0, 0.0, 0)


def test_one_bad_page_of_three_does_not_decide() -> None:
    good = noisy(front().astype(np.float32))
    assert recapture([good, moire(front(), 7.0, 0.3), good]).screen < SCREEN


@pytest.mark.parametrize("seed", [11, 12])
def test_genuine_films_are_clear(seed: int) -> None:
    found = recapture(list(film("front", None, seed).pages[:3]))
    assert found.screen < SCREEN
    assert found.grey < GREY
    assert found.pages == 3


def test_a_filmed_screen_is_seen() -> None:
    assert recapture(list(film("front", DocumentAttack.PHOTO_OF_SCREEN, 11).pages[:3])).screen > SCREEN


def test_a_filmed_grey_copy_is_seen() -> None:
    found = recapture(list(film("front", DocumentAttack.GREY_COPY, 11).pages[:3]))
    assert found.grey > GREY
    assert found.screen < SCREEN


@pytest.mark.parametrize(("attack", "screen"), [(None, False), (DocumentAttack.PHOTO_OF_SCREEN, True)])
def test_the_back_with_its_barcode(attack: DocumentAttack | None, screen: bool) -> None:
    found = recapture(list(film("back", attack, 11, 0.6).pages[:3]))
    assert (found.screen > SCREEN_BACK) == screen
    assert found.grey < GREY
