"""A world's signature: the numbers that its pictures depend on, by name, so that two worlds can be compared.

What was trained on a world's pictures is of use for that world only. A signature goes into a file with the
trained weights; `differences` says in words where another world departs from it. Meshes and textures are
told by sums of theirs, compared within a tolerance: another processor's last bits are no other world.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from scenes.asset import Asset
from scenes.world import Interval, World

_TOLERANCE = 1e-3  # share of a number, or its value where it is below 1

Signature = dict[str, list[float]]


def signature(world: World) -> Signature:
    """Names such as "camera.distance" or "asset mug" with the numbers that the pictures depend on.

    The world's own name and description are no part of it.
    """
    return {name: [float(v) for v in np.ravel(values)] for name, values in _numbers(world)}


def differences(world: World, trained: Signature) -> list[str]:
    """What of the world is not as in the signature `trained`, in words; empty where they agree.

    Such as "camera.distance is 2, was 1.8 to 2.2" or "asset mug is new".
    """
    own = signature(world)
    said = [f"{name} is new" for name in own if name not in trained]
    said += [f"{name} is missing" for name in trained if name not in own]
    for name in own:
        if name in trained and not _alike(own[name], trained[name]):
            said.append(_difference(name, own[name], trained[name]))
    if not said and list(own) != [name for name in trained if name in own]:
        said.append("the assets stand in another order")
    return said


def _numbers(world: World) -> Iterator[tuple[str, Any]]:
    for asset in world.assets:
        yield f"asset {asset.name}", _summary(asset)
    for asset in world.scenery:
        yield f"scenery {asset.name}", _summary(asset)
    yield "count", world.count
    yield "upright", world.placement == "upright"
    yield "separate", world.separate
    ranges = {f"position {axis}": p for axis, p in zip("xyz", world.position, strict=True)}
    ranges |= {"yaw": world.yaw, "scale": world.scale}
    for kind in ("colour", "background"):
        ranges |= {f"{kind} {c}": i for c, i in zip("rgb", getattr(world, kind), strict=True)}
    for name in ("focal", "azimuth", "elevation", "distance"):
        ranges[f"camera.{name}"] = getattr(world.camera, name)
    for name in ("azimuth", "elevation", "intensity", "ambient"):
        ranges[f"light.{name}"] = getattr(world.light, name)
    yield from ((name, _ends(interval)) for name, interval in ranges.items())
    for name in ("width", "height", "aspect", "centre", "target"):
        yield f"camera.{name}", getattr(world.camera, name)


def _ends(interval: Interval) -> tuple[float, ...]:
    return (interval.low, interval.high) if interval.free else (interval.low,)


def _summary(asset: Asset) -> list[float]:
    """Numbers that two different assets hardly share: of size, shape, colours, texture and material."""
    vertices, colours = asset.vertices.astype(np.float64), asset.colours.astype(np.float64)
    numbers = [len(vertices), len(asset.faces), *vertices.min(0), *vertices.max(0), *vertices.mean(0)]
    numbers += [*(vertices**2).mean(0), *colours.mean(0), *(colours * vertices[:, [1]]).mean(0)]
    numbers += [asset.specular, asset.shininess, asset.closed, asset.colour_free]
    if asset.texture is not None:
        bands = np.array_split(asset.texture.astype(np.float64) / 255.0, 4)
        numbers += [
            float(v) for band in bands for half in np.array_split(band, 2, 1) for v in half.mean((0, 1))
        ]
    return [float(n) for n in numbers]


def _alike(own: list[float], trained: list[float]) -> bool:
    return len(own) == len(trained) and np.allclose(own, trained, rtol=_TOLERANCE, atol=_TOLERANCE)


def _difference(name: str, own: list[float], trained: list[float]) -> str:
    if name.startswith(("asset ", "scenery ")):
        return f"{name} has another mesh, colour or texture"
    now, then = (" to ".join(f"{v:.4g}" for v in values) for values in (own, trained))
    return f"{name} is {now}, was {then}"
