"""Least differences on sketches: Levenberg-Marquardt for many single objects at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse.candidates import Candidates, Moves, Pinhole
from inverse.losses import squared
from inverse.sketch import Lamp, Rest, Sketcher, Target, View


@dataclass(frozen=True, eq=False)
class Level:
    """One size of picture at which objects are refined.

    Attributes:
        view: What is drawn.
        target: The picture at that size.
        block: Pixels drawn per pixel compared, each way.
        coarse: Draw simplified meshes.
    """

    view: View
    target: Target
    block: int
    coarse: bool


def weights(residual: Float[Tensor, "*batch pixel 4"], target: Target) -> tuple[Tensor, Tensor]:
    """Number of wrong pixels, and the weight of each squared component in least squares (of rho's slope)."""
    square = squared(residual)
    tau2 = target.tau**2
    cost = square / (square + tau2)
    slope = tau2 / (square + tau2).square()
    cost = cost + target.mask_weight * residual[..., 3].square()
    weight = torch.stack([slope, slope, slope, torch.full_like(slope, target.mask_weight)], -1)
    return cost, weight


def refine(
    sketcher: Sketcher,
    moves: Moves,
    pinhole: Pinhole,
    level: Level,
    lamp: Lamp,
    start: Candidates,
    rest_index: Int[Tensor, "candidate"],
    rest: Rest,
    *,
    iterations: int,
) -> tuple[Candidates, Float[Tensor, "candidate 3"], Float[Tensor, "candidate"]]:
    """Move each object to where its sketch over the rest explains the picture best.

    Levenberg-Marquardt (damping times 0.3 after a success, 6 after a failure) on the free moves of each
    object; the tint is eliminated in closed form inside every sketch; the Jacobian is made of central
    differences of sketches.

    Returns:
        The best objects met, their encoded tints [N, 3], and the change of the number of wrong pixels that
        each brings over its rest, [N], in pixels of the compared size.
    """
    count, p = len(start), moves.count
    linear, translation = pinhole.place(start)
    block, view, target = level.block, level.view, level.target
    window = window_for(moves, pinhole, view, start, block)
    origin = (
        sketcher.draw(start.asset, linear, translation, view, window=window, coarse=True).origin
        // block
        * block
    )
    before = _rest_cost(rest, level, rest_index, origin, window)
    best, best_cost, best_tint = start, torch.full((count,), torch.inf), torch.ones(count, 3)
    normal = torch.zeros(count, p, p)
    descent = torch.zeros(count, p)
    damping = torch.full((count,), 1e-2)
    trial = start
    signs = torch.cat([torch.zeros(1, p), torch.eye(p), -torch.eye(p)])
    for step in range(iterations + 1):
        last = step == iterations
        h = moves.steps(trial, pinhole, view, 0.7 * block)
        variants = (
            trial if last else moves.apply(trial.repeat(2 * p + 1), (signs * h[:, None]).reshape(-1, p))
        )
        times = 1 if last else 2 * p + 1
        linear, translation = pinhole.place(variants)
        sketch = sketcher.draw(
            variants.asset,
            linear,
            translation,
            view,
            window=window,
            origin=origin.repeat_interleave(times, 0),
            coarse=level.coarse,
        )
        out, tint = sketcher.residual(
            sketch, rest_index.repeat_interleave(times), lamp, target, rest, block=block
        )
        out = out.reshape(count, times, -1, 4)
        cost, weight = weights(out[:, 0], target)
        cost = cost.sum(-1) - before
        better = cost < best_cost
        damping = torch.where(better, damping * 0.3, damping * 6.0).clamp(1e-4, 1e4)
        best = _where(better, trial, best)
        best_cost = torch.where(better, cost, best_cost)
        best_tint = torch.where(better[:, None], tint.reshape(count, times, 3)[:, 0], best_tint)
        if last:
            break
        slope = (out[:, 1 : p + 1] - out[:, p + 1 :]) / (2.0 * h.clamp_min(1e-9))[:, :, None, None]
        slope = torch.where((h > 0)[:, :, None, None], slope, 0.0).flatten(2)
        weighted = slope * weight.reshape(count, 1, -1)
        here = weighted @ slope.transpose(1, 2), (weighted @ out[:, 0].reshape(count, -1, 1))[..., 0]
        normal = torch.where(better[:, None, None], here[0], normal)
        descent = torch.where(better[:, None], here[1], descent)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        damped = normal + torch.diag_embed(diagonal * damping[:, None] + 1e-6 + (diagonal <= 0).float())
        move = -torch.linalg.solve(damped, descent)
        limit = moves.steps(best, pinhole, view, 3.0 * block)
        trial = moves.apply(best, torch.maximum(torch.minimum(move, limit), -limit))
    return best, best_tint, best_cost


def _where(condition: Tensor, a: Candidates, b: Candidates) -> Candidates:
    return Candidates(
        a.asset,
        torch.where(condition[:, None, None], a.rotation, b.rotation),
        torch.where(condition[:, None], a.translation, b.translation),
        torch.where(condition, a.scale, b.scale),
    )


def window_for(moves: Moves, pinhole: Pinhole, view: View, c: Candidates, block: int = 1) -> int:
    """Side [px] of a square that holds each object with room to move, a multiple of `block`."""
    middle = moves.middles(c.asset, *pinhole.place(c))
    radius = view.focal[1] * moves.radius[c.asset] * c.scale / (-middle[:, 2]).clamp_min(1e-3)
    side = int(min(2.0 * float(radius.max()) + 8 * block, max(view.height, view.width)))
    return max(block, side // block * block)


def _rest_cost(
    rest: Rest, level: Level, rest_index: Tensor, origin: Tensor, window: int
) -> Float[Tensor, "candidate"]:
    """Wrong pixels of the rest alone inside each window."""
    b, target = level.block, level.target
    difference = torch.cat(
        [rest.image - target.image, ((rest.inverse_depth > 0).float() - target.mask)[..., None]], -1
    )
    _, height, width, _ = difference.shape
    pad = torch.nn.functional.pad(difference, (0, 0, 0, -width % b, 0, -height % b))
    blocks = pad.unflatten(1, (-1, b)).unflatten(3, (-1, b)).mean((2, 4))
    cost, _ = weights(blocks, target)
    table = torch.nn.functional.pad(cost.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    size = window // b
    left, top = (origin[:, 0] // b).long(), (origin[:, 1] // b).long()
    right, bottom = (left + size).clamp_max(table.shape[2] - 1), (top + size).clamp_max(table.shape[1] - 1)
    r = rest_index.long()
    total = table[r, bottom, right] - table[r, top, right] - table[r, bottom, left] + table[r, top, left]
    return total.float()
