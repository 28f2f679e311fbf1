"""Textures as pyramids of box averages in linear light, and their trilinear lookup."""

import weakref
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from render.geometry import assets
from render.shading.colour import decode_srgb
from scenes import World


@dataclass(frozen=True, eq=False)
class Textures:
    """All textures of a world with all their levels, one after another; level 0 is the picture itself.

    Attributes:
        texels: Linear colours, level after level, rows from the top, float32 [T, 3].
        first: Row of `texels` where a level begins, int32 [A, L]; A counts `render.geometry.assets`.
        size: (height, width) of a level, int32 [A, L, 2]; levels beyond the last repeat it.
        levels: Number of levels, 0 where an asset has no texture, int32 [A].
    """

    texels: Float[Tensor, "texel 3"]
    first: Int[Tensor, "asset level"]
    size: Int[Tensor, "asset level 2"]
    levels: Int[Tensor, "asset"]

    def to(self, device: torch.device) -> "Textures":
        """The same on another device."""
        return Textures(*(getattr(self, k).to(device) for k in ("texels", "first", "size", "levels")))

    def sample(
        self,
        texture: Int[Tensor, "point"],
        uv: Float[Tensor, "point 2"],
        uv_x: Float[Tensor, "point 2"],
        uv_y: Float[Tensor, "point 2"],
    ) -> Float[Tensor, "point 3"]:
        """Trilinear lookup with repeat. No gradient to uv.

        Args:
            texture: Asset of each point, [P]; each must have a texture.
            uv: Where, (0, 0) at the top-left texel's corner.
            uv_x: Change of uv over one pixel to the right; with `uv_y`, it chooses the level.
            uv_y: Change of uv over one pixel down.
        """
        texture = texture.long()
        top = self.levels[texture].long() - 1
        extent = self.size[texture, 0].flip(-1).to(uv.dtype)  # (width, height)
        footprint = torch.maximum((uv_x * extent).norm(dim=-1), (uv_y * extent).norm(dim=-1))
        level = torch.minimum(footprint.clamp_min(1.0).log2(), top.to(uv.dtype))
        coarse = level.floor()
        blend = (level - coarse)[:, None]
        here = self._bilinear(texture, coarse.long(), uv)
        above = self._bilinear(texture, torch.minimum(coarse.long() + 1, top), uv)
        return here + blend * (above - here)

    def _bilinear(self, texture: Tensor, level: Tensor, uv: Tensor) -> Tensor:
        height, width = self.size[texture, level].long().unbind(-1)
        first = self.first[texture, level].long()
        x = (uv[:, 0] - uv[:, 0].floor()) * width - 0.5
        y = (uv[:, 1] - uv[:, 1].floor()) * height - 0.5
        x0, y0 = x.floor(), y.floor()
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        columns = x0.long() % width, (x0.long() + 1) % width
        rows = first + (y0.long() % height) * width, first + ((y0.long() + 1) % height) * width
        texels = self.texels.to(uv.dtype)
        upper = (1 - fx) * texels[rows[0] + columns[0]] + fx * texels[rows[0] + columns[1]]
        lower = (1 - fx) * texels[rows[1] + columns[0]] + fx * texels[rows[1] + columns[1]]
        return (1 - fy) * upper + fy * lower


_made: "weakref.WeakKeyDictionary[World, Textures]" = weakref.WeakKeyDictionary()


def textures(world: World) -> Textures:
    """The world's textures, made once."""
    if world not in _made:
        _made[world] = _make(world)
    return _made[world]


def _make(world: World) -> Textures:
    pyramids = [
        [] if a.texture is None else pyramid(torch.as_tensor(a.texture.copy())) for a in assets(world)
    ]
    most = max([1, *(len(p) for p in pyramids)])
    first = torch.zeros(len(pyramids), most, dtype=torch.int32)
    size = torch.ones(len(pyramids), most, 2, dtype=torch.int32)
    rows, total = [torch.zeros(0, 3)], 0
    for i, levels in enumerate(pyramids):
        for k, level in enumerate(levels):
            first[i, k:] = total
            size[i, k:] = torch.tensor(level.shape[:2])
            rows.append(level.reshape(-1, 3))
            total += len(rows[-1])
    return Textures(torch.cat(rows), first, size, torch.tensor([len(p) for p in pyramids], dtype=torch.int32))


def pyramid(texture: Tensor) -> list[Tensor]:
    """An sRGB-encoded uint8 texture in linear light, then box averages of half the size down to one texel."""
    level = decode_srgb(texture.float() / 255.0)
    levels = [level]
    while max(level.shape[:2]) > 1:
        half = max(1, level.shape[0] // 2), max(1, level.shape[1] // 2)
        level = F.adaptive_avg_pool2d(level.permute(2, 0, 1)[None], half)[0].permute(1, 2, 0)
        levels.append(level.contiguous())
    return levels
