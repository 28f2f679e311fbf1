"""The encoder's network: a small U-shaped CNN, heat maps for what is there, numbers where it is."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inverse.encoder.blocks import Residual, down, head, same, spread_over
from inverse.encoder.closeup import CloseUp
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
        closeup: What looks again at what was found, or None.
    """

    threshold: Tensor
    spread: Tensor

    def __init__(self, world: World, widths: tuple[int, int, int, int] = NARROW) -> None:
        super().__init__()
        self.layout, self.size = Layout(world), encoder_size(world)
        a, b, c, d = widths
        self.stride4 = down(14, a)
        self.stride8 = nn.Sequential(down(a, b), Residual(b))
        self.stride16 = nn.Sequential(down(b, c), Residual(c))
        self.stride32 = nn.Sequential(down(c, d), Residual(d))
        self.to16, self.at16 = nn.Conv2d(d, c, 1), same(c, c)
        self.to8, self.at8 = nn.Conv2d(c, b, 1), same(b, c)
        self.to4, self.from4, self.at4 = nn.Conv2d(c, 48, 1), nn.Conv2d(a, 48, 1), same(48, 64)
        self.heat = nn.Conv2d(64, len(world.assets), 1)
        nn.init.constant_(self.heat.bias, _RARE)  # type: ignore[arg-type]  # a convolution's bias is a tensor
        self.numbers = nn.Sequential(nn.Conv2d(64, 64, 1), nn.SiLU(), nn.Conv2d(64, self.layout.channels, 1))
        known = self.layout.scene_channels == 0
        self.scene = None if known else head(2 * d, d, self.layout.scene_channels)
        self.register_buffer("threshold", torch.tensor(0.3))
        self.register_buffer("spread", torch.tensor([1.0, 0.05]))
        self.closeup: CloseUp | None = None

    def attach(self, closeup: CloseUp) -> None:
        """Look again through it from now on; its threshold is that of both together."""
        self.closeup = closeup
        self.threshold.copy_(closeup.threshold)

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
        sixteen = self.at16(sixteen + spread_over(self.to16(coarse), sixteen))
        eight = self.at8(eight + spread_over(self.to8(sixteen), eight))
        four = self.at4(self.from4(four) + spread_over(self.to4(eight), four))
        scene = whole[:, :0] if self.scene is None else self.scene(whole)
        return self.heat(four), self.numbers(four), scene


def encoder_size(world: World) -> tuple[int, int]:
    """Size (H, W) [px] of the pictures that a world's encoder looks at: about as many as 128 x 128."""
    height, width = world.camera.height, world.camera.width
    scale = _SIDE / math.sqrt(height * width)
    return tuple(max(1, round(side * scale / _ALIGNED)) * _ALIGNED for side in (height, width))  # type: ignore[return-value]  # two sides


def _places(x: Tensor) -> Float[Tensor, "batch 2 row column"]:
    """Row and column of each pixel, from -1 to 1: what is far away is seen higher up."""
    batch, _, height, width = x.shape
    rows = torch.linspace(-1.0, 1.0, height, device=x.device)[:, None].expand(height, width)
    columns = torch.linspace(-1.0, 1.0, width, device=x.device)[None].expand(height, width)
    return torch.stack([rows, columns]).expand(batch, 2, height, width)


def parameters_of(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(math.prod(p.shape) for p in network.parameters())
