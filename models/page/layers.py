"""Building blocks that both page networks share, and how a network is prepared for inference."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

Net = TypeVar("Net", bound=nn.Module)


def layer(before: int, after: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """A convolution of 3 × 3, normalised over the batch (Ioffe and Szegedy 2015), nothing below zero."""
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)


class Residual(nn.Module):
    """Two layers that add to what they see (He et al. 2016), with `hidden` channels between them; they begin as doing
    nothing, so that a network can be given one after it was trained.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(width)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(*layer(width, hidden), nn.Conv2d(hidden, width, 3, 1, 1, bias=False), last)

    def forward(self, x: Tensor) -> Tensor:
        """float (N, width, H, W), and the same out."""
        return nn.functional.relu(x + self.body(x))


def ready(net: Net, state: dict[str, Tensor], device: torch.device) -> Net:
    """The network with these weights, for use alone: each normalisation is part of the convolution before it, and
    channels are last in memory. On a CPU it takes a quarter to a third less time, and gives the same to rounding.
    """
    net.load_state_dict(state)
    net.eval()
    for chain in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        for n, (one, after) in enumerate(pairwise(list(chain))):
            if isinstance(one, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                chain[n], chain[n + 1] = fuse_conv_bn_eval(one, after), nn.Identity()
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
