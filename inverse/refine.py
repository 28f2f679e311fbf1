"""Refinement by gradients: many scenes at once down the gradient that a strategy supplies, coarse to fine."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.least_differences import Judge
from inverse.losses import Evidence
from scenes import Scene, World


@dataclass(frozen=True)
class RefineSettings:
    """How far and how finely gradients are followed. Lengths are shares of the picture's longer side."""

    steps: int = 60
    coarse: float = 0.05  # blur at the beginning
    fine: float = 0.004  # blur at the end
    stride: float = 0.012  # how far an outline moves in the first step
    shrink: float = 0.05  # of the stride, until the end
    side: int = 64  # [px] longer side of the pictures of the first half; the second half has twice as many


class Descent:
    """A strategy's gradient of the blurred squared difference, followed from each of B scenes.

    Adam (Kingma and Ba 2015) on theta, each entry in units of the step that moves an outline by the picture's
    longer side, so that metres, radians and colours go equally fast. Blur and stride go from coarse to fine.
    A scene whose gradient is not finite stays where it is.

    Args:
        render: `render.differentiable(engine, strategy)`.
        world: Says what is free, and its ranges.
        scenes: B starts.
        unit: Those steps, [B, P].
        settings: See `RefineSettings`; its `steps` and `side` are the caller's business.
        device: Where the strategy runs; theta stays on the CPU.
    """

    def __init__(
        self,
        render: torch.nn.Module,
        world: World,
        scenes: Scene,
        unit: Float[Tensor, "batch parameter"],
        settings: RefineSettings,
        *,
        device: str = "cpu",
    ) -> None:
        self.render, self.world, self.like = render, world, scenes
        self.settings, self.device = settings, device
        self.base = world.pack(scenes).detach()
        self.unit = unit * world.active(scenes)
        self.shift = torch.zeros_like(self.base, requires_grad=True)
        self.optimiser = torch.optim.Adam([self.shift], lr=settings.stride, betas=(0.8, 0.95))

    @property
    def theta(self) -> Float[Tensor, "batch parameter"]:
        """Where the scenes are now."""
        return (self.base + self.shift * self.unit).detach()

    @property
    def scenes(self) -> Scene:
        """The scenes as they are now."""
        return self.world.unpack(self.theta, like=self.like)

    def step(
        self, picture: Float[Tensor, "batch height width 3"], done: float
    ) -> Float[Tensor, "batch height width 3"]:
        """Go one step; the pictures before it are returned.

        Args:
            picture: What each scene is to look like; its size is that of the pictures drawn.
            done: How far the way is gone, in [0, 1].
        """
        from render.blur import blurred_squared_error

        s, size = self.settings, (picture.shape[1], picture.shape[2])
        sigma = max(size) * s.coarse * (s.fine / s.coarse) ** done
        self.optimiser.param_groups[0]["lr"] = s.stride * s.shrink**done
        if hasattr(self.render, "progress"):  # widths of strategies that perturb, narrower towards the end
            self.render.progress = done  # type: ignore[assignment]  # not every strategy has it
        now = self.world.unpack(self.base + self.shift * self.unit, like=self.like)
        image = self.render(now.to(self.device), size).cpu()
        loss = blurred_squared_error(image, picture, sigma).sum()
        (gradient,) = torch.autograd.grad(loss, self.shift)
        self.shift.grad = torch.where(gradient.isfinite().all(1, keepdim=True), gradient, 0.0)
        self.optimiser.step()
        with torch.no_grad():
            self.shift.copy_(self._bounded())
        return image.detach()

    def _bounded(self) -> Float[Tensor, "batch parameter"]:
        """Shifts that keep theta within the world's ranges; angles may go round."""
        low, high, base, unit = self.world.low, self.world.high, self.base, self.unit
        theta = torch.maximum(torch.minimum(base + self.shift * unit, high), low)
        return torch.where(self.world.ends & (unit > 0), (theta - base) / unit.clamp_min(1e-12), self.shift)


def descend(
    render: torch.nn.Module,
    judge: Judge,
    scenes: Scene,
    settings: RefineSettings,
    *,
    device: str = "cpu",
) -> Scene:
    """Follow the strategy's gradient from each of K scenes, see `Descent`; the pictures grow on the way.

    Args:
        render: `render.differentiable(engine, strategy)`.
        judge: Gives the picture, the world and the scale of theta.
        scenes: K starts.
        settings: See `RefineSettings`.
        device: Where the operators run; theta stays on the CPU.

    Returns:
        For each start the scene met whose unblurred picture was best in the last third, K scenes.
    """
    unit = torch.cat([judge.steps(scenes[k], 1.0)[None] for k in range(len(scenes))])
    descent = Descent(render, judge.world, scenes, unit * max(judge.evidence.size), settings, device=device)
    pictures = 1 + getattr(render, "questions", 0)  # some strategies draw more to know the gradient
    best, best_cost = descent.theta, torch.full((len(scenes),), torch.inf)
    for step in range(settings.steps):
        done = step / max(1, settings.steps - 1)
        evidence = _evidence(judge.evidence, settings.side * (2 if done > 0.5 else 1))
        met = descent.theta
        image = descent.step(evidence.image.expand(len(scenes), -1, -1, -1), done)
        judge.renders += pictures * len(scenes)
        if done > 2 / 3:
            cost = evidence.cost(image).mean((1, 2))
            better = cost < best_cost
            best_cost = torch.where(better, cost, best_cost)
            best = torch.where(better[:, None], met, best)
    return judge.world.unpack(best, like=scenes).detach()


def _evidence(evidence: Evidence, side: int) -> Evidence:
    height, width = evidence.size
    fold = max(1, math.floor(max(height, width) / side))
    while height % fold or width % fold:
        fold -= 1
    return evidence.resized((height // fold, width // fold))
