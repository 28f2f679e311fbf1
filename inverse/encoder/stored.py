"""Encoders in files: the weights that lie beside a world."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inverse.encoder.network import Encoder
from scenes import World
from scenes.weights import WeightsError, load_weights, save_weights, weights_beside


def save_encoder(path: Path, encoder: Encoder, facts: Mapping[str, Any]) -> None:
    """Write an encoder's weights as 16-bit numbers, with its world and facts.

    Raises:
        WeightsError: If the file cannot be written.
    """
    tensors = {n: t.half() if t.ndim else t for n, t in encoder.state_dict().items()}
    save_weights(path, tensors, encoder.layout.world, facts)


def load_encoder(world: World, path: Path | None = None) -> Encoder | None:
    """The encoder in a file, ready to look; without a path the one beside the world, or None.

    Raises:
        WeightsError: If there is no such file, or it was trained for another world.
    """
    if path is None:
        path = weights_beside(world, "encoder")
        if not path.is_file():
            return None
    tensors, _ = load_weights(path, world)
    try:
        encoder = Encoder(world, Encoder.widths_of(tensors))
        encoder.load_state_dict({n: t.float() for n, t in tensors.items()})
    except (KeyError, RuntimeError):
        raise WeightsError(
            f"{path} holds another network than this version's encoder; train it anew"
        ) from None
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    return encoder.eval()
