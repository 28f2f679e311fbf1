"""Checkpoints: a network and its optimiser's state in one safetensors file, whole at every moment."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from scenes.files import atomic

CHECKPOINT = "checkpoint.safetensors"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


def save_checkpoint(
    path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Write the state of training; killed at any moment, the file holds either this state or the last.

    Raises:
        OutputError: If the file cannot be written.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
    whole = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    with atomic(path, alone=True) as temporary:
        # not by `save_file`: it has temporary names of its own, which would stay
        temporary.write_bytes(save(whole, {"facts": json.dumps(facts)}))


def read_facts(path: Path) -> dict[str, Any]:
    """What was noted beside a checkpoint.

    Raises:
        CheckpointError: If it is no checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})["facts"])
            return facts
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of a training ({error}); delete it to begin anew"
        ) from None


def load_checkpoint(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Set network and optimiser to a checkpoint's state.

    Raises:
        CheckpointError: If it belongs to another network.
    """
    states: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # the file is no mapping
            kind, rest = name.split(".", 1)
            if kind == "network":
                weights[rest] = file.get_tensor(name)
            else:
                number, entry = rest.split(".", 1)
                states.setdefault(int(number), {})[entry] = file.get_tensor(name)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} belongs to another network; delete it to begin anew ({error})"
        ) from None
    state = optimiser.state_dict()
    optimiser.load_state_dict({**state, "state": states})
