"""Ways that need no gradients, as runners of races: each problem by itself, the best so far counts."""

import contextlib
import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.compare.cost import Counted
from inverse.compare.problems import Problems
from inverse.compare.race import Budget, Stop, Way
from inverse.evolution import Generation, evolve
from render.blackbox import asked

_ENDLESS = 10**9  # pictures; the clock ends the race

Progress = Callable[[float], None]
Note = Callable[[float, Float[Tensor, "parameter"]], None]  # pictures drawn so far, and the best theta


class _SpentError(Exception):
    """The budget is gone."""


def evolving(engine: Counted, problems: Problems, budget: Budget, progress: Progress) -> list[Way]:
    """CMA-ES with restarts, on the squared difference of the pictures."""

    def search(b: int, renders: int, note: Note) -> None:
        picture = problems.picture[b]
        theta, box = asked(engine, problems.start[b], (picture.shape[0], picture.shape[1]))

        def loss(value: Tensor) -> Tensor:
            return (value - picture).square().mean((2, 3, 4))

        def watch(generation: Generation, best: Tensor) -> None:
            note(generation.questions, best)

        evolve(box, theta, loss, budget=renders, seed=b, watch=watch)

    return _one_by_one(problems, budget, progress, search)


def playing(engine: Counted, problems: Problems, budget: Budget, progress: Progress) -> list[Way]:
    """PPO that learns to move towards the one picture, and is thrown away."""
    from inverse.environment import Goal
    from inverse.reinforce import Attempt, search_policy

    def search(b: int, renders: int, note: Note) -> None:
        picture = problems.picture[b]

        def watch(best: Attempt) -> None:
            note(best.renders, problems.world.pack(best.scene)[0])

        goal = Goal(picture, problems.start[b])
        # seeds the global generators: what comes after must not depend on it
        with torch.random.fork_rng(devices=[]):
            size = (picture.shape[0], picture.shape[1])
            search_policy(engine, goal, renders=renders, size=size, seed=b, watch=watch)

    return _one_by_one(problems, budget, progress, search)


def _one_by_one(
    problems: Problems, budget: Budget, progress: Progress, search: Callable[[int, int, Note], None]
) -> list[Way]:
    """The ways of searches that tell on the way how they stand."""
    renders = int(budget.amount) if budget.of == "renders" else _ENDLESS
    ways: list[Way] = []
    for b in range(len(problems)):
        way, began = Way(), time.perf_counter()

        def note(drawn: float, theta: Tensor, way: Way = way, began: float = began) -> None:
            seconds = time.perf_counter() - began
            way.append(Stop(drawn, seconds, theta.clone()))
            if budget.of == "seconds" and seconds >= budget.amount:
                raise _SpentError

        with contextlib.suppress(_SpentError):
            search(b, renders, note)
        ways.append(way)
        progress((b + 1) / len(problems))
    return ways
