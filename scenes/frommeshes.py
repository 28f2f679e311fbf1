"""A world made of nothing but meshes and a camera: what `unrender recover --asset` looks for."""

import math
from collections.abc import Sequence
from pathlib import Path

from scenes.asset import Asset
from scenes.intrinsics import Intrinsics
from scenes.meshfile import read_asset
from scenes.world import CameraPrior, Interval, LightPrior, World

LARGEST = 2.0  # an object covers at most this many times the picture's shorter side
SMALLEST = 4.0  # [px], and at least this much


def from_meshes(paths: Sequence[Path | str], camera: Intrinsics) -> World:
    """The world in which up to as many objects as there are meshes float before a known camera.

    The camera is at the origin and looks along -z. Objects turn freely, have their files' own size [m], and
    lie within view between where the smallest mesh covers `LARGEST` times the picture and where the largest
    one covers `SMALLEST` pixels. Colours of meshes that have none, light and background are free.

    Args:
        paths: Mesh files; equal names are told apart by a number.
        camera: Intrinsics of the picture.

    Raises:
        MeshError: If a mesh cannot be read.
        ValueError: If there is no mesh.
    """
    if not paths:
        raise ValueError("at least one mesh is needed, got none")
    assets = tuple(read_asset(Path(p), name) for p, name in zip(paths, _names(paths), strict=True))
    focal, side = min(camera.fx, camera.fy), min(camera.width, camera.height)
    reach = max(_reach(a) for a in assets)
    # Nearer than its own radius the camera would be inside the object.
    near = max(2 * min(a.radius for a in assets) * focal / (LARGEST * side), min(a.radius for a in assets))
    far = max(2 * max(a.radius for a in assets) * focal / SMALLEST, 2 * near)
    x = max(camera.cx, camera.width - camera.cx) / camera.fx * far + reach
    y = max(camera.cy, camera.height - camera.cy) / camera.fy * far + reach
    known, channel = Interval(0.0, 0.0), Interval(0.0, 1.0)
    return World(
        name="meshes",
        description="Meshes before a known camera.",
        assets=assets,
        scenery=(),
        count=(1, len(assets)),
        placement="free",
        position=(Interval(-x, x), Interval(-y, y), Interval(-far, -near)),
        yaw=Interval(-math.pi, math.pi),
        scale=Interval(1.0, 1.0),
        colour=(channel, channel, channel),
        separate=False,
        camera=CameraPrior(
            width=camera.width,
            height=camera.height,
            focal=Interval(camera.fy, camera.fy),
            aspect=camera.fx / camera.fy,
            centre=(camera.cx, camera.cy),
            target=(0.0, 0.0, 0.0),
            azimuth=known,
            elevation=known,
            distance=known,
        ),
        light=LightPrior(
            azimuth=Interval(-math.pi, math.pi),
            elevation=Interval(-0.49 * math.pi, 0.49 * math.pi),
            intensity=Interval(0.0, 1.5),
            ambient=Interval(0.0, 1.0),
        ),
        background=(channel, channel, channel),
    )


def _names(paths: Sequence[Path | str]) -> list[str]:
    """The files' names without suffix, numbered where two are equal."""
    stems = [Path(p).stem for p in paths]
    return [s if stems.count(s) == 1 else f"{s}-{stems[: i + 1].count(s)}" for i, s in enumerate(stems)]


def _reach(asset: Asset) -> float:
    """How far a vertex can be from the object's origin [m], at most."""
    return asset.radius + math.hypot(*asset.centre)
