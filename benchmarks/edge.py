"""The edge operator: how exact its gradients are, and what `differentiable` costs on an engine.

    python benchmarks/edge.py [--poses 12] [--repeats 12]

Exactness: relative error and cosine, medians over random poses, against central differences of pictures of
16x16 samples; 64 x 64 px; rotation, translation and scale of each object, smooth bends of all vertices. Cost:
medians of milliseconds a scene. What the operator alone costs is in `operators.py`.
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

from render import differentiable, open_engine
from render.blur import blurred_squared_error
from scenes import World

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the scenes and the truth are the tests' own
from supersampled import PLACES, agreement, blurred_losses, differences, problem

BLURS = (0.0, 1.0, 4.0)  # [px]
ROWS = {  # samples per axis and pixel of the picture, of the triangles
    "1 sample": (1, 1),
    "2x2, antialiased": (2, 1),
    "4x4, antialiased": (4, 1),
    "2x2 of 1 sample": (2, 2),
    "2x2 of 2x2, antialiased": (4, 2),
}
TRUTH = "truth, step halved"


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    poses: int = 12  # per scene
    repeats: int = 12  # per time


def main(settings: Settings) -> None:
    """Print both tables."""
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads\n")
    print(f"relative error / cosine, medians of {settings.poses} poses")
    for name in PLACES:
        print(f"\n{name:26s}" + "".join(f"{f'blur {b:.0f} px':>18s}" for b in BLURS))
        for row, pairs in _exactness(name, settings.poses).items():
            print(f"  {row:24s}" + "".join(f"{e:11.3f} {c:.4f}" for e, c in pairs), flush=True)
    print("\nms a scene, tabletop in batches of 16, engine software")
    for pixels in (64, 128):
        times = _module_cost(pixels, settings.repeats)
        print(f"  {pixels:4d} px:" + "".join(f"  {k} {t / 16:.2f}" for k, t in times.items()))


def _exactness(name: str, poses: int) -> dict[str, np.ndarray]:
    """Rows of (error, cosine) per blur."""
    found: dict[str, list[list[tuple[float, float]]]] = {k: [] for k in (*ROWS, TRUTH)}
    step = 0.0025 if name == "near" else 0.01  # a ground under the eye bends the loss more
    for seed in range(poses):
        p = problem(name, seed)
        target = p.sampled(p.target[None], 16)
        losses = blurred_losses(target, BLURS)
        truth, finer = (differences(p, losses, step=s) for s in (step, step / 2))
        found[TRUTH].append([agreement(finer[:, i], truth[:, i]) for i in range(len(BLURS))])
        for k, (picture, triangles) in ROWS.items():
            gradients = [p.estimate(target, b, picture, triangles) for b in BLURS]
            found[k].append([agreement(g, truth[:, i]) for i, g in enumerate(gradients)])
    return {k: np.median(v, axis=0) for k, v in found.items()}


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
