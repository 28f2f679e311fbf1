"""What lies behind the objects: the world's scenery as a picture under the light, and shadows on it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize, softplus

from render.surrogate.imitator.composite import through
from render.surrogate.imitator.crops import crop
from render.surrogate.imitator.film import Film, waves
from render.surrogate.imitator.placement import Placement
from scenes.scene import Scene

_SPEED = 10.0  # the picture is learned so many times as fast as weights: each pixel is seen on its own
_MARGIN = 2.0  # [px] around an object's shadow
_STEEPEST = 0.02  # a pixel's ray falls at least so fast where it is cut with the ground


class Scenery(torch.nn.Module):
    """A learned picture of the scenery's albedo, times the light, with the objects' shadows on it.

    The picture belongs to the camera: where that is free, the scenery is as blurred as it moves, and gives
    the camera no gradient. Shadows fall on a level ground under each object; not on other objects.

    Args:
        embedding: Numbers of an asset.
        size: (H, W) of the learned picture.
    """

    def __init__(self, embedding: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.albedo = torch.nn.Parameter(torch.full((3, *size), -0.1))
        self.cover = torch.nn.Parameter(torch.full((1, *size), 0.3))
        self.normal = torch.nn.Parameter(torch.tensor([0.0, 1.0, 0.0]))
        self.shadow = Film(_SHADOW_INPUTS, embedding + 3, 1, width=24, layers=2)
        with torch.no_grad():
            self.shadow.out.bias.fill_(-2.0)

    def forward(
        self,
        scene: Scene,
        placement: Placement,
        embedding: Float[Tensor, "object feature"],
        size: tuple[int, int],
        among: Bool[Tensor, "pixel"] | None = None,
    ) -> Float[Tensor, "pixel 3"]:
        """Linear colours of the B pictures' pixels, row by row, as if no object hid them.

        `among` is as in `crop`: the others have no shadows.
        """
        albedo = softplus(_SPEED * _sized(self.albedo, size)).flatten(1).T
        cover = torch.sigmoid(_SPEED * _sized(self.cover, size)).flatten(1).T
        lit = self.unshaded(placement, embedding, size, len(scene), among)
        direct = (scene.light.direction @ self.normal).clamp_min(0.0) * scene.light.intensity
        light = scene.light.ambient[:, None] + direct[:, None] * lit
        return (cover * albedo * light[..., None] + (1.0 - cover) * scene.background[:, None]).flatten(0, 1)

    def unshaded(
        self,
        placement: Placement,
        embedding: Float[Tensor, "object feature"],
        size: tuple[int, int],
        batch: int,
        among: Bool[Tensor, "pixel"] | None = None,
    ) -> Float[Tensor, "batch pixel"]:
        """Share of the light that the objects let through to the ground that each pixel sees."""
        height, width = self.albedo.shape[1:]
        low, high = placement.shade_low, placement.shade_high
        crops = crop(low, high, placement.scene, margin=_MARGIN, unit=(height, width), size=size, among=among)
        around = (2.0 * crops.at - (low + high)[crops.owner]) / (high - low + 1.0)[crops.owner]
        samples = torch.cat([waves(_light_rays(placement, crops.at, crops.owner)), around], 1)
        objects = torch.cat([embedding, normalize(placement.light, dim=1)], 1)
        dark = torch.sigmoid(self.shadow(samples, objects, crops.owner)[:, 0])
        alpha = dark * crops.window * placement.presence[crops.owner]
        pixels = size[0] * size[1]
        return through(alpha, crops.pixel, batch * pixels).view(batch, pixels)


_SHADOW_INPUTS = 5 * 4 + 2


def _light_rays(placement: Placement, at: Tensor, owner: Tensor) -> Float[Tensor, "sample 4"]:
    """How the ray from the ground that a pixel sees towards the light passes the object's box.

    Its point nearest to the box's middle, in box coordinates, and that point's distance from there.
    """
    pixel = torch.cat([at, torch.ones_like(at[:, :1])], 1)
    fall = (placement.fall[owner] * pixel).sum(1).clamp_max(-_STEEPEST)
    along = (placement.ground[owner] / fall)[:, None]
    ground = placement.eye[owner] + along * (placement.ray[owner] * pixel[:, None]).sum(-1)
    towards = normalize(placement.light, dim=1)[owner]
    nearest = ground - (ground * towards).sum(1, keepdim=True) * towards
    return torch.cat([nearest, nearest.norm(dim=1, keepdim=True)], 1)


def _sized(image: Float[Tensor, "channel row column"], size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    return interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
