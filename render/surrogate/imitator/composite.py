"""Layers of samples into one picture, softly by depth."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_OPAQUE = 0.9999  # most alpha: logarithms of what shines through stay finite


def compose(
    colour: Float[Tensor, "sample 3"],
    alpha: Float[Tensor, "sample"],
    depth: Float[Tensor, "sample"],
    backdrop: Float[Tensor, "pixel 3"],
    *,
    pixel: Int[Tensor, "sample"],
    slot: Int[Tensor, "sample"],
    softness: Float[Tensor, ""],
) -> tuple[Float[Tensor, "pixel 3"], Float[Tensor, "pixel"]]:
    """Pictures of linear light, and what share of each pixel is covered.

    Sample i of a pixel weighs alpha_i times what the others leave of it, the product over j of
    1 - alpha_j sigmoid((depth_i - depth_j) / softness); the backdrop weighs the product of 1 - alpha_j.
    Weights are normalised. The order of samples does not matter.

    Args:
        colour: Of the samples, linear.
        alpha: In [0, 1].
        depth: In any unit.
        backdrop: Behind all, linear.
        pixel: Where the samples are.
        slot: Of the samples; a pixel has at most one of each.
        softness: Depth at which one sample hides the other to 0.73, positive.
    """
    alpha = alpha.clamp_max(_OPAQUE)
    near, far = _pairs(pixel, slot, len(backdrop))
    front = torch.sigmoid((depth.index_select(0, far) - depth.index_select(0, near)) / softness)
    hidden = torch.log1p(-alpha.index_select(0, near) * front)
    weight = alpha * torch.zeros_like(alpha).index_add(0, far, hidden).exp()
    left = through(alpha, pixel, len(backdrop))
    sums = torch.cat([colour * weight[:, None], weight[:, None]], 1)
    total = sums.new_zeros(len(backdrop), 4).index_add(0, pixel, sums)
    picture = (total[:, :3] + left[:, None] * backdrop) / (total[:, 3:] + left[:, None])
    return picture, 1.0 - left


def through(
    alpha: Float[Tensor, "sample"], pixel: Int[Tensor, "sample"], count: int
) -> Float[Tensor, "pixel"]:
    """What samples of these alphas leave of each of `count` pixels."""
    return alpha.new_zeros(count).index_add(0, pixel, torch.log1p(-alpha.clamp_max(_OPAQUE))).exp()


def _pairs(pixel: Tensor, slot: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """All ordered pairs (j, i) of two samples in one pixel."""
    number = torch.arange(len(pixel), device=pixel.device)
    slots = int(slot.max()) + 1 if len(slot) else 0
    table = number.new_full((slots, count), -1)
    table[slot, pixel] = number
    others = table[:, pixel]
    others[slot, number] = -1
    which, one = (others >= 0).nonzero(as_tuple=True)
    return others[which, one], one
