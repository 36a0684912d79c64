"""Checks of the document on badly outlined pages, with the real readers and rendered specimens."""

from __future__ import annotations

from datetime import date

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from graphs import across
from graphs import back as back_side
from graphs import front as front_side
from graphs.document import Pages
from models.page.quad import ID1_SIZE, Page, Quad
from models.specimens.attacks import DocumentAttack, tampered
from models.specimens.document import Specimen, make_specimen, render_back, render_front
from workers.pool import ModelPool, models

U8 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def specimen() -> Specimen:
    return make_specimen(610, design="azure", portrait="astronaut", today=date(2026, 7, 1))


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return models()


def pages_of(image: U8) -> Pages:
    """Three pages that show the same."""
    page = np.asarray(cv2.resize(image, ID1_SIZE, interpolation=cv2.INTER_AREA), np.uint8)
    quad = Quad(np.zeros((4, 2), np.float32), 1.0)
    best = tuple(Page(page, index, quad, 100.0) for index in range(3))
    return Pages(best, np.zeros((0, 319, 506, 3), np.uint8), (quad,) * 3, (), 0.0)


@pytest.mark.parametrize("lost", [0.06, 0.115])
def test_a_zone_cut_off_with_its_page_accuses_nobody(specimen: Specimen, pool: ModelPool, lost: float) -> None:
    """Regression: a page outlined too narrowly lost columns of its zone, so a genuine card was declined."""
    back = render_back(specimen)
    pages = pages_of(back[:, round(lost * back.shape[1]) :])
    reading = back_side.mrz_lines(pages, pool)
    found = back_side.mrz(reading, pages)
    assert [reason.code for reason in found.reasons] == ["mrz_unreadable"]
    front = front_side.text_lines(pages_of(render_front(specimen)), pool)
    assert across.consistency(front, reading, None).result == "not_run"


def test_an_altered_zone_still_accuses(specimen: Specimen, pool: ModelPool) -> None:
    forged = tampered(specimen, DocumentAttack.ALTERED_MRZ)
    pages = pages_of(render_back(forged))
    found = back_side.mrz(back_side.mrz_lines(pages, pool), pages)
    assert (found.result, [reason.code for reason in found.reasons]) == ("rejected", ["mrz_check_digit"])


def test_a_whole_zone_is_clear(specimen: Specimen, pool: ModelPool) -> None:
    pages = pages_of(render_back(specimen))
    assert back_side.mrz(back_side.mrz_lines(pages, pool), pages).result == "clear"


def test_a_zone_on_a_scan_that_lies_on_its_side_is_read(specimen: Specimen, pool: ModelPool) -> None:
    """A document that fills the picture can have any orientation; by default the reader only finds level lines."""
    upright = np.asarray(cv2.resize(np.rot90(render_back(specimen)), (900, 1428), interpolation=cv2.INTER_AREA))
    page = Page(np.asarray(upright, np.uint8), 0, Quad(np.zeros((4, 2), np.float32), 1.0, whole=True), 100.0)
    pages = Pages((page,), np.zeros((0, 319, 506, 3), np.uint8), (page.quad,), (), 0.0)
    assert back_side.mrz(back_side.mrz_lines(pages, pool), pages).result == "clear"
