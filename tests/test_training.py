"""What trains the page networks: examples drawn by other processes, the pool of the newest, turns, the fit itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.training.drawing import Arrays, Drawers, Pool
from models.training.fitting import Losses, Run, Sizes, fit, turned, turned_pictures


def numbers(seed: int) -> Iterator[Arrays]:
    for number in itertools.count():
        yield np.full((2, 3), [seed, number, 0], np.int64), np.asarray([0.5, 1.5], np.float32)


def never_ends(seed: int) -> Iterator[Arrays]:
    while True:
        yield (np.zeros((1, 1), np.float32),)


def breaks(seed: int) -> Iterator[Arrays]:
    yield next(numbers(seed))
    raise ValueError("drawn badly")


def test_each_process_draws_its_own() -> None:
    """The test took number 1000 of one process for one of the other's, and then waited until both had ended."""
    seen: dict[int, list[int]] = {}
    with Drawers(numbers, [1, 2]) as drawn:
        while len(seen) < 2:
            for whole, half in drawn.take(wait=True):
                assert half.tolist() == [0.5, 1.5]
                seen.setdefault(int(whole[0, 0]), []).append(int(whole[0, 1]))
    assert all(taken == list(range(len(taken))) for taken in seen.values())
    assert set(seen) == {1, 2}


def test_who_draws_faster_than_it_is_taken_keeps_nobody() -> None:
    """The trainer took until nothing was left, and with fast processes there was always something."""
    with Drawers(never_ends, [1, 2]) as drawn:
        assert 1 <= len(list(drawn.take(wait=True))) <= 257


def test_a_process_that_ends_is_told_and_not_waited_for() -> None:
    with Drawers(breaks, [3]) as drawn:
        assert len(list(drawn.take(wait=True))) == 1
        with pytest.raises(RuntimeError, match="1 of 1 processes that draw ended"):
            list(drawn.take(wait=True))


def test_the_pool_keeps_the_newest() -> None:
    pool = Pool(5, torch.device("cpu"))
    for number in range(4):
        pool.add((np.full((2, 3), number, np.int64), np.asarray([number, number], np.float32)))
    assert (len(pool), pool.added) == (5, 8)
    whole, half = pool.pick(200)
    assert set(whole[:, 0].tolist()) == {1, 2, 3}
    assert torch.equal(whole[:, 0].float(), half)


def test_corners_stay_on_what_they_mark_when_a_view_is_turned() -> None:
    side, places = 128, torch.tensor([[0.25, 0.125], [0.75, 0.25], [0.875, 0.75], [0.125, 0.625]])
    picture = torch.zeros(side, side, 4, dtype=torch.uint8)
    for n, (x, y) in enumerate(places):
        picture[int(y * side), int(x * side), n] = 255
    pictures, corners = turned(picture.repeat(8, 1, 1, 1), places.repeat(8, 1, 1))
    assert torch.equal(turned_pictures(picture.repeat(8, 1, 1, 1)), pictures)
    for one, moved in zip(pictures, corners, strict=True):
        # The first corner is again the one nearest to the view's first: the network is asked for them in that order.
        assert moved.sum(dim=1).argmin() == 0
        spots = [tuple(torch.nonzero(one[..., channel])[0].flip(0).tolist()) for channel in range(4)]
        for corner in moved:
            assert min(np.abs(np.subtract(spot, (corner * side).numpy())).max() for spot in spots) <= 1
    assert len({one.numpy().tobytes() for one in pictures}) == 8


def doubles(seed: int) -> Iterator[Arrays]:
    rng = np.random.default_rng(seed)
    while True:
        time.sleep(0.002)  # a scene takes longer to draw than to take
        x = rng.normal(size=(16, 1)).astype(np.float32)
        yield x, 2 * x + 1


def test_a_fit_learns_what_is_drawn_and_keeps_the_average(tmp_path: Path) -> None:
    """Three seconds were not enough for it beside other work: it counted on so many steps by the clock."""
    torch.manual_seed(0)
    net, out, seen = torch.nn.Linear(1, 1), tmp_path / "net.safetensors", list[float]()
    weights: list[float] = []

    def losses_of(x: torch.Tensor, wanted: torch.Tensor) -> Losses:
        loss = torch.nn.functional.mse_loss(net(x), wanted)
        seen.append(float(loss.detach()))
        weights.append(float(net.weight.detach()))
        return {"loss": loss}

    run = Run(seed=1, minutes=0.05, out=out, device="cpu", drawers=1)
    while len(seen) < 3000:  # each run goes on from the weights of the one before
        weights.clear()
        fit(net, doubles, losses_of, {"cpu": Sizes(batch=16, pool=160)}, 0.1, run)
    assert np.mean(seen[-50:]) < 0.01 * np.mean(seen[:3])
    average, *later = [*weights[1:], float(net.weight.detach())]  # after each step of the last run
    for weight in later:
        average = 0.998 * average + 0.002 * weight
    assert float(load_file(out)["weight"]) == pytest.approx(average, abs=1e-4)
    kept = load_file(out)
    assert kept.keys() == net.state_dict().keys()
    assert float(kept["weight"]) == pytest.approx(2, abs=0.05)
    assert float(kept["bias"]) == pytest.approx(1, abs=0.05)
    assert list(tmp_path.iterdir()) == [out], "no part is left"
