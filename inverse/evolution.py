"""Evolution: CMA-ES with restarts, the search without gradients that strategies are measured against."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from render.blackbox import BlackBox

_WIDE = 0.25  # of the range: the width of restarts


@dataclass(frozen=True)
class Generation:
    """One population.

    Attributes:
        questions: Asked so far, this population's among them.
        loss: Of the population's best.
        best: Least loss so far.
        restart: 0 in the first run, 1 after the first restart, ...
    """

    questions: int
    loss: float
    best: float
    restart: int


@dataclass(frozen=True, eq=False)
class Evolved:
    """What evolution found.

    Attributes:
        theta: The best that was asked about, [P].
        loss: Its loss; infinite if no answer had a finite one.
        history: Generation by generation.
    """

    theta: Float[Tensor, "parameter"]
    loss: float
    history: list[Generation] = field(default_factory=list)


def evolve(
    box: BlackBox,
    theta: Float[Tensor, "1 parameter"],
    loss: Callable[[Tensor], Tensor],
    *,
    budget: int,
    population: int | None = None,
    seed: int = 0,
    watch: Callable[[Generation, Tensor], None] | None = None,
) -> Evolved:
    """Minimise a loss over the active entries of theta within their ranges.

    The first run begins at `theta` with the widths of `box`. When it has converged, the next begins anywhere
    in the ranges, a quarter of them wide, with twice the population, and so on (IPOP): the early runs refine,
    the later ones search. Angles without ends go round.

    Args:
        box: Of one thing, B = 1; see `render.blackbox.asked`.
        theta: Where to begin, [1, P].
        loss: Answers [1, N, ...] -> losses [1, N], or per pixel [1, N, H, W], of which the sum is the loss.
            One that is not finite counts as worse than all others.
        budget: Most questions to ask; each population is one call of `box.observe`.
        population: Of the first run; None: 4 + 3 log P.
        seed: Of all random numbers; NumPy's global ones stay as they are.
        watch: Told of each generation and of the best theta so far, [P].

    Raises:
        ValueError: If theta is not [1, P], fewer than two entries are active, or the budget is smaller than a
            population.
        ModuleNotFoundError: If `cma` is not installed.

    References:
        Hansen, Ostermeier 2001, Completely Derandomized Self-Adaptation in Evolution Strategies.
        Auger, Hansen 2005, A Restart CMA Evolution Strategy with Increasing Population Size.
    """
    if theta.shape != (1, len(box.low)):
        raise ValueError(f"evolution begins at one theta, [1, {len(box.low)}], got {list(theta.shape)}")
    free = box.active[0].nonzero()[:, 0]
    if len(free) < 2:
        raise ValueError(f"CMA-ES needs two or more active entries of theta, got {len(free)}")
    size = population or 4 + int(3 * math.log(len(free)))
    if budget < size:
        raise ValueError(f"budget must be at least the population, {size}, got {budget}")
    search = _Search(box, theta.detach().clone(), free, loss, budget, np.random.default_rng(seed), watch)
    search.run(search.units(theta[0, free]), box.width[free].double().numpy(), size)
    while budget - search.questions >= (size := 2 * size):
        search.restart += 1
        search.run(search.anywhere(), np.full(len(free), _WIDE), size)
    return Evolved(search.best[0], search.least, search.history)


@dataclass(eq=False)
class _Search:
    """Runs of CMA-ES in units of the ranges: 0 at the lower end, 1 at the upper."""

    box: BlackBox
    best: Float[Tensor, "1 parameter"]
    free: Tensor
    loss: Callable[[Tensor], Tensor]
    budget: int
    rng: np.random.Generator
    watch: Callable[[Generation, Tensor], None] | None
    least: float = math.inf
    questions: int = 0
    restart: int = 0
    history: list[Generation] = field(default_factory=list)

    def units(self, theta: Float[Tensor, "free"]) -> np.ndarray:
        low, high = self.box.low[self.free], self.box.high[self.free]
        unit = ((theta.detach().cpu() - low) / (high - low)).double()
        return torch.where(self.box.ends[self.free], unit.clamp(0.0, 1.0), unit).numpy()

    def anywhere(self) -> np.ndarray:
        return self.rng.random(len(self.free))

    def run(self, start: np.ndarray, widths: np.ndarray, size: int) -> None:
        """One run, until it has converged or there is no budget for another population."""
        strategy = _strategy(start, widths, size, self.box.ends[self.free].numpy(), self.rng)
        while not strategy.stop() and self.questions + size <= self.budget:
            points = strategy.ask()
            losses = self._ask(np.stack(points))
            strategy.tell(points, losses.tolist())

    def _ask(self, points: np.ndarray) -> np.ndarray:
        low, high = self.box.low[self.free], self.box.high[self.free]
        question = self.best.repeat(len(points), 1)
        question[:, self.free] = (low + torch.from_numpy(points).to(low) * (high - low)).to(question)
        losses = self.loss(self.box.observe(question[None]).value).reshape(len(points), -1).sum(1).double()
        losses = torch.where(losses.isfinite(), losses, torch.inf)
        self.questions += len(points)
        first = int(losses.argmin())
        if float(losses[first]) < self.least:
            self.least, self.best = float(losses[first]), question[[first]]
        self._note(float(losses[first]))
        return losses.numpy()

    def _note(self, loss: float) -> None:
        self.history.append(Generation(self.questions, loss, self.least, self.restart))
        if self.watch:
            self.watch(self.history[-1], self.best[0])


def _strategy(
    start: np.ndarray, widths: np.ndarray, size: int, ends: np.ndarray, rng: np.random.Generator
) -> Any:
    try:
        import cma
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('CMA-ES needs the package cma: pip install "unrender[cma]"') from error
    options = {
        "popsize": size,
        "CMA_stds": widths,
        "bounds": [[0.0 if e else None for e in ends], [1.0 if e else None for e in ends]],
        "randn": lambda *shape: rng.standard_normal(shape),
        "seed": math.nan,  # of NumPy's global numbers, which it then leaves alone
        "verbose": -9,
        "verb_log": 0,
        "tolfun": 1e-9,
    }
    return cma.CMAEvolutionStrategy(start, 1.0, options)
