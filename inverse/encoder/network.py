"""The encoder's network: a small U-shaped CNN, heat maps for what is there, numbers where it is."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inverse.encoder.layout import Layout
from scenes import World

STRIDE = 4  # pixels of a cell
_ALIGNED = 32  # [px] sides of pictures are multiples of this
_SIDE = 128  # [px] of a square picture that the encoder looks at
NARROW, WIDE = (32, 64, 96, 128), (64, 96, 160, 224)  # channels at strides 4, 8, 16, 32; for a CPU, a GPU
_RARE = -4.0  # logit of an object at any place before anything is learned


class Encoder(nn.Module):
    """From pictures to heat maps per asset and the numbers of the objects (CenterNet, Zhou et al. 2019).

    Args:
        world: Its assets, and what is free, say which channels there are.
        widths: Channels at strides 4, 8, 16 and 32, multiples of 8.

    Attributes:
        layout: What the channels mean.
        size: (H, W) [px] of the pictures that it looks at.
        threshold: Heat above which a place counts as an object; chosen on pictures after training.
        spread: Standard deviations of the places [px] and of the logarithm of the depths that it tells.
    """

    threshold: Tensor
    spread: Tensor

    def __init__(self, world: World, widths: tuple[int, int, int, int] = NARROW) -> None:
        super().__init__()
        self.layout, self.size = Layout(world), encoder_size(world)
        a, b, c, d = widths
        self.stride4 = _down(14, a)
        self.stride8 = nn.Sequential(_down(a, b), _Residual(b))
        self.stride16 = nn.Sequential(_down(b, c), _Residual(c))
        self.stride32 = nn.Sequential(_down(c, d), _Residual(d))
        self.to16, self.at16 = nn.Conv2d(d, c, 1), _same(c, c)
        self.to8, self.at8 = nn.Conv2d(c, b, 1), _same(b, c)
        self.to4, self.from4, self.at4 = nn.Conv2d(c, 48, 1), nn.Conv2d(a, 48, 1), _same(48, 64)
        self.heat = nn.Conv2d(64, len(world.assets), 1)
        nn.init.constant_(self.heat.bias, _RARE)  # type: ignore[arg-type]  # a convolution's bias is a tensor
        self.numbers = nn.Sequential(nn.Conv2d(64, 64, 1), nn.SiLU(), nn.Conv2d(64, self.layout.channels, 1))
        known = self.layout.scene_channels == 0
        self.scene = None if known else _head(2 * d, d, self.layout.scene_channels)
        self.register_buffer("threshold", torch.tensor(0.3))
        self.register_buffer("spread", torch.tensor([1.0, 0.05]))

    @staticmethod
    def widths_of(tensors: Mapping[str, Tensor]) -> tuple[int, int, int, int]:
        """The widths of the encoder whose state these tensors are."""
        names = ("stride4.0", "stride8.0.0", "stride16.0.0", "stride32.0.0")
        return tuple(len(tensors[f"{name}.weight"]) for name in names)  # type: ignore[return-value]  # of four

    def forward(
        self, rgb: Float[Tensor, "batch row column 3"]
    ) -> tuple[
        Float[Tensor, "batch asset cell_row cell_column"],
        Float[Tensor, "batch channel cell_row cell_column"],
        Float[Tensor, "batch number"],
    ]:
        """Logits of heat, numbers of objects, numbers of the scene.

        Args:
            rgb: sRGB-encoded in [0, 1], [B, H, W, 3], H and W multiples of 4 [px].
        """
        x = F.pixel_unshuffle((rgb.permute(0, 3, 1, 2) - 0.5) * 4.0, 2)
        x = torch.cat([x, _places(x)], 1).contiguous(memory_format=torch.channels_last)
        four = self.stride4(x)
        eight = self.stride8(four)
        sixteen = self.stride16(eight)
        coarse = self.stride32(sixteen)
        whole = torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3))], 1)
        sixteen = self.at16(sixteen + _spread(self.to16(coarse), sixteen))
        eight = self.at8(eight + _spread(self.to8(sixteen), eight))
        four = self.at4(self.from4(four) + _spread(self.to4(eight), four))
        scene = whole[:, :0] if self.scene is None else self.scene(whole)
        return self.heat(four), self.numbers(four), scene


def encoder_size(world: World) -> tuple[int, int]:
    """Size (H, W) [px] of the pictures that a world's encoder looks at: about as many as 128 x 128."""
    height, width = world.camera.height, world.camera.width
    scale = _SIDE / math.sqrt(height * width)
    return tuple(max(1, round(side * scale / _ALIGNED)) * _ALIGNED for side in (height, width))  # type: ignore[return-value]  # two sides


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _same(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.norm(self.second(self.first(x))))


def _down(before: int, after: int) -> nn.Sequential:
    """Half the size."""
    convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, after), nn.SiLU())


def _same(before: int, after: int) -> nn.Sequential:
    """The same size."""
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, after), nn.SiLU())


def _head(before: int, between: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, between), nn.SiLU(), nn.Linear(between, after))


def _spread(x: Tensor, finer: Tensor) -> Tensor:
    """The coarse map at a finer one's size."""
    return F.interpolate(x, size=finer.shape[-2:], mode="nearest")


def _places(x: Tensor) -> Float[Tensor, "batch 2 row column"]:
    """Row and column of each pixel, from -1 to 1: what is far away is seen higher up."""
    batch, _, height, width = x.shape
    rows = torch.linspace(-1.0, 1.0, height, device=x.device)[:, None].expand(height, width)
    columns = torch.linspace(-1.0, 1.0, width, device=x.device)[None].expand(height, width)
    return torch.stack([rows, columns]).expand(batch, 2, height, width)


def parameters_of(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(math.prod(p.shape) for p in network.parameters())
