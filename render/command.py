"""CommandEngine: any program that turns a .glb into a picture is an engine."""

import shlex
import shutil
import string
import tempfile
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import Float
from torch import Tensor

from render.engine import EngineError, Frame, check_size
from render.layout import Arranger
from render.picture import Picture, PictureError, load_picture
from render.pinhole import skewed_pixels, zoomed
from render.program import Program
from scenes.gltf import save_scene
from scenes.scene import Camera, Scene
from scenes.world import World

PLACEHOLDERS = ("scene", "image", "width", "height")
EXAMPLE = (
    "f3d {scene} --output={image} --resolution={width},{height} --camera-index=0 --no-background --dry-run"
)


class CommandEngine:
    """Draws with somebody else's program, which is given a .glb and writes a picture.

    The file tells all that glTF can say: meshes, materials, textures, poses, a camera, a directional light.
    What the program makes of that is its own: materials and tone differ, many draw no shadows, and glTF has
    no ambient light. The exact numbers of everything are in the file's extras, which `scenes.gltf.load_scene`
    reads. Many viewers look from where they like unless they are told to use the file's camera, f3d by
    `--camera-index=0`. Where a picture has alpha the scene's background shows through.

    glTF's cameras look through the middle of the picture. Where the scene's does not, the program is asked
    for a larger picture with the principal point in its middle, and the part that was wanted is cut out:
    right to a quarter of a pixel. Pixels that are not square (fx is not fy in the picture's size) are in the
    file as its aspect ratio; many programs, f3d among them, take that of the picture instead, so that a
    warning is given.

    Frames have neither ids nor depth.
    """

    name = "command"

    def __init__(
        self,
        world: World,
        *,
        command: str | Sequence[str],
        size: tuple[int, int] = (128, 128),
        timeout: float = 60.0,
        workers: int = 2,
    ) -> None:
        """Open the engine.

        Args:
            world: Whose assets the scenes index.
            command: The program and its arguments: one line, which is split as a shell does (but no shell
                runs it), or a sequence. {scene} stands for the path of the .glb, {image} for that where a
                picture is expected (a .png), {width} and {height} for its size [px]. Other braces are
                doubled.
            size: (H, W) of the pictures [px].
            timeout: Longest that one picture may take [s].
            workers: Most programs that run side by side, each with one scene.

        Raises:
            ValueError: If an argument is out of range, or the command has an unknown placeholder or lacks
                {scene} or {image}.
            EngineError: If there is no such program here.
        """
        if not timeout > 0.0:
            raise ValueError(f"timeout must be above 0 s, got {timeout}")
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        check_size(size)
        self._template = template(command)
        if shutil.which(self._template[0]) is None:
            raise EngineError(
                f"there is no program {self._template[0]!r} here: install it, or give its whole path"
            )
        self.world, self.size = world, size
        self._timeout, self._workers = timeout, workers
        self._arranger = Arranger(world, shadow_size=16)
        self._open, self._warned = True, False

    def render(self, scene: Scene, *, size: tuple[int, int] | None = None) -> Frame:
        """Pictures of a batch of scenes, one run of the program each; see `render.engine.Engine.render`.

        Raises:
            ValueError: If a scene is not drawable.
            EngineError: If the engine is closed, or the program fails, takes too long, or leaves no picture
                of the size that it was asked for; the message shows the last lines that it wrote.
        """
        if not self._open:
            raise EngineError("the engine is closed; open another one")
        size = self.size if size is None else size
        check_size(size)
        scene = scene.detach().to("cpu")
        self._arranger.arrange(scene)  # refuses what cannot be drawn
        scene = replace(scene, camera=zoomed(scene.camera, size))
        self._warn_of_pixels(scene.camera)
        pictures = [torch.empty(0, *size, 3)]
        running: deque[_Run] = deque()
        with tempfile.TemporaryDirectory(prefix="unrender-", ignore_cleanup_errors=True) as folder:
            try:
                for number in range(len(scene)):
                    if len(running) == self._workers:
                        pictures.append(running[0].picture())
                        running.popleft()
                    running.append(self._start(scene[number], Path(folder) / f"{number:04d}"))
                pictures += [run.picture() for run in running]
            finally:
                for run in running:
                    run.program.end()
        return Frame(torch.cat(pictures))

    def close(self) -> None:
        """Draw nothing more; a second call does nothing."""
        self._open = False

    def __enter__(self) -> "CommandEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, scene: Scene, stem: Path) -> "_Run":
        """The program at work on one scene; its files are `stem` with the suffixes .glb, .png and .log."""
        view = _centred(scene.camera)
        model, image = stem.with_suffix(".glb"), stem.with_suffix(".png")
        save_scene(replace(scene, camera=view.camera), self.world, model)
        values = {
            "scene": model,
            "image": image,
            "width": view.camera.width,
            "height": view.camera.height,
        }
        arguments = [part.format(**values) for part in self._template]
        program = Program(arguments, log=stem.with_suffix(".log"), timeout=self._timeout)
        return _Run(program, image, view, scene.background)

    def _warn_of_pixels(self, camera: Camera) -> None:
        """Warn, once, where pixels are not square."""
        problem = skewed_pixels(camera)
        if problem and not self._warned:
            self._warned = True
            warnings.warn(f"many programs draw square pixels only: {problem}", stacklevel=3)


@dataclass(frozen=True)
class _View:
    """What a program is asked to draw, and which part of that is wanted.

    Attributes:
        camera: With the drawn picture's width and height.
        rows, columns: Where in it the wanted picture is.
    """

    camera: Camera
    rows: slice
    columns: slice


def _centred(camera: Camera) -> _View:
    """The smallest picture around the camera's own whose middle is the principal point, to 1/4 px."""
    width, height = camera.width, camera.height
    # Pixels to add: to the right (below) where positive, to the left (above) where negative.
    across, down = (
        round(2.0 * c - n) for c, n in zip(camera.centre[0].tolist(), (width, height), strict=True)
    )
    column, row = max(-across, 0), max(-down, 0)
    drawn = replace(
        camera,
        centre=camera.centre + camera.centre.new_tensor([column, row]),
        width=width + abs(across),
        height=height + abs(down),
    )
    return _View(drawn, slice(row, row + height), slice(column, column + width))


@dataclass(frozen=True)
class _Run:
    """A program at work on one scene."""

    program: Program
    image: Path
    view: _View
    background: Float[Tensor, "1 3"]

    def picture(self) -> Float[Tensor, "1 row column 3"]:
        """Wait for the program, and read its picture."""
        self.program.wait()
        if not self.image.exists():
            raise self.program.error("ended well but wrote no picture to {image}")
        try:
            picture = load_picture(self.image)
        except PictureError as error:
            raise self.program.error(f"wrote no readable picture: {error}") from None
        height, width = picture.rgb.shape[:2]
        camera = self.view.camera
        if (width, height) != (camera.width, camera.height):
            raise self.program.error(
                f"wrote a picture of {width}x{height} pixels, not of {camera.width}x{camera.height}: "
                "it is told the size by {width} and {height}"
            )
        return _opaque(picture, self.background)[None, self.view.rows, self.view.columns]


def template(command: str | Sequence[str]) -> list[str]:
    """The program and its arguments, each a format string in `PLACEHOLDERS`.

    Raises:
        ValueError: If the command has other placeholders, or lacks the scene or the image.
    """
    try:
        parts = shlex.split(command) if isinstance(command, str) else list(command)
        fields = [field for part in parts for field in string.Formatter().parse(part)]
    except ValueError as error:
        raise ValueError(
            f"the command {command!r} cannot be read: {error}; braces that hold no placeholder are doubled"
        ) from None
    names = [
        name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        for _, name, form, conversion in fields
        if name is not None
    ]
    for name in names:
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{p}}}" for p in PLACEHOLDERS)
            raise ValueError(
                f"the command has an unknown placeholder {{{name}}}; there are {known}, "
                "and braces that hold no placeholder are doubled"
            )
    for name in ("scene", "image"):
        if name not in names:
            raise ValueError(f"the command must say {{{name}}} where it belongs, for example: {EXAMPLE}")
    return parts


def _opaque(picture: Picture, background: Float[Tensor, "1 3"]) -> Float[Tensor, "row column 3"]:
    """The picture before a linear background colour, mixed in linear light."""
    if picture.alpha is None:
        return picture.rgb
    from render.shading import decode_srgb, encode_srgb

    alpha = picture.alpha[..., None]
    return encode_srgb(decode_srgb(picture.rgb) * alpha + background.clamp(0.0, 1.0) * (1.0 - alpha))
