"""What surrogates are worth: their pictures, and their gradients against the engine's differences.

    python benchmarks/surrogate.py [--worlds cube tabletop street] [--pictures 500] [--scenes 60]

Pictures: PSNR, whole and over the objects alone, means over random scenes that no training saw, beside that
of a blank scene: most of a picture is background, so that drawing nothing looks good over the whole.

Gradients: pairs of scenes that differ by 2 cm (or 1 % of the distance to the eye, where that is more), 0.25
rad, 7 % of the size and 0.1 in colour, standard deviations; the squared difference of their pictures, blurred
by 1.5 px, and its slope for one of them. For each scene and kind of parameter the cosine with central
differences of the engine's supersampled pictures: mean, median, tenth percentile.
straight: the engine's picture, the surrogate's gradient. own: the surrogate's picture too. Only scenes count
in which the differences have a direction.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.nn.functional import cosine_similarity

from inverse.compare.agreement import loss_gradient
from inverse.compare.problems import Problems
from inverse.differences import averaged, central_differences
from inverse.training.pool import held_out
from inverse.training.surrogate import SurrogateTask
from render import differentiable, open_engine
from render.blur import blurred_squared_error
from render.engine import Engine
from render.surrogate import Imitator, load_imitator
from scenes import Scene, World
from scenes.weights import load_weights, weights_beside

OFF = {"position": 0.02, "rotation": 0.25, "scale": 0.07, "colour": 0.1}  # m, rad, share, linear
STEPS = {"position": 0.004, "rotation": math.radians(2.0), "scale": 0.01, "colour": 0.02}
BLUR = 1.5  # [px]
SEED = 1  # training draws from 0
_FINER = 3  # per axis, on top of the engine's own samples
_NONE = 1e-12  # a slope shorter than this has no direction
_FAR = 0.01  # of the distance to the eye: least shift


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    worlds: tuple[str, ...] = ("cube", "tabletop", "street")
    pictures: int = 500
    scenes: int = 60  # whose gradients are compared
    engine: str = "opengl"
    weights: Path | None = None  # of the one world named; None: those that are bundled


@torch.no_grad()
def pictures(world: World, network: Imitator, settings: Settings) -> None:
    """Print the PSNR of the network and of a blank scene."""
    held = held_out(world, settings.pictures, network.size, engine=settings.engine, seed=SEED)
    task = SurrogateTask(world, network.size)
    task.network = network
    nothing = replace(held.scene, asset=torch.full_like(held.scene.asset, -1))
    for name, scene in (("surrogate", held.scene), ("blank scene", nothing)):
        figures = task.measure(replace(held, scene=scene))
        print(
            f"  {name:12s}{figures['psnr']:7.2f} dB whole {figures['foreground']:7.2f} dB objects", flush=True
        )


def gradients(world: World, network: Imitator, settings: Settings) -> None:
    """Print cosines with the engine's differences."""
    with open_engine(settings.engine, world, size=network.size) as engine:
        problems = _pairs(world, engine, settings.scenes)
        wanted = _differences(engine, problems)
        for picture, name in (("engine", "straight"), ("operator", "own")):
            module = differentiable(engine, "surrogate", surrogate=network, picture=picture)
            got = loss_gradient(module, problems, BLUR).double()
            for kind in OFF:
                _report(f"{name} {kind}", *(_part(world, problems.start, g, kind) for g in (got, wanted)))


def cost(world: World, network: Imitator) -> None:
    """Print the processor time of a picture with its gradient, one scene at a time."""
    scene = world.sample(20, generator=torch.Generator().manual_seed(SEED))
    network.requires_grad_(False)
    seconds = []
    for k in range(20):
        theta = world.pack(scene[k]).requires_grad_()
        start = time.process_time()
        network(world.unpack(theta, like=scene[k])).sum().backward()
        seconds.append(time.process_time() - start)
    print(f"  a gradient takes {1e3 * sorted(seconds)[10]:.0f} ms of one core, one scene alone")


def _pairs(world: World, engine: Engine, count: int) -> Problems:
    generator = torch.Generator().manual_seed(SEED)
    start = world.sample(count, generator=generator)
    theta = world.pack(start)
    noise = torch.randn(theta.shape, generator=generator)
    shift = max(OFF["position"], _FAR * _distance(start))
    moved = theta.clone()
    for k, group in enumerate(world.groups):
        if group == "scale":
            moved[:, k] *= (OFF[group] * noise[:, k]).exp()
        elif group in OFF:
            moved[:, k] += (shift if group == "position" else OFF[group]) * noise[:, k]
    kept = torch.tensor([g == "colour" for g in world.groups])
    moved = torch.where(kept, moved.maximum(world.low).minimum(world.high), moved)
    truth = world.unpack(moved, like=start)
    fine = (engine.size[0] * _FINER, engine.size[1] * _FINER)
    return Problems(world, truth, start, averaged(engine.render(truth, size=fine).rgb, engine.size))


def _differences(engine: Engine, problems: Problems) -> Tensor:
    world, target = problems.world, problems.picture.double()
    metre = max(1.0, _FAR * _distance(problems.start) / OFF["position"])
    steps = [STEPS.get(g, 0.01) * (metre if g == "position" else 1.0) for g in world.groups]

    def loss(image: Tensor) -> Tensor:
        return blurred_squared_error(image, target, BLUR)

    return central_differences(engine, problems.start, loss, torch.tensor(steps), samples=_FINER)


def _distance(scene: Scene) -> float:
    """Mean distance [m] of the objects from the eye."""
    away = (scene.translation - scene.camera.translation[:, None]).norm(dim=-1)
    return float(away[scene.asset >= 0].mean())


def _part(world: World, scene: Scene, gradient: Tensor, kind: str) -> Tensor:
    these = torch.tensor([g == kind for g in world.groups])
    return gradient * (these & world.active(scene))


def _report(name: str, got: Tensor, wanted: Tensor) -> None:
    clear = wanted.norm(dim=1) > _NONE
    if bool(clear.any()):
        cosine = cosine_similarity(got[clear], wanted[clear], dim=1)
        tenth = float(cosine.quantile(0.1))
        print(
            f"  {name:18s} mean {float(cosine.mean()):6.3f}, median {float(cosine.median()):6.3f}, tenth "
            f"percentile {tenth:6.3f}, {int(clear.sum())} scenes",
            flush=True,
        )


def main(settings: Settings) -> None:
    """Print what is known of each world's surrogate, and what is measured."""
    torch.set_num_threads(1)
    for name in settings.worlds:
        world = World.load(name)
        path = settings.weights or weights_beside(world, "surrogate")
        _, facts = load_weights(path, world)
        network = load_imitator(world, path)
        print(f"{name}: {sum(p.numel() for p in network.parameters())} parameters; {facts}")
        pictures(world, network, settings)
        gradients(world, network, settings)
        cost(world, network)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
