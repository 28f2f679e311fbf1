"""The strategy "surrogate" by its options: a trained network, or one that is fitted around each point."""

import torch

from render.blackbox import Simulator
from render.checks import check_name
from render.engine import Engine
from render.manual import PICTURES
from render.surrogate.gradients import SurrogateGradients
from render.surrogate.local import LocalSurrogate

KINDS = ("trained", "local")


def surrogate(
    source: Engine | Simulator,
    *,
    kind: str = "trained",
    surrogate: torch.nn.Module | None = None,
    picture: str = "engine",
    samples: int = 64,
    width: float = 0.03,
    narrow: float = 0.1,
    seed: int = 0,
) -> torch.nn.Module:
    """An engine's or a simulator's answers with a network's gradients; see `render.differentiable`.

    Args:
        source: What the network imitates.
        kind: "trained": the network `surrogate`, frozen, `SurrogateGradients`. "local": a small one, fitted
            around each point when its gradient is asked for, `LocalSurrogate`; nothing is trained before.
        surrogate: Of "trained": the network.
        picture: Of "trained". "engine": the source's own answer; "operator": the network's, and the source is
            not asked.
        samples: Of "local": questions for each gradient.
        width: Of "local": how far around, share of each entry's range.
        narrow: Of "local": factor on the width at progress 1.
        seed: Of "local".

    Raises:
        ValueError: If there is no such kind or picture, or the arguments of its kind do not fit.
    """
    check_name("kind", kind, KINDS)
    check_name("picture", picture, PICTURES)
    if kind == "local":
        return LocalSurrogate(source, samples=samples, width=width, narrow=narrow, seed=seed)
    return SurrogateGradients(source, surrogate, picture=picture)
