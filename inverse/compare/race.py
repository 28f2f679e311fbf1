"""Races: how many problems a strategy brings home on a budget of pictures, or of seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.compare.agreement import pixel_steps
from inverse.compare.cost import Counted
from inverse.compare.problems import Problems
from inverse.compare.truth import Truth
from inverse.losses import psnr
from inverse.refine import Descent, RefineSettings

PATIENCE = 15.0  # [s] per problem after which a race on pictures ends in any case
LAPS = 50  # times at which a race is looked at
SETTINGS = RefineSettings(coarse=0.04, fine=0.004, stride=0.015)


@dataclass(frozen=True)
class Budget:
    """What each problem may cost."""

    of: Literal["renders", "seconds"]
    amount: float


@dataclass(frozen=True, eq=False)
class Stop:
    """Where a problem's way had got to: pictures drawn and seconds spent on it by then, and theta [P]."""

    renders: float
    seconds: float
    theta: Float[Tensor, "parameter"]


Way = list[Stop]  # of one problem; the cost grows from stop to stop
Runner = Callable[[Counted, Problems, Budget, Callable[[float], None]], list[Way]]


@dataclass
class Race:
    """What became of B problems.

    Attributes:
        laps: (what was spent, share of the problems that were right then), as the race went.
        degrees, share: Errors at the end, per problem; see `Truth.errors`.
        psnr: Of the engine's picture at the end [dB], per problem.
        theta: Where each problem ended, [B][P].
    """

    laps: list[tuple[float, float]] = field(default_factory=list)
    degrees: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    theta: list[list[float]] = field(default_factory=list)


class Stopwatch:
    """What has been spent on each of B problems that are worked on together.

    Args:
        engine: Its pictures are counted.
        problems: B; what they cost together is shared out.
        budget: When it is spent.
    """

    def __init__(self, engine: Counted, problems: int, budget: Budget) -> None:
        self.engine, self.problems, self.budget = engine, problems, budget
        self.total, self.seconds = 0, 0.0

    @contextmanager
    def running(self, *, own: int = 0) -> Iterator[None]:
        """Count what happens inside, and `own` pictures that no engine draws."""
        renders, began = self.engine.renders, time.perf_counter()
        yield
        self.seconds += (time.perf_counter() - began) / self.problems
        self.total += self.engine.renders - renders + own

    @property
    def renders(self) -> float:
        """Pictures per problem."""
        return self.total / self.problems

    @property
    def spent(self) -> float:
        """Share of the budget that is gone; may pass 1 by what the last step cost."""
        return (self.renders if self.budget.of == "renders" else self.seconds) / self.budget.amount


def race(
    engine: Counted, problems: Problems, budget: Budget, runner: Runner, progress: Callable[[float], None]
) -> Race:
    """Let a method run, and judge where each problem was at each time.

    Args:
        engine: Draws and judges.
        problems: B problems.
        budget: For each of them.
        runner: The method.
        progress: Told of the share of the race that is run, in [0, 1].
    """
    size = (problems.picture.shape[1], problems.picture.shape[2])
    world, start = problems.world, problems.start
    truth = Truth(engine, world, problems.truth, size)
    base = world.pack(start)
    ways = runner(engine, problems, budget, progress)
    ways = [[Stop(0.0, 0.0, theta), *way] for theta, way in zip(base, ways, strict=True)]
    found = Race()
    for lap in range(LAPS + 1):
        spent = budget.amount * lap / LAPS
        theta = torch.stack([_last(way, spent, budget).theta for way in ways])
        scenes = world.unpack(theta, like=start)
        found.laps.append((spent, float(truth.right(scenes).float().mean())))
    degrees, share = truth.errors(scenes)
    found.degrees, found.share, found.theta = degrees.tolist(), share.tolist(), theta.tolist()
    images = engine.render(scenes, size=size).rgb
    found.psnr = [psnr(i, p) for i, p in zip(images, problems.picture, strict=True)]
    return found


def descending(make: Callable[[Counted], torch.nn.Module], *, own_pictures: bool = False) -> Runner:
    """The way of a strategy that gives gradients: all problems at once, down the gradient.

    Args:
        make: `render.differentiable(engine, strategy)`.
        own_pictures: True where the module draws its picture itself: it counts as one.
    """

    def run(
        engine: Counted, problems: Problems, budget: Budget, progress: Callable[[float], None]
    ) -> list[Way]:
        unit = pixel_steps(engine, problems) * max(problems.picture.shape[1:3])
        descent = Descent(make(engine), problems.world, problems.start, unit, SETTINGS)
        watch, ways = Stopwatch(engine, len(problems), budget), [Way() for _ in range(len(problems))]
        while watch.spent < 1.0 and watch.seconds < PATIENCE:
            with watch.running(own=len(problems) * own_pictures):
                descent.step(problems.picture, watch.spent)
            for way, theta in zip(ways, descent.theta, strict=True):
                way.append(Stop(watch.renders, watch.seconds, theta))
            progress(min(1.0, watch.spent))
        return ways

    return run


def _last(way: Way, spent: float, budget: Budget) -> Stop:
    return [s for s in way if (s.renders if budget.of == "renders" else s.seconds) <= spent + 1e-9][-1]
