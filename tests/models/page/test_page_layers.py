"""Networks made ready for use give what they gave in training's form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.networks.weights import own
from models.page.corners import VIEW_CHANNELS, VIEW_SIDE, CornerNet
from models.page.finder import INPUT_SIDE, PageNet
from models.page.layers import Residual, ready

CASES = [
    (PageNet, "page_finder", (2, 3, INPUT_SIDE, INPUT_SIDE)),
    (CornerNet, "page_corners", (3, VIEW_CHANNELS, VIEW_SIDE, VIEW_SIDE)),
]


@pytest.mark.parametrize(("kind", "name", "shape"), CASES, ids=["mask", "corners"])
def test_a_network_made_ready_gives_the_same_to_rounding(
    kind: type[nn.Module], name: str, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    plain = kind()
    plain.load_state_dict(own(name))
    plain.eval()
    folded = ready(kind(), own(name), torch.device("cpu"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    pictures = torch.rand(shape) * 2 - 1
    with torch.inference_mode():
        for one, other in zip(plain(pictures), folded(pictures), strict=True):
            assert torch.allclose(one, other, atol=2e-3, rtol=1e-3)


def test_new_layers_change_nothing_until_they_are_trained() -> None:
    """Networks were given more of them after they had been trained for hours."""
    x = torch.rand(4, 24, 8, 8)
    block = Residual(24, 40)
    assert torch.equal(block(x), x)
    loss = (block(x) - 1).square().mean()
    loss.backward()
    last = block.body[-1]
    assert isinstance(last, nn.BatchNorm2d)
    assert last.weight.grad is not None
    assert last.weight.grad.abs().max() > 0
