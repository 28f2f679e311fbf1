"""What an imitator knows of assets: their bounding boxes, and which turns leave them as they are."""

import numpy as np
import torch
from torch import Tensor

from scenes.asset import Asset
from scenes.world import World

_THINNEST = 0.02  # of the box's diagonal: a flat asset still has a box that rays can be measured in


class Boxes(torch.nn.Module):
    """Bounding boxes of a world's assets, in the objects' frames.

    Attributes:
        extent: Half the box's edges [m], [A, 3].
        centre: Its middle [m], [A, 3].
        order: Number of equal turns about the y axis, through the origin, that leave the look as it is; 0
            where every turn does. [A], for "upright" worlds.
        diagonal: Half of a usual box's diagonal [m]: the length in which the world's depths are measured.
    """

    extent: Tensor
    centre: Tensor
    order: Tensor
    diagonal: Tensor

    def __init__(self, world: World) -> None:
        super().__init__()
        low = np.stack([a.vertices.min(0) for a in world.assets]).astype(np.float32)
        high = np.stack([a.vertices.max(0) for a in world.assets]).astype(np.float32)
        half = torch.from_numpy((high - low) / 2)
        half = half.maximum(_THINNEST * half.norm(dim=1, keepdim=True))
        order = torch.tensor([_order(a) for a in world.assets], dtype=torch.float32)
        diagonal = half.norm(dim=1).mean() * world.scale.middle
        # They follow from the world, so that files of weights need not hold them.
        for name, value in (("extent", half), ("order", order), ("diagonal", diagonal)):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("centre", torch.from_numpy((high + low) / 2), persistent=False)


def _order(asset: Asset) -> int:
    """Equal turns about y that leave the asset as it is, the identity included; 0: all."""
    symmetry = asset.symmetry
    if symmetry.sphere or (symmetry.axis is not None and abs(float(symmetry.axis[1])) > 0.999):
        return 0
    return int((symmetry.rotations[:, 1, 1] > 0.999).sum())
