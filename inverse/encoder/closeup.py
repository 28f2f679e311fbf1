"""The close-up: a network that looks again at each object, in a cut-out as large as the object."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from inverse.encoder.blocks import Residual, down, head, same
from inverse.encoder.cutout import Belief, Squares, cut_out, squares_of
from inverse.encoder.layout import Layout
from inverse.encoder.rows import Rows
from scenes import World

SIDE = 40  # [px] of a cut-out
_LARGEST = 64.0  # [px] of a square that is looked at again: larger objects the maps see better
_WIDTHS = 32, 64, 96  # channels at 1/2, 1/4 and 1/8 of it


@dataclass(frozen=True, eq=False)
class Told(Rows):
    """What a cut-out tells of its object.

    Attributes:
        asset: Logits, [N, A].
        offset: Of the handle from the square's middle, in its side, [N, 2].
        size: Logarithm of the apparent radius over the believed one, [N].
        rotation: As `Layout.parts["rotation"]`, [N, R].
    """

    asset: Float[Tensor, "object asset"]
    offset: Float[Tensor, "object 2"]
    size: Float[Tensor, "object"]
    rotation: Float[Tensor, "object channel"]


class CloseUp(nn.Module):
    """From cut-outs to which asset it is, where exactly, how large and how it is turned.

    The maps of `Encoder` see an object of 12 pixels in three cells; here it fills 40 pixels whatever its size
    (as the second stage of Faster R-CNN, Ren et al. 2015).

    Args:
        world: Its assets, and what is free, say which numbers there are.

    Attributes:
        threshold: As that of `Encoder`, of both together.
        spread: Standard deviations of the places [px] and of the logarithm of the sizes that it tells.
    """

    threshold: Tensor
    spread: Tensor

    def __init__(self, world: World) -> None:
        super().__init__()
        self.layout = Layout(world)
        a, b, c = _WIDTHS
        self.stride2 = same(14, a)
        self.stride4 = nn.Sequential(down(a, b), Residual(b))
        self.stride8 = nn.Sequential(down(b, c), Residual(c))
        rotation = self.layout.parts["rotation"]
        self.widths = [len(world.assets), 2, 1, rotation.stop - rotation.start]
        self.head = head(c * (SIDE // 8) ** 2, 192, sum(self.widths))
        self.register_buffer("threshold", torch.tensor(0.3))
        self.register_buffer("spread", torch.tensor([1.0, 0.05]))

    def small(self, belief: Belief) -> Bool[Tensor, "object"]:
        """Which believed objects are small enough to be worth a second look."""
        return squares_of(self.layout, belief).side < _LARGEST

    def forward(
        self, rgb: Float[Tensor, "batch row column 3"], batch: Int[Tensor, "object"], belief: Belief
    ) -> tuple[Told, Squares]:
        """Look at believed objects: what is told of each, and the square that was cut out.

        Args:
            rgb: sRGB-encoded in [0, 1].
            batch: The picture of each object.
            belief: The objects.
        """
        squares = squares_of(self.layout, belief)
        cut = F.pixel_unshuffle((cut_out(rgb, batch, squares, SIDE) - 0.5) * 4.0, 2)
        zoom = (squares.side / SIDE).log()  # how blurred the cut-out is
        steep = belief.rays.directions(squares.centre)[:, 1]  # whether it is seen from above
        known = torch.stack([zoom, steep], -1)[:, :, None, None].expand(-1, -1, *cut.shape[2:])
        x = torch.cat([cut, known], 1).contiguous(memory_format=torch.channels_last)
        numbers = self.head(self.stride8(self.stride4(self.stride2(x))).flatten(1))
        asset, offset, size, rotation = numbers.split(self.widths, -1)
        return Told(asset, offset, size[:, 0], rotation), squares
