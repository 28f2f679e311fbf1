"""unrender train."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inverse import cli
from inverse.commands.usage import UsageError, check_device, check_name, checked, picture_size
from render.engine import check_engine
from scenes import World
from scenes.files import output_folder
from scenes.weights import weights_beside

if TYPE_CHECKING:
    from inverse.training.trainer import Training, TrainingSettings


def train_network(command: cli.Train) -> int:
    """Train a network and write its weights."""
    trainers = {"surrogate": _train_surrogate, "encoder": _train_encoder, "closeup": _train_closeup}
    check_name("network", command.network, tuple(trainers))
    checked(check_engine, command.engine)
    check_device(command.device)
    for option in ("pictures", "batch", "workers"):
        value = getattr(command, option)
        if value is not None and value < 1:
            raise UsageError(f"--{option} must be at least 1, got {value}")
    world = World.load(command.world)
    folder = output_folder(command.out or Path("out") / f"{command.network}-{world.name}")
    print(f"Training into {folder}: interrupted, the same command goes on", file=sys.stderr)
    training, files = trainers[command.network](command, world, folder)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in training.figures.items())
    print(f"Held out: {figures}; {training.pictures} pictures seen in {training.seconds:.0f} s")
    print("Written: " + " ".join(map(str, files)))
    print(f"It is found by itself where it lies beside the world: {weights_beside(world, command.network)}")
    return 0


def _train_surrogate(command: cli.Train, world: World, folder: Path) -> tuple["Training", list[Path]]:
    from inverse.training.surrogate import train_surrogate
    from inverse.training.trainer import TrainingSettings

    if command.start is not None or command.by != "labels":
        raise UsageError("--start and --by go with an encoder, not with a surrogate")
    size = picture_size(world.empty(), command.size or 64)
    pictures = command.pictures or 200_000
    settings = TrainingSettings(
        pictures, batch=command.batch or 16, rate=3e-3, **_common(command, size, pictures)
    )
    return train_surrogate(world, folder, settings, command=_typed(), device=command.device, progress=True)


def _train_encoder(command: cli.Train, world: World, folder: Path) -> tuple["Training", list[Path]]:
    from inverse.training.encoder import TEACHERS, train_encoder

    check_name("teacher", command.by, TEACHERS)
    if command.start is not None and command.by != "labels":
        raise UsageError("--start goes with --by labels")
    settings = _looking(command, world, 240_000)
    return train_encoder(
        world,
        folder,
        settings,
        by=command.by,
        start=command.start,
        command=_typed(),
        device=command.device,
        progress=True,
    )


def _train_closeup(command: cli.Train, world: World, folder: Path) -> tuple["Training", list[Path]]:
    from inverse.training.closeup import train_closeup

    if command.by != "labels":
        raise UsageError("--by goes with an encoder: a close-up learns from labels")
    return train_closeup(
        world,
        folder,
        _looking(command, world, 120_000),
        encoder=command.start,
        command=_typed(),
        device=command.device,
        progress=True,
    )


def _looking(command: cli.Train, world: World, pictures: int) -> "TrainingSettings":
    """Settings of a network that looks at pictures of the encoder's size."""
    from inverse.encoder.network import encoder_size
    from inverse.training.trainer import TrainingSettings

    if command.size is not None:
        raise UsageError("--size goes with the surrogate: an encoder's pictures have the size that it needs")
    pictures = command.pictures or pictures
    return TrainingSettings(
        pictures,
        batch=command.batch or (128 if command.device == "cuda" else 32),
        weight_decay=1e-3,
        clip=5.0,
        **_common(command, encoder_size(world), pictures),
    )


def _common(command: cli.Train, size: tuple[int, int], pictures: int) -> dict[str, Any]:
    """Settings that all networks take from the command."""
    from inverse.training.pool import PoolSettings

    pool = PoolSettings(
        size=size,
        first=min(PoolSettings.first, pictures),
        workers=command.workers,
        engine=command.engine,
        seed=command.seed,
    )
    return {"seed": command.seed, "save_seconds": command.save_seconds, "pool": pool}


def _typed() -> str:
    """The command as the user typed it."""
    return shlex.join(["unrender", *sys.argv[1:]])
