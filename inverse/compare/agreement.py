"""How well a strategy's gradient agrees with central differences of the engine's supersampled loss."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.compare.problems import KINDS, Problems
from inverse.least_differences import Judge
from inverse.losses import Evidence
from render.engine import Engine

_NONE = 1e-12  # a gradient shorter than this has no direction


@dataclass(frozen=True)
class Agreement:
    """Of one kind of parameter in one scene; lengths in units of the steps that move outlines by a pixel.

    Attributes:
        kind: One of `KINDS`.
        cosine: With the differences, in [-1, 1]; 0 where the strategy's gradient vanishes.
        length: The gradient's over that of the differences.
    """

    kind: str
    cosine: float
    length: float


def loss_gradient(
    module: torch.nn.Module, problems: Problems, sigma: float
) -> Float[Tensor, "batch parameter"]:
    """Gradient of the blurred squared difference at the starts, to theta; as the strategy gives it.

    Args:
        module: `render.differentiable(engine, strategy)`.
        problems: Where, and against which pictures.
        sigma: Blur of the loss [px].
    """
    from render.blur import blurred_squared_error

    world, start = problems.world, problems.start
    theta = world.pack(start).detach().requires_grad_()
    image = module(world.unpack(theta, like=start), tuple(problems.picture.shape[1:3]))
    loss = blurred_squared_error(image, problems.picture.to(image), sigma).sum()
    (gradient,) = torch.autograd.grad(loss, theta)
    return gradient


def pixel_steps(engine: Engine, problems: Problems) -> Float[Tensor, "batch parameter"]:
    """For each entry of theta the step that moves outlines by about a pixel, or changes colours a little."""
    judge = partial(Judge, engine, problems.world)
    pairs = zip(range(len(problems)), problems.picture, strict=True)
    return torch.stack([judge(Evidence(p)).steps(problems.start[b], 1.0) for b, p in pairs])


def agreements(
    problems: Problems,
    gradient: Float[Tensor, "batch parameter"],
    reference: Float[Tensor, "batch parameter"],
    steps: Float[Tensor, "batch parameter"],
) -> list[list[Agreement]]:
    """For each problem one row per kind of which the world has something free that matters there.

    Args:
        problems: Where the gradients are.
        gradient: A strategy's.
        reference: Of central differences.
        steps: Units in which entries of a kind are put side by side, `pixel_steps`.
    """
    world, active = problems.world, problems.world.active(problems.start)
    found, wanted = gradient.double() * steps.double(), reference.double() * steps.double()
    rows = []
    for b in range(len(problems)):
        row = []
        for kind in KINDS:
            these = active[b] & torch.tensor([g == kind for g in world.groups])
            a, r = found[b, these], wanted[b, these]
            if float(r.norm()) > _NONE:
                row.append(Agreement(kind, _cosine(a, r), float(a.norm() / r.norm())))
        rows.append(row)
    return rows


def _cosine(a: Tensor, b: Tensor) -> float:
    length = float(a.norm())
    return 0.0 if length < _NONE else float((a @ b) / (length * b.norm()))
