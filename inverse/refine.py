"""Refinement by gradients: many scenes at once down the gradient that a strategy supplies, coarse to fine."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.least_differences import Judge
from inverse.losses import Evidence
from scenes import Scene


@dataclass(frozen=True)
class RefineSettings:
    """How far and how finely gradients are followed. Lengths are shares of the picture's longer side."""

    steps: int = 60
    coarse: float = 0.05  # blur at the beginning
    fine: float = 0.004  # blur at the end
    stride: float = 0.012  # how far an outline moves in the first step
    shrink: float = 0.05  # of the stride, until the end
    side: int = 64  # [px] longer side of the pictures of the first half; the second half has twice as many


def descend(
    render: torch.nn.Module,
    judge: Judge,
    scenes: Scene,
    settings: RefineSettings,
    *,
    device: str = "cpu",
) -> Scene:
    """Follow the strategy's gradient of the blurred squared difference from each of K scenes.

    Adam (Kingma and Ba 2015) on theta, each entry in units of the step that moves an outline by one pixel, so
    that metres, radians and colours go equally fast. Blur, stride and picture size go from coarse to fine. A
    scene whose gradient is not finite stays where it is.

    Args:
        render: `render.differentiable(engine, strategy)`.
        judge: Gives the picture, the world and the scale of theta.
        scenes: K starts.
        settings: See `RefineSettings`.
        device: Where the operators run; theta stays on the CPU.

    Returns:
        For each start the scene met whose unblurred picture was best in the last third, K scenes.
    """
    from render.blur import blurred_squared_error

    world = judge.world
    base = world.pack(scenes).detach()
    unit = torch.cat([judge.steps(scenes[k], 1.0)[None] for k in range(len(scenes))])
    unit = unit * world.active(scenes) * max(judge.evidence.size)
    shift = torch.zeros_like(base, requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=settings.stride, betas=(0.8, 0.95))
    best, best_cost = base.clone(), torch.full((len(scenes),), torch.inf)
    for step in range(settings.steps):
        done = step / max(1, settings.steps - 1)
        evidence = _evidence(judge.evidence, settings.side * (2 if done > 0.5 else 1))
        sigma = max(evidence.size) * settings.coarse * (settings.fine / settings.coarse) ** done
        optimiser.param_groups[0]["lr"] = settings.stride * settings.shrink**done
        now = world.unpack(base + shift * unit, like=scenes)
        image = render(now.to(device), evidence.size).cpu()
        judge.renders += len(scenes)
        target = evidence.image.expand(len(scenes), -1, -1, -1)
        (gradient,) = torch.autograd.grad(blurred_squared_error(image, target, sigma).sum(), shift)
        if done > 2 / 3:
            with torch.no_grad():
                cost = evidence.cost(image).mean((1, 2))
                better = cost < best_cost
                best_cost = torch.where(better, cost, best_cost)
                best = torch.where(better[:, None], base + shift * unit, best)
        shift.grad = torch.where(gradient.isfinite().all(1, keepdim=True), gradient, 0.0)
        optimiser.step()
        with torch.no_grad():
            shift.copy_(_bounded(base, shift, unit, world.low, world.high, world.units))
    return world.unpack(best, like=scenes).detach()


def _evidence(evidence: Evidence, side: int) -> Evidence:
    height, width = evidence.size
    fold = max(1, math.floor(max(height, width) / side))
    while height % fold or width % fold:
        fold -= 1
    return evidence.resized((height // fold, width // fold))


def _bounded(
    base: Tensor, shift: Tensor, unit: Tensor, low: Tensor, high: Tensor, units: list[str]
) -> Float[Tensor, "scene parameter"]:
    """Shifts that keep theta within the world's ranges; angles may go round."""
    hard = torch.tensor([u != "rad" for u in units]) & (unit > 0)
    theta = torch.maximum(torch.minimum(base + shift * unit, high), low)
    return torch.where(hard, (theta - base) / unit.clamp_min(1e-12), shift)
