"""Encoders and close-ups in files: the weights that lie beside a world."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from inverse.encoder.closeup import CloseUp
from inverse.encoder.network import Encoder
from scenes import World
from scenes.weights import WeightsError, load_weights, save_weights, weights_beside


def save_encoder(path: Path, encoder: Encoder, facts: Mapping[str, Any]) -> None:
    """Write an encoder's weights, without its close-up's, as 16-bit numbers, with its world and facts.

    Raises:
        WeightsError: If the file cannot be written.
    """
    tensors = {n: t for n, t in encoder.state_dict().items() if not n.startswith("closeup.")}
    save_weights(path, _short(tensors), encoder.layout.world, facts)


def save_closeup(path: Path, closeup: CloseUp, facts: Mapping[str, Any]) -> None:
    """Write a close-up's weights as 16-bit numbers, with its world and facts.

    Raises:
        WeightsError: If the file cannot be written.
    """
    save_weights(path, _short(closeup.state_dict()), closeup.layout.world, facts)


def load_encoder(world: World, path: Path | None = None) -> Encoder | None:
    """The encoder in a file, ready to look, with the close-up that lies in the same folder, if one does.

    Args:
        world: That it was trained for.
        path: Of the encoder's file; None: the one beside the world.

    Returns:
        The encoder; None where no path is given and no encoder lies beside the world.

    Raises:
        WeightsError: If there is no such file, or it was trained for another world.
    """
    if path is None:
        path = weights_beside(world, "encoder")
        if not path.is_file():
            return None
    tensors, _ = load_weights(path, world)
    encoder = Encoder(world, _widths(path, tensors))
    _fill(encoder, tensors, path)
    beside = path.with_name("closeup.safetensors")
    if beside.is_file():
        closeup = CloseUp(world)
        _fill(closeup, load_weights(beside, world)[0], beside)
        encoder.attach(closeup)
    return encoder.requires_grad_(False).eval()


def _short(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.half() if t.ndim else t for n, t in tensors.items()}


def _widths(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, int, int, int]:
    try:
        return Encoder.widths_of(tensors)
    except KeyError:
        raise _another(path) from None


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict({n: t.float() for n, t in tensors.items()})
    except RuntimeError:
        raise _another(path) from None


def _another(path: Path) -> WeightsError:
    return WeightsError(f"{path} holds another network than this version's {path.stem}; train it anew")
