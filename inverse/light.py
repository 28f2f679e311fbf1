"""Finding the light: the best of many, each with the tints that fit it, then least differences."""

import math
from dataclasses import replace
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.least_differences import STEEP, Fit, Judge
from render.shading import decode_srgb, encode_srgb
from scenes import Interval, LightPrior, Scene, World

_ELSEWHERE = math.cos(math.radians(45.0))  # of the angle from which on a light comes from another side


def lights(world: World, scene: Scene, *, few: bool = False) -> Scene:
    """A scene under lights from all directions that the world allows.

    Where there is scenery each is as bright on flat ground as the scene's own, for the ground tells that;
    else the strengths are typical, and `exposed` fits them. `few`: only the azimuth varies.
    """
    theta, light = world.pack(scene)[0], world.light
    level = float(
        scene.light.ambient[0] + scene.light.intensity[0] * scene.light.direction[0, 1].clamp_min(0.0)
    )
    rows = []
    if world.scenery:
        heights = 1 if few else 2
        directions = product(
            _inside(light.azimuth, 12), _inside(light.elevation, heights), _inside(light.ambient, heights)
        )
        strengths = [(a, e, *_of_level(light, level, math.sin(e), m)) for a, e, m in directions]
    else:
        directions = product(_inside(light.azimuth, 8), _inside(light.elevation, 4), (0.3, 0.7))
        strengths = [(a, e, 0.6 * m, 1.0 - m) for a, e, m in directions]
    for values in strengths:
        row = theta.clone()
        for key, value in zip(("azimuth", "elevation", "ambient", "intensity"), values, strict=True):
            if f"light.{key}" in world.names:
                k = world.names.index(f"light.{key}")
                row[k] = min(max(value, float(world.low[k])), float(world.high[k]))
        rows.append(row)
    return world.unpack(torch.stack(rows), like=scene)


def exposed(judge: Judge, scenes: Scene) -> tuple[Scene, Float[Tensor, "batch height width 3"]]:
    """The scenes with objects as bright as the picture's, and about what they look like.

    Each free tint is scaled so that its object's mean linear colour is the picture's. Where no scenery tells
    how strong the light is, the light is scaled likewise for objects of known colour. The pictures are those
    of the scenes given, scaled likewise; only highlights and borders of objects would be drawn otherwise.
    """
    world = judge.world
    image, ids, _ = judge.draw(scenes)
    image, target = decode_srgb(image), decode_srgb(judge.evidence.image)
    free = torch.tensor([a.colour_free for a in world.assets] + [False])[scenes.asset]
    low, high = (torch.tensor([getattr(i, end) for i in world.colour]) for end in ("low", "high"))
    colour, light, scaled = scenes.colour.clone(), scenes.light, image.clone()
    known = torch.zeros_like(ids, dtype=torch.bool)
    for slot in range(scenes.slots):
        seen = (ids == slot)[..., None]
        ratio = (target * seen).sum((1, 2)) / (image * seen).sum((1, 2)).clamp_min(1e-6)
        tint = torch.maximum(torch.minimum(colour[:, slot] * ratio, high), low)
        tint = torch.where(free[:, slot, None] & seen.any(1).any(1), tint, colour[:, slot])
        scaled *= torch.where(seen, (tint / colour[:, slot])[:, None, None], 1.0)
        colour[:, slot] = tint
        known |= (ids == slot) & ~free[:, slot, None, None]
    if not world.scenery:
        seen = known[..., None]
        scale = (target * seen).sum((1, 2, 3)) / (image * seen).sum((1, 2, 3)).clamp_min(1e-6)
        scale = torch.where(known.flatten(1).any(1), scale, 1.0)
        scaled *= torch.where(seen, scale[:, None, None, None], 1.0)
        if world.light.intensity.free:
            light = replace(
                light,
                intensity=(light.intensity * scale).clamp(
                    world.light.intensity.low, world.light.intensity.high
                ),
            )
        if world.light.ambient.free:
            light = replace(
                light,
                ambient=(light.ambient * scale).clamp(world.light.ambient.low, world.light.ambient.high),
            )
    return replace(scenes, colour=colour, light=light), encode_srgb(scaled.clamp(0.0, 1.0))


def relight(judge: Judge, fit: Fit) -> Fit:
    """The fit under the best of many lights; never worse than `fit`.

    Of all lights the best and the best from another side are polished.
    """
    world = judge.world
    if "light" not in world.groups:
        return fit
    scenes, images = exposed(judge, lights(world, fit.scene))
    order = judge.evidence.cost(images).sum((1, 2)).argsort()
    cosine = scenes.light.direction @ scenes.light.direction[order[0]]
    elsewhere = order[cosine[order] < _ELSEWHERE]
    free = torch.tensor([g in ("light", "colour", "background") for g in world.groups])
    chosen = [int(order[0]), *elsewhere[:1].tolist()]
    trials = [judge.polish(judge.fit(scenes[k]), free=free, iterations=3, least=STEEP) for k in chosen]
    return min(fit, *trials, key=lambda t: t.total)


def of_slot(world: World, slot: int) -> Tensor:
    """Which entries of theta belong to a slot."""
    return torch.tensor([s == slot for s in world.slot_of])


def _of_level(light: LightPrior, level: float, height: float, ambient: float) -> tuple[float, float]:
    """Ambient and intensity that light flat ground to `level`, the ambient as near as the ranges allow."""
    height = max(0.2, height)
    intensity = min(max((level - ambient) / height, light.intensity.low), light.intensity.high)
    return level - intensity * height, intensity


def _inside(interval: Interval, count: int) -> list[float]:
    """`count` numbers spread over a range, its ends left out; its middle where there is no range."""
    low, width = interval.low, (interval.high - interval.low) / count
    return [low + width * (k + 0.5) for k in range(count)] if interval.free else [interval.middle]
