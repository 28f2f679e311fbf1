"""Sightings: what the encoder sees in a picture, and the scenes that follow."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from inverse.encoder.layout import Layout
from inverse.encoder.network import STRIDE, Encoder
from inverse.encoder.rays import Rays, handle_height
from scenes import Scene, World
from scenes.scene import matrix

_APART = 1  # cells between two peaks on either side
_FIXED = 1e-9  # [m] an interval shorter than this is a known number


@dataclass(frozen=True, eq=False)
class Sightings:
    """Places in one picture where objects may be, the surest first.

    Attributes:
        heat: How sure it is that an object of the likeliest asset is there, [N], in [0, 1].
        assets: The same for each asset, [N, A].
        numbers: Of the objects, [N, C]; `Layout` tells what they mean.
        cell: Column and row of the cell, [N, 2].
        scene: Of the whole scene, [1, Q].
    """

    heat: Float[Tensor, "place"]
    assets: Float[Tensor, "place asset"]
    numbers: Float[Tensor, "place channel"]
    cell: Int[Tensor, "place 2"]
    scene: Float[Tensor, "1 number"]

    def __len__(self) -> int:
        """Number of places."""
        return len(self.heat)

    def __getitem__(self, index: Tensor | slice | list[int]) -> "Sightings":
        """The places at `index`."""
        return Sightings(
            self.heat[index], self.assets[index], self.numbers[index], self.cell[index], self.scene
        )


@torch.no_grad()
def look(encoder: Encoder, rgb: Float[Tensor, "batch row column 3"], least: float = 0.05) -> list[Sightings]:
    """What the encoder sees in each picture: all peaks of at least `least` heat.

    Args:
        encoder: Of the pictures' world.
        rgb: sRGB-encoded in [0, 1], [B, H, W, 3], of any size; resized to the encoder's.
        least: Heat below which nothing is told.
    """
    return sightings(encoder.eval(), fitted(rgb, encoder.size), least)


def sightings(encoder: Encoder, rgb: Float[Tensor, "batch row column 3"], least: float) -> list[Sightings]:
    """As `look`, for pictures of the encoder's size, with gradients to its weights."""
    heat, numbers, whole = encoder(rgb)
    heat, numbers, whole = heat.sigmoid().cpu(), numbers.cpu(), whole.cpu()
    return [_peaks(heat[b], numbers[b], whole[b : b + 1], least) for b in range(len(rgb))]


def fitted(rgb: Float[Tensor, "batch row column 3"], size: tuple[int, int]) -> Tensor:
    """Pictures of another size, the mean of all that a pixel covers."""
    if (rgb.shape[1], rgb.shape[2]) == size:
        return rgb
    wide = rgb.permute(0, 3, 1, 2)
    return F.interpolate(wide, size=size, mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def scene_of(encoder: Encoder, sightings: Sightings, asset: Tensor | None = None) -> Scene:
    """The scene that sightings tell, one object each in the first slots.

    Args:
        encoder: Whose sightings they are.
        sightings: At most as many as the world has slots.
        asset: Other assets than the likeliest, [N].
    """
    world, layout = encoder.layout.world, encoder.layout
    asset = sightings.assets.argmax(1) if asset is None else asset
    count = len(sightings)
    empty = world.empty()
    theta = world.pack(empty)[0]
    for column, value in layout.to_theta(sightings.scene).items():
        theta[column] = value[0]
    filled = empty.asset.clone()
    filled[0, :count] = asset
    seen = world.unpack(theta[None], like=replace(empty, asset=filled))
    if not count:
        return seen
    rotation, translation, scale, colour = _objects(encoder, sightings, asset, seen)
    values = world.pack(
        replace(
            seen,
            rotation=torch.cat([rotation[None], seen.rotation[:, count:]], 1),
            translation=torch.cat([translation[None], seen.translation[:, count:]], 1),
            scale=torch.cat([scale[None], seen.scale[:, count:]], 1),
            colour=torch.cat([colour[None], seen.colour[:, count:]], 1),
        )
    )
    bounded = torch.minimum(torch.maximum(values, world.low), world.high)
    return world.unpack(torch.where(world.ends, bounded, values), like=seen)


def _objects(
    encoder: Encoder, sightings: Sightings, asset: Tensor, seen: Scene
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotations, translations, scales and colours of the objects."""
    layout, parts, numbers = encoder.layout, encoder.layout.parts, sightings.numbers
    count = len(sightings)
    rays = Rays.of(seen.camera, encoder.size)[torch.zeros(count, dtype=torch.long)]
    pixels = (sightings.cell + 0.5 + numbers[:, parts["offset"]]) * STRIDE
    depth = numbers[:, parts["depth"]][:, 0].exp() * layout.typical_depth
    rotation = layout.world_from_object(numbers, asset, rays, pixels)
    scale, colour = seen.scale[0, :count], seen.colour[0, :count]
    if parts["scale"].stop > parts["scale"].start:
        scale = numbers[:, parts["scale"]][:, 0].exp()
    if parts["colour"].stop > parts["colour"].start:
        free = torch.tensor([a.colour_free for a in layout.world.assets])[asset]
        colour = torch.where(free[:, None], numbers[:, parts["colour"]], colour)
    translation = _places(layout, encoder.spread, rays, pixels, depth)
    if not layout.upright:
        centres = torch.from_numpy(np.stack([a.centre for a in layout.world.assets]))[asset]
        translation = translation - scale[:, None] * (matrix(rotation) @ centres[..., None])[..., 0]
    return rotation, _known(layout.world, translation), scale, colour


def _places(layout: Layout, spread: Tensor, rays: Rays, pixels: Tensor, depth: Tensor) -> Tensor:
    """Where the objects' handles are; for upright objects, where their feet are."""
    height = layout.world.position[1]
    if not layout.upright:
        return rays.eye + depth[:, None] * rays.directions(pixels)
    lift = handle_height(layout.world)
    up = depth.new_tensor([0.0, lift, 0.0])
    if height.high - height.low > _FIXED:
        return rays.eye + depth[:, None] * rays.directions(pixels) - up
    met = rays.on_plane(pixels, depth, height.low + lift, (float(spread[0]), float(spread[1])))
    return met - up


def _known(world: World, translation: Tensor) -> Tensor:
    """Coordinates that the world knows are what it says."""
    columns = [
        translation[:, k] if interval.free else torch.full_like(translation[:, k], interval.low)
        for k, interval in enumerate(world.position)
    ]
    return torch.stack(columns, -1)


def _peaks(heat: Tensor, numbers: Tensor, whole: Tensor, least: float) -> Sightings:
    """Cells whose heat, of whatever asset, is the greatest of their neighbourhood."""
    best = heat.amax(0)
    around = F.max_pool2d(best[None, None], 2 * _APART + 1, 1, _APART)[0, 0]
    rows, columns = ((best == around) & (best > least)).nonzero(as_tuple=True)
    order = best[rows, columns].argsort(descending=True)
    rows, columns = rows[order], columns[order]
    return Sightings(
        heat=best[rows, columns],
        assets=heat[:, rows, columns].T,
        numbers=numbers[:, rows, columns].T,
        cell=torch.stack([columns, rows], -1),
        scene=whole,
    )
