"""Learning from labels: the scenes that were sampled, compared with what the encoder's maps say."""

from dataclasses import dataclass

import numpy as np
import roma
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse.encoder.layout import Layout
from inverse.encoder.network import STRIDE, Encoder
from inverse.encoder.rays import Rays, handles
from inverse.encoder.rows import Rows
from inverse.training.pictures import UNKNOWN, Pictures
from scenes import Scene, Symmetry

LEAST_PIXELS = 16  # of an object at the encoder's size; what shows fewer is no label
_REACH = 0.25  # share of an object's width over which a miss of its handle still counts a little
_MOMENTUM = 0.02  # of the running spreads


@dataclass(frozen=True, eq=False)
class Labels(Rows):
    """The objects of a batch that can be seen, one row each.

    Attributes:
        batch, slot: Which picture and which of its slots.
        asset: Index of the asset.
        place: Where its handle is seen, in cells from the map's corner, [N, 2]; it may lie beside the map.
        cell: Column and row of the cell that tells of it, the nearest to `place`, [N, 2].
        depth: Of the handle [m].
        rays: Its picture's camera.
        pixels: The handle's pixel, [N, 2].
    """

    batch: Tensor
    slot: Tensor
    asset: Tensor
    place: Float[Tensor, "object 2"]
    cell: Int[Tensor, "object 2"]
    depth: Float[Tensor, "object"]
    rays: Rays
    pixels: Float[Tensor, "object 2"]


def labels_of(
    layout: Layout, scene: Scene, seen: Bool[Tensor, "batch slot"], size: tuple[int, int]
) -> Labels:
    """The labels of scenes in pictures of H x W pixels; `seen`: which slots show enough of themselves."""
    rays = Rays.of(scene.camera, size)
    points = handles(layout.world, scene)
    batch, slot = ((scene.asset >= 0) & seen).nonzero(as_tuple=True)
    pixels, depth = rays[batch].pixels(points[batch, slot])
    ahead = depth > 0
    batch, slot, pixels, depth = batch[ahead], slot[ahead], pixels[ahead], depth[ahead]
    last = torch.tensor([size[1] // STRIDE - 1, size[0] // STRIDE - 1], device=pixels.device)
    place = pixels / STRIDE
    cell = torch.minimum(place.floor().long().clamp(min=0), last)
    return Labels(batch, slot, scene.asset[batch, slot], place, cell, depth, rays[batch], pixels)


def shown(pictures: Pictures) -> Bool[Tensor, "batch slot"]:
    """Which slots show enough of themselves; where an engine tells no ids, all that hold an object."""
    if int(pictures.instance_id.amin()) <= UNKNOWN:
        return pictures.scene.asset >= 0
    return pictures.visible >= LEAST_PIXELS


def label_loss(encoder: Encoder, pictures: Pictures) -> Tensor:
    """How far the encoder's answer to pictures is from the scenes that were drawn.

    A focal loss on the heat maps (CenterNet, Zhou et al. 2019), smooth L1 on the numbers of objects at their
    cells, squares on those of the scene.
    """
    layout = encoder.layout
    heat, numbers, whole = encoder(pictures.rgb)
    size = (pictures.rgb.shape[1], pictures.rgb.shape[2])
    labels = labels_of(layout, pictures.scene, shown(pictures), size)
    at = numbers[labels.batch, :, labels.cell[:, 1], labels.cell[:, 0]]
    loss = _focal(heat, labels, _reach(layout, labels, pictures.scene))
    loss = loss + (whole - layout.of_scene(layout.world.pack(pictures.scene))).square().sum(-1).mean()
    return loss + number_loss(encoder, at, labels, pictures.scene)


def number_loss(
    encoder: Encoder, at: Float[Tensor, "object channel"], labels: Labels, scene: Scene
) -> Tensor:
    """Of the numbers of objects, read at their cells."""
    layout, parts = encoder.layout, encoder.layout.parts
    if not len(at):
        return at.sum()
    where = (labels.batch, labels.slot)
    offset = labels.place - labels.cell - 0.5
    depth = (labels.depth / layout.typical_depth).log()
    loss = 2.0 * F.smooth_l1_loss(at[:, parts["offset"]], offset, beta=0.1)
    loss = loss + 2.0 * F.smooth_l1_loss(at[:, parts["depth"]][:, 0], depth, beta=0.05)
    loss = loss + rotation_loss(layout, at[:, parts["rotation"]], labels, scene)
    if parts["scale"].stop > parts["scale"].start:
        size = scene.scale[where].log()
        loss = loss + 2.0 * F.smooth_l1_loss(at[:, parts["scale"]][:, 0], size, beta=0.05)
    if parts["colour"].stop > parts["colour"].start:
        free = torch.tensor([a.colour_free for a in layout.world.assets], device=at.device)[labels.asset]
        if free.any():
            colour = scene.colour[where][free]
            loss = loss + 2.0 * F.smooth_l1_loss(at[:, parts["colour"]][free], colour, beta=0.1)
    if encoder.training:
        _watch_spread(encoder, at.detach(), offset, depth)
    return loss


def rotation_loss(
    layout: Layout, told: Float[Tensor, "object channel"], labels: Labels, scene: Scene
) -> Tensor:
    """Of the numbers that tell how objects are turned, turns that change nothing left out."""
    batch, slot, rays, pixels = labels.batch, labels.slot, labels.rays, labels.pixels
    if layout.upright:
        tells = layout.pairs.to(told.device)[labels.asset]
        if not tells.any():
            return told.sum() * 0.0
        wanted = layout.yaw_pairs(scene, batch, slot, rays, pixels)[tells]
        return 1.5 * F.smooth_l1_loss(told.reshape(len(told), -1, 2)[tells], wanted)
    truth = layout.view_from_object(scene, batch, slot, rays, pixels)
    losses = []
    for k, asset in enumerate(layout.world.assets):
        rows = (labels.asset == k).nonzero()[:, 0]
        if len(rows) and not asset.symmetry.sphere:
            losses.append(_turned_loss(asset.symmetry, told[rows].reshape(-1, 3, 2), truth[rows]))
    return 1.5 * torch.cat(losses).mean() if losses else told.sum() * 0.0


def _turned_loss(symmetry: Symmetry, told: Tensor, truth: Tensor) -> Float[Tensor, "object"]:
    """The least over the turns that leave the look as it is; of a round asset only its axis counts."""
    turns = torch.from_numpy(symmetry.rotations).to(truth)
    variants = truth[:, None] @ turns
    if symmetry.axis is not None:
        axis = torch.from_numpy(symmetry.axis).to(truth)
        wanted = variants @ axis
        given = (roma.special_gramschmidt(told) @ axis)[:, None].expand_as(wanted)
        return F.smooth_l1_loss(given, wanted, reduction="none").mean(-1).amin(1)
    wanted = variants[..., :2]
    given = told[:, None].expand_as(wanted)
    return F.smooth_l1_loss(given, wanted, reduction="none").mean((-1, -2)).amin(1)


def _focal(heat: Tensor, labels: Labels, reach: Tensor) -> Tensor:
    """Focal loss, cells beside an object's punished less (penalty-reduced, CornerNet, Law and Deng 2018)."""
    height, width = heat.shape[2:]
    rows = torch.arange(height, device=heat.device)[None, :, None]
    columns = torch.arange(width, device=heat.device)[None, None]
    cell = labels.cell[:, :, None, None]
    squares = (columns - cell[:, 0]).square() + (rows - cell[:, 1]).square()
    bumps = torch.exp(-squares / (2.0 * reach.square())[:, None, None])
    target = torch.zeros_like(heat)
    for slot in labels.slot.unique().tolist():  # of one slot each picture has one object: no two meet
        rows_of = (labels.slot == slot).nonzero()[:, 0]
        where = (labels.batch[rows_of], labels.asset[rows_of])
        target[where] = torch.maximum(target[where], bumps[rows_of])
    hot = target > 0.999
    likely, unlikely = F.logsigmoid(heat), F.logsigmoid(-heat)
    p = heat.sigmoid()
    found = (1.0 - p).square() * likely
    spared = (1.0 - target).pow(4) * p.square() * unlikely
    return -torch.where(hot, found, spared).sum() / max(1, len(cell))


def _reach(layout: Layout, labels: Labels, scene: Scene) -> Float[Tensor, "object"]:
    """Standard deviation of each object's bump, in cells."""
    radii = labels.depth.new_tensor(np.array([a.radius for a in layout.world.assets]))
    width = radii[labels.asset] * scene.scale[labels.batch, labels.slot] / labels.depth
    return (_REACH * width * labels.rays.focal[:, 1] / STRIDE).clamp(0.7, 2.0)


def _watch_spread(encoder: Encoder, at: Tensor, offset: Tensor, depth: Tensor) -> None:
    """Keep running spreads of the places and the depths; medians, for a few are far off."""
    parts = encoder.layout.parts
    places = (at[:, parts["offset"]] - offset).abs().median() * STRIDE
    depths = (at[:, parts["depth"]][:, 0] - depth).abs().median()
    now = 1.4826 * torch.stack([places, depths])  # of a normal distribution's median deviation
    encoder.spread.lerp_(now, _MOMENTUM)
