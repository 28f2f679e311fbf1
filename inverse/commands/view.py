"""unrender view."""

import contextlib
import threading
import webbrowser
from pathlib import Path

from inverse import cli
from inverse.commands.usage import UsageError, checked
from inverse.recoveryfile import intrinsics_of, world_of
from render.engine import check_engine
from scenes import World
from scenes.frommeshes import from_meshes


def view_scene(command: cli.View) -> int:
    """Show a scene in the browser until Ctrl-C."""
    checked(check_engine, command.engine)
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
