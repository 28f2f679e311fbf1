"""The exact piecewise sRGB curve, both ways (IEC 61966-2-1)."""

import torch
from torch import Tensor


def encode_srgb(linear: Tensor) -> Tensor:
    """Encode linear light as sRGB. Differentiable everywhere, slope 12.92 at and below 0; no clamping."""
    # The branch not taken must not see 0, where its slope is infinite and 0 * inf would be NaN.
    curve = 1.055 * linear.clamp_min(0.0031308) ** (1.0 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curve)


def decode_srgb(encoded: Tensor) -> Tensor:
    """Linear light of sRGB-encoded values. Differentiable everywhere; no clamping."""
    curve = ((encoded.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, curve)
