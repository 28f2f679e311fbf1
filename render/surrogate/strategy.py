"""The strategy "surrogate" by its options: a trained network, or one that is fitted around each point."""

from pathlib import Path

import torch

from render.blackbox import Simulator
from render.checks import check_name
from render.engine import Engine
from render.manual import PICTURES
from render.surrogate.gradients import SurrogateGradients
from render.surrogate.imitator import load_imitator
from render.surrogate.local import LocalSurrogate
from scenes.weights import weights_beside
from scenes.world import World

KINDS = ("trained", "local")


def surrogate(
    source: Engine | Simulator,
    *,
    kind: str = "trained",
    surrogate: torch.nn.Module | None = None,
    weights: str | Path | None = None,
    picture: str = "engine",
    samples: int = 64,
    width: float = 0.03,
    narrow: float = 0.1,
    seed: int = 0,
) -> torch.nn.Module:
    """An engine's or a simulator's answers with a network's gradients; see `render.differentiable`.

    Args:
        source: What the network imitates.
        kind: "trained": a network that was trained before, frozen, `SurrogateGradients`. "local": a small
            one, fitted around each point when its gradient is asked for, `LocalSurrogate`; nothing is
            trained before.
        surrogate: Of "trained": the network. An engine may do without: its world's imitator is read.
        weights: Of "trained", without `surrogate`: file of an imitator that `unrender train surrogate` wrote;
            None: the one beside the world's file, which bundled worlds have.
        picture: Of "trained". "engine": the source's own answer; "operator": the network's, and the source is
            not asked.
        samples: Of "local": questions for each gradient.
        width: Of "local": how far around, share of each entry's range.
        narrow: Of "local": factor on the width at progress 1.
        seed: Of "local".

    Raises:
        ValueError: If there is no such kind or picture, or the arguments of its kind do not fit; if there is
            no network.
        WeightsError: If the weights were trained for another world. It is a ValueError too.
    """
    check_name("kind", kind, KINDS)
    check_name("picture", picture, PICTURES)
    if kind == "local":
        return LocalSurrogate(source, samples=samples, width=width, narrow=narrow, seed=seed)
    if surrogate is None and not isinstance(source, Simulator):
        surrogate = _imitator(source.world, weights)
    return SurrogateGradients(source, surrogate, picture=picture)


def _imitator(world: World, weights: str | Path | None) -> torch.nn.Module | None:
    """The network in a file; None where none is named and the world has none beside it."""
    bundled = bool(world.source) and weights_beside(world, "surrogate").exists()
    return load_imitator(world, weights) if bundled or weights is not None else None
