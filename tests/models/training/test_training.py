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
from torch import Tensor, nn

from models.training.drawing import Drawers, Example, Layout, Pool
from models.training.fitting import Losses, Part, Run, fit, turned_pictures, turned_places

NUMBERS: Layout = (((2, 3), np.int64), ((2,), np.float32))
PAIRS: Layout = (((1,), np.float32), ((1,), np.float32))


def numbers(seed: int) -> Iterator[Example]:
    for number in itertools.count():
        yield np.full((2, 3), [seed, number, 0], np.int64), np.asarray([0.5, 1.5], np.float32)


def breaks(seed: int) -> Iterator[Example]:
    yield next(numbers(seed))
    raise ValueError("drawn badly")


def test_each_process_draws_its_own() -> None:
    """The test took number 1000 of one process for one of the other's, and then waited until both had ended."""
    seen: dict[int, list[int]] = {}
    with Drawers(numbers, NUMBERS, [1, 2]) as drawn:
        while len(seen) < 2 or any(len(taken) < 40 for taken in seen.values()):  # each place is drawn over some times
            for whole, half in drawn.take(wait=True):
                assert half.tolist() == [0.5, 1.5]
                assert (whole == whole[0]).all()
                seen.setdefault(int(whole[0, 0]), []).append(int(whole[0, 1]))
    assert all(taken == list(range(len(taken))) for taken in seen.values())
    assert set(seen) == {1, 2}


def test_who_draws_faster_than_it_is_taken_keeps_nobody() -> None:
    """The trainer took until nothing was left, and with fast processes there was always something."""
    with Drawers(numbers, NUMBERS, [1, 2]) as drawn:
        assert 1 <= len(drawn.take(wait=True)) <= 24


def test_what_was_taken_stays_as_it_is_until_the_next_is() -> None:
    with Drawers(numbers, NUMBERS, [4]) as drawn:
        taken = drawn.take(wait=True)
        before = [whole.copy() for whole, _ in taken]
        time.sleep(0.5)  # enough to draw over every place a hundred times
        assert all(np.array_equal(whole, kept) for (whole, _), kept in zip(taken, before, strict=True))


def test_a_process_that_ends_is_told_and_not_waited_for() -> None:
    with Drawers(breaks, NUMBERS, [3]) as drawn:
        assert len(drawn.take(wait=True)) == 1
        with pytest.raises(RuntimeError, match="1 of 1 processes that draw ended"):
            drawn.take(wait=True)


def filled_pool(count: int, size: int) -> Pool:
    pool = Pool(NUMBERS, size, 2, torch.device("cpu"))
    pool.add([(np.full((2, 3), n, np.int64), np.asarray([n, n], np.float32)) for n in range(count)])
    pool.arrived()
    return pool


def test_the_pool_keeps_the_newest() -> None:
    pool = filled_pool(8, 5)
    assert (len(pool), pool.added) == (5, 8)
    whole, half = (column[pool.pick(0, 200)] for column in pool.columns)
    assert set(whole[:, 0, 0].tolist()) == {3, 4, 5, 6, 7}
    rows = pool.pick(1, 200)
    assert torch.equal(pool.columns[0][rows][:, 0, 0].float(), pool.columns[1][rows][:, 0])
    assert half.shape == (200, 2)


def test_a_pool_that_is_not_full_gives_nothing_that_is_not_there() -> None:
    assert set(filled_pool(3, 50).pick(0, 100).tolist()) == {0, 1, 2}


def test_hard_rows_are_picked_more_often_by_the_part_they_are_hard_for_until_they_are_drawn_over() -> None:
    torch.manual_seed(0)
    pool = filled_pool(4, 4)
    pool.weigh(1, torch.tensor([2]), torch.tensor([7.0]))
    assert pool.pick(1, 4000).eq(2).float().mean().item() == pytest.approx(0.7, abs=0.05)
    assert pool.pick(0, 4000).eq(2).float().mean().item() == pytest.approx(0.25, abs=0.05)
    pool.add([(np.zeros((2, 3), np.int64), np.zeros(2, np.float32))] * 3)
    assert pool.pick(1, 4000).eq(2).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_corners_stay_on_what_they_mark_when_a_picture_is_turned() -> None:
    """Turned and mirrored: the first corner is again the one nearest to the picture's first."""
    side, places = 128, torch.tensor([[16.0, 12], [100, 20], [110, 96], [10, 84]])
    picture = torch.zeros(side, side, 4, dtype=torch.uint8)
    for n, (x, y) in enumerate(places):
        picture[int(y), int(x), n] = 255
    names = turned_places(torch.arange(4)[None].repeat(8, 1), torch.arange(8))
    turned = turned_pictures(picture.repeat(8, 1, 1, 1))
    corners = torch.tensor([[0.0, 0], [side, 0], [side, side], [0, side]])
    for one, order in zip(turned, names, strict=True):
        for corner, name in zip(corners, order, strict=True):
            spot = torch.nonzero(one[..., int(name)])[0].flip(0).float()
            assert (spot - corner).norm() < side / 2
    assert len({one.numpy().tobytes() for one in turned}) == 8
    moved = turned_places(places[None].repeat(8, 1, 1), torch.arange(8))
    assert all(torch.equal(one, places[order]) for one, order in zip(moved, names, strict=True))


def doubles(seed: int) -> Iterator[Example]:
    rng = np.random.default_rng(seed)
    while True:
        time.sleep(0.0002)  # a scene takes longer to draw than to take
        x = rng.normal(size=1).astype(np.float32)
        yield x, 2 * x + 1


def test_a_fit_learns_what_is_drawn_and_keeps_the_average(tmp_path: Path) -> None:
    """Three seconds were not enough for it beside other work: it counted on so many steps by the clock."""
    torch.manual_seed(0)
    net, seen, weights = nn.Linear(1, 1), list[float](), list[float]()

    def losses_of(given: nn.Module, columns: tuple[Tensor, ...], rows: Tensor) -> Iterator[Losses]:
        x, wanted = (column[rows] for column in columns)
        for half in (slice(0, 8), slice(8, 16)):
            loss = nn.functional.mse_loss(given(x[half]), wanted[half])
            seen.append(float(loss.detach()))
            yield Losses(loss, {"loss": loss}, torch.ones(len(rows)))
        weights.append(float(net.weight.detach()))

    out = tmp_path / "net.safetensors"
    part, run = Part(net, losses_of, (16, 1), 0.1, out), Run(seed=1, minutes=0.05, device="cpu", drawers=1)
    while len(seen) < 4000:  # each run goes on from the weights of the one before
        weights.clear()
        fit([part], doubles, PAIRS, 2000, run)
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


def test_two_networks_learn_from_the_same_examples_each_in_its_own_way(tmp_path: Path) -> None:
    def towards(goal: float, column: int, given: nn.Module, columns: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        return nn.functional.mse_loss(given(columns[column][rows]), goal * columns[column][rows])

    def first(given: nn.Module, columns: tuple[Tensor, ...], rows: Tensor) -> Iterator[Losses]:
        yield Losses(towards(3.0, 0, given, columns, rows), {})

    def second(given: nn.Module, columns: tuple[Tensor, ...], rows: Tensor) -> Iterator[Losses]:
        yield Losses(towards(-1.0, 1, given, columns, rows), {})

    nets = [nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)]
    outs = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    parts = [Part(net, of, (8, 1), 0.2, out) for net, of, out in zip(nets, (first, second), outs, strict=True)]
    run = Run(seed=2, minutes=0.05, device="cpu", drawers=1)
    for _ in range(40):
        fit(parts, doubles, PAIRS, 200, run)
        got = [float(net.weight.detach()) for net in nets]
        if got == pytest.approx([3, -1], abs=0.05):
            break
    assert got == pytest.approx([3, -1], abs=0.05)
    assert all(out.exists() for out in outs)


def test_weights_of_convolutions_are_kept_at_half_precision_and_load_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net, out = nn.Conv2d(1, 1, 1), tmp_path / "net.safetensors"

    def losses_of(given: nn.Module, columns: tuple[Tensor, ...], rows: Tensor) -> Iterator[Losses]:
        yield Losses(given(columns[0][rows].view(-1, 1, 1, 1)).square().mean(), {})

    fit([Part(net, losses_of, (8, 1), 1e-9, out)], doubles, PAIRS, 100, Run(1, 0.005, "cpu", 1))
    kept = load_file(out)
    assert (kept["weight"].dtype, kept["bias"].dtype) == (torch.float16, torch.float32)
    again = nn.Conv2d(1, 1, 1)
    again.load_state_dict(kept)
    assert again.weight.dtype == torch.float32
    assert float(again.weight.detach()) == pytest.approx(float(net.weight.detach()), rel=1e-3)
