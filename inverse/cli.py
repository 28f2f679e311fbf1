"""The command `unrender`: its arguments, and how it ends.

Nothing heavy is imported here: `unrender --help` has to answer at once.
"""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, UseAppendAction, arg, subcommand

_Name = Annotated[str, arg(metavar="NAME")]


@dataclass(frozen=True)
class Recover:
    """Recover the scene behind a picture."""

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """The picture: PNG, JPEG or any other format that Pillow reads."""
    world: Annotated[str | None, arg(metavar="NAME|FOLDER|FILE")] = None
    """What may be in it: a bundled world, a folder with a world.toml, or a world.toml."""
    asset: Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="MESH")] = ()
    """In place of a world: a mesh that may be in the picture. May be given several times."""
    camera: Annotated[Path | None, arg(metavar="CAMERA.json")] = None
    """With --asset: {"width", "height", "fx", "fy", "cx", "cy"} in pixels."""
    fov_y_degrees: Annotated[float | None, arg(metavar="DEGREES")] = None
    """With --asset, where no camera file is known: the picture's vertical field of view."""
    strategy: _Name = "manual"
    """Where gradients come from: manual, autodiff, surrogate (fitted on the way), score, or your own,
    module:Class."""
    operator: _Name = "edge"
    """Operator of the strategy "manual": edge, soft, or layers, which feels hidden objects too."""
    engine: _Name = "auto"
    """The renderer: opengl, software, mitsuba, auto (OpenGL where there is one),
    "command:PROGRAM {scene} {image}", or module:Class, your own."""
    mask: Annotated[Path | None, arg(metavar="MASK")] = None
    """A picture that is white where the objects are. Else the alpha of IMAGE, where it has one."""
    start: Annotated[Path | None, arg(metavar="SCENE.glb|recovery.json")] = None
    """Start from this scene in place of a search."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out")
    """Folder for scene.glb, recovery.json, report.html (which shows everything), comparison.png,
    refinement.gif and loss.png."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """The same seed gives the same answer."""
    device: _Name = "cpu"
    """cpu or cuda."""
    steps: Annotated[int | None, arg(metavar="N")] = None
    """Steps of refinement; as many as it takes when left out."""


@dataclass(frozen=True)
class Render:
    """Draw the picture of a scene."""

    scene: Annotated[Positional[Path], arg(metavar="SCENE.glb|recovery.json")]
    """What to draw."""
    out: Annotated[Path, arg(metavar="IMAGE")]
    """The picture to write."""
    world: Annotated[str | None, arg(metavar="NAME|FOLDER|FILE")] = None
    """Its world; the one that the scene names when left out."""
    engine: _Name = "auto"
    """The renderer: opengl, software, mitsuba, auto (OpenGL where there is one),
    "command:PROGRAM {scene} {image}", or module:Class, your own."""
    size: Annotated[int | None, arg(metavar="PX")] = None
    """Height of the picture; the camera's own when left out."""


@dataclass(frozen=True)
class Sample:
    """Write random pictures of a world, the truth beside each."""

    world: Annotated[Positional[str], arg(metavar="WORLD")]
    """A bundled world, a folder with a world.toml, or a world.toml."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for 0000.png, 0000.json (in the format of recovery.json), 0001.png, ..."""
    count: Annotated[int, arg(metavar="N")] = 1
    """How many pictures."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """The same seed gives the same pictures."""
    size: Annotated[int | None, arg(metavar="PX")] = None
    """Height of the pictures; the camera's own when left out."""
    engine: _Name = "auto"
    """The renderer: opengl, software, mitsuba, auto (OpenGL where there is one),
    "command:PROGRAM {scene} {image}", or module:Class, your own."""


@dataclass(frozen=True)
class Compare:
    """Compare all ways to differentiate on one engine, and searches that need no gradients."""

    world: Annotated[Positional[str], arg(metavar="WORLD")]
    """A bundled world, a folder with a world.toml, or a world.toml."""
    image: Annotated[Path | None, arg(metavar="IMAGE")] = None
    """Compare on this picture, recovered first, in place of random scenes."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("out/comparison")
    """Folder for comparison.md, comparison.csv, curves.png and strategies.png. Interrupted, the same command
    goes on."""
    scenes: Annotated[int, arg(metavar="N")] = 12
    """Scenes on which gradients are held to differences of the engine's pictures."""
    problems: Annotated[int, arg(metavar="N")] = 8
    """Problems that each way has to solve from a start that is off."""
    renders: Annotated[int, arg(metavar="N")] = 200
    """Pictures that a problem may cost."""
    seconds: Annotated[float, arg(metavar="S")] = 1.5
    """Seconds that a problem may cost, in a second race."""
    size: Annotated[int, arg(metavar="PX")] = 64
    """Height of the pictures."""
    engine: _Name = "auto"
    """The renderer: opengl, software, mitsuba, auto (OpenGL where there is one),
    "command:PROGRAM {scene} {image}", or module:Class, your own."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """Of scenes, starts and all that is random; races on seconds differ from run to run all the same."""


@dataclass(frozen=True)
class Train:
    """Train a world's networks on pictures that the engine draws meanwhile."""

    network: Annotated[Positional[str], arg(metavar="surrogate|encoder|closeup")]
    """surrogate: draws as the engine does, with gradients. encoder: sees which objects are in a picture.
    closeup: looks again at each of them, and tells more exactly where it is and how it is turned."""
    world: Annotated[Positional[str], arg(metavar="WORLD")]
    """A bundled world, a folder with a world.toml, or a world.toml."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder for checkpoint.safetensors, the weights and a picture; out/NETWORK-WORLD when left out.
    Interrupted, the same command goes on."""
    pictures: Annotated[int | None, arg(metavar="N")] = None
    """Pictures to be seen; when left out 200000 (surrogate), 240000 (encoder), 120000 (closeup)."""
    batch: Annotated[int | None, arg(metavar="N")] = None
    """Pictures of a step; when left out 16 (surrogate), 32 (encoder and closeup; on a GPU 128)."""
    by: _Name = "labels"
    """What an encoder learns from: labels, surrogate or manual, which are gradients of pictures alone."""
    start: Annotated[Path | None, arg(metavar="WEIGHTS")] = None
    """Begin from an encoder's weights, of this world or of another; of a close-up: the encoder that it is
    measured with, when left out the one beside the world."""
    size: Annotated[int | None, arg(metavar="PX")] = None
    """Height of a surrogate's pictures; 64 when left out."""
    seed: Annotated[int, arg(metavar="N")] = 0
    """The same seed gives the same weights on the same machine."""
    device: _Name = "cpu"
    """cpu or cuda."""
    workers: Annotated[int, arg(metavar="N")] = 1
    """Processes that draw."""
    save_seconds: Annotated[float, arg(metavar="S")] = 30.0
    """Time between two checkpoints: what is lost, at most, where the command is killed."""
    engine: _Name = "auto"
    """The renderer: opengl, software, mitsuba, auto (OpenGL where there is one),
    "command:PROGRAM {scene} {image}", or module:Class, your own."""


@dataclass(frozen=True)
class View:
    """Open a recovered scene in 3D beside its picture, in the browser."""

    scene: Annotated[Positional[Path], arg(metavar="recovery.json|SCENE.glb")]
    """What to show: of a recovery.json, or the scene.glb beside it, hypotheses and refinement too."""
    image: Annotated[Path | None, arg(metavar="IMAGE")] = None
    """Its picture; the one that the recovery names when left out."""
    world: Annotated[str | None, arg(metavar="NAME|FOLDER|FILE")] = None
    """Its world; the one that the scene names when left out."""
    asset: Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="MESH")] = ()
    """In place of a world: the meshes that a recovery was made with. May be given several times."""
    engine: _Name = "auto"
    """The renderer: opengl, software, mitsuba, auto (OpenGL where there is one),
    "command:PROGRAM {scene} {image}", or module:Class, your own."""
    port: Annotated[int, arg(metavar="N")] = 8080
    """Where to listen on this machine; the next free port where it is taken."""
    open: bool = True
    """Whether to open the browser; otherwise only the address is printed."""


@dataclass(frozen=True)
class Doctor:
    """Say what works on this machine, and what to install."""


Command = (
    Annotated[Recover, subcommand("recover")]
    | Annotated[Render, subcommand("render")]
    | Annotated[Sample, subcommand("sample")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[Train, subcommand("train")]
    | Annotated[View, subcommand("view")]
    | Annotated[Doctor, subcommand("doctor")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done, and for `recover` at least one object was found. 1: nothing was recovered. 2: a mistake of the
    user's, said in one line on stderr. 130: interrupted.
    """
    try:
        command = _parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(command, int):
            return command
        if isinstance(command, Doctor):
            from inverse.doctor import report  # on its own: it has to work where packages are missing

            print(report())
            return 0
        for path in _files(command):
            if not path.exists():
                return _fail(f"{path}: there is no such file")

        from inverse import commands

        with _plain_warnings():
            try:
                return commands.run(command)
            except commands.USER_ERRORS as error:
                return _fail(str(error))
    except KeyboardInterrupt:
        print("unrender: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, `head` for one, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _files(command: Recover | Render | Sample | Compare | Train | View) -> list[Path]:
    """Pictures and scenes to be read: looked for before PyTorch is imported, which takes seconds."""
    match command:
        case Recover():
            return [f for f in (command.image, command.mask, command.start) if f is not None]
        case Render():
            return [command.scene]
        case View():
            return [command.scene, *command.asset] + ([] if command.image is None else [command.image])
        case Compare():
            return [] if command.image is None else [command.image]
        case Sample() | Train():
            return []


def _parse(arguments: Sequence[str]) -> Any:
    """The command, or the exit status where tyro has answered already (help, a mistake)."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                Command,
                prog="unrender",
                description="Recover the 3D scene behind a picture, by a renderer that gives no gradients.",
                args=list(arguments) or ["--help"],
                config=(tyro.conf.DisallowNone,),
            )
    except SystemExit as end:
        return _fail(_one_line(said.getvalue())) if end.code else 0


def _one_line(box: str) -> str:
    """What tyro says in a box of several lines, in one: the complaint, and the nearest names it knows.

    A terminal without UTF-8 gets no box but a title, underlined, and parts between rules of hyphens.
    """
    lines = [line.strip("│ ") for line in box.splitlines() if line[:1] not in "╭╰"]
    rules = re.compile(r"^[─-]{3,}$", re.MULTILINE)
    parts = [part.strip().splitlines() for part in rules.split("\n".join(lines))]
    complaint, hints = [*(parts if "╭" in box else parts[1:]), [], []][:2]
    said = " ".join(complaint)
    if hints[:1] == ["Perhaps you meant:"]:
        names = [name for line in hints for name in re.findall(r"^--[\w-]+", line)]
        return f"{said}; did you mean {' or '.join(dict.fromkeys(names))}?"
    if hints and hints[0].startswith("Available subcommands"):
        return f"{said}; {' '.join(hints).lower()}"
    return said


def _fail(message: str) -> int:
    print(f"unrender: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def _plain_warnings() -> Any:
    """Warnings as one line each, without the place in the source."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"unrender: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
