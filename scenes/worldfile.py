"""Read a world.toml. The grammar is small: a known number is a number, an unknown one a pair [low, high].

Angles are degrees, in keys that end in `_degrees`; lengths are metres; colours are three linear numbers.
`scenes/tabletop/world.toml` shows every table.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from scenes import shapes, textures, traffic
from scenes.asset import Asset, Symmetry
from scenes.symmetry import find_symmetry
from scenes.tomltable import RIGHT_ANGLE, Table, WorldError, nearest, one_of
from scenes.world import CameraPrior, Interval, LightPrior, World

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FULL_TURN = 360.0
LARGEST_PICTURE = 16384  # [px]
SHAPES = {**shapes.SHAPES, **traffic.SHAPES}
_FOLDER = Path(__file__).parent
_OWN_KEYS = (
    "name", "shape", "mesh", "texture", "colour", "specular", "shininess", "symmetry", "scale", "position",
)  # fmt: skip


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
    return _world(Table(content, path, ""), path)


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
        f"no world called {source!r}{nearest(source, bundled_worlds())}: give a bundled name "
        f"({', '.join(bundled_worlds())}), a folder with a world.toml, or a world.toml"
    )


def _world(top: Table, path: Path) -> World:
    """The world of a whole file."""
    objects, camera = top.table("objects"), top.table("camera")
    light, background = top.table("light"), top.table("background")
    assets = tuple(_asset(t, path) for t in top.tables("assets"))
    scenery = tuple(_scenery(t, path) for t in top.tables("scenery"))
    if not assets:
        raise top.error("assets", "is empty: at least one [[assets]] table is needed")
    names = [a.name for a in assets + scenery]
    for name in names:
        if names.count(name) > 1:
            raise top.error("assets", f"has two called {name!r}: each needs a name of its own")
    placement = objects.choice("placement", ("upright", "free"))
    if placement == "free" and "yaw_degrees" in objects.values:
        raise objects.error("yaw_degrees", 'goes with placement = "upright" only: "free" means any rotation')
    if placement == "upright":
        assets = tuple(replace(a, symmetry=_about_y(a)) for a in assets)
    world = World(
        name=top.text("name", path.resolve().parent.name),
        description=top.text("description", ""),
        assets=assets,
        scenery=scenery,
        count=objects.count("count"),
        placement=placement,  # type: ignore[arg-type]  # choice() checked it
        position=(objects.interval("x", 0.0), objects.interval("y", 0.0), objects.interval("z", 0.0)),
        yaw=objects.degrees("yaw_degrees", [-180.0, 180.0], FULL_TURN),
        scale=objects.interval("scale", 1.0, above=0.0),
        colour=objects.colour("colour", [[0.0, 1.0]] * 3),
        separate=objects.flag("separate", True),
        camera=_camera(camera),
        light=LightPrior(
            azimuth=light.degrees("azimuth_degrees", None, FULL_TURN),
            elevation=light.degrees("elevation_degrees", None, RIGHT_ANGLE),
            intensity=light.interval("intensity", least=0.0),
            ambient=light.interval("ambient", least=0.0),
        ),
        background=background.colour("colour"),
        source=str(path),
    )
    for table in (objects, camera, light, background, top):
        table.finish()
    return world


def _camera(table: Table) -> CameraPrior:
    width, height = (table.whole(k, least=2, most=LARGEST_PICTURE) for k in ("width", "height"))
    if ("fov_y_degrees" in table.values) == ("focal" in table.values):
        raise table.error("fov_y_degrees", "or focal: exactly one of the two is needed")
    if "focal" in table.values:
        focal = table.interval("focal", above=0.0)
    else:
        angle = table.interval("fov_y_degrees", above=0.0, below=180.0)
        low, high = (height / 2 / math.tan(math.radians(a) / 2) for a in (angle.high, angle.low))
        focal = Interval(low, high)
    table.used |= {"fov_y_degrees", "focal"}
    return CameraPrior(
        width=width,
        height=height,
        focal=focal,
        aspect=table.number("aspect", 1.0, above=0.0),
        centre=table.numbers("centre", 2, [width / 2, height / 2]),  # type: ignore[arg-type]  # two of them
        target=table.numbers("target", 3, [0.0, 0.0, 0.0]),  # type: ignore[arg-type]  # three of them
        azimuth=table.degrees("azimuth_degrees", 0.0, FULL_TURN),
        elevation=table.degrees("elevation_degrees", 0.0, RIGHT_ANGLE),
        distance=table.interval("distance", least=0.0),
    )


def _asset(table: Table, path: Path) -> Asset:
    """One [[assets]] table: a shape made by code, or a mesh in a file beside the world file."""
    name = table.text("name")
    if ("shape" in table.values) == ("mesh" in table.values):
        raise table.error("shape", "or mesh: exactly one of the two is needed")
    free = table.values.get("colour") == "free"
    tint = [1.0] * 3 if free or "colour" not in table.values else table.known_colour("colour")
    table.used.add("colour")
    made = _shaped(table, name) if "shape" in table.values else _read(table, name, path)
    size = table.number("scale", 1.0, above=0.0)
    asset = replace(
        made,
        vertices=made.vertices * np.float32(size),
        colours=made.colours * np.array(tint, np.float32),
        specular=table.number("specular", 0.0, least=0.0),
        shininess=table.number("shininess", 32.0, least=1.0),
        colour_free=free,
        symmetry=_symmetry(table, made, size),
    )
    table.finish()
    return asset


def _scenery(table: Table, path: Path) -> Asset:
    """One [[scenery]] table: an asset moved to its place."""
    place = table.numbers("position", 3, [0.0, 0.0, 0.0])
    if table.values.get("colour") == "free":
        raise table.wrong("colour", "free", "a known colour [r, g, b]: scenery has no tint")
    asset = _asset(table, path)
    return replace(asset, vertices=asset.vertices + np.array(place, np.float32), symmetry=Symmetry())


def _shaped(table: Table, name: str) -> Asset:
    """The shape that a table names, made with the table's other keys, and its texture."""
    shape = table.choice("shape", tuple(SHAPES))
    arguments = {k: v for k, v in table.values.items() if k not in _OWN_KEYS}
    table.used |= set(_OWN_KEYS) - {"position", "mesh"}
    mesh = table.call(SHAPES[shape], arguments, f"shape {shape}")
    texture = _texture(table)
    return Asset(
        name=name,
        vertices=mesh.vertices,
        faces=mesh.faces,
        normals=mesh.normals,
        colours=mesh.colours,
        uv=None if texture is None else mesh.uv,
        texture=texture,
        closed=mesh.closed,
    )


def _texture(table: Table) -> textures.Texture | None:
    """The texture a table asks for: a name of `textures`, or a table with that name and its arguments."""
    if "texture" not in table.values:
        return None
    wanted = table.take("texture")
    settings = {"name": wanted} if isinstance(wanted, str) else wanted
    name = settings.get("name") if isinstance(settings, dict) else None
    known = tuple(textures.TEXTURES)
    if name not in known:
        raise table.wrong(
            "texture", wanted if name is None else name, f"{one_of(known)}{nearest(name, known)}"
        )
    inner = Table({k: v for k, v in settings.items() if k != "name"}, table.path, f"{table.name}.texture")
    texture: textures.Texture = inner.call(textures.TEXTURES[name], inner.values, f"texture {name}")
    return texture


def _read(table: Table, name: str, path: Path) -> Asset:
    from scenes.meshfile import MeshError, read_asset

    try:
        return read_asset(path.parent / table.text("mesh"), name, colour_free=False)
    except MeshError as error:
        raise table.error("mesh", f"cannot be used: {error}") from None


def _symmetry(table: Table, made: Asset, size: float) -> Symmetry:
    """What `symmetry` says: "none", "axis" (about y), "sphere", or a number of equal turns about y.

    Where it says nothing, plain shapes are examined; what has a texture or several colours has none.
    """
    wanted = table.take("symmetry", "find")
    if wanted == "find" and "symmetry" not in table.values:
        found = made.symmetry
        plain = made.texture is None and float(np.ptp(made.colours, axis=0).max()) < 1e-3
        if plain and "shape" in table.values:  # a mesh from a file has been examined
            found = find_symmetry(made.vertices, made.faces)
        return replace(found, centre=found.centre * np.float32(size))
    if wanted == "none":
        return Symmetry()
    if wanted == "axis":
        return Symmetry(axis=np.array([0.0, 1.0, 0.0], np.float32))
    if wanted == "sphere":
        return Symmetry(sphere=True, centre=made.centre * np.float32(size))
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 1 <= wanted <= 360:
        return Symmetry(rotations=turns_about_y(wanted))
    raise table.wrong("symmetry", wanted, '"none", "axis", "sphere" or a number of equal turns about y')


def _about_y(asset: Asset) -> Symmetry:
    """Only the turns about the y axis through the origin: what upright objects can do."""
    symmetry = asset.symmetry
    if np.hypot(symmetry.centre[0], symmetry.centre[2]) > 1e-3 * asset.radius:
        return Symmetry()
    up = np.array([0.0, 1.0, 0.0], np.float32)
    if symmetry.sphere or (symmetry.axis is not None and abs(symmetry.axis[1]) > 0.999):
        return Symmetry(axis=up)
    upright = [r for r in symmetry.rotations if np.abs(r @ up - up).max() < 1e-3]
    return Symmetry(rotations=np.stack(upright))


def turns_about_y(count: int) -> Float[np.ndarray, "turn 3 3"]:
    """Rotation matrices of `count` equal turns about +y, identity first, float32."""
    angle = 2 * np.pi * np.arange(count) / count
    turns = np.zeros((count, 3, 3))
    turns[:, 0, 0] = turns[:, 2, 2] = np.cos(angle)
    turns[:, 0, 2], turns[:, 2, 0], turns[:, 1, 1] = np.sin(angle), -np.sin(angle), 1.0
    return turns.round(12).astype(np.float32)
