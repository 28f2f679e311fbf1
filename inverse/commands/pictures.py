"""unrender render and unrender sample."""

import torch
from tqdm.auto import tqdm

from inverse import cli
from inverse.commands.usage import UsageError, checked, picture_size, seen_in
from inverse.picture import writable_suffix, write_picture
from inverse.recoveryfile import load_scene, world_of, write_truth
from render.engine import check_engine, open_engine
from scenes import Scene, World
from scenes.files import output_folder


def render_scene(command: cli.Render) -> int:
    """Draw a scene from a file."""
    checked(check_engine, command.engine)
    writable_suffix(command.out)
    source = command.world or world_of(command.scene)
    if not source:
        raise UsageError(f"{command.scene} names no world file: say with --world which world it belongs to")
    world = World.load(source)
    scene = load_scene(command.scene, world)
    size = picture_size(scene, command.size)
    output_folder(command.out.parent)
    with open_engine(command.engine, world, size=size) as engine:
        write_picture(command.out, engine.render(scene).rgb[0])
    print(f"Written: {command.out}")
    return 0


def sample_pictures(command: cli.Sample) -> int:
    """Draw random pictures of a world, with the truth beside each."""
    from inverse.visibility import visible_fractions

    checked(check_engine, command.engine)
    if command.count < 1:
        raise UsageError(f"--count must be at least 1, got {command.count}")
    world = World.load(command.world)
    height, width = size = picture_size(world.empty(), command.size)
    world = seen_in(world, width, height)
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


def _drawn(world: World, seed: int, number: int) -> Scene:
    """Random scene `number` of a seed: the same however many are drawn."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    try:
        return world.sample(1, generator=generator)
    except ValueError as error:
        raise UsageError(str(error)) from None
