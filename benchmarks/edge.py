"""The edge operator: how exact its gradients are, and what they cost.

    python benchmarks/edge.py [--poses 12] [--repeats 12]

Exactness: relative error and cosine, medians over random poses, against central differences of pictures of
16x16 samples; 64 x 64 px; rotation, translation and scale of each object. Cost: medians of milliseconds for
the forward pass (project, rasterize, colour), a blurred loss, and the backward pass to the pose.
"""

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from render import differentiable, open_engine
from render.blur import blurred_squared_error, gaussian_blur
from render.edge import edge_gradient
from render.geometry import assemble
from render.raster import rasterize
from scenes import Asset, Scene, World, shapes

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the scenes and the truth are the tests' own
from supersampled import SIZE, Problem, agreement, blurred_losses, differences, problem, sampled, small_world

BLURS = (0.0, 1.0, 4.0)  # [px]
ROWS = {  # samples per axis and pixel of the picture, of the triangles
    "1 sample": (1, 1),
    "2x2, antialiased": (2, 1),
    "4x4, antialiased": (4, 1),
    "2x2 of 1 sample": (2, 2),
    "2x2 of 2x2, antialiased": (4, 2),
}


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    poses: int = 12  # per scene
    repeats: int = 12  # per time


def main(settings: Settings) -> None:
    """Print both tables."""
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads\n")
    print(f"relative error / cosine, medians of {settings.poses} poses")
    print(f"{'':26s}" + "".join(f"{name + ', blur ' + str(int(b)):>18s}" for name in SCENES for b in BLURS))
    columns = [_exactness(name, settings.poses) for name in SCENES]
    for k in (*ROWS, "truth, step doubled"):
        print(f"{k:26s}" + "".join(f"{e:11.3f} {c:.4f}" for column in columns for e, c in column[k]))
    print("\nms, forward + loss + backward")
    for pixels, segments in ((256, 72), (512, 72), (256, 144), (512, 144)):
        faces, times = _cost(pixels, segments, settings.repeats)
        print(f"  {pixels:4d} px, {faces:6d} faces:" + "".join(f"  {k} {t:.1f}" for k, t in times.items()))
    print("\nms a scene, tabletop in batches of 16, engine software")
    for pixels in (64, 128):
        times = _module_cost(pixels, settings.repeats)
        print(f"  {pixels:4d} px:" + "".join(f"  {k} {t / 16:.2f}" for k, t in times.items()))


SCENES = ("cube", "sphere", "two")


def _exactness(name: str, poses: int) -> dict[str, np.ndarray]:
    """Rows of (error, cosine) per blur."""
    found: dict[str, list[list[tuple[float, float]]]] = {k: [] for k in (*ROWS, "truth, step doubled")}
    for seed in range(poses):
        p = problem(name, seed)
        target = sampled(p.world, p.scene(p.target[None]), 16)
        losses = blurred_losses(target, BLURS)
        truth, coarser = (differences(p, losses, step=step) for step in (0.01, 0.02))
        pairs = [agreement(coarser[:, i], truth[:, i]) for i in range(len(BLURS))]
        found["truth, step doubled"].append(pairs)
        for k, (picture, triangles) in ROWS.items():
            gradients = [_gradient(p, target, b, picture, triangles) for b in BLURS]
            found[k].append([agreement(g, truth[:, i]) for i, g in enumerate(gradients)])
    return {k: np.median(v, axis=0) for k, v in found.items()}


def _gradient(p: Problem, target: Tensor, blur: float, picture: int, triangles: int) -> Tensor:
    """Gradient in theta at 0 by the operator."""
    theta = torch.zeros(1, p.count, requires_grad=True)
    size = (SIZE * triangles, SIZE * triangles)
    scene = p.scene(theta)
    g = assemble(p.world, scene, size)
    seen = rasterize(g.vertices, g.triangles, image_size=size)
    image = sampled(p.world, p.scene(theta.detach()), picture // triangles, size)
    image = edge_gradient(image, g.vertices, g.triangles, raster=seen, antialiased=picture > triangles)
    image = image.view(1, SIZE, triangles, SIZE, triangles, 3).mean((2, 4))
    loss = gaussian_blur((image - target).double(), blur).square().sum()
    return torch.autograd.grad(loss, theta)[0][0]


def _cost(pixels: int, segments: int, repeats: int) -> tuple[int, dict[str, float]]:
    """A ball that fills three quarters of the picture, vertex colours."""
    ball = shapes.sphere(1.0, segments=segments, rings=segments // 2)
    colours = (ball.vertices / 2 + 0.5).astype(np.float32)
    world = small_world()
    asset = Asset(
        "ball", ball.vertices - np.float32([0, 1, 0]), ball.faces, ball.normals, colours, closed=True
    )
    world = World(**{**vars(world), "assets": (asset,)})
    p = problem("cube", 0)
    scene, size = p.base, (pixels, pixels)
    target = torch.rand(1, *size, 3)

    def run(blur: float, antialiased: bool) -> None:
        translation = scene.translation.clone().requires_grad_()
        moved = Scene(**{**vars(scene), "translation": translation})
        g = assemble(world, moved, size)
        seen = rasterize(g.vertices, g.triangles, image_size=size)
        corners = torch.cat([torch.zeros(1, 9), g.colours.detach()[g.triangles.faces.long()].view(-1, 9)])
        corners = corners.index_select(0, seen.face.view(-1) + 1).view(-1, 3, 3)
        image = torch.bmm(seen.barycentric.view(-1, 1, 3), corners).view(1, *size, 3)
        image = edge_gradient(image, g.vertices, g.triangles, raster=seen, antialiased=antialiased)
        blurred_squared_error(image, target, blur).sum().backward()

    times = {
        "no blur": _median(lambda: run(0.0, False), repeats),
        "blur 4": _median(lambda: run(4.0, False), repeats),
        "blur 16": _median(lambda: run(16.0, False), repeats),
        "blur 4, antialiased": _median(lambda: run(4.0, True), repeats),
    }
    return len(asset.faces), times


def _module_cost(pixels: int, repeats: int) -> dict[str, float]:
    """What differentiable() adds to the engine's own time, all of theta free."""
    world = World.load("tabletop")
    scene = world.sample(16, generator=torch.Generator().manual_seed(0))
    theta = world.pack(scene).requires_grad_()
    with open_engine("software", world, size=(pixels, pixels)) as engine:
        target = engine.render(scene).rgb
        module = differentiable(engine)

        def step() -> None:
            blurred_squared_error(module(world.unpack(theta, like=scene)), target, 2.0).sum().backward()

        drawing = _median(lambda: engine.render(scene), repeats)
        return {"engine": drawing, "gradients": _median(step, repeats) - drawing}


def _median(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds of a call, after one that compiles."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
