"""Finding the light: the best of many, each with the tints that fit it, then least differences."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from inverse.least_differences import Fit, Judge
from render.shading import decode_srgb
from scenes import Scene, World


def lights(world: World, scene: Scene) -> Scene:
    """A scene under lights from all directions that the world allows, each as bright on flat ground as its own."""
    theta, light = world.pack(scene)[0], world.light
    level = float(scene.light.ambient[0] + scene.light.intensity[0] * scene.light.direction[0, 1].clamp_min(0.0))
    heights = 2 if light.elevation.high - light.elevation.low < 0.5 * math.pi else 4
    rows = []
    for azimuth in _inside(light.azimuth.low, light.azimuth.high, 12 if heights == 2 else 8):
        for elevation in _inside(light.elevation.low, light.elevation.high, heights):
            for ambient in _inside(light.ambient.low, min(light.ambient.high, level + 0.1), 2):
                intensity = (level - ambient) / max(0.25, math.sin(elevation))
                values = {"azimuth": azimuth, "elevation": elevation, "ambient": ambient, "intensity": intensity}
                row = theta.clone()
                for key, value in values.items():
                    if f"light.{key}" in world.names:
                        k = world.names.index(f"light.{key}")
                        row[k] = min(max(value, float(world.low[k])), float(world.high[k]))
                rows.append(row)
    return world.unpack(torch.stack(rows), like=scene)


def retinted(judge: Judge, scenes: Scene) -> Scene:
    """The scenes with each free tint scaled so that its object's mean linear colour is the picture's."""
    world = judge.world
    image, ids, _ = judge.draw(scenes)
    image, target = decode_srgb(image), decode_srgb(judge.evidence.image)
    free = torch.tensor([a.colour_free for a in world.assets] + [False])[scenes.asset]
    low, high = (torch.tensor([getattr(i, end) for i in world.colour]) for end in ("low", "high"))
    colour = scenes.colour.clone()
    for slot in range(scenes.slots):
        seen = (ids == slot)[..., None]
        ratio = (target * seen).sum((1, 2)) / (image * seen).sum((1, 2)).clamp_min(1e-6)
        tint = torch.maximum(torch.minimum(colour[:, slot] * ratio, high), low)
        colour[:, slot] = torch.where(free[:, slot, None] & seen.any(1).any(1), tint, colour[:, slot])
    return replace(scenes, colour=colour)


def relight(judge: Judge, fit: Fit, *, most: int = 3) -> Fit:
    """The best of many lights for the objects found so far, the `most` best polished; never worse than `fit`."""
    world = judge.world
    if not world.light.azimuth.free:
        return fit
    scenes = retinted(judge, lights(world, fit.scene))
    free = torch.tensor([g in ("light", "colour", "background") for g in world.groups])
    for k in judge.costs(scenes).argsort()[:most].tolist():
        trial = judge.polish(judge.fit(scenes[k]), free=free, iterations=3)
        fit = trial if trial.total < fit.total else fit
    return fit


def _inside(low: float, high: float, count: int) -> list[float]:
    """`count` numbers spread over a range, its ends left out; its middle where there is no range."""
    return [low + (high - low) * (k + 0.5) / count for k in range(count)] if high > low else [low]


def of_slot(world: World, slot: int) -> Tensor:
    """Which entries of theta belong to a slot."""
    return torch.tensor([s == slot for s in world.slot_of])
