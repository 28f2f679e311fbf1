"""What the operators cost, forward and backward, beside others' in the same run.

    python benchmarks/operators.py [--repeats 15] [--quick] [--tables edge soft blur]

A ball with vertex colours fills three quarters of the picture, back faces culled. Each step draws, compares
with a target and differentiates, in the vertices and the colours. Contenders take turns, so that what else
the machine does hits all alike; times are medians of milliseconds, ratios medians of ratios turn by turn.
PyTorch3D takes seconds a step and has two turns only.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import trimesh
import tyro
from peers import DISTANCE, FOV_DEGREES, Scene, deodr, pytorch3d
from torch import Tensor
from tqdm import tqdm

from render.blur import blurred_squared_error, gaussian_blur
from render.edge import edge_gradient
from render.interpolate import interpolate
from render.layers import soft_layers
from render.raster import rasterize
from render.soft import soft_rasterize
from render.triangles import Triangles

Step = Callable[[], Any]


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    repeats: int = 15  # turns of each contender
    quick: bool = False  # few rows
    tables: tuple[Literal["edge", "batch", "soft", "blur"], ...] = ("edge", "batch", "soft", "blur")


SUBDIVISIONS = {320: 2, 1280: 3, 5120: 4, 20_480: 5, 81_920: 6, 327_680: 7}  # faces: of an icosahedron
EDGE_ROWS = [(p, f) for p in (64, 128, 256, 512, 1024) for f in (320, 5120, 20_480, 81_920, 327_680)]
QUICK_ROWS = [(64, 320), (256, 5120), (512, 20_480)]


def main(settings: Settings) -> None:
    """Print the tables."""
    print(f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}\n")
    rows = QUICK_ROWS if settings.quick else EDGE_ROWS
    if "edge" in settings.tables:
        print("edge, ms a step: rasterize, interpolate, loss, gradients to vertices and colours")
        for pixels, faces in rows:
            _edge_row(pixels, faces, settings.repeats)
    if "batch" in settings.tables:
        print("\nedge, blur 4 px, ms a picture in batches")
        for batch in (1, 16, 64, 256)[: 2 if settings.quick else 4]:
            _batch_row(batch, settings.repeats)
    if "soft" in settings.tables:
        print("\nsoft, 1 px, and layers, 2 px, ms a step")
        for pixels, faces in QUICK_ROWS[:2] if settings.quick else [(64, 320), (256, 5120), (512, 20_480)]:
            _soft_row(pixels, faces, settings.repeats)
    if "blur" in settings.tables:
        print("\nGaussian blur, 3 channels, one thread, ms forward")
        for pixels in (64, 256, 512):
            for sigma in (0.7, 1.0, 2.0, 4.0, 16.0):
                _blur_row(pixels, sigma, settings.repeats)


def ball(pixels: int, faces: int, batch: int = 1) -> Scene:
    """The scene that everybody draws; poses of a batch differ a little."""
    mesh = trimesh.creation.icosphere(subdivisions=SUBDIVISIONS[faces])
    points = torch.from_numpy(np.asarray(mesh.vertices)).float()
    corners = torch.from_numpy(np.asarray(mesh.faces, np.int32).copy())
    focal = pixels / 2 / np.tan(np.radians(FOV_DEGREES) / 2)
    shift = 0.01 * torch.randn(batch, 1, 3, generator=torch.Generator().manual_seed(0))
    seen = points + (shift if batch > 1 else 0.0 * shift)
    inverse_depth = 1.0 / (DISTANCE - seen[..., 2])
    x, y = (sign * seen[..., i] * inverse_depth * focal + pixels / 2 for i, sign in ((0, 1), (1, -1)))
    target = torch.rand(batch, pixels, pixels, 3, generator=torch.Generator().manual_seed(1))
    vertices = torch.stack([x, y, inverse_depth], -1)
    return Scene(points, vertices, corners, points * 0.5 + 0.5, target, pixels)


def edge_step(scene: Scene, top: Triangles, blur: float) -> Step:
    """Forward, loss and backward of the edge operator on our own rasterizer's picture."""

    def step() -> tuple[Tensor, ...]:
        vertices, colours = scene.vertices.clone().requires_grad_(), scene.colours.clone().requires_grad_()
        raster = rasterize(vertices, top, image_size=(scene.pixels, scene.pixels))
        image = interpolate(colours, vertices, top, raster)
        image = edge_gradient(image, vertices, top, raster=raster)
        loss = blurred_squared_error(image, scene.target, blur).sum()
        return torch.autograd.grad(loss, (vertices, colours))

    return step


def soft_step(scene: Scene, top: Triangles, sigma: float, *, layers: bool = False) -> Step:
    """Forward, loss and backward of a soft operator."""
    draw = soft_layers if layers else soft_rasterize

    def step() -> tuple[Tensor, ...]:
        vertices, colours = scene.vertices.clone().requires_grad_(), scene.colours.clone().requires_grad_()
        image, _ = draw(
            vertices, top, colours, image_size=(scene.pixels, scene.pixels), sigma=sigma, gamma=0.01
        )
        return torch.autograd.grad((image - scene.target).square().sum(), (vertices, colours))

    return step


def closed(faces: Tensor) -> Triangles:
    """The faces of a mesh whose backs are never seen."""
    return Triangles(faces, culled=torch.ones(len(faces), dtype=torch.bool))


def _edge_row(pixels: int, faces: int, repeats: int) -> None:
    scene = ball(pixels, faces)
    top = closed(scene.faces)
    steps = {"DEODR": deodr(scene)}
    for threads in (1, 2):
        for blur in (0.0, 4.0):
            steps[f"{threads}t blur {blur:.0f}"] = _threaded(edge_step(scene, top, blur), threads)
    _print(f"{pixels:5d} px {faces:7d} faces", take_turns(steps, repeats), against="DEODR")


def _batch_row(batch: int, repeats: int) -> None:
    scene = ball(64, 5120, batch)
    top = closed(scene.faces)
    steps = {"DEODR": deodr(scene) if batch <= 16 else None}
    for threads in (1, 2):
        steps[f"{threads}t"] = _threaded(edge_step(scene, top, 4.0), threads)
    times = {k: [t / batch for t in v] for k, v in take_turns(steps, min(repeats, 5)).items()}
    _print(f"batch {batch:4d}, 64 px 5120 faces", times, against="DEODR")


def _soft_row(pixels: int, faces: int, repeats: int) -> None:
    scene = ball(pixels, faces)
    top = closed(scene.faces)
    steps: dict[str, Step | None] = {
        f"soft {n}t": _threaded(soft_step(scene, top, 1.0), n) for n in (1, 2)
    } | {f"layers {n}t": _threaded(soft_step(scene, top, 2.0, layers=True), n) for n in (1, 2)}
    slow = pytorch3d(scene, sigma=1.0, faces_per_pixel=10) if faces <= 5120 else None
    times = take_turns(steps | {"PyTorch3D K=10": slow}, 2 if slow else repeats)
    if slow:  # more turns for the quick ones; the ratio is that of medians
        times = take_turns(steps, repeats) | {"PyTorch3D K=10": times["PyTorch3D K=10"]}
    _print(f"{pixels:5d} px {faces:7d} faces", times, against="PyTorch3D K=10")


def _blur_row(pixels: int, sigma: float, repeats: int) -> None:
    image = torch.rand(1, pixels, pixels, 3)
    radius = int(np.ceil(4 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).expand(3, 1, -1)

    def conv2d() -> Tensor:
        channels_first = image.permute(0, 3, 1, 2)
        rows = torch.conv2d(channels_first, weights[:, :, None], padding=(0, radius), groups=3)
        return torch.conv2d(rows, weights[..., None], padding=(radius, 0), groups=3).permute(0, 2, 3, 1)

    steps = {"conv2d": _threaded(conv2d, 1), "ours": _threaded(lambda: gaussian_blur(image, sigma), 1)}
    _print(f"{pixels:5d} px, sigma {sigma:4.1f}", take_turns(steps, repeats), against="conv2d")


def _threaded(step: Step, threads: int) -> Step:
    def run() -> Any:
        torch.set_num_threads(threads)
        return step()

    return run


def take_turns(steps: dict[str, Step | None], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each step, one after another, `repeats` times after a first that compiles."""
    given = {k: s for k, s in steps.items() if s is not None}
    times: dict[str, list[float]] = {k: [] for k in given}
    for turn in tqdm(range(repeats + 1), leave=False, disable=None):
        for name, step in given.items():
            start = time.perf_counter()
            step()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def _print(row: str, times: dict[str, list[float]], *, against: str) -> None:
    other = np.array(times.get(against, []))
    parts = []
    for name, t in times.items():
        text = f"{name} {np.median(t):.2f}"
        if len(other) and name != against:
            ratio = np.median(other / t) if len(other) == len(t) else np.median(other) / np.median(t)
            text += f" ({ratio:.2f}x)"
        parts.append(text)
    print(f"  {row}:  " + "   ".join(parts), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
