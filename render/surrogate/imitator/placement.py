"""What is known of objects before they are drawn: where their boxes lie in the picture, how they look out."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from render.pinhole import zoomed
from render.surrogate.imitator.boxes import Boxes
from scenes.scene import Camera, Scene, matrix

LEAST_PRESENCE = 1e-3  # slots that are less present are not drawn
_NEAR = 0.1  # of an object's radius: what lies nearer to the eye's plane, or behind it, is not drawn
_CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_WAVES = (1, 2, 4)  # harmonics of the turn about y
_LOWEST_LIGHT = 0.1  # its direction's y, for shadows: lower ones reach out of every picture


@dataclass(frozen=True, eq=False)
class Placement:
    """The M objects of a batch of scenes. Box coordinates: the object's box is the cube [-1, 1]^3.

    Attributes:
        scene, slot: Whose they are, [M].
        weights: Share of each asset, [M, A].
        presence: In (0, 1], [M].
        radius: Half of the box's diagonal [m], [M].
        depth: Of the box's middle along the viewing axis [m], [M].
        middle: The box's middle in the picture (x, y) [px], [M, 2].
        reach: `radius` in the picture [px], [M].
        low, high: The picture's smallest rectangle around the box [px], [M, 2].
        eye: In box coordinates, [M, 3].
        ray: box_from_pixel: times (x, y, 1) the direction of a pixel's ray in box coordinates, [M, 3, 3].
        light: Direction towards the light, in box coordinates and of any length, [M, 3].
        shade_low, shade_high: As `low` and `high`, for the box's shadow on the ground under it.
        ground: The ground's height over the eye [m], [M]; negative.
        fall: Times (x, y, 1) how fast a pixel's ray rises, in the units of `ray`, [M, 3].
        outlook: How the object looks out: its turn as seen from the eye, the light, distances, [M, C].
    """

    scene: Int[Tensor, "object"]
    slot: Int[Tensor, "object"]
    weights: Float[Tensor, "object asset"]
    presence: Float[Tensor, "object"]
    radius: Float[Tensor, "object"]
    depth: Float[Tensor, "object"]
    middle: Float[Tensor, "object 2"]
    reach: Float[Tensor, "object"]
    low: Float[Tensor, "object 2"]
    high: Float[Tensor, "object 2"]
    eye: Float[Tensor, "object 3"]
    ray: Float[Tensor, "object 3 3"]
    light: Float[Tensor, "object 3"]
    shade_low: Float[Tensor, "object 2"]
    shade_high: Float[Tensor, "object 2"]
    ground: Float[Tensor, "object"]
    fall: Float[Tensor, "object 3"]
    outlook: Float[Tensor, "object feature"]


def place(
    boxes: Boxes,
    scene: Scene,
    *,
    upright: bool,
    weights: Float[Tensor, "batch slot asset"],
    presence: Float[Tensor, "batch slot"],
    size: tuple[int, int],
) -> Placement:
    """The objects that are present enough and in front of the eye.

    Args:
        boxes: Of the world's assets.
        scene: B scenes with quaternions of length 1, without regard to `asset`.
        upright: Objects turn about y only.
        weights: Share of each asset; boxes are mixed by it, and the largest says how the object is symmetric.
        presence: In [0, 1].
        size: (H, W) in whose pixels lengths are measured.
    """
    shown = (presence.detach() > LEAST_PRESENCE) & _ahead(boxes, scene, weights.detach())
    image, slot = shown.nonzero(as_tuple=True)
    share, scale = weights[image, slot], scene.scale[image, slot]
    half = share @ boxes.extent * scale[:, None]
    radius = half.norm(dim=1)
    turn = matrix(scene.rotation[image, slot])
    middle = scene.translation[image, slot] + _times(turn, share @ boxes.centre * scale[:, None])
    view = _View.of(zoomed(scene.camera, size), image)
    to_eye = view.eye - middle
    light = scene.light.direction[image]
    if upright:
        order = boxes.order[share.detach().argmax(1)]
        turn, frame, turned = _upright(scene.rotation[image, slot], to_eye, order)
    else:
        frame = _facing(to_eye, view.world_from_camera)
        turned = (frame.transpose(1, 2) @ turn).flatten(1)
    box_from_world = turn.transpose(1, 2) / half[:, :, None]
    corners = middle[:, None] + (_CORNERS.to(half) * half[:, None]) @ turn.transpose(1, 2)
    foot = corners[..., 1].amin(1)
    shade = _dropped(corners, foot, light)
    low, high = _bounds(view.project(corners))
    shade_low, shade_high = _bounds(view.project(shade))
    seen, depth = view.project(middle[:, None])[:, 0], view.depth(middle)
    reach = view.focal.prod(1).sqrt() * radius / depth
    outlook = [
        turned,
        _times(frame.transpose(1, 2), light),
        _times(turn.transpose(1, 2), light),
        torch.stack([scene.light.intensity[image], scene.light.ambient[image]], 1),
        torch.stack([(depth / radius).log(), reach.log()], 1),
        (seen - view.centre) / view.focal,
    ]
    return Placement(
        scene=image,
        slot=slot,
        weights=share,
        presence=presence[image, slot],
        radius=radius,
        depth=depth,
        middle=seen,
        reach=reach,
        low=low,
        high=high,
        eye=_times(box_from_world, to_eye),
        ray=box_from_world @ view.world_from_pixel,
        light=_times(box_from_world, light),
        shade_low=shade_low,
        shade_high=shade_high,
        ground=foot - view.eye[:, 1],
        fall=view.world_from_pixel[:, 1],
        outlook=torch.cat(outlook, 1),
    )


@dataclass(frozen=True, eq=False)
class _View:
    """The cameras of M objects' scenes; lengths in pixels of the picture they are zoomed to."""

    eye: Float[Tensor, "object 3"]
    world_from_camera: Float[Tensor, "object 3 3"]
    focal: Float[Tensor, "object 2"]
    centre: Float[Tensor, "object 2"]

    @staticmethod
    def of(camera: Camera, image: Int[Tensor, "object"]) -> "_View":
        turn = matrix(camera.rotation)[image]
        return _View(camera.translation[image], turn, camera.focal[image], camera.centre[image])

    def depth(self, points: Float[Tensor, "object 3"]) -> Float[Tensor, "object"]:
        return -((points - self.eye) * self.world_from_camera[:, :, 2]).sum(1)

    def project(self, points: Float[Tensor, "object point 3"]) -> Float[Tensor, "object point 2"]:
        """Where points are seen (x, y) [px]; those behind the eye's plane as if they were just before it."""
        seen = (points - self.eye[:, None]) @ self.world_from_camera
        depth = (-seen[..., 2:]).clamp_min(1e-2)
        flipped = seen[..., :2] * seen.new_tensor([1.0, -1.0])  # rows run downwards
        return self.focal[:, None] * flipped / depth + self.centre[:, None]

    @property
    def world_from_pixel(self) -> Float[Tensor, "object 3 3"]:
        """Times (x, y, 1) the direction of a pixel's ray."""
        right, up, back = self.world_from_camera.unbind(2)
        (fx, fy), (cx, cy) = self.focal[:, :, None].unbind(1), self.centre[:, :, None].unbind(1)
        return torch.stack([right / fx, -up / fy, -right * cx / fx + up * cy / fy - back], 2)


def _ahead(boxes: Boxes, scene: Scene, weights: Tensor) -> Tensor:
    """Where a slot's origin is far enough before the eye's plane, [B, S]."""
    back = matrix(scene.camera.rotation)[:, None, :, 2]
    depth = -((scene.translation - scene.camera.translation[:, None]) * back).sum(-1)
    return depth > _NEAR * (weights @ boxes.extent).norm(dim=-1) * scene.scale


def _upright(rotation: Tensor, to_eye: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For objects that turn about y: world_from_object, world_from_frame, and the turn as numbers.

    The frame looks horizontally towards the eye. Of turns that look the same the one that is least away from
    it is taken; the numbers are the same for all of them.
    """
    azimuth = torch.atan2(to_eye[:, 0], to_eye[:, 2])
    yaw = 2.0 * torch.atan2(rotation[:, 1], rotation[:, 3])
    step = 2.0 * math.pi / order.clamp_min(1.0)
    turns = order > 0
    relative = torch.where(turns, yaw - azimuth, 0.0)
    relative = relative - step * (relative / step).detach().round()
    waves = (relative * order)[:, None] * relative.new_tensor(_WAVES)
    rise = torch.stack([to_eye[:, 1], to_eye[:, [0, 2]].norm(dim=1)], 1) / to_eye.norm(dim=1, keepdim=True)
    turned = torch.cat([torch.cat([waves.cos(), waves.sin()], 1) * turns[:, None], rise], 1)
    return _about_y(azimuth + relative), _about_y(azimuth), turned


def _facing(to_eye: Tensor, world_from_camera: Tensor) -> Tensor:
    """world_from_frame, [M, 3, 3]: z towards the eye, x level with the camera's."""
    z = normalize(to_eye, dim=1)
    x = normalize(torch.linalg.cross(world_from_camera[:, :, 1], z), dim=1)
    return torch.stack([x, torch.linalg.cross(z, x), z], 2)


def _about_y(angle: Float[Tensor, "object"]) -> Float[Tensor, "object 3 3"]:
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], 1).view(-1, 3, 3)


def _dropped(corners: Tensor, foot: Tensor, light: Tensor) -> Tensor:
    """The corners' shadows at the height of the object's foot, [M, 8, 3]."""
    along = light / light[:, 1:2].clamp_min(_LOWEST_LIGHT)
    return corners - (corners[..., 1:2] - foot[:, None, None]) * along[:, None]


def _bounds(points: Float[Tensor, "object point 2"]) -> tuple[Tensor, Tensor]:
    return points.amin(1), points.amax(1)


def _times(matrices: Float[Tensor, "object 3 3"], vectors: Float[Tensor, "object 3"]) -> Tensor:
    return (matrices @ vectors[:, :, None])[:, :, 0]
