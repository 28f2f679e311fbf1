"""unrender recover."""

import shlex
from dataclasses import fields, replace

from inverse import cli
from inverse.commands.usage import UsageError, check_device, check_name, checked, seen_in
from inverse.picture import fitted, read_mask, read_picture
from inverse.recoveryfile import load_start
from render.differentiable import check_strategy
from render.engine import check_engine
from render.manual import OPERATORS
from scenes import World, bundled_worlds
from scenes.files import output_folder
from scenes.frommeshes import from_meshes
from scenes.intrinsics import EXAMPLE, Intrinsics, read_intrinsics


def recover_picture(command: cli.Recover) -> int:
    """Recover the scene behind a picture, print what was found and write it."""
    checked(check_strategy, command.strategy)
    check_name("operator", command.operator, OPERATORS)
    checked(check_engine, command.engine)
    check_device(command.device)
    if command.steps is not None and command.steps < 0:
        raise UsageError(f"--steps must be at least 0, got {command.steps}")
    picture = read_picture(command.image)
    mask = None if picture.alpha is None else picture.alpha > 0.5
    if command.mask is not None:
        mask = read_mask(command.mask, (picture.rgb.shape[0], picture.rgb.shape[1]))
    world = _world_of_recovery(command, (picture.rgb.shape[0], picture.rgb.shape[1]))
    picture, mask = fitted(picture, world.camera.width, world.camera.height, mask=mask)
    world = seen_in(world, picture.rgb.shape[1], picture.rgb.shape[0])
    start = None if command.start is None else load_start(command.start, world)
    folder = output_folder(command.out)

    from inverse.recover import recover
    from inverse.table import table

    recovery = recover(
        picture.rgb,
        world,
        strategy=command.strategy,
        operator=command.operator,
        engine=command.engine,
        mask=mask,
        start=start,
        seed=command.seed,
        device=command.device,
        steps=command.steps,
        progress=True,
    )
    recovery = replace(recovery, source=str(command.image), command=command_line(command))
    files = recovery.save(folder)
    print(table(recovery) if recovery.objects else "Nothing was found.")
    for message in recovery.messages:
        print(message)
    how = f"{recovery.renders} pictures drawn by {recovery.engine} in {recovery.seconds:.1f} s"
    print(f"{recovery.psnr:.1f} dB; {how}")
    print("Written: " + " ".join(str(f) for f in files))
    return 0 if recovery.recovered else 1


def command_line(command: cli.Recover) -> str:
    """What to type to get the same again: the picture, and every option that is not at its default."""
    words = ["unrender", "recover", str(command.image)]
    for option in fields(command):
        value = getattr(command, option.name)
        if option.name != "image" and value != option.default:
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{option.name.replace('_', '-')}", str(one)]
    return shlex.join(words)


def _world_of_recovery(command: cli.Recover, size: tuple[int, int]) -> World:
    """The world that --world names, or one made of the meshes of --asset."""
    if (command.world is None) == (not command.asset):
        raise UsageError(
            f"say what may be in the picture: either --world ({', '.join(bundled_worlds())}, or a world file "
            "of your own), or --asset MESH with --camera CAMERA.json"
        )
    if command.world is not None:
        if command.camera is not None or command.fov_y_degrees is not None:
            raise UsageError(
                "--camera and --fov-y-degrees go with --asset; a world file has a camera of its own"
            )
        return World.load(command.world)
    height, width = size
    if command.camera is not None and command.fov_y_degrees is not None:
        raise UsageError("give --camera or --fov-y-degrees, not both")
    if command.camera is not None:
        return from_meshes(command.asset, read_intrinsics(command.camera))
    if command.fov_y_degrees is not None:
        return from_meshes(command.asset, Intrinsics.from_fov(width, height, command.fov_y_degrees))
    raise UsageError(
        f"--asset needs the picture's camera: --camera CAMERA.json with {EXAMPLE} in pixels, or, as a guess "
        "for a photo, --fov-y-degrees 50"
    )
