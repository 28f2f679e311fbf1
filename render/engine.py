"""Engine: a black box that turns scenes into pictures, and `open_engine`, which finds one by name."""

import warnings
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from render.checks import check_name, imported
from scenes.scene import Scene
from scenes.world import World

ENGINES = ("opengl", "software", "mitsuba", "command")


class EngineError(RuntimeError):
    """An engine cannot be had or was misused; the message says what is wrong and what to install or do."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What an engine returns for a batch of B scenes; row 0 is on top.

    Attributes:
        rgb: sRGB-encoded colours in [0, 1], not rounded to 8 bits, float32 [B, H, W, 3].
        instance_id: What the pixel's centre sees: -1 nothing, 0..S-1 the scene's slot, S + i the
            world's scenery i. int32 [B, H, W], or None where the engine has none.
        depth: Distance along the camera's viewing axis [m] at the pixel's centre, inf where nothing is.
            float32 [B, H, W], or None where the engine has none.
    """

    rgb: Float[Tensor, "batch row column 3"]
    instance_id: Int[Tensor, "batch row column"] | None = None
    depth: Float[Tensor, "batch row column"] | None = None


@runtime_checkable
class Engine(Protocol):
    """A renderer that gives pictures and no gradients. Also a context manager that closes itself.

    Attributes:
        name: The name it is opened by.
        world: Whose assets the scenes index.
        size: (H, W) of its pictures [px] unless a call says otherwise.
    """

    name: str
    world: World
    size: tuple[int, int]

    def render(self, scene: Scene, *, size: tuple[int, int] | None = None) -> Frame:
        """Pictures of a batch of scenes.

        Args:
            scene: Any number of scenes; no gradient flows.
            size: (H, W) [px] for this call only; the camera's intrinsics are scaled to it.

        Raises:
            ValueError: If the scene is not drawable (not finite, an asset out of range, a size below 1).
            EngineError: If the engine is closed or used where it must not be.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds; a second call does nothing."""
        ...

    def __enter__(self) -> "Engine": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_engine(name: str, world: World, *, size: tuple[int, int] = (128, 128), **options: Any) -> Engine:
    """The engine called `name`, ready to draw scenes of `world`.

    Args:
        name: "opengl" and "software", the bundled ones; "auto": OpenGL where it can be opened, else software
            with a warning; "mitsuba", a path tracer; "command", any program that turns a .glb into a
            picture. "command:f3d {scene} ..." says in one which program. "module:Class": an engine of your
            own, called as the bundled ones are, with the world, `size` and the options.
        world: Whose assets the scenes index.
        size: (H, W) of the pictures [px].
        options: Passed to the engine, for example `samples=2`; see `SoftwareEngine`, `OpenGLEngine`,
            `MitsubaEngine`, `CommandEngine`.

    Raises:
        ValueError: If there is no such engine (the message suggests the nearest name), or an option is out of
            range.
        EngineError: If the engine cannot run here; the message says what to install.
    """
    check_engine(name)
    if name == "auto":
        try:
            return _open_opengl(world, size, options)
        except EngineError as error:
            warnings.warn(f"no OpenGL, drawing with the software engine: {error}", stacklevel=2)
            return _open_software(world, size, options)
    kind, _, command = name.partition(":")
    if command and kind != "command":
        own: Engine = imported("engine", name)(world, size=size, **options)
        return own
    if command:
        options = {**options, "command": command}
    openers = {
        "opengl": _open_opengl,
        "software": _open_software,
        "mitsuba": _open_mitsuba,
        "command": _open_command,
    }
    return openers[kind](world, size, options)


def check_engine(name: str) -> None:
    """Raise ValueError, which says what would be right, for a name that `open_engine` does not take."""
    kind, colon, command = name.partition(":")
    if colon and kind == "command":
        from render.command import template

        template(command)
    elif colon and kind not in ENGINES:
        imported("engine", name)
    else:
        check_name("engine", name, (*ENGINES, "auto"))


def check_size(size: tuple[int, int]) -> None:
    """Raise ValueError for a size (H, W) that no engine draws."""
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be (H, W), at least 1 px each, got {size}")


def _open_opengl(world: World, size: tuple[int, int], options: dict[str, Any]) -> Engine:
    from render.opengl import OpenGLEngine

    return OpenGLEngine(world, size=size, **options)


def _open_software(world: World, size: tuple[int, int], options: dict[str, Any]) -> Engine:
    from render.software import SoftwareEngine

    return SoftwareEngine(world, size=size, **options)


def _open_mitsuba(world: World, size: tuple[int, int], options: dict[str, Any]) -> Engine:
    from render.mitsuba import MitsubaEngine

    return MitsubaEngine(world, size=size, **options)


def _open_command(world: World, size: tuple[int, int], options: dict[str, Any]) -> Engine:
    from render.command import EXAMPLE, CommandEngine

    if "command" not in options:
        raise ValueError(f'the engine "command" must be told which, for example "command:{EXAMPLE}"')
    return CommandEngine(world, size=size, **options)
