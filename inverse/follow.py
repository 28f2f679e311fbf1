"""Follow a strategy's gradient through a plain function: what `refine` is for pictures, for simulators."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from render.blackbox import Simulator


@dataclass(frozen=True, eq=False)
class Followed:
    """Where a gradient led, from each of B starts.

    Attributes:
        theta: The vectors met that had the least loss, [B, P].
        loss: Their losses, [B].
        history: The losses on the way, [steps + 1, B]; the last are those at the end.
    """

    theta: Float[Tensor, "batch parameter"]
    loss: Float[Tensor, "batch"]
    history: Float[Tensor, "step batch"]


def minimise(
    module: torch.nn.Module,
    simulator: Simulator,
    theta: Float[Tensor, "batch parameter"],
    loss: Callable[[Tensor], Tensor],
    *,
    steps: int,
    stride: float = 0.05,
    shrink: float = 0.05,
    watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Followed:
    """Go down the gradient that a strategy supplies, within the simulator's ranges.

    Adam (Kingma and Ba 2015) on theta in units of the ranges. The stride shrinks geometrically, and so do the
    widths of a strategy that has some: its `progress` is set from 0 to 1. A start whose gradient is not
    finite stays where it is for that step.

    Args:
        module: `render.differentiable(simulator, strategy)`.
        simulator: Gives the ranges.
        theta: B starts, [B, P]; float64 suits most simulators.
        loss: Answers [B, ...] -> losses [B]; torch differentiates it.
        steps: How many gradients to follow.
        stride: Length of the first step in each entry, share of its range.
        shrink: Of the stride, by the end.
        watch: Told of the step's number, of theta there and of its losses.

    Raises:
        ValueError: If theta is not [B, P], a loss is not [B], or steps is below 1.
    """
    if theta.ndim != 2 or theta.shape[1] != len(simulator.low):
        raise ValueError(f"theta must have shape [B, {len(simulator.low)}], got {list(theta.shape)}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    low, span = simulator.low.to(theta), (simulator.high - simulator.low).to(theta)
    place = ((theta.detach() - low) / span).requires_grad_()
    optimiser = torch.optim.Adam([place], lr=stride, betas=(0.8, 0.95))
    best, least, history = theta.detach().clone(), torch.full_like(theta[:, 0], torch.inf), []
    for step in range(steps + 1):
        done = step / steps
        if hasattr(module, "progress"):
            module.progress = done  # type: ignore[assignment]  # not every strategy has it
        here = low + span * place
        losses = loss(module(here))
        if losses.shape != theta.shape[:1]:
            raise ValueError(f"the loss must have shape [{len(theta)}], got {list(losses.shape)}")
        history.append(losses.detach())
        best = torch.where((history[-1] < least)[:, None], here.detach(), best)
        least = torch.minimum(least, history[-1].nan_to_num(torch.inf))
        if watch:
            watch(step, here.detach(), history[-1])
        if step < steps:
            optimiser.param_groups[0]["lr"] = stride * shrink**done
            (gradient,) = torch.autograd.grad(losses.sum(), place)
            place.grad = torch.where(gradient.isfinite().all(1, keepdim=True), gradient, 0.0)
            optimiser.step()
            with torch.no_grad():
                place.clamp_(0.0, 1.0)
    return Followed(best, least, torch.stack(history))
