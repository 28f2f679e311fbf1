"""Read a world.toml. The grammar is small: a known number is a number, an unknown one a pair [low, high].

Angles are degrees, in keys that end in `_degrees`; lengths are metres; colours are three linear numbers in [0, 1].
`scenes/tabletop/world.toml` shows every table.
"""

import difflib
import inspect
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from scenes import shapes, textures
from scenes.asset import Asset, Symmetry
from scenes.world import CameraPrior, Interval, LightPrior, World

_FOLDER = Path(__file__).parent
_RIGHT_ANGLE = 90.0
_OWN_KEYS = (
    "name", "shape", "mesh", "texture", "colour", "specular", "shininess", "symmetry", "scale", "position",
)  # fmt: skip


class WorldError(ValueError):
    """A world cannot be read; the message is one line naming file, key, what was found and what is allowed."""


def bundled_worlds() -> list[str]:
    """Names of the worlds that come with the program."""
    return sorted(p.parent.name for p in _FOLDER.glob("*/world.toml"))


def load_world(source: str) -> World:
    """The world called `source`: a bundled name, a folder with a world.toml, or a world.toml.

    Raises:
        WorldError: If there is none, or it does not say what a world must.
    """
    path = _find(str(source))
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WorldError(f"{path} is not a TOML file: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise WorldError(f"{path} cannot be read: {error.strerror or error}") from None
    return _world(_Table(content, path, ""), path)


def _find(source: str) -> Path:
    path = Path(source)
    if source in bundled_worlds() and not path.exists():
        return _FOLDER / source / "world.toml"
    if path.is_dir():
        if (path / "world.toml").is_file():
            return path / "world.toml"
        if source in bundled_worlds():
            return _FOLDER / source / "world.toml"
        raise WorldError(f"the folder {source} holds no world.toml")
    if path.is_file():
        return path
    raise WorldError(
        f"no world called {source!r}{_nearest(source, bundled_worlds())}: give a bundled name "
        f"({', '.join(bundled_worlds())}), a folder with a world.toml, or a world.toml"
    )


def _world(top: "_Table", path: Path) -> World:
    """The world of a whole file."""
    objects, camera = top.table("objects"), top.table("camera")
    light, background = top.table("light"), top.table("background")
    assets = tuple(_asset(t, path) for t in top.tables("assets"))
    scenery = tuple(_scenery(t, path) for t in top.tables("scenery"))
    if not assets:
        raise top.error("assets", "none", "at least one [[assets]] table")
    names = [a.name for a in assets + scenery]
    for name in names:
        if names.count(name) > 1:
            raise top.error("assets.name", f"{name!r} twice", "a name of its own for each asset")
    placement = objects.choice("placement", ("upright", "free"))
    if placement == "free" and "yaw_degrees" in objects.values:
        raise objects.error(
            "yaw_degrees", 'a yaw with placement = "free"', 'a yaw only with placement = "upright"'
        )
    world = World(
        name=top.text("name", path.parent.name),
        description=top.text("description", ""),
        assets=assets,
        scenery=scenery,
        count=objects.count("count"),
        placement=placement,  # type: ignore[arg-type]
        position=(objects.interval("x", 0.0), objects.interval("y", 0.0), objects.interval("z", 0.0)),
        yaw=objects.degrees("yaw_degrees", [-180.0, 180.0], -360.0, 360.0),
        scale=objects.interval("scale", 1.0, above=0.0),
        colour=objects.colour("colour", [[0.0, 1.0]] * 3),
        separate=objects.flag("separate", True),
        camera=_camera(camera),
        light=LightPrior(
            azimuth=light.degrees("azimuth_degrees", None, -360.0, 360.0),
            elevation=light.degrees("elevation_degrees", None, -_RIGHT_ANGLE, _RIGHT_ANGLE),
            intensity=light.interval("intensity", least=0.0),
            ambient=light.interval("ambient", least=0.0),
        ),
        background=background.colour("colour"),
        source=str(path),
    )
    for table in (objects, camera, light, background, top):
        table.finish()
    return world


def _camera(table: "_Table") -> CameraPrior:
    width, height = table.whole("width", least=2), table.whole("height", least=2)
    if ("fov_y_degrees" in table.values) == ("focal" in table.values):
        raise table.error("fov_y_degrees", "both or neither of fov_y_degrees and focal", "one of the two")
    if "focal" in table.values:
        focal = table.interval("focal", above=0.0)
    else:
        angle = table.interval("fov_y_degrees", above=0.0, below=180.0)
        low, high = (height / 2 / math.tan(math.radians(a) / 2) for a in (angle.high, angle.low))
        focal = Interval(low, high)
    return CameraPrior(
        width=width,
        height=height,
        focal=focal,
        aspect=table.number("aspect", 1.0, above=0.0),
        centre=table.numbers("centre", 2, [width / 2, height / 2]),  # type: ignore[arg-type]
        target=table.numbers("target", 3, [0.0, 0.0, 0.0]),  # type: ignore[arg-type]
        azimuth=table.degrees("azimuth_degrees", 0.0, -360.0, 360.0),
        elevation=table.degrees("elevation_degrees", 0.0, -_RIGHT_ANGLE, _RIGHT_ANGLE),
        distance=table.interval("distance", least=0.0),
    )


def _asset(table: "_Table", path: Path) -> Asset:
    """One [[assets]] table: a shape made by code, or a mesh in a file beside the world file."""
    name = table.text("name")
    if ("shape" in table.values) == ("mesh" in table.values):
        raise table.error("shape", "both or neither of shape and mesh", "one of the two")
    free = table.values.get("colour") == "free"
    tint = None if free or "colour" not in table.values else table.fixed_colour("colour")
    table.used.add("colour")
    made = _shaped(table, name) if "shape" in table.values else _read(table, name, path)
    colours = made.colours if tint is None else made.colours * np.float32(tint)
    size = np.float32(table.number("scale", 1.0, above=0.0))
    asset = Asset(
        name=name,
        vertices=made.vertices * size,
        faces=made.faces,
        normals=made.normals,
        colours=colours,
        uv=made.uv if made.texture is not None else None,
        texture=made.texture,
        specular=table.number("specular", made.specular, least=0.0),
        shininess=table.number("shininess", made.shininess, least=1.0),
        closed=made.closed,
        colour_free=free,
        symmetry=_symmetry(table, made.symmetry),
    )
    table.finish()
    return asset


def _scenery(table: "_Table", path: Path) -> Asset:
    """One [[scenery]] table: an asset moved to its place."""
    place = np.float32(table.numbers("position", 3, [0.0, 0.0, 0.0]))
    if table.values.get("colour") == "free":
        raise table.error("colour", '"free"', "a known colour [r, g, b]: scenery has no tint")
    asset = _asset(table, path)
    return Asset(**{**asset.__dict__, "vertices": asset.vertices + place})


def _shaped(table: "_Table", name: str) -> Asset:
    shape = table.choice("shape", tuple(shapes.SHAPES))
    build = shapes.SHAPES[shape]
    mesh = table.call(build, {k: v for k, v in table.values.items() if k not in _OWN_KEYS}, f"shape {shape}")
    return Asset(
        name=name,
        vertices=mesh.vertices,
        faces=mesh.faces,
        normals=mesh.normals,
        colours=mesh.colours,
        uv=mesh.uv,
        texture=_texture(table),
        closed=mesh.closed,
    )


def _texture(table: "_Table") -> textures.Texture | None:
    """The texture a table asks for: a name of `textures`, or a table with that name and its arguments."""
    if "texture" not in table.values:
        return None
    wanted = table.take("texture")
    settings = {"name": wanted} if isinstance(wanted, str) else wanted
    if not isinstance(settings, dict) or not isinstance(settings.get("name"), str):
        raise table.error("texture", wanted, 'a name, or a table such as {name = "rings", colours = [...]}')
    if settings["name"] not in textures.TEXTURES:
        known = tuple(textures.TEXTURES)
        raise table.error("texture", settings["name"], f"{_one_of(known)}{_nearest(settings['name'], known)}")
    arguments = {k: v for k, v in settings.items() if k != "name"}
    texture: textures.Texture = table.call(
        textures.TEXTURES[settings["name"]], arguments, f"texture {settings['name']}"
    )
    return texture


def _read(table: "_Table", name: str, path: Path) -> Asset:
    from scenes.meshfile import MeshError, read_asset

    try:
        return read_asset(path.parent / table.text("mesh"), name)
    except MeshError as error:
        raise table.error("mesh", error, "a mesh that can be read") from None


def _symmetry(table: "_Table", found: Symmetry) -> Symmetry:
    """What `symmetry` says: "none", "axis" (about y), "sphere", or a number of equal turns about y."""
    wanted = table.take("symmetry") if "symmetry" in table.values else None
    if wanted is None:
        return found
    if wanted == "none":
        return Symmetry()
    if wanted == "axis":
        return Symmetry(axis=np.array([0.0, 1.0, 0.0], np.float32))
    if wanted == "sphere":
        return Symmetry(sphere=True)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 1 <= wanted <= 360:
        return Symmetry(rotations=turns_about_y(wanted))
    raise table.error("symmetry", wanted, '"none", "axis", "sphere" or a number of equal turns about y')


def turns_about_y(count: int) -> np.ndarray:
    """Rotation matrices of `count` equal turns about +y, identity first, float32 [count, 3, 3]."""
    angle = 2 * np.pi * np.arange(count) / count
    turns = np.zeros((count, 3, 3))
    turns[:, 0, 0] = turns[:, 2, 2] = np.cos(angle)
    turns[:, 0, 2], turns[:, 2, 0], turns[:, 1, 1] = np.sin(angle), -np.sin(angle), 1.0
    return turns.round(12).astype(np.float32)


class _Table:
    """One table of the file: hands out checked values and knows which keys nobody asked for."""

    def __init__(self, values: dict[str, Any], path: Path, name: str) -> None:
        self.values, self.path, self.name = values, path, name
        self.used: set[str] = set()

    def error(self, key: str, found: object, allowed: str) -> WorldError:
        """The error for `key`: what was found and what is allowed, in one line."""
        where = f"[{self.name}] {key}" if self.name else key
        return WorldError(f"{self.path}: {where} is {_short(found)}, must be {allowed}")

    def take(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or the default; an error where there is neither."""
        self.used.add(key)
        if key in self.values:
            return self.values[key]
        if default is None:
            where = f"[{self.name}] {key}" if self.name else key
            close = [k for k in difflib.get_close_matches(key, self.values, 1) if k not in self.used]
            hint = f"; there is {close[0]!r}: is it misspelt?" if close else ""
            raise WorldError(f"{self.path}: {where} is missing{hint}")
        return default

    def finish(self) -> None:
        """Complain about the first key that nobody asked for."""
        for key in self.values:
            if key not in self.used:
                where = f"[{self.name}]" if self.name else "the file"
                raise WorldError(
                    f"{self.path}: {where} has an unknown key {key!r}{_nearest(key, sorted(self.used))}; "
                    f"it may have {', '.join(sorted(self.used))}"
                )

    def table(self, key: str) -> "_Table":
        """The table [key]."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise self.error(key, value, f"a table [{key}]")
        return _Table(value, self.path, key)

    def tables(self, key: str) -> list["_Table"]:
        """The tables [[key]]; none where there are none."""
        value = self.take(key, [])
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            raise self.error(key, value, f"written as [[{key}]] tables")
        return [_Table(v, self.path, f"{key} {v.get('name', i + 1)}") for i, v in enumerate(value)]

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self.take(key, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.error(key, value, "a string in quotes")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def choice(self, key: str, options: tuple[str, ...]) -> str:
        """One of some words."""
        value = self.take(key)
        if value not in options:
            raise self.error(key, value, f"{_one_of(options)}{_nearest(value, options)}")
        return str(value)

    def whole(self, key: str, *, least: int) -> int:
        """A whole number."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(key, value, f"a whole number, at least {least}")
        return value

    def count(self, key: str) -> tuple[int, int]:
        """A whole number from 1 up, or a pair of them; its least may be 0."""
        value = self.take(key)
        pair = value if isinstance(value, list) and len(value) == 2 else [value, value]
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in pair)
        if not whole or not 0 <= pair[0] <= pair[1] or pair[1] < 1:
            raise self.error(key, value, "a whole number of objects from 1 up, or a pair [least, most]")
        return pair[0], pair[1]

    def number(
        self, key: str, default: float | None = None, *, least: float = -math.inf, above: float = -math.inf
    ) -> float:
        """A known number."""
        value = self.take(key, default)
        if not _is_number(value) or value < least or value <= above:
            raise self.error(key, value, f"a number{_limits(least, above, math.inf)}")
        return float(value)

    def numbers(self, key: str, count: int, default: list[float] | None = None) -> tuple[float, ...]:
        """Some known numbers."""
        value = self.take(key, default)
        if not isinstance(value, list) or len(value) != count or not all(_is_number(v) for v in value):
            raise self.error(key, value, f"a list of {count} numbers")
        return tuple(float(v) for v in value)

    def interval(
        self,
        key: str,
        default: Any = None,
        *,
        least: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
    ) -> Interval:
        """A number or a pair [low, high]."""
        value = self.take(key, default)
        return self._interval(key, value, least, above, below)

    def _interval(self, key: str, value: Any, least: float, above: float, below: float) -> Interval:
        pair = value if isinstance(value, list) else [value, value]
        if len(pair) != 2 or not all(_is_number(v) for v in pair):
            raise self.error(key, value, "a number, or a pair [low, high] where it is unknown")
        low, high = float(pair[0]), float(pair[1])
        if low > high:
            raise self.error(key, value, "a pair [low, high] with low <= high: this range is empty")
        if low < least or low <= above or high >= below:
            raise self.error(key, value, f"within its limits:{_limits(least, above, below)}")
        return Interval(low, high)

    def degrees(self, key: str, default: Any, least: float, most: float) -> Interval:
        """An angle or a pair of angles in degrees, as radians."""
        found = self._interval(key, self.take(key, default), -math.inf, -math.inf, math.inf)
        if (
            found.low < least
            or found.high > most
            or most == _RIGHT_ANGLE
            and max(-found.low, found.high) == most
        ):
            inside = " (the ends themselves left out)" if most == _RIGHT_ANGLE else ""
            raise self.error(key, self.values.get(key), f"degrees from {least:g} to {most:g}{inside}")
        return Interval(math.radians(found.low), math.radians(found.high))

    def colour(self, key: str, default: Any = None) -> tuple[Interval, Interval, Interval]:
        """Three numbers or pairs in [0, 1]."""
        value = self.take(key, default)
        if not isinstance(value, list) or len(value) != 3:
            raise self.error(key, value, "three linear numbers [r, g, b], or three pairs [low, high]")
        r, g, b = (self._interval(key, v, -math.inf, -math.inf, math.inf) for v in value)
        if min(r.low, g.low, b.low) < 0 or max(r.high, g.high, b.high) > 1:
            raise self.error(key, value, "three linear numbers, or pairs of them, from 0 to 1")
        return r, g, b

    def fixed_colour(self, key: str) -> list[float]:
        """Three known numbers in [0, 1]."""
        value = self.take(key)
        if (
            not isinstance(value, list)
            or len(value) != 3
            or not all(_is_number(v) and 0 <= v <= 1 for v in value)
        ):
            raise self.error(key, value, '"free", or three linear numbers [r, g, b] from 0 to 1')
        return [float(v) for v in value]

    def call(self, function: Any, arguments: dict[str, Any], what: str) -> Any:
        """The function's result for a table's own keys; its complaints become this file's."""
        known = tuple(inspect.signature(function).parameters)
        for key in arguments:
            if key not in known:
                allowed = f"; {what} takes {', '.join(known)}; assets also have {', '.join(_OWN_KEYS)}"
                hint = _nearest(key, known + _OWN_KEYS)
                raise WorldError(f"{self.path}: [{self.name}] has an unknown key {key!r}{hint}{allowed}")
        self.used |= set(arguments)
        try:
            return function(**arguments)
        except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            reason = " ".join(str(error).split())
            raise WorldError(f"{self.path}: [{self.name}] {what} cannot be made: {reason}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _limits(least: float, above: float, below: float) -> str:
    parts = []
    if least > -math.inf:
        parts.append(f" at least {least:g}")
    if above > -math.inf:
        parts.append(f" above {above:g}")
    if below < math.inf:
        parts.append(f" below {below:g}")
    return " and".join(parts)


def _short(found: object) -> str:
    text = found if isinstance(found, str) else str(found).lower() if isinstance(found, bool) else str(found)
    return text if len(text) < 200 else text[:197] + "..."


def _one_of(options: Iterable[str]) -> str:
    return "one of " + ", ".join(f'"{o}"' for o in options)


def _nearest(word: object, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(options), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
