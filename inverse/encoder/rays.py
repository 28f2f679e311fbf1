"""Rays: from an object to the pixel where it is looked for, and back."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse.encoder.rows import Rows
from render.pinhole import zoomed
from scenes import Camera, Scene, World
from scenes.scene import matrix

_LOW = 0.1  # share of the eye's height over the ground below which objects are looked for


@dataclass(frozen=True, eq=False)
class Rays(Rows):
    """The cameras of a batch in OpenCV's axes (x right, y down, z forward), in pixels of a picture's size.

    Attributes:
        world_from_camera: [B, 3, 3].
        eye: [B, 3] [m].
        focal, centre: [B, 2] [px].
    """

    world_from_camera: Float[Tensor, "batch 3 3"]
    eye: Float[Tensor, "batch 3"]
    focal: Float[Tensor, "batch 2"]
    centre: Float[Tensor, "batch 2"]

    @staticmethod
    def of(camera: Camera, size: tuple[int, int]) -> "Rays":
        """The cameras as they see a picture of H x W pixels."""
        here = zoomed(camera, size)
        axes = matrix(here.rotation) * here.rotation.new_tensor([1.0, -1.0, -1.0])
        return Rays(axes, here.translation, here.focal, here.centre)

    def pixels(
        self, points: Float[Tensor, "batch 3"]
    ) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch"]]:
        """Where points in the world [m] are seen [px], and their depths [m]; nonsense behind the eye."""
        local = ((points - self.eye)[:, None] @ self.world_from_camera)[:, 0]
        depth = local[:, 2]
        ahead = torch.where(depth.abs() < 1e-6, 1e-6, depth)
        return local[:, :2] / ahead[:, None] * self.focal + self.centre, depth

    def directions(self, pixels: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 3"]:
        """Directions in the world, of depth 1, in which pixels [px] look."""
        across = (pixels - self.centre) / self.focal
        local = torch.cat([across, torch.ones_like(across[:, :1])], -1)
        return (self.world_from_camera @ local[..., None])[..., 0]

    def facing(self, directions: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
        """world_from_view: axes x right, y down, z along each direction, level with the camera."""
        forward = torch.nn.functional.normalize(directions, dim=-1)
        down = self.world_from_camera[..., 1]
        right = torch.nn.functional.normalize(torch.linalg.cross(down, forward), dim=-1)
        return torch.stack([right, torch.linalg.cross(forward, right), forward], -1)

    def on_plane(
        self,
        pixels: Float[Tensor, "batch 2"],
        depth: Float[Tensor, "batch"],
        height: float,
        spread: tuple[float, float],
    ) -> Float[Tensor, "batch 3"]:
        """Points at y = `height` [m], from where they are seen and from how far away they look.

        Where a ray meets the plane tells the depth well from above and badly near the horizon; both depths
        are weighed by their variances. The column is kept, the row follows.

        Args:
            pixels: Where the points are seen [px].
            depth: How far away they look [m].
            height: Of the plane [m].
            spread: Standard deviations of `pixels` [px] and of the logarithm of `depth`.
        """
        ray = self.directions(pixels)
        fall = self.world_from_camera[:, 1, 1] / self.focal[:, 1]  # of a ray's y, for each row
        steep = torch.where(ray[:, 1].abs() < 1e-6, -1e-6, ray[:, 1])
        met = (height - self.eye[:, 1]) / steep
        trust = (met * fall / steep * spread[0]).square().reciprocal() * (met > 0)
        doubt = (depth * spread[1]).square().reciprocal()
        mean = (met * trust + depth * doubt) / (trust + doubt)
        column = (pixels[:, 0] - self.centre[:, 0]) / self.focal[:, 0]
        level = (height - self.eye[:, 1]) / mean
        axes = self.world_from_camera
        row = (level - axes[:, 1, 0] * column - axes[:, 1, 2]) / axes[:, 1, 1]
        local = torch.stack([column, row, torch.ones_like(row)], -1)
        return self.eye + mean[:, None] * (axes @ local[..., None])[..., 0]


def handles(world: World, scene: Scene) -> Float[Tensor, "batch slot 3"]:
    """The point [m] of each object that the encoder looks for; of empty slots it means nothing.

    Objects that stand upright are looked for at one height over their feet, `handle_height`: it does not
    depend on which asset it is. Others at the middle of their box.
    """
    if world.placement == "upright":
        up = scene.translation.new_tensor([0.0, handle_height(world), 0.0])
        return scene.translation + up
    centres = torch.from_numpy(np.stack([a.centre for a in world.assets])).to(scene.translation)
    turned = (matrix(scene.rotation) @ centres[scene.asset.clamp(min=0)][..., None])[..., 0]
    return scene.translation + scene.scale[..., None] * turned


def handle_height(world: World) -> float:
    """Height [m] over an upright object's foot at which it is looked for: the middle of a typical asset.

    But never above a tenth of the eye's own height over the feet: the nearer a plane lies to the horizon, the
    less well a pixel on it tells how far away it is.
    """
    typical = float(np.median([a.centre[1] for a in world.assets])) * math.sqrt(
        world.scale.low * world.scale.high
    )
    eye = float(world.empty().camera.translation[0, 1]) - world.position[1].low
    return min(typical, _LOW * eye) if eye > 0.0 else typical
