"""Memory of the operators per pixel, face and vertex, measured, beside what their docstrings state.

    python benchmarks/memory.py [--quick] [--device cuda]

Each size is measured in a process of its own: how far the memory in use rises above what it was before, over
the forward and the backward pass together. Arguments, cotangents, and what is kept with the triangles are
there before; results and gradients count. Float32, three channels, one host thread. Then a row of a ball of
1,310,720 faces at 1024 x 1024. On a CPU this needs Linux, whose count of a process's memory can be reset.
"""

import gc
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from steps import BLUR, GAMMA, LAYERS_SIGMA, SIGMA, Ball, ball
from torch import Tensor

from render.blur import blurred_squared_error, gaussian_blur
from render.edge import edge_gradient
from render.interpolate import interpolate
from render.layers import soft_layers
from render.raster import rasterize
from render.soft import soft_rasterize
from render.triangles import Triangles

Job = Callable[[], object]
# what docstrings state for float32, 3 channels, one host thread: bytes per pixel, face, vertex
STATED = {
    "rasterize": (20, 0, 0),  # on a GPU 28
    "interpolate": (12, 0, 12),
    "edge_gradient": (4, 0, 12),
    "gaussian_blur, 1 px": (36, 0, 0),
    "gaussian_blur, 4 px": (24, 0, 0),
    "blurred_squared_error": (12, 0, 0),  # on a GPU 24
    "soft_rasterize": (44, 0, 24),
    "soft_layers": (232, 0, 44),  # of two layers, blurred by less than 3 px
    # an edge has 32; these meshes have 1.2 edges a face and 0.6 a vertex
    "Triangles, found": (0, 630, 140),
    "Triangles, kept": (0, 59, 19),
}
HEADER, WIDTHS = (
    ("", "per pixel", "per face", "per vertex", "fixed, MB", "residual, MB"),
    (24, 16, 16, 16, 11, 14),
)
TINY = 8  # [px] of the picture that compiles kernels and finds edges before anything is measured
# so that all but small pieces go back to the system at once when they are freed
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    device: str = "cpu"
    pixels: tuple[int, ...] = (256, 512, 768, 1024)  # with a ball of 5,120 faces
    subdivisions: tuple[int, ...] = (6, 7)  # of balls of 81,920 and 327,680 faces, in 64 x 64 px
    large: int = 8  # subdivisions of the ball of the last row, 1,310,720 faces; 0: no such row
    large_pixels: int = 1024
    quick: bool = False  # small sizes instead
    child: str | None = None  # a size, as JSON: this process is one that measures


def main(settings: Settings) -> None:
    """Print the tables."""
    if settings.child is not None:
        print(json.dumps(_child(torch.device(settings.device), **json.loads(settings.child))))
        return
    if settings.quick:
        settings = replace(settings, pixels=(128, 192), subdivisions=(4, 5), large=5, large_pixels=128)
    base = settings.subdivisions[0] - 2
    sizes = [(p, base, False) for p in settings.pixels]
    sizes += list(itertools.product([64], settings.subdivisions, [False, True]))
    found = [_in_child(settings.device, pixels=p, subdivisions=s, apart=a) for p, s, a in sizes]
    print(f"bytes at the peak, {settings.device}, as measured (as stated)")
    print("".join(f"{h:>{w}s}" for h, w in zip(HEADER, WIDTHS, strict=True)))
    for name, stated in STATED.items():
        print(f"{name:24s}{_fitted(found, name, stated)}")
    if settings.large:
        _large(settings)


def _fitted(found: list[dict[str, float]], name: str, stated: tuple[int, int, int]) -> str:
    """Least squares over all sizes; the residual is the greatest."""
    columns = np.array([[f["pixels"], f["faces"], f["vertices"], 1.0] for f in found])
    peaks = np.array([f[name] for f in found])
    solution = np.linalg.lstsq(columns, peaks, rcond=None)[0]
    rest = np.abs(columns @ solution - peaks).max()
    cells = "".join(f"{m:10.1f} ({s:3d})" for m, s in zip(solution, stated, strict=False))
    return f"{cells}{solution[3] / 1e6:11.2f}{rest / 1e6:14.2f}"


def _large(settings: Settings) -> None:
    options = {"pixels": settings.large_pixels, "subdivisions": settings.large, "apart": False}
    got = _in_child(settings.device, **options, only=["edge step", "soft_rasterize"])
    print(f"\n{got['faces']:,.0f} faces, {settings.large_pixels} x {settings.large_pixels}, once:")
    for name in ("edge step", "soft_rasterize"):
        print(f"  {name:16s} {got[name + ', seconds']:7.2f} s, {got[name] / 1e6:7.1f} MB")
    print(f"  edges, before    {got['before, seconds']:7.2f} s")


def _in_child(device: str, **options: object) -> dict[str, float]:
    """Measure one size in another process."""
    command = [sys.executable, str(Path(__file__)), "--device", device, "--child", json.dumps(options)]
    settings = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"measuring {options} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _child(
    device: torch.device, pixels: int, subdivisions: int, apart: bool, only: list[str] | None = None
) -> dict[str, float]:
    torch.set_num_threads(1)
    scene = ball(subdivisions, pixels, 1, device)
    if apart:
        scene = _apart(scene)
    result: dict[str, float] = {"pixels": pixels * pixels, "faces": len(scene.triangles)}
    result["vertices"] = len(scene.vertices)
    start = time.perf_counter()
    if only is None:
        result |= _triangles(scene)
    for name in only or JOBS:
        JOBS[name](replace(scene, pixels=TINY, target=scene.target[:, :TINY, :TINY]))()
        result.setdefault("before, seconds", time.perf_counter() - start)
        result[name], result[f"{name}, seconds"] = _measured(JOBS[name](scene), device)
    return result


def _triangles(scene: Ball) -> dict[str, float]:
    """What finding the edges takes, and what of it stays."""
    device = scene.vertices.device
    _edges(Triangles(scene.triangles.faces[:8]))  # imports
    _collect(device)
    before = _in_use(device)
    kept = Triangles(scene.triangles.faces)
    peak, _ = _measured(lambda: _edges(kept), device)
    _collect(device)
    return {"Triangles, found": peak, "Triangles, kept": _in_use(device) - before}


def _edges(triangles: Triangles) -> None:
    triangles.edges, triangles.neighbours, triangles.group, triangles.vertices_needed  # noqa: B018  # cached


def _apart(scene: Ball) -> Ball:
    """The same faces without vertices in common, to tell the cost of faces from that of vertices."""
    corners = scene.triangles.faces.long().view(-1)
    faces = torch.arange(len(corners), dtype=torch.int32, device=corners.device).view(-1, 3)
    return replace(
        scene,
        vertices=scene.vertices[corners],
        colours=scene.colours[corners],
        triangles=Triangles(faces, culled=scene.triangles.culled),
        halves=Triangles(faces, instance=scene.halves.instance),
    )


def _measured(job: Job, device: torch.device) -> tuple[float, float]:
    """By how many bytes the memory in use rises, and the seconds."""
    _collect(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is in use
    before, start = _in_use(device), time.perf_counter()
    result = job()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")
    del result
    return peak - before, seconds


def _in_use(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def _status(name: str) -> float:
    """Bytes, by the system's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _collect(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _both_ways(draw: Callable[..., Tensor], *inputs: Tensor) -> Job:
    """Forward and backward, to all inputs, the cotangent made before."""
    inputs = tuple(t.detach().requires_grad_() for t in inputs)
    with torch.no_grad():
        cotangent = torch.ones_like(draw(*inputs))

    def job() -> object:
        image = draw(*inputs)
        return image, torch.autograd.grad(image, inputs, cotangent)

    return job


def _interpolate(s: Ball) -> Job:
    raster = rasterize(s.vertices, s.triangles, image_size=s.size)
    return _both_ways(lambda c: interpolate(c, s.vertices, s.triangles, raster), s.colours)


def _edge_gradient(s: Ball) -> Job:
    raster = rasterize(s.vertices, s.triangles, image_size=s.size)
    return _both_ways(lambda v: edge_gradient(s.target, v, s.triangles, raster=raster), s.vertices)


def _edge_step(s: Ball) -> Job:
    def draw(vertices: Tensor, colours: Tensor) -> Tensor:
        raster = rasterize(vertices, s.triangles, image_size=s.size)
        image = interpolate(colours, vertices, s.triangles, raster)
        image = edge_gradient(image, vertices, s.triangles, raster=raster)
        return blurred_squared_error(image, s.target, BLUR)

    return _both_ways(draw, s.vertices, s.colours)


def _soft(s: Ball) -> Job:
    def draw(vertices: Tensor, colours: Tensor) -> Tensor:
        options = {"image_size": s.size, "sigma": SIGMA, "gamma": GAMMA}
        return soft_rasterize(vertices, s.triangles, colours, **options)[0]

    return _both_ways(draw, s.vertices, s.colours)


def _layers(s: Ball) -> Job:
    def draw(vertices: Tensor, colours: Tensor) -> Tensor:
        return soft_layers(vertices, s.halves, colours, image_size=s.size, sigma=LAYERS_SIGMA)[0]

    return _both_ways(draw, s.vertices, s.colours)


def _error(s: Ball) -> Job:
    return _both_ways(lambda x: blurred_squared_error(x, s.target, BLUR), s.target.clone())


JOBS: dict[str, Callable[[Ball], Job]] = {
    "rasterize": lambda s: lambda: rasterize(s.vertices, s.triangles, image_size=s.size),
    "interpolate": _interpolate,
    "edge_gradient": _edge_gradient,
    "gaussian_blur, 1 px": lambda s: _both_ways(lambda x: gaussian_blur(x, 1.0), s.target),
    "gaussian_blur, 4 px": lambda s: _both_ways(lambda x: gaussian_blur(x, 4.0), s.target),
    "blurred_squared_error": _error,
    "soft_rasterize": _soft,
    "soft_layers": _layers,
    "edge step": _edge_step,
}

if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
