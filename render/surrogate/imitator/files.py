"""An imitator's weights in a file: written by training, read where a world's engine is to be imitated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from render.surrogate.imitator.network import Imitator
from scenes.weights import load_weights, save_weights, weights_beside
from scenes.world import World


def save_imitator(path: Path, imitator: Imitator, world: World, facts: Mapping[str, Any]) -> None:
    """Write the network as safetensors, with the world's signature and what is to be told of it.

    Raises:
        WeightsError: If the file cannot be written; nothing half-written stays.
    """
    save_weights(path, imitator.state_dict(), world, {**facts, "size": list(imitator.size)})


def load_imitator(world: World, path: str | Path | None = None) -> Imitator:
    """The network in a file, for use.

    Args:
        world: Whose scenes it is to draw.
        path: As `unrender train surrogate` wrote it; None: the one beside the world's file, which bundled
            worlds have.

    Raises:
        WeightsError: If there is no such file, or it was trained for another world; the message says where
            the worlds differ, and how to train.
    """
    tensors, facts = load_weights(weights_beside(world, "surrogate") if path is None else Path(path), world)
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, to be overwritten
        imitator = Imitator(world, (facts["size"][0], facts["size"][1]))
    imitator.load_state_dict(tensors)
    return imitator.eval()
