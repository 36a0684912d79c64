"""Training data and loss of the page finder's mask network. Run by `models.training.pages`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from models.training.fitting import Losses, turned_pictures
from models.training.page_views import relit

_HARD, _HARDEST = 0.3, 3.0
"""A Dice loss from this on makes a scene one that is picked that many times as often."""


def losses(net: nn.Module, images: Tensor, covers: Tensor) -> Iterator[Losses]:
    """uint8 (N, 192, 192, 3) and (N, 48, 48), 255 where the page covers a cell: cross-entropy of mask and presence, and
    the Dice loss on scenes with a page, which small pages need. Each eighth is turned or mirrored another way. net: a
    `PageNet`.
    """
    masks = turned_pictures(covers).float().div(255)
    # A page that is all but out of the frame counts as none: nobody could find it.
    presence = (masks.mean(dim=(1, 2)) > 0.02).float()
    pictures = turned_pictures(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    logits, present = net(relit(pictures))
    entropy = nn.functional.binary_cross_entropy_with_logits
    drawn = logits.sigmoid()
    common, total = (drawn * masks).sum((1, 2)), (drawn + masks).sum((1, 2))
    dice = (1 - (2 * common + 1) / (total + 1)) * presence
    mean = dice.sum() / presence.sum().clamp(min=1)
    weights = 1 + (_HARDEST - 1) * (dice.detach() / _HARD).clamp(max=1)
    loss = entropy(logits, masks) + mean + 0.3 * entropy(present, presence)
    yield Losses(loss, {"loss": loss, "dice": mean}, weights)
