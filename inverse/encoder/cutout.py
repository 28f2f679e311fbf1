"""Cut-outs: squares of a picture, each round an object that is believed to be there."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from inverse.encoder.layout import Layout
from inverse.encoder.rays import Rays, handle_height
from inverse.encoder.rows import Rows

_ROOM = 2.4  # side of a square, in apparent radii of the asset's bounding sphere
_LEAST = 8.0  # [px] of a square's side: nonsense far away is cut out, too


@dataclass(frozen=True, eq=False)
class Belief(Rows):
    """Objects as they are believed to be, N of them.

    Attributes:
        asset: Index, [N].
        pixels: Where the handle is seen [px], [N, 2].
        depth: Of the handle [m], [N].
        scale: [N].
        rays: The camera of each.
    """

    asset: Int[Tensor, "object"]
    pixels: Float[Tensor, "object 2"]
    depth: Float[Tensor, "object"]
    scale: Float[Tensor, "object"]
    rays: Rays


@dataclass(frozen=True, eq=False)
class Squares(Rows):
    """Squares in pictures.

    Attributes:
        centre: [N, 2] [px].
        side: [N] [px].
    """

    centre: Float[Tensor, "object 2"]
    side: Float[Tensor, "object"]


def squares_of(layout: Layout, belief: Belief) -> Squares:
    """The square round each believed object, whichever way it is turned."""
    assets, rays = layout.world.assets, belief.rays
    radius = belief.depth.new_tensor([a.radius for a in assets])[belief.asset]
    middle, depth = belief.pixels, belief.depth
    if layout.upright:
        height = belief.depth.new_tensor(np.array([float(a.centre[1]) for a in assets]))[belief.asset]
        lift = torch.zeros(len(height), 3, device=height.device, dtype=height.dtype)
        lift[:, 1] = belief.scale * height - handle_height(layout.world)
        handle = rays.eye + belief.depth[:, None] * rays.directions(belief.pixels)
        middle, depth = rays.pixels(handle + lift)
    side = _ROOM * radius * belief.scale * rays.focal[:, 1] / depth.clamp(min=1e-3)
    return Squares(middle, side.clamp(min=_LEAST))


def cut_out(
    rgb: Float[Tensor, "batch row column 3"], batch: Int[Tensor, "object"], squares: Squares, side: int
) -> Float[Tensor, "object 3 side side"]:
    """The squares, `side` px wide; what lies beside the picture is grey.

    Args:
        rgb: sRGB-encoded in [0, 1].
        batch: Of which picture each square is cut.
        squares: Where.
        side: [px].
    """
    height, width = rgb.shape[1:3]
    fine = 2 * side  # two samples a pixel each way: large objects shrink
    steps = (torch.arange(fine, device=rgb.device) + 0.5) / fine - 0.5
    reach = squares.side[:, None] * steps
    columns = (squares.centre[:, :1] + reach) * (2.0 / width) - 1.0
    rows = (squares.centre[:, 1:] + reach) * (2.0 / height) - 1.0
    grid = torch.stack([columns[:, None].expand(-1, fine, -1), rows[:, :, None].expand(-1, -1, fine)], -1)
    pictures = (rgb.permute(0, 3, 1, 2) - 0.5)[batch]
    cut = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(cut, 2) + 0.5
