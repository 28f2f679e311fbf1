"""Glance: the scene that the encoder sees, and what else it holds possible."""

import math
from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from inverse.candidates import Candidates, candidates_of, clear, join, yaw_period
from inverse.encoder.network import Encoder
from inverse.encoder.sighting import look, scene_of
from inverse.least_differences import Judge
from scenes import Scene, World, stack


@dataclass(frozen=True)
class GlanceSettings:
    """What is taken for possible."""

    maybe: float = 0.05  # heat above which a place may hold an object
    sure: float = 0.5  # heat from which on a place is not given up because of a wrong reading
    rival: float = 0.02  # share of the likeliest asset's heat above which another is possible
    turns: int = 6  # headings tried of an object whose turns show


class Glance:
    """What an encoder sees in one picture, place by place, the surest first.

    Attributes:
        seen: The places.
        places: Of each slot's object the place where it was seen.

    Args:
        encoder: Of the picture's world.
        image: sRGB-encoded in [0, 1], of any size.
        settings: What else is tried.
    """

    def __init__(
        self,
        encoder: Encoder,
        image: Float[Tensor, "row column 3"],
        settings: GlanceSettings | None = None,
    ) -> None:
        self.encoder, self.settings = encoder, settings or GlanceSettings()
        self.world: World = encoder.layout.world
        self.seen = look(encoder, image[None], least=self.settings.maybe)[0]
        self.places: dict[int, int] = {}

    def first(self, rough: Judge) -> Scene:
        """The surest reading. Its poses are as good as the encoder's; doubtful places are left empty.

        Objects are turned where a small picture says so: of the mug whose handle is hardly seen the encoder
        tells no heading.

        Args:
            rough: Of the picture, at a small size: poses are not refined yet.
        """
        places = self._surest()
        count = len(places)
        self.places = dict(enumerate(places))
        scene = scene_of(self.encoder, self.seen[places])
        cost = rough.costs(scene)
        for slot in range(count):
            turns = self._turns(int(scene.asset[0, slot]))
            others = stack([_turned(scene, slot, t) for t in turns])
            costs = rough.costs(others)
            best = int(costs.argmin())
            if costs[best] < cost:
                scene, cost = others[best], costs[best : best + 1]
        return scene

    def doubtful(self) -> list[int]:
        """Places that may hold an object and were not taken for one, the surest first."""
        return [p for p in range(len(self.seen)) if p not in self.places.values()]

    def sure(self, slot: int) -> bool:
        """True where there must be an object, however it is read."""
        return slot in self.places and float(self.seen.heat[self.places[slot]]) >= self.settings.sure

    def readings(self, place: int) -> Candidates:
        """What may be at a place, one candidate of each asset, the likeliest first."""
        heats = self.seen.assets[place]
        order = heats.argsort(descending=True)
        likely = order[heats[order] > self.settings.rival * heats.max()]
        read = [scene_of(self.encoder, self.seen[[place]], asset[None]) for asset in likely]
        return join([candidates_of(scene, [0]) for scene in read])

    def _surest(self) -> list[int]:
        """Places that hold an object; of two in one another the surer one."""
        places: list[int] = []
        others = self.world.empty()
        for place in (self.seen.heat > self.encoder.threshold).nonzero()[:, 0].tolist():
            if len(places) == self.world.count[1]:
                break
            one = scene_of(self.encoder, self.seen[[place]])
            if clear(self.world, others, candidates_of(one, [0])):
                others = _with_object(others, len(places), one)
                places.append(place)
        return places

    def _turns(self, asset: int) -> list[float]:
        """Angles about +y [rad] by which an upright object is turned to see whether it fits better so."""
        period = yaw_period(self.world.assets[asset])
        if self.world.placement != "upright" or not period:
            return [0.0]
        count = max(1, round(self.settings.turns * period / (2.0 * math.pi)))
        return [k * period / count for k in range(count)]


def _with_object(scene: Scene, slot: int, other: Scene) -> Scene:
    """The scene with another's first object in a slot."""
    changed = {}
    for name in ("asset", "rotation", "translation", "scale", "colour"):
        values = getattr(scene, name).clone()
        values[:, slot] = getattr(other, name)[:, 0]
        changed[name] = values
    return replace(scene, **changed)


def _turned(scene: Scene, slot: int, angle: float) -> Scene:
    turn = torch.tensor([0.0, math.sin(angle / 2), 0.0, math.cos(angle / 2)])
    rotation = scene.rotation.clone()
    rotation[0, slot] = roma.quat_product(turn, rotation[0, slot])
    return replace(scene, rotation=rotation)
