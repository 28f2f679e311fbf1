"""Blocks that the encoder's networks are made of."""

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions beside the identity (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = same(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        """As it was, and what is added."""
        return F.silu(x + self.norm(self.second(self.first(x))))


def down(before: int, after: int) -> nn.Sequential:
    """Half the size."""
    convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, after), nn.SiLU())


def same(before: int, after: int) -> nn.Sequential:
    """The same size."""
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, after), nn.SiLU())


def head(before: int, between: int, after: int) -> nn.Sequential:
    """From one row of numbers to another."""
    return nn.Sequential(nn.Linear(before, between), nn.SiLU(), nn.Linear(between, after))


def spread_over(x: Tensor, finer: Tensor) -> Tensor:
    """The coarse map at a finer one's size."""
    return F.interpolate(x, size=finer.shape[-2:], mode="nearest")
