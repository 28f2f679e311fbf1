"""Rereading: what is wrong after a glance as other assets, turns and places, ranked as sketches."""

import math
from collections.abc import Callable

from torch import Tensor

from inverse.candidates import Candidates, Pinhole, candidates_of
from inverse.glance import Glance
from inverse.least_differences import STEEP, Fit, Judge, with_object
from inverse.light import of_slot
from inverse.metrics import rotation_error
from inverse.mismatch import Mismatch
from inverse.proposals import Proposals
from inverse.variants import variants
from scenes import Scene, stack
from scenes.scene import matrix

_SKETCHED = 6  # readings of an object that are told apart by the engine
_REFINED = 3  # of those, that are refined in small pictures
_APART = math.radians(30.0)  # two of one asset are turned by more
_SHOWN = 0.5  # of a doubtful object's pixels that it must put right
_CLEAR, _FAINT = 25.0, 4.0  # prices that are wrong where a doubtful object is looked for, at first and again


class Rereading:
    """Other readings of what a glance saw in one picture.

    An encoder mistakes asset, heading, place and colour together, and from there neither least differences
    nor gradients mend them one by one. Sketches, whose colour is solved for, tell hundreds of readings apart
    in the time of a few of the engine's pictures, which decide.

    Args:
        judge: Decides.
        rough: Of the same picture, smaller: where readings are refined.
        sketches: Of the judge's picture.
        glance: What was seen; it is kept up with what becomes of its objects.
        mismatch: Tells what is worth another look.
        price: Wrong pixels that one more object must save.
    """

    def __init__(
        self,
        judge: Judge,
        rough: Judge,
        sketches: Proposals,
        glance: Glance,
        mismatch: Mismatch,
        price: float,
    ) -> None:
        self.judge, self.rough, self.sketches = judge, rough, sketches
        self.glance, self.mismatch, self.price = glance, mismatch, price

    def first(self, fit: Fit) -> Fit:
        """What is quite wrong in its best reading, or left out if unsure; and what was overlooked."""
        for slot in self.mismatch.quite_wrong(fit):
            if slot not in self.mismatch.quite_wrong(fit):
                continue  # another's change has put it right
            rest = self.judge.fit(fit.scene.without(slot))
            scenes = self._sketched(rest, slot, self._read(fit, slot))
            fit = min([fit, *map(self.judge.fit, scenes)], key=_total)
            if rest.total < fit.total + self.price and not self.glance.sure(slot):
                self.glance.places.pop(slot, None)
                fit = rest
        return self._with_doubtful(fit, self.mismatch.elsewhere, _CLEAR * self.price)

    def again(self, fit: Fit) -> Fit:
        """The same where most is right: wrong objects in other readings, each refined before it is judged.

        On the way a scene may be worse, by some of the wrong pixels that it might put right.
        """
        share = math.prod(self.rough.evidence.size) / math.prod(self.judge.evidence.size)
        for slot in self.mismatch.wrong(fit):
            if not (left := share * self.mismatch.wrong(fit).get(slot, 0.0)):
                continue
            now, own = float(self.rough.costs(fit.scene)), of_slot(self.judge.world, slot)
            likely = [scene for scene, cost in self.others(fit, slot) if cost < now + 3.0 * left]
            tried = [
                self.rough.polish(self.rough.fit(scene), free=own, iterations=3, pixels=1.0, least=STEEP)
                for scene in likely
            ]
            best = min(tried, key=_total, default=None)
            if best and best.total < now + 0.5 * left:
                trial = self.judge.polish(self.judge.fit(best.scene), free=own, iterations=3)
                fit = self._better(trial, fit, 0.0)
        return self.overlooked(fit)

    def overlooked(self, fit: Fit) -> Fit:
        """The fit with objects at doubtful places where a little is wrong, if they make it better."""
        return self._with_doubtful(fit, lambda now: now.cost, _FAINT * self.price)

    def others(self, fit: Fit, slot: int) -> list[tuple[Scene, float]]:
        """Scenes with a slot's object in other readings, and their costs in small pictures, the best first.

        No two are alike, nor is any like the fit: of an asset they are turned by 30 degrees or more.
        """
        scenes = self._sketched(self.judge.fit(fit.scene.without(slot)), slot, self._read(fit, slot))
        if not scenes:
            return []
        costs = self.rough.costs(stack(scenes))
        kept: list[int] = []
        for k in costs.argsort().tolist():
            if all(self._differ(scenes[k], s, slot) for s in [fit.scene, *(scenes[j] for j in kept)]):
                kept.append(k)
        return [(scenes[k], float(costs[k])) for k in kept[:_REFINED]]

    def _with_doubtful(self, fit: Fit, wrong: Callable[[Fit], Tensor], least: float) -> Fit:
        """The fit with objects at doubtful places that make it better, where `least` pixels are wrong."""
        empty = (fit.scene.asset[0] < 0).nonzero()[:, 0].tolist()
        for place in self.glance.doubtful()[: 2 * len(empty)]:
            if not empty:
                break
            read = self.glance.readings(place)
            if float(wrong(fit)[self._square(fit.scene, read)].sum()) < least:
                continue
            scenes = self._sketched(fit, empty[0], read)
            trial = min(map(self.judge.fit, scenes), key=_total, default=fit)
            shown = float((trial.instance_id == empty[0]).sum())
            better = self._better(trial, fit, max(self.price, _SHOWN * shown))
            if better is not fit:
                self.glance.places[empty.pop(0)] = place
                fit = better
        return fit

    def _better(self, trial: Fit, fit: Fit, price: float) -> Fit:
        """The trial if it saves a price [wrong pixels], else the fit."""
        if trial.total >= fit.total - price:
            return fit
        self.judge.note("another look", trial)
        return trial

    def _read(self, fit: Fit, slot: int) -> Candidates:
        """What a slot's object may be; as it is where it was not seen at the glance."""
        if slot in self.glance.places:
            return self.glance.readings(self.glance.places[slot])
        return candidates_of(fit.scene, [slot])

    def _sketched(self, rest: Fit, slot: int, read: Candidates) -> list[Scene]:
        """Scenes with an object in an empty slot, near what was read, the best of its sketches first."""
        pool = variants(self.judge.moves, rest.scene.camera.translation[0], read)
        c, tint = self.sketches.likeliest(rest, pool, _SKETCHED)
        return [with_object(rest.scene, slot, c[[i]], tint[i]) for i in range(len(c))]

    def _differ(self, a: Scene, b: Scene, slot: int) -> bool:
        asset = int(a.asset[0, slot])
        turns = (matrix(s.rotation[0, slot]) for s in (a, b))
        return (
            asset != int(b.asset[0, slot])
            or float(rotation_error(self.judge.world.assets[asset], *turns)) > _APART
        )

    def _square(self, scene: Scene, read: Candidates) -> tuple[slice, slice]:
        """Rows and columns of the square that holds the largest of candidates at one place."""
        moves, pinhole = self.judge.moves, Pinhole.of(scene.camera)
        view = pinhole.view(*self.judge.evidence.size)
        x, y, z = moves.middles(read.asset, *pinhole.place(read))[0].tolist()
        depth = max(1e-3, -z)
        column, row = view.centre[0] + view.focal[0] * x / depth, view.centre[1] - view.focal[1] * y / depth
        reach = view.focal[1] * float((moves.radius[read.asset] * read.scale).max()) / depth
        first, last = (max(0, round(row + s * reach)) for s in (-1, 1))
        left, right = (max(0, round(column + s * reach)) for s in (-1, 1))
        return slice(first, last), slice(left, right)


def _total(fit: Fit) -> float:
    return fit.total
