"""What every command checks of its arguments, and how it says that they do not fit."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from render.checks import check_name as check_known
from scenes import Interval, Scene, World

DEVICES = ("cpu", "cuda")
LARGEST_SIDE = 4096  # [px] of a picture to draw; OpenGL's own limit lies at 8192 or above


class UsageError(ValueError):
    """The arguments of a command do not fit together; the message says what would be right."""


def picture_size(scene: Scene, height: int | None) -> tuple[int, int]:
    """(H, W) of a picture `height` pixels high, in the proportions of the scene's camera."""
    camera = scene.camera
    height = camera.height if height is None else height
    width = round(height * camera.width / camera.height)
    if not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise UsageError(
            f"--size must give a picture of 1 to {LARGEST_SIDE} pixels a side, got {width}x{height}"
        )
    return height, width


def seen_in(world: World, width: int, height: int) -> World:
    """The world with its camera scaled to a picture of width x height pixels."""
    camera = world.camera
    across, down = width / camera.width, height / camera.height
    scaled = replace(
        camera,
        width=width,
        height=height,
        focal=Interval(camera.focal.low * down, camera.focal.high * down),
        aspect=camera.aspect * across / down,
        centre=(camera.centre[0] * across, camera.centre[1] * down),
    )
    return replace(world, camera=scaled)


def check_name(what: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that is not known, with the nearest that is."""
    checked(lambda given: check_known(what, given, known), name)


def checked(check: Callable[[str], None], name: str) -> None:
    """What `check` says of a name, as a user's mistake."""
    try:
        check(name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def check_device(device: str) -> None:
    """Refuse a device that is not known, or is not there."""
    check_name("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "no CUDA device can be used here: torch.cuda.is_available() is False; use --device cpu"
        )
