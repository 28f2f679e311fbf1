"""One scene and the steps of refinement on it, which the benchmarks of GPUs and memory run and tests check.

A unit ball, an icosphere, seen from 3 m, fills 74 % of the picture; its vertices are coloured, its backs are
not drawn. A step moves it in each picture of a batch, draws, compares with a target, goes back and lets Adam
move it on. What moves is one position per picture and the colours, which all pictures share.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import trimesh
from torch import Tensor

from render.blur import blurred_squared_error, gaussian_blur
from render.edge import edge_gradient
from render.interpolate import interpolate
from render.layers import soft_layers
from render.raster import rasterize
from render.soft import soft_rasterize
from render.triangles import Triangles

DISTANCE, COVERED = 3.0, 0.74  # [m]; part of the picture
SIGMA, GAMMA = 1.0, 0.01  # [px], [1/m] of soft rasterization
LAYERS_SIGMA = 2.0  # [px]
BLUR = 4.0  # [px] of the edge operator's loss, and of the blur measured alone

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Ball:
    """The scene: points in space and screen vertices [V, 3], colours [V, 3], one target [1, H, W, 3].

    `halves` are the same faces as two objects, front and back half, of which one hides the other.
    """

    pixels: int
    batch: int
    focal: float  # [px]
    points: Tensor
    vertices: Tensor
    colours: Tensor
    target: Tensor
    triangles: Triangles
    halves: Triangles

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self.pixels, self.pixels


def ball(subdivisions: int, pixels: int, batch: int, device: torch.device) -> Ball:
    """Make the scene of 20 * 4**subdivisions faces."""
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    points = torch.from_numpy(mesh.vertices).float()
    faces = torch.from_numpy(mesh.faces).int().to(device)
    behind = (points[:, 2] < 0.0)[mesh.faces[:, 0]].int().to(device)
    depth = DISTANCE - points[:, 2]
    # of a ball of radius 1 one sees the circle of radius f / sqrt(distance^2 - 1)
    focal = math.sqrt(COVERED / math.pi * (DISTANCE**2 - 1.0)) * pixels
    x, y = pixels / 2 + focal * points[:, 0] / depth, pixels / 2 - focal * points[:, 1] / depth
    culled = torch.ones(len(faces), dtype=torch.bool, device=device)
    generator = torch.Generator().manual_seed(0)
    return Ball(
        pixels=pixels,
        batch=batch,
        focal=focal,
        points=points,
        vertices=torch.stack([x, y, 1.0 / depth], 1).to(device),
        colours=(points / 2.0 + 0.5).to(device),
        target=torch.rand(1, pixels, pixels, 3, generator=generator).to(device),
        triangles=Triangles(faces, culled=culled),
        halves=Triangles(faces, instance=behind, culled=torch.zeros_like(culled)),
    )


def edge(scene: Ball, *, blur: float = BLUR) -> Loss:
    """Hard picture, its gradients by the edge operator, a blurred loss."""

    def loss(vertices: Tensor, colours: Tensor) -> Tensor:
        raster = rasterize(vertices, scene.triangles, image_size=scene.size)
        image = interpolate(colours, vertices, scene.triangles, raster)
        image = edge_gradient(image, vertices, scene.triangles, raster=raster)
        return blurred_squared_error(image, scene.target, blur).sum()

    return loss


def soft(scene: Ball) -> Loss:
    """Soft rasterization."""

    def loss(vertices: Tensor, colours: Tensor) -> Tensor:
        image, _ = soft_rasterize(
            vertices, scene.triangles, colours, image_size=scene.size, sigma=SIGMA, gamma=GAMMA
        )
        return squared_error(image, scene)

    return loss


def layers(scene: Ball) -> Loss:
    """Two layers, the ball's halves, composed softly."""

    def loss(vertices: Tensor, colours: Tensor) -> Tensor:
        image, _ = soft_layers(vertices, scene.halves, colours, image_size=scene.size, sigma=LAYERS_SIGMA)
        return squared_error(image, scene)

    return loss


def blur(scene: Ball) -> Loss:
    """The blur alone, of a picture without a ball; it goes back to one number per picture and channel."""
    picture = scene.target.expand(scene.batch, -1, -1, -1)

    def loss(vertices: Tensor, colours: Tensor) -> Tensor:
        # of the parameters only a few numbers, so that little but the blur is measured
        tinted = picture * vertices[:, :1, None, :]
        return squared_error(gaussian_blur(tinted, BLUR), scene)

    return loss


def squared_error(image: Tensor, scene: Ball) -> Tensor:
    """Mean over pixels and channels, summed over pictures."""
    return (image - scene.target).square().mean((1, 2, 3)).sum()


OPERATORS: dict[str, Callable[[Ball], Loss]] = {"edge": edge, "soft": soft, "layers": layers, "blur": blur}


class Step:
    """A whole step of refinement, which may be captured in a CUDA graph."""

    def __init__(self, scene: Ball, loss: Loss) -> None:
        device = scene.vertices.device
        self.scene = scene
        self.loss = loss
        self.motion = torch.zeros(scene.batch, 1, 3, device=device, requires_grad=True)
        self.colours = scene.colours.clone().requires_grad_()
        # so slow that every step of a measurement sees the same scene
        self.optimizer = torch.optim.Adam(
            [self.motion, self.colours], lr=1e-6, capturable=device.type == "cuda"
        )

    def __call__(self) -> None:
        """Forward, backward, Adam."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.scene.vertices + self.motion, self.colours).backward()
        self.optimizer.step()


def captured(step: Callable[[], None], *, warm_up: int = 3) -> torch.cuda.CUDAGraph:
    """Capture a step in a CUDA graph, after it ran a few times on a stream of its own, as PyTorch asks.

    Raises:
        RuntimeError: If the step does what a graph cannot hold, such as waiting for the GPU.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warm_up):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step()
    return graph
