"""Glance: the scene that the encoder sees, corrected by the engine's own pictures of what else it may be."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from inverse.candidates import candidates_of, clear, yaw_period
from inverse.encoder.network import Encoder
from inverse.encoder.sighting import look, scene_of
from inverse.least_differences import Fit, Judge
from inverse.light import of_slot
from scenes import Scene, World, stack

_CLOSE = 4.0  # cells between two peaks that may be of one object


@dataclass(frozen=True)
class GlanceSettings:
    """Which other readings of a picture are drawn. Prices are in wrong pixels of the judged picture."""

    maybe: float = 0.05  # heat above which a place may hold an object
    rival: float = 0.02  # share of the likeliest asset's heat above which another is tried
    rivals: int = 3  # other assets tried at a place
    turns: int = 6  # headings tried of an object whose turns show
    doubt: float = 6.0  # what another asset costs for each factor e by which its heat is lower
    object_price: float = 4.0  # what one more object must save
    polished: int = 2  # readings of a place that are refined, in small pictures


class Glance:
    """What an encoder sees in one picture, place by place, the surest first.

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
        self._place: dict[int, int] = {}  # of a slot

    def first(self, rough: Judge) -> Scene:
        """The surest reading. Its poses are as good as the encoder's; doubtful places are left empty.

        Objects are turned where a small picture says so: of the mug whose handle is hardly seen the encoder
        tells no heading.

        Args:
            rough: Of the picture, at a small size: poses are not refined yet.
        """
        places = self._surest()
        count = len(places)
        self._place = dict(enumerate(places))
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

    def reconsider(
        self, judge: Judge, rough: Judge, fit: Fit, wrong: Callable[[Fit], dict[int, float]]
    ) -> Fit:
        """The fit with objects at doubtful places, and with other assets where it is wrong.

        Args:
            judge: Decides.
            rough: Of the same picture, smaller: where other readings are refined.
            fit: What was made of `first`.
            wrong: Tells of a fit the wrong pixels near each slot that is worth another look.
        """
        fit = self._with_doubtful(judge, rough, fit)
        slots = wrong(fit)
        for slot in sorted(slots, key=lambda s: -slots[s]):
            if left := wrong(fit).get(slot):  # another slot's change may have put it right
                fit = self._better(judge, rough, fit, slot, list(self._others(fit, slot)), left)
        return fit

    def _with_doubtful(self, judge: Judge, rough: Judge, fit: Fit) -> Fit:
        """The fit with objects at doubtful places that make it better."""
        empty = (fit.scene.asset[0] < 0).nonzero()[:, 0].tolist()
        spare = [p for p in range(len(self.seen)) if p not in self._place.values()]
        for place in spare[: 2 * len(empty)]:
            if not empty:
                break
            asset = int(self.seen.assets[place].argmax())
            price = self.settings.object_price
            read = self._read(fit.scene, empty[0], place, asset)
            if not clear(self.world, fit.scene, candidates_of(read[0], [empty[0]])):
                continue
            trial = self._better(judge, rough, fit, empty[0], [(s, price) for s in read], 0.0)
            if trial is not fit:
                self._place[empty.pop(0)] = place
                fit = trial
        return fit

    def _others(self, fit: Fit, slot: int) -> Iterator[tuple[Scene, float]]:
        """Scenes with other assets in a slot, and what each costs beside its wrong pixels."""
        if slot not in self._place:
            return
        place, now = self._place[slot], int(fit.scene.asset[0, slot])
        heats = self.seen.assets[place]
        order = heats.argsort(descending=True)[: 1 + self.settings.rivals].tolist()
        for asset in order:
            if asset != now and heats[asset] > self.settings.rival * heats.max():
                price = self.settings.doubt * math.log(float(heats.max() / heats[asset]))
                for scene in self._read(fit.scene, slot, place, asset):
                    yield scene, price
        yield from self._neighbours(fit, slot)

    def _neighbours(self, fit: Fit, slot: int) -> Iterator[tuple[Scene, float]]:
        """Scenes with what is seen close by in place of a slot's object: one object may show two peaks."""
        place = self._place[slot]
        apart = (self.seen.cell - self.seen.cell[place]).float().norm(dim=-1)
        taken = set(self._place.values())
        for other in (apart < _CLOSE).nonzero()[:, 0].tolist():
            if other not in taken:
                price = self.settings.doubt * max(
                    0.0, math.log(float(self.seen.heat[place] / self.seen.heat[other]))
                )
                for scene in self._read(fit.scene, slot, other, int(self.seen.assets[other].argmax())):
                    yield scene, price

    def _read(self, scene: Scene, slot: int, place: int, asset: int) -> list[Scene]:
        """The scene with an asset in a slot as it is seen at a place, in all its turns."""
        read = scene_of(self.encoder, self.seen[[place]], torch.tensor([asset]))
        changed = _with_object(scene, slot, read)
        return [_turned(changed, slot, turn) for turn in self._turns(asset)]

    def _better(
        self,
        judge: Judge,
        rough: Judge,
        fit: Fit,
        slot: int,
        others: list[tuple[Scene, float]],
        wrong: float,
    ) -> Fit:
        """The best of the other scenes, its object refined, if it is better than the fit; else the fit.

        On the way a scene may be worse: by some of the `wrong` pixels that it might put right.
        """
        if not others:
            return fit
        own, share = of_slot(self.world, slot), rough.evidence.image.numel() / judge.evidence.image.numel()
        now = rough.fit(fit.scene).total
        prices = share * torch.tensor([price for _, price in others])
        costs = rough.costs(stack([scene for scene, _ in others])) + prices
        best, least = -1, now + 0.5 * share * wrong
        for k in costs.argsort()[: self.settings.polished].tolist():
            if costs[k] > now + 3.0 * share * wrong:
                break
            trial = rough.polish(rough.fit(others[k][0]), free=own, iterations=3, pixels=1.0)
            if trial.total + float(prices[k]) < least:
                best, least, scene = k, trial.total + float(prices[k]), trial.scene
        if best < 0:
            return fit
        trial = judge.polish(judge.fit(scene), free=own, iterations=3)
        if trial.total + others[best][1] >= fit.total:
            return fit
        judge.note("another look", trial)
        return trial

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
