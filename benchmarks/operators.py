"""What the operators cost, forward and backward, beside others' in the same run.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/operators.py [--repeats 15] [--quick] [--tables edge soft blur]

Without that setting PyTorch's own threads spin after each of its operations on the cores that ours need.

A ball with vertex colours fills three quarters of the picture, back faces culled. Each step draws, compares
with a target and differentiates, in the vertices and the colours. Contenders take turns, so that what else
the machine does hits all alike; times are medians of milliseconds, ratios medians of ratios turn by turn.
PyTorch3D takes seconds a step and has two turns only.
"""

import itertools
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import tyro
from peers import deodr, pytorch3d
from steps import GAMMA, SIGMA, Ball, Loss, ball, edge, layers, soft
from torch import Tensor
from tqdm import tqdm

from render.blur import gaussian_blur

Step = Callable[[], Any]


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    repeats: int = 15  # turns of each contender
    quick: bool = False  # few rows
    tables: tuple[Literal["edge", "batch", "soft", "blur"], ...] = ("edge", "batch", "soft", "blur")


SUBDIVISIONS = {320: 2, 5120: 4, 20_480: 5, 81_920: 6, 327_680: 7}  # faces: of an icosahedron
EDGE_ROWS = [(p, f) for p in (64, 128, 256, 512, 1024) for f in SUBDIVISIONS]
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
        print("\nGaussian blur, 3 channels, one thread, ms forward and backward")
        for pixels in (64, 256, 512):
            for sigma in (0.7, 1.0, 2.0, 4.0, 16.0):
                _blur_row(pixels, sigma, settings.repeats)


def step(scene: Ball, loss: Loss, threads: int) -> Step:
    """Forward and backward, to a vertex each and the colours, on so many host threads."""

    def run() -> tuple[Tensor, ...]:
        torch.set_num_threads(threads)
        vertices = scene.vertices.expand(scene.batch, -1, -1).clone().requires_grad_()
        colours = scene.colours.clone().requires_grad_()
        return torch.autograd.grad(loss(vertices, colours), (vertices, colours))

    return run


def _scene(pixels: int, faces: int, batch: int = 1) -> Ball:
    return ball(SUBDIVISIONS[faces], pixels, batch, torch.device("cpu"))


def _edge_row(pixels: int, faces: int, repeats: int) -> None:
    scene = _scene(pixels, faces)
    steps = {"DEODR": deodr(scene)}
    for threads, blur in itertools.product((1, 2), (0.0, 4.0)):
        steps[f"{threads}t blur {blur:.0f}"] = step(scene, edge(scene, blur=blur), threads)
    _print(f"{pixels:5d} px {faces:7d} faces", take_turns(steps, repeats), against="DEODR")


def _batch_row(batch: int, repeats: int) -> None:
    scene = _scene(64, 5120, batch)
    steps = {"DEODR": deodr(scene)} | {f"{n}t": step(scene, edge(scene), n) for n in (1, 2)}
    times = {k: [t / batch for t in v] for k, v in take_turns(steps, min(repeats, 5)).items()}
    _print(f"batch {batch:4d}, 64 px 5120 faces", times, against="DEODR")


def _soft_row(pixels: int, faces: int, repeats: int) -> None:
    scene = _scene(pixels, faces)
    steps: dict[str, Step | None] = {f"soft {n}t": step(scene, soft(scene), n) for n in (1, 2)}
    steps |= {f"layers {n}t": step(scene, layers(scene), n) for n in (1, 2)}
    slow = pytorch3d(scene, sigma=SIGMA, gamma=GAMMA, faces_per_pixel=10) if faces <= 5120 else None
    times = take_turns(steps | {"PyTorch3D K=10": slow}, 2 if slow else repeats)
    if slow:  # more turns for the quick ones; the ratio is that of medians
        times = take_turns(steps, repeats) | {"PyTorch3D K=10": times["PyTorch3D K=10"]}
    _print(f"{pixels:5d} px {faces:7d} faces", times, against="PyTorch3D K=10")


def _blur_row(pixels: int, sigma: float, repeats: int) -> None:
    """PyTorch's convolutions reach 4 sigma, ours below 2 px to weights of 1e-7: 5.7 sigma."""
    image = torch.rand(1, pixels, pixels, 3, requires_grad=True)
    cotangent = torch.rand(1, pixels, pixels, 3)
    radius = int(np.ceil(4 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).expand(3, 1, -1)

    def conv2d() -> Tensor:
        channels_first = image.permute(0, 3, 1, 2)
        rows = torch.conv2d(channels_first, weights[:, :, None], padding=(0, radius), groups=3)
        return torch.conv2d(rows, weights[..., None], padding=(radius, 0), groups=3).permute(0, 2, 3, 1)

    torch.set_num_threads(1)
    steps: dict[str, Step | None] = {
        "conv2d": lambda: torch.autograd.grad(conv2d(), image, cotangent),
        "ours": lambda: torch.autograd.grad(gaussian_blur(image, sigma), image, cotangent),
    }
    _print(f"{pixels:5d} px, sigma {sigma:4.1f}", take_turns(steps, repeats), against="conv2d")


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
