"""One line's ink against that of the others: drawn pages, and specimens whose field was printed over."""

from __future__ import annotations

import random
from datetime import date

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from graphs import document
from graphs import front as front_side
from models.page.tampering import MIN_LINES, OddLine, ink_of, odd_line
from models.specimens.attacks import DocumentAttack
from models.specimens.capture import front_scene, photo
from models.specimens.conditions import DocumentConditions
from models.specimens.document import make_specimen
from workers.pool import models

Page = npt.NDArray[np.uint8]
WORDS = ("ERIKSSON", "ANNA MARIA", "14.02.1981", "LX5549301", "09.11.2031")
LIMIT = 0.07
"""That of the profile `standard`."""


def page_of(inks: list[int], *, paper: int = 205, scale: float = 1.2) -> tuple[Page, list[npt.NDArray[np.float32]]]:
    """Lines of bold capitals below one another, each in its own grey, and their boxes."""
    page = np.full((638, 1012, 3), paper, np.uint8)
    boxes = []
    for row, (word, ink) in enumerate(zip(WORDS, inks, strict=False)):
        bottom = 120 + 90 * row
        cv2.putText(page, word, (60, bottom), cv2.FONT_HERSHEY_DUPLEX, scale, (ink,) * 3, 6, cv2.LINE_AA)
        boxes.append(
            np.array([(55, bottom - 38), (330, bottom - 38), (330, bottom + 10), (55, bottom + 10)], np.float32)
        )
    noise = np.random.default_rng(1).normal(0, 2, page.shape)
    return np.clip(cv2.GaussianBlur(page, (0, 0), 0.8) + noise, 0, 255).astype(np.uint8), boxes


def test_lines_of_one_ink_agree() -> None:
    page, boxes = page_of([24] * 5)
    found = odd_line([page], boxes)
    assert found.lines == 5
    assert found.score < 0.02


@pytest.mark.parametrize("odd", range(5))
def test_the_line_in_another_ink_is_named(odd: int) -> None:
    inks = [24] * 5
    inks[odd] = 60
    page, boxes = page_of(inks)
    found = odd_line([page], boxes)
    assert found.line == odd
    assert found.score == pytest.approx((60 - 24) / 205, abs=0.03)


def test_light_that_falls_off_over_the_page_is_no_ink() -> None:
    page, boxes = page_of([24] * 5)
    shade = np.linspace(1.0, 0.6, 638)[:, None, None]
    assert odd_line([(page * shade).astype(np.uint8)], boxes).score < 0.03


def test_a_line_under_glare_is_left_out() -> None:
    page, boxes = page_of([24] * 5)
    glared = page.copy()
    glared[250:330] = np.clip(glared[250:330].astype(int) + 45, 0, 255).astype(np.uint8)
    alone = odd_line([glared], boxes)
    assert (alone.lines, alone.score < 0.03) == (4, True)
    assert odd_line([page, glared, page], boxes).lines == 5, "the median page shows it"


def test_too_few_lines_say_nothing() -> None:
    page, boxes = page_of([24] * 5)
    assert odd_line([page], boxes[: MIN_LINES - 1]) == OddLine(0.0, -1, 0)
    assert odd_line([], []) == OddLine(0.0, -1, 0)
    blank = np.full((638, 1012, 3), 205, np.uint8)
    assert odd_line([blank], boxes) == OddLine(0.0, -1, 0)


def test_light_print_on_a_dark_band_is_not_measured() -> None:
    page, boxes = page_of([235] * 5, paper=40)
    assert ink_of(page, boxes[0]) is None


def test_a_box_outside_of_the_page_is_not_measured() -> None:
    page, boxes = page_of([24] * 5)
    assert ink_of(page, boxes[0] - 2000) is None


@pytest.mark.parametrize(("attack", "result"), [(None, "clear"), (DocumentAttack.TEXT_EDITED, "caution")])
def test_a_field_printed_over_is_seen_on_a_photo(attack: DocumentAttack | None, result: str) -> None:
    """The whole way: photo, outline, text, ink."""
    seed = 4302
    specimen = make_specimen(seed, design="azure", portrait="astronaut", today=date(2026, 7, 1))
    conditions = DocumentConditions.draw(random.Random(f"document {seed}"))
    data = photo(front_scene(specimen, seed=seed, attack=attack, seconds=0.6, conditions=conditions))
    pages = document.pages(document.frames(data, "front", models()), models())
    found = front_side.tampering(front_side.text_lines(pages, models()), pages, {"max_ink_difference": LIMIT})
    assert found.result == result
    assert [reason.code for reason in found.reasons] == ([] if attack is None else ["altered_text"])
