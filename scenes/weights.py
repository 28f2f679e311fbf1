"""Weights: what was trained on a world's pictures, in a safetensors file that names the world.

The file holds tensors and words only; reading it runs no code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scenes.files import OutputError, atomic
from scenes.signature import Signature, differences, signature
from scenes.world import World

FORMAT = "unrender-weights/1"


class WeightsError(ValueError):
    """A file of weights cannot be used; the message says why and what to do."""


def weights_beside(world: World, kind: str) -> Path:
    """Where weights of a kind, "encoder" or "surrogate", lie for a world: beside its file."""
    return Path(world.source).parent / f"{kind}.safetensors"


def save_weights(path: Path, tensors: Mapping[str, Tensor], world: World, facts: Mapping[str, Any]) -> None:
    """Write tensors with the world's signature and facts such as the command, seed, time and figures.

    Raises:
        WeightsError: If the file cannot be written; nothing half-written stays.
    """
    from safetensors.torch import save

    whole = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    told = {"format": FORMAT, "world": json.dumps(signature(world)), "facts": json.dumps(dict(facts))}
    try:
        with atomic(path) as temporary:
            # not by `save_file`, whose errors are no OSErrors
            temporary.write_bytes(save(whole, told))
    except OutputError as error:
        raise WeightsError(str(error)) from error


def load_weights(path: Path, world: World) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file and its facts.

    Raises:
        WeightsError: If the file is missing or no file of weights, or was made for another world; the message
            says where the worlds differ.
    """
    tensors, facts, trained = read_weights(path)
    other = differences(world, trained)
    if other:
        more = f", and {len(other) - 3} more" if len(other) > 3 else ""
        raise WeightsError(
            f"{path} was trained for another world than {world.name}: {'; '.join(other[:3])}{more}; "
            f"train anew with: unrender train {path.stem} {world.source}"
        )
    return tensors, facts


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], Signature]:
    """The tensors of a file, its facts and its world's signature, whatever world that was.

    Raises:
        WeightsError: If the file is missing or no file of weights.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"{path}: there are no such weights")
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            if told.get("format") != FORMAT:
                raise WeightsError(f"{path} is no file of weights of Unrender's ({FORMAT})")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is no file of weights: {error}") from None
    return tensors, json.loads(told["facts"]), json.loads(told["world"])
