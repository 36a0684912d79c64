"""Calls of several tasks joined into one pass give the same results as each call alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.face.detector import Detection, FaceDetector
from models.face.embedder import FaceEmbedder
from models.networks.weights import dlib_path
from workers.batching import Array, Batcher
from workers.joined_models import JoinedDetector, JoinedEmbedder
from workers.pool import DETECTOR, EMBEDDER, ModelPool
from workers.settings import TorchSettings

R = TypeVar("R")
U8 = npt.NDArray[np.uint8]
LONG = 60.0
"""Seconds to wait for a thread that is known to come."""


def at_once(*works: Callable[[], R]) -> list[R]:
    """The results of functions that run in threads of their own, begun together."""
    ready = threading.Barrier(len(works))

    def begin(work: Callable[[], R]) -> R:
        ready.wait(LONG)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(begin, works))


class Gate:
    """Holds the first pass until it is opened, so that what is called meanwhile is in one batch for certain."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.passes: list[list[int]] = []

    def __call__(self, rows: Array) -> Array:
        self.passes.append(rows.tolist())
        if not self.entered.is_set():
            self.entered.set()
            assert self.opened.wait(LONG)
        if -1 in rows:
            raise ZeroDivisionError(f"a row at fault among {len(rows)}")
        return rows * 10


def behind(gate: Gate, batcher: Batcher, calls: list[tuple[str, list[int]]]) -> list[Any]:
    """Results, or errors, of calls (key, rows) made one after the other while a first pass runs."""
    with ThreadPoolExecutor(len(calls) + 1) as threads:
        first = threads.submit(batcher.run, "first", np.array([0]), gate)
        assert gate.entered.wait(LONG)
        later = []
        for key, rows in calls:
            before = batcher.figures().calls
            later.append(threads.submit(batcher.run, key, np.array(rows), gate))
            while batcher.figures().calls == before:
                time.sleep(0.001)
        gate.opened.set()
        assert first.result().tolist() == [0]
        return [one.exception() or one.result().tolist() for one in later]


def test_calls_made_during_a_pass_share_the_next() -> None:
    gate, batcher = Gate(), Batcher(16, 0)
    assert behind(gate, batcher, [("a", [1, 2]), ("a", [3]), ("a", [4, 5, 6])]) == [[10, 20], [30], [40, 50, 60]]
    assert gate.passes == [[0], [1, 2, 3, 4, 5, 6]]
    figures = batcher.figures()
    assert (figures.calls, figures.items, figures.passes, figures.fallbacks) == (4, 7, 2, 0)
    assert (figures.mean_batch, figures.max_batch) == (3.5, 6)
    assert 0 < figures.longest_wait_s <= figures.wait_s
    assert json.loads(json.dumps(asdict(figures))) == asdict(figures)


def test_only_what_can_be_joined_is_and_in_the_order_begun() -> None:
    gate = Gate()
    found = behind(gate, Batcher(16, 0), [("a", [1]), ("b", [2]), ("a", [3]), ("b", [4])])
    assert found == [[10], [20], [30], [40]]
    assert gate.passes == [[0], [1, 3], [2, 4]]


def test_a_joined_pass_has_a_bounded_size_and_a_larger_call_runs_alone() -> None:
    gate = Gate()
    calls = [("a", [1, 2]), ("a", [3, 4]), ("a", [5]), ("a", [6] * 9), ("a", [7]), ("a", [8])]
    found = behind(gate, Batcher(4, 0), calls)
    assert found == [[10, 20], [30, 40], [50], [60] * 9, [70], [80]]
    assert gate.passes == [[0], [1, 2, 3, 4], [5], [6] * 9, [7, 8]]


def test_only_the_caller_at_fault_hears_of_it() -> None:
    gate, batcher = Gate(), Batcher(16, 0)
    good, bad, other = behind(gate, batcher, [("a", [1]), ("a", [-1, 2]), ("a", [3])])
    assert (good, other) == ([10], [30])
    assert isinstance(bad, ZeroDivisionError)
    assert str(bad) == "a row at fault among 2", "the error of its own rows, not of the joined pass"
    assert gate.passes == [[0], [1, -1, 2, 3], [1], [-1, 2], [3]]
    assert batcher.figures().fallbacks == 1
    assert batcher.run("a", np.array([5]), gate).tolist() == [50], "and the next call finds all in order"


def test_a_single_call_that_fails_is_not_tried_again() -> None:
    gate, batcher = Gate(), Batcher(16, 0)
    gate.opened.set()
    with pytest.raises(ZeroDivisionError, match="among 1"):
        batcher.run("a", np.array([-1]), gate)
    assert gate.passes == [[-1]]
    assert batcher.figures().fallbacks == 0


def test_nobody_waits_who_has_nobody_to_wait_for() -> None:
    """The wait is an hour, so a call that waited for another would exceed the test's time limit."""
    gate, batcher = Gate(), Batcher(16, 3600)
    gate.opened.set()
    assert batcher.run("a", np.array([1]), gate).tolist() == [10]
    with batcher.expected():
        assert batcher.run("a", np.array([2]), gate).tolist() == [20], "nor for itself"
    with batcher.expected():
        pass
    with pytest.raises(LookupError), batcher.expected():
        raise LookupError("preparing failed")
    assert batcher.run("a", np.array([3]), gate).tolist() == [30], "nor for those that gave up"


def test_a_leader_waits_for_a_call_that_is_being_prepared() -> None:
    """It waits as long as needed, within the limit of an hour; then both run in one pass."""
    gate, batcher = Gate(), Batcher(16, 3600)
    gate.opened.set()
    preparing = threading.Event()

    def slow() -> list[int]:
        with batcher.expected():
            preparing.set()
            while not batcher.figures().calls:
                time.sleep(0.001)
            return list(batcher.run("a", np.array([2]), gate).tolist())

    def quick() -> list[int]:
        assert preparing.wait(LONG)
        return list(batcher.run("a", np.array([1]), gate).tolist())

    assert at_once(slow, quick) == [[20], [10]]
    assert gate.passes == [[1, 2]]


def test_a_leader_waits_no_longer_than_said() -> None:
    """Another thread prepares a call until this call has its result."""
    batcher, preparing, answered = Batcher(16, 0.05), threading.Event(), threading.Event()

    def stuck() -> bool:
        with batcher.expected():
            preparing.set()
            return answered.wait(LONG)

    def quick() -> bool:
        assert preparing.wait(LONG)
        batcher.run("a", np.array([1]), lambda rows: rows)
        answered.set()
        return True

    assert at_once(stuck, quick) == [True, True]
    assert batcher.figures().longest_wait_s >= 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(0, 3))
def test_whoever_calls_whenever_gets_their_own(seed: int, most: int, wait_ms: int) -> None:
    """Eight threads call at random moments with three keys; every twentieth call raises."""
    batcher = Batcher(most, wait_ms / 1000)
    largest: list[int] = []

    def forward(rows: Array) -> Array:
        largest.append(len(rows))
        if (rows[:, 0] < 0).any():
            raise ValueError("at fault")
        return rows * 3

    def caller(number: int) -> Callable[[], int]:
        def work() -> int:
            random = np.random.default_rng([seed, number])
            for turn in range(12):
                key = int(random.integers(3))
                rows = np.full((int(random.integers(1, most + 1)), 1 + key), 1000 * number + turn, np.int64)
                time.sleep(float(random.exponential(0.0005)))
                if at_fault := random.random() < 0.05:
                    rows[0] = -1
                try:
                    with batcher.expected():
                        found = batcher.run(key, rows, forward)
                except ValueError:
                    assert at_fault
                else:
                    assert not at_fault
                    assert np.array_equal(found, rows * 3)
            return number

        return work

    assert at_once(*map(caller, range(8))) == list(range(8))
    figures = batcher.figures()
    assert figures.calls == 8 * 12
    assert figures.passes == len(largest)
    assert figures.max_batch == max(largest) <= most


# ---- the real networks


def views(count: int, height: int = 260) -> U8:
    """A face that moves on a little from frame to frame, uint8 (count, height, 300, 3)."""
    image = np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    return np.stack([image[2 * shift : height + 2 * shift, 80 + 3 * shift : 380 + 3 * shift] for shift in range(count)])


def chips(count: int) -> U8:
    image = np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    return np.stack([image[30 + 5 * one : 180 + 5 * one, 150 + 3 * one : 300 + 3 * one] for one in range(count)])


def same(found: list[list[Detection]], wanted: list[list[Detection]]) -> None:
    assert [len(frame) for frame in found] == [len(frame) for frame in wanted]
    for one, other in zip(chain(*found), chain(*wanted), strict=True):
        assert one.box.tolist() == other.box.tolist()
        assert one.score == pytest.approx(other.score, abs=1e-4)


@pytest.fixture(scope="module")
def alone() -> tuple[FaceDetector, FaceEmbedder]:
    return FaceDetector(dlib_path(DETECTOR)), FaceEmbedder(dlib_path(EMBEDDER))


def together(pool: ModelPool, name: str, works: Sequence[Callable[[], R]], passes: int) -> list[R]:
    """The results of functions that wait for each other. Asserts the number of passes."""
    batcher = pool._batchers[name]
    batcher.forget()
    arrived = threading.Barrier(len(works))
    expected = batcher.expected

    def expect(work: Callable[[], R]) -> Callable[[], R]:
        def begin() -> R:
            with expected():
                arrived.wait(LONG)
                return work()

        return begin

    found = at_once(*map(expect, works))
    assert batcher.figures().passes == passes, batcher.figures()
    assert batcher.figures().calls == len(works)
    return found


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    """The wait is an hour, so calls are joined even on a busy machine."""
    pool = ModelPool(TorchSettings(batch_items=64, batch_wait_s=3600))
    assert isinstance(pool.face_detector, JoinedDetector)
    assert isinstance(pool.face_embedder, JoinedEmbedder)
    return pool


def test_embeddings_are_those_of_chips_alone(alone: tuple[FaceDetector, FaceEmbedder], pool: ModelPool) -> None:
    parts = [chips(9)[:2], chips(9)[2:3], chips(9)[3:9]]
    found = together(pool, "face_embedder", [partial(pool.face_embedder.embed, p) for p in parts], 1)
    for part, embeddings in zip(parts, found, strict=True):
        assert embeddings == pytest.approx(alone[1].embed(part), abs=1e-5)
    assert pool.figures()["face_embedder"]["max_batch"] == 9


def test_embeddings_both_ways_too(alone: tuple[FaceDetector, FaceEmbedder], pool: ModelPool) -> None:
    parts = [chips(3)[:1], chips(3)[1:]]
    found = together(pool, "face_embedder", [partial(pool.face_embedder.embed_both_ways, p) for p in parts], 1)
    for part, embeddings in zip(parts, found, strict=True):
        assert embeddings == pytest.approx(alone[1].embed_both_ways(part), abs=1e-5)


def test_no_chip_fails_alone(alone: tuple[FaceDetector, FaceEmbedder], pool: ModelPool) -> None:
    def wrong() -> str:
        with pytest.raises(ValueError, match="chips are"):
            pool.face_embedder.embed(np.zeros((1, 90, 90, 3), np.uint8))
        return "refused"

    found: list[Any] = together(pool, "face_embedder", [lambda: pool.face_embedder.embed(chips(1)), wrong], 2)
    assert found[0] == pytest.approx(alone[1].embed(chips(1)), abs=1e-5)
    assert found[1] == "refused"
    assert pool.figures()["face_embedder"]["fallbacks"] == 0


def test_detections_are_those_of_frames_alone(alone: tuple[FaceDetector, FaceEmbedder], pool: ModelPool) -> None:
    parts = [views(5)[:1], views(5)[1:3], views(5)[3:]]
    found = together(pool, "face_detector", [partial(pool.face_detector.detect, p) for p in parts], 1)
    for part, detections in zip(parts, found, strict=True):
        assert [len(frame) for frame in detections] == [1] * len(part)
        same(detections, alone[0].detect(part))


def test_frames_of_two_sizes_are_not_joined_unless_scaled_to_one(
    alone: tuple[FaceDetector, FaceEmbedder], pool: ModelPool
) -> None:
    frames: list[tuple[U8, int]] = [
        *((views(2), 80), (views(1), 80)),
        *((views(2), 100), (views(1)[:, :208, :240], 80)),
        (views(1, 280), 80),
    ]
    works = [partial(pool.face_detector.detect, images, min_face=min_face) for images, min_face in frames]
    found = together(pool, "face_detector", works, 3)
    for (images, min_face), detections in zip(frames, found, strict=True):
        same(detections, alone[0].detect(images, min_face=min_face))


def test_surroundings_join_whatever_the_frame(alone: tuple[FaceDetector, FaceEmbedder], pool: ModelPool) -> None:
    frames = [views(2), views(1, 280), views(3, 300)]
    boxes = [np.stack([one[0].box for one in alone[0].detect(part)]) for part in frames]
    cases = list(zip(frames, boxes, strict=True))
    found = together(pool, "face_detector", [partial(pool.face_detector.detect_near, *c) for c in cases], 1)
    for case, detections in zip(cases, found, strict=True):
        assert [len(frame) for frame in detections] == [1] * len(case[0])
        same(detections, alone[0].detect_near(*case))


def test_nothing_to_search_is_no_pass(pool: ModelPool) -> None:
    before = pool.figures()["face_detector"]["calls"]
    assert pool.face_detector.detect(np.zeros((0, 90, 90, 3), np.uint8)) == []
    assert pool.face_detector.detect_near(np.zeros((0, 90, 90, 3), np.uint8), np.zeros((0, 4))) == []
    assert pool.figures()["face_detector"]["calls"] == before


def test_a_pool_without_settings_joins_nothing() -> None:
    pool = ModelPool()
    assert type(pool.face_embedder) is FaceEmbedder
    assert pool.figures() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(alone: tuple[FaceDetector, FaceEmbedder]) -> None:
    from workers.placement import GPU
    from workers.preload import full_precision

    full_precision()
    pool = ModelPool(TorchSettings("cuda", batch_items=64))
    pool.warm(GPU)
    assert pool.figures()["face_embedder"]["calls"] == 0, "warming up is no work"
    found = at_once(*[partial(pool.face_embedder.embed, chips(6)[p : p + 1]) for p in range(6)])
    assert np.concatenate(found) == pytest.approx(alone[1].embed(chips(6)), abs=1e-4)
    searched = at_once(*[partial(pool.face_detector.detect, views(6)[p : p + 1]) for p in range(6)])
    for detections, wanted in zip(chain(*searched), alone[0].detect(views(6)), strict=True):
        assert [one.score for one in detections] == pytest.approx([one.score for one in wanted], abs=1e-3)
