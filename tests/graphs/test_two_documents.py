"""Two documents in one film are detected, and the step is asked for again."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import numpy.typing as npt
import pytest

from graphs import document
from graphs.flow import NODES
from graphs.profile import get_profile
from graphs.records import CaseSpec, CheckResult, Step
from graphs.run import constants_of
from models.page.outline import box, parts
from models.specimens.attacks import DocumentAttack
from models.specimens.capture import back_scene, front_scene, record
from models.specimens.document import make_specimen
from workers.pool import models

Mask = npt.NDArray[np.float32]
SPEC = CaseSpec("case_01", "standard", {"front": 1, "back": 1, "face": 1}, (), date(2026, 7, 1))


def mask_of(*boxes: tuple[int, int, int, int]) -> Mask:
    """Left, top, right and bottom of each part of a mask of 192 × 192."""
    mask = np.zeros((192, 192), np.float32)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1.0
    return mask


def test_each_page_has_its_own_mask_the_largest_first() -> None:
    small, large = (10, 10, 90, 70), (30, 90, 170, 180)
    found = parts(mask_of(small, large), (192, 192), 0.5)
    for part, sides in zip(found, (large, small), strict=True):
        drawn = box(part, (192, 192))
        assert drawn.min(axis=0) == pytest.approx(np.array(sides[:2]) - 0.5, abs=1)
        assert drawn.max(axis=0) == pytest.approx(np.array(sides[2:]) - 0.5, abs=1)


@pytest.mark.parametrize(
    ("boxes", "count"),
    [
        ((), 0),
        (((10, 10, 18, 18),), 0),
        (((20, 20, 160, 120),), 1),
        (((20, 20, 160, 120), (170, 150, 185, 190)), 1),
        (((60, 20, 140, 90), (60, 90, 140, 160)), 1),
        (((20, 60, 90, 122), (90, 62, 160, 120)), 2),
    ],
    ids=["none", "a crumb", "one", "one and a crumb", "one above the other", "side by side"],
)
def test_crumbs_are_no_pages_and_pages_that_touch_are_one(
    boxes: tuple[tuple[int, int, int, int], ...], count: int
) -> None:
    assert len(parts(mask_of(*boxes), (192, 192), 0.5)) == count


def quality_of(step: Step, attack: DocumentAttack | None, seed: int) -> CheckResult:
    """The quality of a film, by the nodes that judge it in a case."""
    specimen = make_specimen(seed, design="ochre", portrait="grace_hopper", today=SPEC.opened_on)
    film = record((front_scene if step == "front" else back_scene)(specimen, seed=seed, attack=attack))
    pages = document.pages(document.frames(film.data, step, models()), models())
    return document.quality(pages, **constants_of(NODES[f"quality_{step}"], SPEC, get_profile(SPEC.profile).policy))


@pytest.mark.parametrize("step", ["front", "back"])
def test_two_documents_in_a_film_are_asked_for_again(step: Step) -> None:
    judged = quality_of(step, DocumentAttack.TWO_DOCUMENTS, 611)
    assert judged.result == "rejected"
    assert "two_documents_uploaded" in {reason.code for reason in judged.reasons if reason.retryable}


def test_one_document_is_not_taken_for_two() -> None:
    judged = quality_of("front", None, 611)
    assert judged.result == "clear", judged
    assert judged.properties["several_share"] == 0.0


def test_the_share_of_frames_decides() -> None:
    specimen = make_specimen(612, design="azure", portrait="astronaut", today=SPEC.opened_on)
    pages = document.pages(document.frames(record(front_scene(specimen, seed=612)).data, "front", models()), models())
    constants = constants_of(NODES["quality_front"], SPEC, get_profile(SPEC.profile).policy)
    most = get_profile("standard").policy.checks["quality_front"].thresholds["max_several_share"]
    few, many = (document.quality(replace(pages, several_share=most + d), **constants) for d in (0.0, 0.01))
    assert "two_documents_uploaded" not in {reason.code for reason in few.reasons}
    assert "two_documents_uploaded" in {reason.code for reason in many.reasons}
