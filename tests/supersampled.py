"""Small scenes, and the truth the edge operator is held to: differences of supersampled pictures."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from torch import Tensor

from render.blur import gaussian_blur
from render.edge import edge_gradient
from render.geometry import Geometry, assemble
from render.interpolate import interpolate
from render.raster import Raster, rasterize
from render.shading import shade
from scenes import Asset, CameraPrior, Interval, LightPrior, Scene, World, shapes

SIZE = 64  # [px]
CUBE, SPHERE, PAINTED = 0, 1, 2
FIELDS = 4  # ways to bend a mesh


def known(value: float) -> Interval:
    return Interval(value, value)


def small_world() -> World:
    """A cube of six colours and a sphere whose colours vary smoothly, before black, seen from 3.5 m."""
    six = [[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0.3, 0]]
    box = shapes.box(face_colours=six, centred=True)
    ball = shapes.sphere(0.7, segments=40, rings=24)
    middle = ball.vertices - np.float32([0.0, 0.7, 0.0])
    assets = (
        Asset("cube", box.vertices, box.faces, box.normals, box.colours, closed=True),
        Asset("sphere", middle, ball.faces, ball.normals, middle / 1.4 + 0.5, closed=True, colour_free=True),
    )
    camera = CameraPrior(
        SIZE, SIZE, known(SIZE / 0.8), 1.0, (SIZE / 2, SIZE / 2), (0, 0, 0), *[known(a) for a in (0, 0, 3.5)]
    )
    light = LightPrior(known(0.6), known(0.9), known(0.6), known(0.4))
    free = Interval(-2.0, 2.0)
    return World(
        "small", "", assets, (), (1, 2), "free", (free, free, free), known(0), Interval(0.5, 2.0),
        (Interval(0, 1),) * 3, False, camera, light, (known(0.0),) * 3,
    )  # fmt: skip


def rich_world() -> World:
    """The same with a cube that has a smooth texture, all of them glossy."""
    world, texels = small_world(), np.arange(16) / 16 * 2 * np.pi
    waves = np.stack([np.sin(texels)[None] + np.cos(texels)[:, None] * s for s in (1, -1, 0.5)], -1)
    texture = (127.5 + 60 * waves).clip(0, 255).astype(np.uint8)
    box = world.assets[CUBE]
    corner = box.vertices / np.abs(box.vertices).max() * 0.5 + 0.5
    uv = np.where(np.abs(box.normals[:, :1]) > 0.5, corner[:, 1:], corner[:, [0, 2]])
    uv = np.where(np.abs(box.normals[:, 2:]) > 0.5, corner[:, :2], uv).astype(np.float32)
    painted = replace(box, name="painted", colours=np.ones_like(box.colours), uv=uv, texture=texture)
    glossy = [replace(a, specular=0.15, shininess=8.0) for a in (*world.assets, painted)]
    return replace(world, assets=tuple(glossy))


@dataclass
class Problem:
    """A scene as a function of theta [P]: rotation vector, translation [m], log scale of each object, bends.

    Bends move all vertices along smooth waves over the surface, by 20 px or 40 % of the inverse depth a unit.
    """

    world: World
    base: Scene
    target: Tensor  # theta of the picture to reach
    lit: bool = False  # by the shading model, in linear light; else plain colours
    bends: int = FIELDS  # 0 where the near plane cuts the mesh

    @property
    def count(self) -> int:
        return 7 * self.base.slots + self.bends

    def scene(self, theta: Tensor) -> Scene:
        """The scenes at theta [B, P], not bent."""
        rows = theta.float()[:, : 7 * self.base.slots].view(len(theta), -1, 7)
        base = self.base[[0] * len(theta)]
        turn = roma.rotvec_to_unitquat(rows[..., :3].reshape(-1, 3)).view(len(theta), -1, 4)
        return replace(
            base,
            rotation=roma.quat_product(turn, base.rotation),
            translation=base.translation + rows[..., 3:6],
            scale=base.scale * rows[..., 6].exp(),
        )

    def geometry(self, theta: Tensor, size: tuple[int, int]) -> Geometry:
        """Of one scene, theta [1, P], bent."""
        geometry = assemble(self.world, self.scene(theta), size)
        if self.bends == 0:
            return geometry
        bends = 20.0 * theta[0, -FIELDS:].float()
        wave = torch.tensor([[3.0, 1, 2], [-2, 3, 1], [1, -3, 2], [2, 2, -3]])
        way = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.6, -0.8, 0], [0, 0, 1]])
        place = assemble(self.world, self.base, size).positions.detach()  # bends are of what stands still
        along = (torch.sin(place @ wave.T + torch.arange(FIELDS)) * bends) @ way
        grow = torch.stack(
            [torch.full((len(place),), size[0] / SIZE)] * 2 + [0.02 * geometry.vertices[:, 2]], 1
        )
        return replace(geometry, vertices=geometry.vertices + along * grow)

    def points(self, theta: Tensor, size: tuple[int, int]) -> tuple[Tensor, Geometry, Raster]:
        """A picture of one sample per pixel, with the gradients of its colours, [1, *size, 3]."""
        geometry = self.geometry(theta, size)
        raster = rasterize(geometry.vertices, geometry.triangles, image_size=size)
        if self.lit:
            return shade(geometry, raster, self.scene(theta), self.world), geometry, raster
        colours = geometry.colours.detach()
        return interpolate(colours, geometry.vertices, geometry.triangles, raster), geometry, raster

    def sampled(self, theta: Tensor, samples: int, size: tuple[int, int] = (SIZE, SIZE)) -> Tensor:
        """The picture of `samples` squared points per pixel, averaged, [1, *size, 3]."""
        height, width = size
        image = self.points(theta.detach(), (height * samples, width * samples))[0]
        return image.view(1, height, samples, width, samples, 3).mean((2, 4))

    def estimate(self, target: Tensor, sigma: float, picture: int = 1, triangles: int = 1) -> Tensor:
        """The operator's gradient of the blurred loss at theta = 0, [P].

        The picture has `picture` samples per pixel and axis, the triangles are seen by `triangles` of them.
        """
        theta = torch.zeros(1, self.count, requires_grad=True)
        size = (SIZE * triangles, SIZE * triangles)
        model, geometry, raster = self.points(theta, size)
        image = self.sampled(theta, picture // triangles, size)
        image = image + (model - model.detach())  # the model's slopes
        image = edge_gradient(
            image, geometry.vertices, geometry.triangles, raster=raster, antialiased=picture > triangles
        )
        image = image.view(1, SIZE, triangles, SIZE, triangles, 3).mean((2, 4))
        loss = gaussian_blur((image - target).double(), sigma).square().sum()
        return torch.autograd.grad(loss, theta)[0][0]


PLACES = {  # assets, their offsets [m]
    "cube": ([CUBE], [[0.0, 0.0, 0.0]]),
    "sphere": ([SPHERE], [[0.0, 0.0, 0.0]]),
    "two": ([SPHERE, CUBE], [[0.25, 0.1, -0.3], [-0.3, -0.1, 0.9]]),  # the cube before the sphere
    "crossing": ([SPHERE, CUBE], [[0.35, 0.2, 0.0], [-0.25, -0.1, 0.1]]),  # one in the other
    "textured": ([PAINTED], [[0.0, 0.0, 0.0]]),
    "lit": ([SPHERE, CUBE], [[0.25, 0.1, -0.3], [-0.3, -0.1, 0.9]]),
    "near": ([CUBE, SPHERE], [[0.1, -3.4, 2.0], [-0.1, 0.1, 0.0]]),  # a ground that reaches behind the eye
    "border": ([CUBE, SPHERE], [[1.15, 0.2, 0.3], [-0.5, -1.2, 0.0]]),  # both half out of the picture
}


def problem(name: str, seed: int) -> Problem:
    """A random pose of the objects of `PLACES`."""
    rich = name in ("textured", "lit")
    world, rng = rich_world() if rich else small_world(), torch.Generator().manual_seed(seed)
    assets, offset = PLACES[name]
    blank = world.empty(1)
    slots = len(assets)
    turn = torch.nn.functional.normalize(torch.randn(1, slots, 4, generator=rng), dim=-1)
    scale = torch.ones(1, slots)
    if name == "textured":
        scale *= 1.5
    if name == "near":
        turn[0, 0], scale[0, 0] = torch.tensor([0.02, 0.05, -0.03, 1.0]), 6.0
        turn = torch.nn.functional.normalize(turn, dim=-1)
    base = replace(
        blank,
        asset=torch.tensor([assets]),
        rotation=turn,
        translation=(torch.tensor(offset) + 0.05 * torch.randn(slots, 3, generator=rng))[None],
        scale=scale,
        colour=torch.ones(1, slots, 3),
    )
    spread = torch.tensor(([0.15] * 3 + [0.08] * 3 + [0.05]) * slots + [0.05] * FIELDS)
    bends = 0 if name == "near" else FIELDS
    target = (spread * torch.randn(len(spread), generator=rng))[: 7 * slots + bends]
    return Problem(world, base, target, lit=rich, bends=bends)


def differences(p: Problem, loss: Callable[[Tensor], Tensor], *, step: float, samples: int = 16) -> Tensor:
    """Central differences of loss(supersampled picture), [P, ...]."""
    rows = []
    for i in range(p.count):
        away = torch.zeros(1, p.count)
        away[0, i] = step
        ahead, behind = (loss(p.sampled(s * away, samples)) for s in (1, -1))
        rows.append((ahead - behind) / (2 * step))
    return torch.stack(rows)


def blurred_losses(target: Tensor, sigmas: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    """image -> squared difference from `target` after each blur, [len(sigmas)]."""

    def loss(image: Tensor) -> Tensor:
        d = (image - target).double()
        return torch.stack([gaussian_blur(d, s).square().sum() for s in sigmas])

    return loss


def agreement(gradient: Tensor, truth: Tensor) -> tuple[float, float]:
    """Relative error and cosine."""
    gradient, truth = gradient.double(), truth.double()
    cosine = torch.nn.functional.cosine_similarity(gradient, truth, dim=0)
    return float((gradient - truth).norm() / truth.norm()), float(cosine)
