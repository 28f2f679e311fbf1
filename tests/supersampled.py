"""Small scenes, and the truth the edge operator is held to: differences of supersampled pictures."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from torch import Tensor

from render.blur import gaussian_blur
from render.geometry import assemble
from render.raster import rasterize
from scenes import Asset, CameraPrior, Interval, LightPrior, Scene, World, shapes

SIZE = 64  # [px]
CUBE, SPHERE = 0, 1


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


@dataclass
class Problem:
    """A scene as a function of theta [P]: rotation vector, translation [m], log scale of each object."""

    world: World
    base: Scene
    target: Tensor  # theta of the picture to reach

    @property
    def count(self) -> int:
        return 7 * self.base.slots

    def scene(self, theta: Tensor) -> Scene:
        """The scenes at theta [B, P]."""
        rows = theta.float().view(len(theta), -1, 7)
        base = self.base[[0] * len(theta)]
        turn = roma.rotvec_to_unitquat(rows[..., :3].reshape(-1, 3)).view(len(theta), -1, 4)
        return replace(
            base,
            rotation=roma.quat_product(turn, base.rotation),
            translation=base.translation + rows[..., 3:6],
            scale=base.scale * rows[..., 6].exp(),
        )


def problem(name: str, seed: int) -> Problem:
    """A random pose of the "cube", the "sphere", or "two": the cube before the sphere."""
    world, rng = small_world(), torch.Generator().manual_seed(seed)
    assets = {"cube": [CUBE], "sphere": [SPHERE], "two": [SPHERE, CUBE]}[name]
    offset = torch.tensor([[0.25, 0.1, -0.3], [-0.3, -0.1, 0.9]] if name == "two" else [[0.0, 0.0, 0.0]])
    blank = world.empty(1)
    slots = len(assets)
    turn = torch.nn.functional.normalize(torch.randn(1, slots, 4, generator=rng), dim=-1)
    base = replace(
        blank,
        asset=torch.tensor([assets]),
        rotation=turn,
        translation=(offset + 0.05 * torch.randn(slots, 3, generator=rng))[None],
        scale=torch.ones(1, slots),
        colour=torch.ones(1, slots, 3),
    )
    spread = torch.tensor([0.15] * 3 + [0.08] * 3 + [0.05]).repeat(slots)
    return Problem(world, base, spread * torch.randn(len(spread), generator=rng))


def sampled(world: World, scene: Scene, samples: int, size: tuple[int, int] = (SIZE, SIZE)) -> Tensor:
    """Vertex colours without light, `samples` squared point samples per pixel, averaged, [B, *size, 3]."""
    height, width = size
    fine = (height * samples, width * samples)
    g = assemble(world, scene, fine)
    seen = rasterize(g.vertices, g.triangles, image_size=fine)
    corners = g.colours.detach()[g.triangles.faces.long()].view(-1, 9)
    corners = torch.cat([corners.new_zeros(1, 9), corners])  # nothing, -1, is black
    corners = corners.index_select(0, seen.face.view(-1) + 1).view(-1, 3, 3)
    image = torch.bmm(seen.barycentric.view(-1, 1, 3), corners)
    return image.view(len(scene), height, samples, width, samples, 3).mean((2, 4))


def differences(p: Problem, loss: Callable[[Tensor], Tensor], *, step: float, samples: int = 16) -> Tensor:
    """Central differences of loss(supersampled picture), [P, ...]."""
    rows = []
    for i in range(p.count):
        away = torch.zeros(1, p.count)
        away[0, i] = step
        ahead, behind = (loss(sampled(p.world, p.scene(s * away), samples)) for s in (1, -1))
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
