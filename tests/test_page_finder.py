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
from models.media import MediaLimits, sample_frames
from models.page import Quad, overlap, rectify
from models.page_finder import INPUT_SIDE, MASK_SIDE, PageFinder, PageNet
from models.specimens.capture import back_video, front_video
from models.specimens.document import make_specimen, render_front
from models.training.page_cards import draw_card
from models.training.page_scenes import draw_scene
from models.weights import own

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
    assert sum(parameter.numel() for parameter in net.parameters()) < 500_000


@pytest.mark.parametrize("side", ["front", "back"])
def test_the_page_is_found_in_a_specimen_s_film(finder: PageFinder, side: str) -> None:
    specimen = make_specimen(71, design="azure", portrait="astronaut", today=date(2026, 1, 1))
    film = (front_video if side == "front" else back_video)(specimen, seed=71)
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


def test_a_scan_that_the_page_fills_gives_the_frame(finder: PageFinder) -> None:
    scan = render_front(make_specimen(72, design="ochre", portrait="grace_hopper", today=date(2026, 1, 1)))
    quad = finder.find(scan[None])[0]
    assert isinstance(quad, Quad)
    height, width = scan.shape[:2]
    frame = np.asarray([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    assert abs(quad.corners - frame).max() < 0.02 * width
    assert abs(rectify(scan, quad).astype(int) - scan).mean() < 25


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
    assert figures["good"] > 0.55
    assert figures["false_pages"] < 0.2
