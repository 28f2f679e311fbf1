"""Sightings: what the encoder sees in a picture, and the scenes that follow."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from inverse.encoder.closeup import CloseUp, Told
from inverse.encoder.cutout import Belief, Squares
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
    rgb = fitted(rgb, encoder.size)
    seen = sightings(encoder.eval(), rgb, least)
    if encoder.closeup is None:
        return seen
    return [_closer(encoder, encoder.closeup, rgb[b : b + 1], s) for b, s in enumerate(seen)]


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


def _closer(
    encoder: Encoder, closeup: CloseUp, rgb: Float[Tensor, "1 row column 3"], seen: Sightings
) -> Sightings:
    """What is seen after a second look, at each small object in a cut-out of its own."""
    if not len(seen):
        return seen
    belief = believed(encoder, seen)
    small = closeup.small(belief).nonzero()[:, 0]
    if not len(small):
        return seen
    belief = belief[small]
    there, here = rgb.device, small.device
    told, squares = closeup(rgb, torch.zeros_like(small, device=there), belief.to(there))
    closer = corrected(encoder, closeup, seen[small], belief, told.to(here), squares.to(here))
    numbers, assets = seen.numbers.clone(), seen.assets.clone()
    numbers[small], assets[small] = closer.numbers, closer.assets
    return replace(seen, numbers=numbers, assets=assets)


def believed(encoder: Encoder, seen: Sightings) -> Belief:
    """The objects that sightings tell, of their likeliest assets, as they appear to the camera."""
    nowhere = scene_of(encoder, seen[:0])
    rays = Rays.of(nowhere.camera, encoder.size)[torch.zeros(len(seen), dtype=torch.long)]
    pixels, depth = rays.pixels(_handles(encoder, seen, rays))
    scale = _scales(encoder.layout, seen, nowhere)
    return Belief(seen.assets.argmax(1), pixels, depth, scale, rays)


def corrected(
    encoder: Encoder, closeup: CloseUp, seen: Sightings, belief: Belief, told: Told, squares: Squares
) -> Sightings:
    """Sightings and what cut-outs tell, each weighed by how sure it is.

    A cut-out tells how large an object looks, which is its size over its depth. The depth follows where the
    size is known; else the size follows from the depth of the place.
    """
    layout, parts, numbers = encoder.layout, encoder.layout.parts, seen.numbers.clone()
    assets = seen.assets * told.asset.softmax(-1)
    assets = seen.heat[:, None] * assets / assets.sum(1, keepdim=True)
    radii = numbers.new_tensor([a.radius for a in layout.world.assets])
    looks = radii[belief.asset] * belief.scale / belief.depth * told.size.exp() / radii[assets.argmax(1)]
    pixels = squares.centre + told.offset * squares.side[:, None]
    by_maps, by_cut_out = (network.spread.square().to(numbers) for network in (encoder, closeup))
    trust = by_maps / (by_maps + by_cut_out)
    offset = pixels / STRIDE - seen.cell - 0.5
    numbers[:, parts["offset"]] = torch.lerp(seen.numbers[:, parts["offset"]], offset, trust[0])
    numbers[:, parts["rotation"]] = told.rotation
    closer = replace(seen, numbers=numbers, assets=assets)
    if layout.world.scale.free:
        depth = belief.rays.pixels(_handles(encoder, closer, belief.rays))[1]
        numbers[:, parts["scale"]] = (looks * depth).clamp(min=1e-3).log()[:, None]
    else:
        depth = (belief.scale / looks / layout.typical_depth).log()[:, None]
        numbers[:, parts["depth"]] = torch.lerp(seen.numbers[:, parts["depth"]], depth, trust[1])
    return closer


def _objects(
    encoder: Encoder, sightings: Sightings, asset: Tensor, seen: Scene
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotations, translations, scales and colours of the objects."""
    layout, parts, numbers = encoder.layout, encoder.layout.parts, sightings.numbers
    count = len(sightings)
    rays = Rays.of(seen.camera, encoder.size)[torch.zeros(count, dtype=torch.long)]
    rotation = layout.world_from_object(numbers, asset, rays, _pixels(layout, sightings))
    scale, colour = _scales(layout, sightings, seen), seen.colour[0, :count]
    if parts["colour"].stop > parts["colour"].start:
        free = torch.tensor([a.colour_free for a in layout.world.assets])[asset]
        colour = torch.where(free[:, None], numbers[:, parts["colour"]], colour)
    translation = _handles(encoder, sightings, rays)
    if layout.upright:
        translation = translation - translation.new_tensor([0.0, handle_height(layout.world), 0.0])
    else:
        centres = torch.from_numpy(np.stack([a.centre for a in layout.world.assets]))[asset]
        translation = translation - scale[:, None] * (matrix(rotation) @ centres[..., None])[..., 0]
    return rotation, _known(layout.world, translation), scale, colour


def _pixels(layout: Layout, sightings: Sightings) -> Float[Tensor, "place 2"]:
    """Where the handles are seen [px]."""
    return (sightings.cell + 0.5 + sightings.numbers[:, layout.parts["offset"]]) * STRIDE


def _scales(layout: Layout, sightings: Sightings, nowhere: Scene) -> Float[Tensor, "place"]:
    """Sizes as they are told; where none is, the world's own."""
    part = layout.parts["scale"]
    if part.stop > part.start:
        return sightings.numbers[:, part][:, 0].exp()
    return nowhere.scale[0, :1].expand(len(sightings))


def _handles(encoder: Encoder, sightings: Sightings, rays: Rays) -> Float[Tensor, "place 3"]:
    """Where the objects' handles are in the world [m]."""
    layout = encoder.layout
    pixels = _pixels(layout, sightings)
    depth = sightings.numbers[:, layout.parts["depth"]][:, 0].exp() * layout.typical_depth
    height = layout.world.position[1]
    if not layout.upright or height.high - height.low > _FIXED:
        return rays.eye + depth[:, None] * rays.directions(pixels)
    spread = (float(encoder.spread[0]), float(encoder.spread[1]))
    return rays.on_plane(pixels, depth, height.low + handle_height(layout.world), spread)


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
