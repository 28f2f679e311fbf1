"""Glance: the scene that the encoder sees, corrected by the engine's own pictures of what else it may be."""

import math
from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor

from inverse.candidates import yaw_period
from inverse.encoder.network import Encoder
from inverse.encoder.sighting import Sightings, look, scene_of
from inverse.least_differences import Judge
from scenes import Scene, World, stack


@dataclass(frozen=True)
class GlanceSettings:
    """Which other readings of a picture are drawn."""

    maybe: float = 0.1  # heat above which a place may hold an object
    rival: float = 0.1  # share of the likeliest asset's heat above which another is tried
    rivals: int = 3  # other assets tried at a place
    turns: int = 6  # headings tried of an object whose turns show
    object_price: float = 4.0  # wrong pixels that one more object must save


def glance(encoder: Encoder, judge: Judge, settings: GlanceSettings | None = None) -> Scene:
    """The best reading of the judge's picture by an encoder; its poses are as good as the encoder's.

    The places seen are gone through, the surest first: with the likeliest asset, with others, turned
    otherwise, or without an object. The engine's pictures decide. Then the doubtful ones once more, now that
    their neighbours stand.

    Args:
        encoder: Of the judge's world.
        judge: The picture, best at a small size: poses are not refined yet.
        settings: What is tried.
    """
    settings = settings or GlanceSettings()
    seen = look(encoder, judge.evidence.image[None], least=settings.maybe)[0]
    seen = seen[: encoder.layout.world.count[1]]
    threshold = float(encoder.threshold)
    scene = scene_of(encoder, seen)
    scene = replace(scene, asset=scene.asset.masked_fill(_unsure(scene, seen, threshold), -1))
    cost = _price(judge, scene, settings)
    for _ in range(2):
        before = float(cost)
        for place in range(len(seen)):
            others = _readings(encoder, seen, place, scene, judge.world, settings)
            costs = _price(judge, others, settings)
            best = int(costs.argmin())
            if costs[best] < cost:
                scene, cost = others[best], costs[best : best + 1]
        if float(cost) > before - 1.0:
            break
    return scene


def _unsure(scene: Scene, seen: Sightings, threshold: float) -> Tensor:
    """Slots whose places are not sure to hold an object."""
    heat = torch.ones(scene.slots)
    heat[: len(seen)] = seen.heat
    return (heat < threshold)[None]


def _price(judge: Judge, scenes: Scene, settings: GlanceSettings) -> Tensor:
    """Wrong pixels of each scene, and what its objects cost."""
    return judge.costs(scenes) + settings.object_price * (scenes.asset >= 0).sum(1)


def _readings(
    encoder: Encoder, seen: Sightings, place: int, scene: Scene, world: World, settings: GlanceSettings
) -> Scene:
    """The scene with one place read in every other way: without an object, as other assets, turned."""
    order = seen.assets[place].argsort(descending=True)[: 1 + settings.rivals]
    likely = order[seen.assets[place, order] > settings.rival * seen.heat[place]]
    scenes = [scene.without(place)]
    for asset in likely.tolist():
        assets = seen.assets.argmax(1)
        assets[place] = asset
        read = scene_of(encoder, seen, assets)
        scenes += [_turned(with_slot(scene, read, place), place, t) for t in _turns(world, asset, settings)]
    return stack(scenes)


def with_slot(scene: Scene, other: Scene, slot: int) -> Scene:
    """The scene with another's object in a slot."""
    changed = {}
    for name in ("asset", "rotation", "translation", "scale", "colour"):
        values = getattr(scene, name).clone()
        values[:, slot] = getattr(other, name)[:, slot]
        changed[name] = values
    return replace(scene, **changed)


def _turns(world: World, asset: int, settings: GlanceSettings) -> list[float]:
    """Angles about +y [rad] by which an upright object is turned to see whether it fits better so."""
    period = yaw_period(world.assets[asset])
    if world.placement != "upright" or not period:
        return [0.0]
    count = max(1, round(settings.turns * period / (2.0 * math.pi)))
    return [k * period / count for k in range(count)]


def _turned(scene: Scene, slot: int, angle: float) -> Scene:
    turn = torch.tensor([0.0, math.sin(angle / 2), 0.0, math.cos(angle / 2)])
    rotation = scene.rotation.clone()
    rotation[0, slot] = roma.quat_product(turn, rotation[0, slot])
    return replace(scene, rotation=rotation)
