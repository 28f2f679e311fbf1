"""The work behind each command of the command line."""

import contextlib
import math
import shlex
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from inverse import cli
from inverse.files import OutputError, output_folder
from inverse.picture import PictureError, fitted, read_mask, read_picture, writable_suffix, write_picture
from inverse.recoveryfile import (
    RecoveryFileError,
    intrinsics_of,
    load_scene,
    load_start,
    world_of,
    write_truth,
)
from inverse.training.checkpoint import CheckpointError
from render.checks import check_name
from render.compilation import KernelError
from render.differentiable import check_strategy
from render.engine import EngineError, check_engine, open_engine
from render.manual import OPERATORS
from scenes import WorldError, bundled_worlds
from scenes.frommeshes import from_meshes
from scenes.gltf import SceneFileError
from scenes.intrinsics import EXAMPLE, Intrinsics, IntrinsicsError, read_intrinsics
from scenes.meshfile import MeshError
from scenes.scene import Scene
from scenes.weights import WeightsError, weights_beside
from scenes.world import Interval, World

if TYPE_CHECKING:
    from inverse.training.trainer import Training, TrainingSettings

DEVICES = ("cpu", "cuda")
LARGEST_SIDE = 4096  # [px] of a picture to draw; OpenGL's own limit lies at 8192 or above


class UsageError(ValueError):
    """The arguments of a command do not fit together; the message says what would be right."""


USER_ERRORS = (
    CheckpointError,
    EngineError,
    IntrinsicsError,
    KernelError,
    MeshError,
    OutputError,
    PictureError,
    RecoveryFileError,
    SceneFileError,
    UsageError,
    WeightsError,
    WorldError,
)


@singledispatch
def run(command: object) -> int:
    """Do what the command says and return the exit status.

    Raises:
        One of `USER_ERRORS`: If the user can put it right; the message says how.
    """
    raise TypeError(f"no such command: {command!r}")


@run.register
def _recover(command: cli.Recover) -> int:
    _checked(check_strategy, command.strategy)
    _check_name("operator", command.operator, OPERATORS)
    _checked(check_engine, command.engine)
    _check_device(command.device)
    if command.steps is not None and command.steps < 0:
        raise UsageError(f"--steps must be at least 0, got {command.steps}")
    picture = read_picture(command.image)
    mask = None if picture.alpha is None else picture.alpha > 0.5
    if command.mask is not None:
        mask = read_mask(command.mask, (picture.rgb.shape[0], picture.rgb.shape[1]))
    world = _world_of_recovery(command, (picture.rgb.shape[0], picture.rgb.shape[1]))
    picture, mask = fitted(picture, world.camera.width, world.camera.height, mask=mask)
    world = _seen_in(world, picture.rgb.shape[1], picture.rgb.shape[0])
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
    recovery = replace(recovery, source=str(command.image), command=_command_line(command))
    files = recovery.save(folder)
    print(table(recovery) if recovery.objects else "Nothing was found.")
    for message in recovery.messages:
        print(message)
    how = f"{recovery.renders} pictures drawn by {recovery.engine} in {recovery.seconds:.1f} s"
    print(f"{recovery.psnr:.1f} dB; {how}")
    print("Written: " + " ".join(str(f) for f in files))
    return 0 if recovery.recovered else 1


def _command_line(command: cli.Recover) -> str:
    """What to type to get the same again: the picture, and every option that is not at its default."""
    words = ["unrender", "recover", str(command.image)]
    for option in fields(command):
        value = getattr(command, option.name)
        if option.name != "image" and value != option.default:
            for one in value if isinstance(value, tuple) else (value,):
                words += [f"--{option.name.replace('_', '-')}", str(one)]
    return shlex.join(words)


@run.register
def _render(command: cli.Render) -> int:
    _checked(check_engine, command.engine)
    writable_suffix(command.out)
    source = command.world or world_of(command.scene)
    if not source:
        raise UsageError(f"{command.scene} names no world file: say with --world which world it belongs to")
    world = World.load(source)
    scene = load_scene(command.scene, world)
    size = _size(scene, command.size)
    output_folder(command.out.parent)
    with open_engine(command.engine, world, size=size) as engine:
        write_picture(command.out, engine.render(scene).rgb[0])
    print(f"Written: {command.out}")
    return 0


@run.register
def _sample(command: cli.Sample) -> int:
    from inverse.visibility import visible_fractions

    _checked(check_engine, command.engine)
    if command.count < 1:
        raise UsageError(f"--count must be at least 1, got {command.count}")
    world = World.load(command.world)
    height, width = size = _size(world.empty(), command.size)
    world = _seen_in(world, width, height)
    folder = output_folder(command.out)
    with open_engine(command.engine, world, size=size) as engine:
        for number in tqdm(range(command.count), unit="picture"):
            scene = _drawn(world, command.seed, number)
            visible = visible_fractions(engine, scene, size=size)
            write_picture(folder / f"{number:04d}.png", engine.render(scene).rgb[0])
            write_truth(
                scene,
                world,
                folder / f"{number:04d}.json",
                image=f"{number:04d}.png",
                engine=engine.name,
                seed=command.seed,
                visible_fraction=[None] * scene.slots if visible is None else visible[0].tolist(),
            )
    print(f"Written: {command.count} picture{'s' * (command.count > 1)}, the truth beside each, in {folder}")
    return 0


@run.register
def _compare(command: cli.Compare) -> int:
    from inverse.compare import Settings, compare, markdown, methods

    _checked(check_engine, command.engine)
    for option in ("scenes", "problems", "renders", "size"):
        if getattr(command, option) < 1:
            raise UsageError(f"--{option} must be at least 1, got {getattr(command, option)}")
    if not 0.0 < command.seconds < math.inf:
        raise UsageError(f"--seconds must be positive and finite, got {command.seconds:g}")
    world = World.load(command.world)
    _size(world.empty(), command.size)
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


@run.register
def _train(command: cli.Train) -> int:
    trainers = {"surrogate": _train_surrogate, "encoder": _train_encoder, "closeup": _train_closeup}
    _check_name("network", command.network, tuple(trainers))
    _checked(check_engine, command.engine)
    _check_device(command.device)
    for option in ("pictures", "workers"):
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
    size = _size(world.empty(), command.size or 64)
    pictures = command.pictures or 200_000
    settings = TrainingSettings(pictures, batch=16, rate=3e-3, **_common(command, size, pictures))
    return train_surrogate(world, folder, settings, command=_typed(), device=command.device, progress=True)


def _train_encoder(command: cli.Train, world: World, folder: Path) -> tuple["Training", list[Path]]:
    from inverse.training.encoder import TEACHERS, train_encoder

    _check_name("teacher", command.by, TEACHERS)
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
        batch=128 if command.device == "cuda" else 32,
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


@run.register
def _view(command: cli.View) -> int:
    _checked(check_engine, command.engine)
    if not 1 <= command.port <= 65535:
        raise UsageError(f"--port must lie between 1 and 65535, got {command.port}")
    try:
        from inverse.view import Viewer, read_exhibit, recovery_beside
    except ImportError as error:
        raise UsageError(str(error)) from None
    path = recovery_beside(command.scene)
    exhibit = read_exhibit(path, _world_of_view(command, path), image=command.image)
    with Viewer(exhibit, port=command.port, engine=command.engine) as viewer:
        print(f"{path} is shown at {viewer.url}; Ctrl-C ends it", flush=True)
        if command.open:
            webbrowser.open(viewer.url)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


def _world_of_view(command: cli.View, path: Path) -> World:
    """The world that --world names or the file, or one made of the meshes of --asset."""
    if command.asset and command.world is None and path.suffix.lower() != ".glb":
        return from_meshes(command.asset, intrinsics_of(path))
    source = command.world or world_of(path)
    if not source:
        raise UsageError(
            f"{path} names no world file: say with --world which world it belongs to, or with --asset which "
            "meshes its recovery.json was made with"
        )
    return World.load(source)


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


def _seen_in(world: World, width: int, height: int) -> World:
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


def _drawn(world: World, seed: int, number: int) -> Scene:
    """Random scene `number` of a seed: the same however many are drawn."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    try:
        return world.sample(1, generator=generator)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _size(scene: Scene, height: int | None) -> tuple[int, int]:
    """(H, W) of a picture `height` pixels high, in the proportions of the scene's camera."""
    camera = scene.camera
    height = camera.height if height is None else height
    width = round(height * camera.width / camera.height)
    if not 1 <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise UsageError(
            f"--size must give a picture of 1 to {LARGEST_SIDE} pixels a side, got {width}x{height}"
        )
    return height, width


def _check_name(what: str, name: str, known: Sequence[str]) -> None:
    _checked(lambda given: check_name(what, given, known), name)


def _checked(check: Callable[[str], None], name: str) -> None:
    """What `check` says of a name, as a user's mistake."""
    try:
        check(name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_device(device: str) -> None:
    _check_name("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "no CUDA device can be used here: torch.cuda.is_available() is False; use --device cpu"
        )
