"""unrender compare."""

import math
import sys
from pathlib import Path

from torch import Tensor

from inverse import cli
from inverse.commands.usage import UsageError, checked, picture_size
from inverse.picture import fitted, read_picture
from render.engine import check_engine
from scenes import Scene, World
from scenes.files import output_folder


def compare_strategies(command: cli.Compare) -> int:
    """Race the strategies, print the table and write it with its pictures."""
    from inverse.compare import Settings, compare, markdown, methods

    checked(check_engine, command.engine)
    for option in ("scenes", "problems", "renders", "size"):
        if getattr(command, option) < 1:
            raise UsageError(f"--{option} must be at least 1, got {getattr(command, option)}")
    if not 0.0 < command.seconds < math.inf:
        raise UsageError(f"--seconds must be positive and finite, got {command.seconds:g}")
    world = World.load(command.world)
    picture_size(world.empty(), command.size)
    folder = output_folder(command.out)
    recovered = None if command.image is None else _recovered(command.image, world, command)
    settings = Settings(
        scenes=command.scenes,
        problems=command.problems,
        renders=command.renders,
        seconds=command.seconds,
        height=command.size,
        engine=command.engine,
        seed=command.seed,
    )
    try:
        results = compare(world, methods(), folder, settings=settings, recovered=recovered, progress=True)
    except KeyboardInterrupt:
        print(f"unrender: {folder} keeps what is measured: the same command goes on", file=sys.stderr)
        raise
    print(markdown(results, settings.budgets))
    names = ("comparison.md", "comparison.csv", "curves.png", "strategies.png")
    print("Written: " + " ".join(str(folder / name) for name in names))
    return 0


def _recovered(image: Path, world: World, command: cli.Compare) -> tuple[Scene, Tensor]:
    """The scene behind a picture, and the picture as it is compared."""
    from inverse.recover import recover

    picture, mask = fitted(read_picture(image), world.camera.width, world.camera.height)
    recovery = recover(picture.rgb, world, engine=command.engine, mask=mask, seed=command.seed, progress=True)
    if not recovery.recovered:
        raise UsageError(f"{image}: nothing of the world {world.name} was found in it, so there is no start")
    names = ", ".join(found.asset for found in recovery.objects)
    print(f"Found in {image}: {names}; {recovery.psnr:.1f} dB")
    return recovery.scene, picture.rgb
