"""dlib's layers as torch modules: a convolution together with the affine layer after it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from models.errors import WeightsError

if TYPE_CHECKING:
    from models.face.dlib_format import DlibLayer


def convolution(conv: DlibLayer, affine: DlibLayer | None = None) -> nn.Conv2d:
    """A `con` layer, and the `affine` after it folded in: γ(Wx + b) + β = (γW)x + (γb + β).

    Folded in float64, so that the result differs from the two layers by float32 rounding only. Raises WeightsError when
    the affine has other channels than the convolution.
    """
    filters, channels = conv.shape[:2]
    size = math.prod(conv.shape)
    weight = conv.params[:size].astype(np.float64).reshape(conv.shape)
    bias = conv.params[size:].astype(np.float64)
    if affine is not None:
        if affine.shape != (filters,):
            raise WeightsError(f"an affine of {affine.shape} channels follows a convolution of {filters}")
        gamma, beta = np.split(affine.params.astype(np.float64), 2)
        weight, bias = weight * gamma[:, None, None, None], bias * gamma + beta
    module = nn.Conv2d(channels, filters, conv.window, conv.stride, conv.padding)
    # channels_last: faster for one chip (7.8 against 12 ms on one thread), and equal to rounding.
    kernel = torch.from_numpy(weight.astype(np.float32)).contiguous(memory_format=torch.channels_last)
    module.weight = nn.Parameter(kernel, requires_grad=False)
    module.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)), requires_grad=False)
    return module
