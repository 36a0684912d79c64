"""Scenes, views and losses that the page networks are trained by: views on the device are those of use, outlines and
pages keep together, and losses are least where the network is right.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.networks.weights import own
from models.page.corners import FIT_SCALE, MAP_SIDE, CornerNet, Looked, as_input, halves, is_convex, view
from models.page.finder import INPUT_SIDE, MASK_SIDE, PageNet
from models.page.quad import overlap
from models.training import page_corners, page_finder, page_views, pages
from models.training.fitting import turned_pictures
from models.training.page_cards import draw_card
from models.training.page_scenes import draw_scene

Corners = npt.NDArray[np.float32]
SQUARE = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])


@pytest.fixture(scope="module")
def columns() -> tuple[Tensor, ...]:
    """Forty scenes as the pool has them."""
    examples = list(islice(pages.scenes(123), 40))
    for example in examples:
        assert [(column.shape, column.dtype) for column in example] == [
            (shape, np.dtype(dtype)) for shape, dtype in pages.LAYOUT
        ]
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*examples, strict=True))


def scenes_of(columns: tuple[Tensor, ...]) -> page_corners.Scenes:
    pixels, levels, found, rough, counts = columns[:5]
    return page_corners.Scenes(page_views.Frames(pixels, levels), found, rough, counts)


def some_outlines(rng: np.random.Generator, count: int) -> Corners:
    """Convex ones of about 40 to 300 pixels, some beyond the frame."""
    out: list[Corners] = []
    while len(out) < count:
        size = rng.uniform(40, 300)
        corners = SQUARE.numpy() * size * rng.uniform(0.6, 1.6, 2) + rng.normal(0, 0.12 * size, (4, 2))
        placed = (corners + rng.uniform(-60, 250, 2)).astype(np.float32)
        if is_convex(placed):
            out.append(placed)
    return np.stack(out)


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.35])
@pytest.mark.parametrize("side", [200, 300, 400])
def test_views_are_those_of_use(side: int, margin: float) -> None:
    """The network would learn another picture than it is shown later: half a pixel off, or halved once less."""
    rng = np.random.default_rng(side)
    cards = [draw_card(rng) for _ in range(3)]
    images = [draw_scene(rng, cards, side).image for _ in range(12)]
    outlines = some_outlines(rng, 12)
    packed = [page_views.packed(image, 400 * 711 + 200 * 355) for image in images]
    pixels, levels = (torch.from_numpy(np.stack(column)) for column in zip(*packed, strict=True))
    seen, transforms = page_views.views(
        page_views.Frames(pixels, levels), torch.arange(12), torch.from_numpy(outlines), torch.full((12,), margin)
    )
    for image, outline, one, transform in zip(images, outlines, seen, transforms, strict=True):
        used = view(halves(image), outline, margin)
        wanted = as_input(torch.from_numpy(used.picture[None]), torch.tensor([used.proportion]))[0]
        assert (one - wanted).abs().mean() < 0.004  # of 2: half a grey level of rounding, places to 1/32 pixel
        inner = page_views.moved_by(transform[None], SQUARE[None])[0]
        assert inner.numpy() == pytest.approx(used.to_frame(SQUARE.numpy()), abs=0.05)


def test_a_scene_that_is_too_large_for_its_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        page_views.packed(np.zeros((300, 300, 3), np.uint8), 40_000)


def test_a_transform_and_its_inverse_end_where_they_began() -> None:
    outlines = torch.from_numpy(some_outlines(np.random.default_rng(3), 50))
    transforms = page_views.view_transforms(outlines, torch.full((50,), 0.2))
    places = page_views.moved_by(page_views.inverse(transforms), outlines)
    low = 0.2 / 1.4
    assert torch.allclose(places, (SQUARE * (1 - 2 * low) + low).expand(50, 4, 2), atol=1e-4)
    assert torch.allclose(page_views.moved_by(transforms, places), outlines, atol=0.01)


def test_overlaps_are_those_of_use_whichever_way_round() -> None:
    rng = np.random.default_rng(4)
    one, other = some_outlines(rng, 60), some_outlines(rng, 60)
    exact = [overlap(a, b) for a, b in zip(one, other, strict=True)]
    counted = page_views.overlaps(torch.from_numpy(one), torch.from_numpy(other)).numpy()
    assert counted == pytest.approx(exact, abs=0.03)
    mirrored = page_views.overlaps(torch.from_numpy(one[:, ::-1].copy()), torch.from_numpy(other)).numpy()
    assert mirrored == pytest.approx(counted, abs=1e-6)
    assert max(exact) > 0.3


def test_which_outlines_fold_over_is_told_as_in_use() -> None:
    rng = np.random.default_rng(5)
    outlines = rng.uniform(0, 100, (200, 4, 2)).astype(np.float32)
    told = page_views.is_convex(torch.from_numpy(outlines)).tolist()
    assert told == [is_convex(outline) for outline in outlines]
    assert 20 < sum(told) < 180


def test_another_light_leaves_what_is_no_colour_alone() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(16, 5, 32, 32) * 2 - 1
    lit = page_views.relit(pictures)
    assert torch.equal(lit[:, 3:], pictures[:, 3:])
    assert lit[:, :3].abs().max() <= 1
    assert (lit[:, :3] - pictures[:, :3]).abs().mean() > 0.01
    seen, before = lit[:, :3].flatten(1), pictures[:, :3].flatten(1)
    assert min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(seen, before, strict=True)) > 0.9


def test_scenes_and_what_is_true_of_them_agree(columns: tuple[Tensor, ...]) -> None:
    """A page of a large scene that is kept halved was once where it lay before."""
    scenes = scenes_of(columns)
    paged = scenes.counts[:, 0] > 0
    assert 0.4 < paged.float().mean() < 0.95
    assert (scenes.counts[:, 1] > 0).any()
    small, cover = columns[5], columns[6]
    assert small.shape[1:] == (INPUT_SIDE, INPUT_SIDE, 3)
    for row in torch.nonzero(paged)[:, 0].tolist():
        _, width, height = scenes.frames.levels[row, 0].tolist()
        places = (torch.stack(torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="xy"), 2) + 0.5) / 48
        places = places.view(1, -1, 2) * torch.tensor([width, height]) - 0.5
        inside = torch.zeros(MASK_SIDE * MASK_SIDE, dtype=torch.bool)
        for page in scenes.pages[row, : scenes.counts[row, 0]]:
            inside |= page_views._inside(page[None], places)[0]
        assert (cover[row].flatten().gt(127) == inside).float().mean() > 0.98
    assert not cover[~paged].any()


def test_drawn_outlines_keep_to_their_pages(columns: tuple[Tensor, ...]) -> None:
    torch.manual_seed(1)
    scenes, rows = scenes_of(columns), torch.arange(40).repeat(10)
    drawn = page_corners._drawn(scenes, rows)
    assert page_views.is_convex(drawn.outlines).all()
    shares = page_views.overlaps(drawn.outlines, drawn.pages)[drawn.paged]
    assert 0.5 < (shares > 0.5).float().mean() < 0.98
    places = page_views.moved_by(
        page_views.inverse(page_views.view_transforms(drawn.outlines, drawn.margins)), drawn.pages
    )
    near = drawn.paged & (page_views.overlaps(drawn.outlines, drawn.pages) > 0.8)
    # Corner by corner in the outline's order, whichever way it was turned or mirrored.
    assert ((places - SQUARE).norm(dim=2).amax(1)[near] < 0.6).all()
    signs = torch.sign(page_views._cross(*(drawn.outlines.roll(-n, 1) - drawn.outlines for n in (1, 2)))[:, 0])
    assert set(signs.tolist()) == {-1.0, 1.0}


class Knowing(nn.Module):
    """Says of every view the true corners, off by `off` of the view in x and y, and how near they are."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = nn.Parameter(torch.tensor(off))
        self.wanted = torch.zeros(0)

    def forward(self, pictures: Tensor) -> Looked:
        corners = self.wanted + self.off
        centres = (torch.arange(MAP_SIDE) + 0.5) / MAP_SIDE
        far = (corners[..., 1, None, None] - centres[:, None]) ** 2 + (corners[..., 0, None, None] - centres) ** 2
        page = torch.full((len(pictures),), 8.0)
        fit = torch.exp(-self.off.detach() * 2**0.5 / FIT_SCALE).logit(1e-3).expand(len(pictures))
        return Looked(corners, -far / (2 * (0.8 / MAP_SIDE) ** 2), page, fit)


def test_the_loss_is_least_where_the_corners_are(columns: tuple[Tensor, ...]) -> None:
    torch.manual_seed(2)
    scenes = scenes_of(columns)
    rows = torch.nonzero(scenes.counts[:, 0] > 0)[:, 0]
    drawn = page_corners._drawn(scenes, rows)
    drawn = drawn._replace(outlines=drawn.pages, margins=torch.full_like(drawn.margins, 0.2))
    losses, found = [], []
    for off in (0.0, 0.01, 0.05):
        net = Knowing(off)
        transforms = page_views.view_transforms(drawn.outlines, drawn.margins)
        net.wanted = page_views.moved_by(page_views.inverse(transforms), drawn.pages)
        seen = page_corners._look(net, scenes.frames, rows, drawn)
        losses.append(float(seen.loss.detach()))
        found.append(seen)
    assert losses[0] < losses[1] < losses[2]
    assert torch.allclose(found[0].found, drawn.pages, atol=0.5)
    assert found[0].off.max() < 1e-3
    assert found[2].off.median() == pytest.approx(0.05 * 2**0.5, rel=0.05)


def test_both_networks_can_learn_from_what_is_drawn(columns: tuple[Tensor, ...]) -> None:
    """Every weight gets a gradient, and a few steps on the same scenes lower the loss."""
    torch.manual_seed(3)
    scenes, rows = scenes_of(columns), torch.arange(12)
    net = CornerNet()
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    history = []
    for _ in range(8):
        optimiser.zero_grad()
        total = 0.0
        for losses in page_corners.losses(net, scenes, rows):
            losses.loss.backward()  # type: ignore[no-untyped-call]
            total += float(losses.loss.detach())
            assert losses.weights is None or ((losses.weights >= 1) & (losses.weights <= 5)).all()
        assert all(parameter.grad is not None for parameter in net.parameters())
        optimiser.step()
        history.append(total)
    assert np.mean(history[-2:]) < 0.9 * np.mean(history[:2])


def test_the_mask_s_loss_is_least_for_the_true_mask(columns: tuple[Tensor, ...]) -> None:
    images, covers = columns[5], columns[6]

    class Says(nn.Module):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
            true = turned_pictures(covers).float().div(255)
            present = (true.mean(dim=(1, 2)) > 0.02).float()
            return (true * 2 - 1) * 10 * self.share, (present * 2 - 1) * 10 * self.share

    told = [next(page_finder.losses(Says(share), images, covers)) for share in (1.0, 0.3, -0.3)]
    losses = [float(one.loss) for one in told]
    assert losses[0] < losses[1] < losses[2]
    assert told[0].weights is not None
    assert told[2].weights is not None
    paged = turned_pictures(covers).float().mean(dim=(1, 2)) > 0.02 * 255
    assert (told[0].weights < 1.5).all()
    assert (told[2].weights[paged] > 2).all()


def test_a_training_leaves_weights_that_both_networks_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights on record overwritten at once, the processes that draw refused them: another digest."""
    out = tmp_path / "weights"
    monkeypatch.setattr(sys, "argv", ["pages", "--go-on", "--seed", "9", "--minutes", "0.03", "--out", str(out)])
    threads = torch.get_num_threads()
    try:
        pages.main()
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(-1)
    for net, name in ((PageNet(), "page_finder"), (CornerNet(), "page_corners")):
        before, after = own(name), load_file(out / f"{name}.safetensors")
        net.load_state_dict(after)
        assert after.keys() == before.keys()
        moved = [
            (after[key].float() - tensor.float()).abs().max() for key, tensor in before.items() if tensor.ndim == 4
        ]
        assert 0 < max(moved) < 0.2
