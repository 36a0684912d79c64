"""The page finder with its weights, on specimens' films and on synthetic scenes it was not trained on."""

from __future__ import annotations

from datetime import date

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.data import astronaut

from graphs.evaluation.page import PageSuite, find_in_scenes
from graphs.evaluation.suite import Measured
from models.media.decoding import MediaLimits, sample_frames
from models.networks.weights import own
from models.page.finder import INPUT_SIDE, MASK_SIDE, PageFinder, PageNet
from models.page.quad import Quad, frame_corners, overlap, rectify, within
from models.specimens.capture import back_scene, front_scene, record
from models.specimens.document import make_specimen, render_front
from models.training.page_cards import draw_card
from models.training.page_others import KINDS, Kind, draw_other
from models.training.page_scenes import draw_scene

Corners = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def finder() -> PageFinder:
    return PageFinder(own("page_finder"), own("page_corners"))


def test_the_network_is_small_and_its_mask_has_the_documented_size() -> None:
    net = PageNet().eval()
    with torch.inference_mode():
        mask, presence = net(torch.zeros(2, 3, INPUT_SIDE, INPUT_SIDE))
    assert mask.shape == (2, MASK_SIDE, MASK_SIDE)
    assert presence.shape == (2,)
    assert sum(parameter.numel() for parameter in net.parameters()) < 1_000_000


@pytest.mark.parametrize("side", ["front", "back"])
def test_the_page_is_found_in_a_specimen_s_film(finder: PageFinder, side: str) -> None:
    specimen = make_specimen(71, design="azure", portrait="astronaut", today=date(2026, 1, 1))
    film = record((front_scene if side == "front" else back_scene)(specimen, seed=71))
    frames = sample_frames(film.data, rate_hz=3, max_frames=6, max_side=1280, limits=MediaLimits())
    quads = finder.find(frames.images)
    assert len(quads) == len(frames.images)
    overlaps = [
        overlap(quad.corners, film.quads[round(time * film.frame_rate), 0])
        for time, quad in zip(frames.timestamps, quads, strict=True)
        if quad is not None
    ]
    assert len(overlaps) >= 0.8 * len(quads)
    assert float(np.median(overlaps)) > 0.97


@pytest.mark.parametrize("turned", [False, True])
def test_a_scan_that_the_page_fills_is_the_whole_picture(finder: PageFinder, turned: bool) -> None:
    card = render_front(make_specimen(72, design="ochre", portrait="grace_hopper", today=date(2026, 1, 1)))
    scan = np.ascontiguousarray(np.rot90(card)) if turned else card
    quad = finder.find(scan[None])[0]
    assert isinstance(quad, Quad)
    assert quad.whole
    frame = frame_corners(scan.shape)
    assert {tuple(corner) for corner in quad.corners} == {tuple(corner) for corner in frame}
    level = rectify(scan, quad)
    likeness = [abs(level[::step, ::step].astype(int) - card).mean() for step in (1, -1)]
    assert min(likeness) < 25


def test_a_page_on_a_table_is_not_the_whole_picture(finder: PageFinder) -> None:
    card = render_front(make_specimen(72, design="ochre", portrait="grace_hopper", today=date(2026, 1, 1)))
    around = cv2.copyMakeBorder(card, 60, 60, 90, 90, cv2.BORDER_CONSTANT, value=(70, 60, 50))
    quad = finder.find(np.asarray(around, np.uint8)[None])[0]
    assert quad is not None
    assert not quad.whole
    assert overlap(quad.corners, frame_corners(card.shape) + np.asarray((90, 60), np.float32)) > 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_other_documents_and_pictures(finder: PageFinder, kind: Kind) -> None:
    """Of an open passport the page with the portrait; of a scan or a drawing the whole picture."""
    rng = np.random.default_rng(31)
    cards = [draw_card(rng) for _ in range(8)]
    right = 0
    for _ in range(8):
        scene = draw_other(rng, cards, 480, kind)
        quad = finder.find(scene.image[None])[0]
        if quad is not None:
            right += overlap(within(scene.pages[0], scene.image.shape), within(quad.corners, scene.image.shape)) > 0.9
    assert right >= LEAST_RIGHT[kind]


LEAST_RIGHT = {"open passport": 3, "scan": 7, "drawing": 6}


@pytest.mark.parametrize("grey", [0, 90, 200, 255])
def test_a_plain_frame_has_no_page(finder: PageFinder, grey: int) -> None:
    assert finder.find(np.full((1, 480, 640, 3), grey, np.uint8)) == [None]


def test_a_person_is_no_page(finder: PageFinder) -> None:
    portrait = np.asarray(astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    assert finder.find(portrait[None]) == [None]


def test_frames_are_found_the_same_alone_and_together(finder: PageFinder) -> None:
    rng = np.random.default_rng(5)
    cards = [draw_card(rng) for _ in range(4)]
    scenes = [draw_scene(rng, cards, 240).image for _ in range(6)]
    images = np.stack([np.asarray(cv2.resize(image, (320, 240)), np.uint8) for image in scenes])
    together = finder.find(images)
    for image, quad in zip(images, together, strict=True):
        alone = finder.find(image[None])[0]
        assert (alone is None) == (quad is None)
        if alone is not None and quad is not None:
            assert alone.corners == pytest.approx(quad.corners, abs=1.0)


def test_no_frames(finder: PageFinder) -> None:
    assert finder.find(np.zeros((0, 480, 640, 3), np.uint8)) == []


def test_the_figures_of_the_card_hold_on_a_sample() -> None:
    measured = [Measured(str(seed), "", None, 0.0, find_in_scenes(seed)) for seed in (901, 902, 903)]
    figures = PageSuite().report(measured).figures
    assert figures["median_overlap"] > 0.97
    assert figures["good"] > 0.85
    assert figures["false_pages"] < 0.1
