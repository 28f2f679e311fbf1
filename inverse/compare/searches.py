"""Ways that need no gradients, as runners of races: each problem by itself."""

import time
from collections.abc import Callable

from torch import Tensor

from inverse.compare.cost import Counted
from inverse.compare.problems import Problems
from inverse.compare.race import Budget, Stop, Way
from inverse.evolution import Generation, evolve
from render.blackbox import asked

_ENDLESS = 10**9  # questions; the clock ends the race


class _Spent(Exception):
    """The budget is gone."""


def evolving(
    engine: Counted, problems: Problems, budget: Budget, progress: Callable[[float], None]
) -> list[Way]:
    """CMA-ES with restarts on the squared difference of the pictures; the best so far counts."""
    ways: list[Way] = []
    size = (problems.picture.shape[1], problems.picture.shape[2])
    for b in range(len(problems)):
        theta, box = asked(engine, problems.start[b], size)
        way, picture, began = Way(), problems.picture[b], time.perf_counter()

        def watch(generation: Generation, best: Tensor, way: Way = way, began: float = began) -> None:
            seconds = time.perf_counter() - began
            way.append(Stop(generation.questions, seconds, best.clone()))
            if budget.of == "seconds" and seconds >= budget.amount:
                raise _Spent

        def loss(value: Tensor, picture: Tensor = picture) -> Tensor:
            return (value - picture).square().mean((2, 3, 4))

        questions = int(budget.amount) if budget.of == "renders" else _ENDLESS
        try:
            evolve(box, theta, loss, budget=questions, seed=b, watch=watch)
        except _Spent:
            pass
        ways.append(way)
        progress((b + 1) / len(problems))
    return ways
