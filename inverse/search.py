"""Search: which objects are in the picture. Birth from proposals, then repair, judged by the engine.

Each step proposes with sketches, which cost microseconds, and decides with the engine's own picture, which
costs milliseconds. Costs are numbers of wrong pixels (see `losses`); `object_price` is what one more object
must save.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.candidates import Moves, candidates_of
from inverse.first_birth import first_birth
from inverse.glance import Glance
from inverse.least_differences import LEAST, STEEP, Fit, Judge, with_object
from inverse.light import of_slot, relight
from inverse.mismatch import Mismatch
from inverse.others import Others
from inverse.proposals import Proposals
from inverse.rereading import Rereading
from inverse.sketch import Sketcher
from inverse.slides import slid
from inverse.turns import other_poses, spun
from scenes import Scene


@dataclass(frozen=True)
class SearchSettings:
    """What search spends, and when it is content. Lengths in pixels are of the judged picture."""

    object_price: float = 8.0  # wrong pixels that one more object must save
    late_price: float = 4.0  # the same once the scene is polished
    gain_share: float = 0.15  # share of the cost that an exchange, a late birth or a rebirth must save
    rounds: int = 6  # of repair
    repair_renders: int = 1000  # no further repair is begun after so many pictures
    glance_patience: int = 300  # the same after a glance, counted from what helped last
    little: float = 0.005  # share of the picture's pixels wrong above the noise that is little
    content: float = 0.001  # share of the picture's pixels wrong above the noise: nothing is left to repair


_ROUGH = 64  # [px] side of a square as large as the pictures that tell alternatives apart
_FAR = 0.015  # share of wrong pixels above which least differences have lost their way
_A_LITTLE = 3.0  # wrong pixels round one object that a small turn may yet explain
_UNSURE = 0.01  # share of wrong pixels above which more is wrong than places, after a look in small pictures
_CLEAR = 10.0  # prices that are wrong in one place where an object was overlooked
_LOST = 0.02  # share of wrong pixels above which another reading of the worst object is followed, too


class Search:
    """Finds the objects of one picture in a world whose objects keep to a grid of free moves."""

    def __init__(
        self, judge: Judge, sketcher: Sketcher, *, settings: SearchSettings | None = None, seed: int = 0
    ) -> None:
        self.judge, self.world = judge, judge.world
        self.rough = judge.coarser(_ROUGH)
        self.settings = settings or SearchSettings()
        self.moves: Moves = judge.moves
        self.evidence = judge.evidence
        self.sketches = Proposals(judge, sketcher, seed=seed)
        self._vain: dict[str, Scene] = {}  # of each move the scene that it could not better
        self.mismatch = Mismatch(
            judge.evidence,
            self.world.count[1],
            price=self.settings.object_price,
            trifle=1.5 * self.settings.late_price,
        )
        self.others = Others(judge, self.rough, self.sketches, self.mismatch)

    def run(self, fit: Fit) -> Fit:
        """The best set of objects found, beginning with `fit`, a scene without objects."""
        fit = self._globals(fit)
        self.mismatch.measure(fit)
        fit = first_birth(self.judge, self.sketches, fit, self.settings.object_price)
        fit = self._births(fit, self.settings.object_price, relit=2)
        fit = self.settle(relight(self.judge, fit))
        self.judge.note("least differences", fit)
        moves = (
            self._deaths,
            self._relit,
            self._late_birth,
            self._rescans,
            self._exchanges,
            self._rebirths,
        )
        fit = self._repair(fit, moves, self.content)
        return self._spins(self._deaths(fit, self.settings.late_price))

    def improve(self, fit: Fit, glance: Glance, descended: Callable[[Fit], Fit]) -> Fit:
        """The best set of objects found from `fit`, a scene that is about right.

        Only places where the picture contradicts it are looked at again: what the encoder held possible and
        what it overlooked come first, then turns and places by sketches, other assets where much is wrong,
        turns by the engine's pictures, slides, candidates of the bank, and another light; at the end small
        turns, of which facets and handles show in a few pixels.

        Args:
            fit: Where to begin.
            glance: What the encoder held possible.
            descended: Follows gradients from a fit, coarse to fine: asked where least differences fail, which
                saturate where outlines are off by several pixels, unless an object is missing.
        """
        price, pixels = self.settings.late_price, fit.cost.numel()
        self.mismatch.measure(fit)
        rereading = Rereading(self.judge, self.rough, self.sketches, glance, self.mismatch, price)
        fit = self._near(fit, rereading.first, descended)
        self.judge.note("least differences", fit)
        if self.excess(fit) > _LOST * pixels and not self._lacks(fit):
            fit = self._otherwise(fit, rereading, descended)
        if self.excess(fit) > _FAR * pixels:
            fit = self._relit(fit, price)
        if not self.mismatch.agrees(fit):
            fit = self._looked_again(fit, rereading)
        births = self._late_birth, self._anew, self._insists
        changes = self._rescans, self._turns, self._slides, self._exchanges
        moves = (births + changes if self.mismatch.misses(fit) else changes + births) + (self._relit,)
        helped, best = self.judge.renders, self._price(fit, price)

        def done(now: Fit) -> bool:
            nonlocal helped, best
            if self._price(now, price) < (1.0 - self.settings.gain_share) * best:
                helped, best = self.judge.renders, self._price(now, price)
            in_vain = self.judge.renders - helped
            return self.mismatch.agrees(now) or in_vain >= self.settings.glance_patience

        fit = self._repair(fit, moves, done)
        return self._spins(self._deaths(fit, price, relit=False))

    def _near(self, start: Fit, reread: Callable[[Fit], Fit], descended: Callable[[Fit], Fit]) -> Fit:
        """Least differences from a start; where they leave much wrong, from other readings, and gradients.

        Whole pictures, which cost most, are left for what small ones say is about right.
        """
        pixels = start.cost.numel()
        fit = self._likelier(start, start)
        unsure = self.excess(fit) > _UNSURE * pixels
        if not unsure:
            fit = self._finished(fit, 4, STEEP)
            unsure = self.excess(fit) > self.settings.little * pixels
        if unsure:
            start = reread(fit)
            fit = self._better(self._overlooked(self._likelier(start, fit)), fit)
        if self.excess(fit) > _FAR * pixels:
            fit = self._replaced(fit)
        if self.excess(fit) > _FAR * pixels and not self._lacks(fit):
            fit = self._better(self._likelier(descended(start), fit), fit)
            self.judge.note("gradients", fit)
        return fit

    def _replaced(self, fit: Fit) -> Fit:
        """The fit with other assets where much is wrong."""
        replaced = self._moved(self._urgent_exchanges, fit)
        return fit if replaced is fit else self._finished(replaced, least=STEEP)

    def _overlooked(self, fit: Fit) -> Fit:
        """The fit with objects where much is wrong in one place, away from all others."""
        if self.mismatch.crowd(self.mismatch.elsewhere(fit)) < _CLEAR * self.settings.late_price:
            return fit
        born = self._births(fit, self.settings.object_price, most=2, late=True)
        return fit if born is fit else self._likelier(born, born)

    def _otherwise(self, fit: Fit, rereading: Rereading, descended: Callable[[Fit], Fit]) -> Fit:
        """The worst object in other readings, each followed to its end: quicker than a search for all."""
        for slot in self.mismatch.slots(fit)[:1]:
            for scene, _ in rereading.others(fit, slot)[:2]:
                fit = self._better(self._likelier(descended(self.judge.fit(scene)), fit), fit)
        return fit

    def _looked_again(self, fit: Fit, rereading: Rereading) -> Fit:
        """Turns and places by sketches, and other assets where much is wrong; then turns and other readings.

        Before that objects where much is wrong beside all others, in places that are exact by now.
        """
        fit = self._finished(fit, least=STEEP)
        fit = self._deaths(fit, self.settings.late_price, most=self.settings.late_price, relit=False)
        if self._lacks(fit):
            born = rereading.overlooked(fit)
            born = self._moved(self._late_birth, born) if self._lacks(born) else born
            fit = fit if born is fit else self._finished(born, least=STEEP)
        fit = self._moved(self._rescans, fit)
        replaced = self._replaced(fit)
        if replaced is not fit:
            return replaced
        fit = self._moved(self._turns, fit)
        again = rereading.again(fit)
        return fit if again is fit else self._finished(again, least=STEEP)

    def _lacks(self, fit: Fit) -> bool:
        """True where much is wrong in one place just beside all objects, which are in theirs."""
        beside = self.mismatch.elsewhere(fit, 1)
        return self.mismatch.crowd(beside) > _CLEAR * self.settings.late_price

    def settle(self, fit: Fit) -> Fit:
        """Least differences in small pictures while much moves, then in whole ones; the noise anew."""
        coarse = self.judge.fit(self._roughly(fit).scene)
        return self._finished(min(fit, coarse, key=lambda f: f.total))

    def _roughly(self, fit: Fit) -> Fit:
        """Least differences in small pictures."""
        return self.rough.polish(self.rough.fit(fit.scene), iterations=5, pixels=1.0, least=STEEP)

    def _likelier(self, start: Fit, fit: Fit) -> Fit:
        """The fit, or where another start leads to if that is better, both in small pictures."""
        small = self._roughly(start)
        if small.total >= float(self.rough.costs(fit.scene)):
            return fit
        likelier = self.judge.fit(small.scene)
        self.judge.note("least differences", likelier)
        return likelier

    def _better(self, trial: Fit, fit: Fit) -> Fit:
        """The better of a trial, once nothing of it moves, and the fit."""
        return min(fit, self._finished(trial, 4, STEEP), key=lambda f: f.total)

    def _finished(self, fit: Fit, iterations: int = 6, least: float = LEAST) -> Fit:
        """Least differences of whole pictures until nothing moves; the noise anew."""
        fit = self.judge.polish(fit, iterations=iterations, pixels=0.5, least=least)
        self.mismatch.measure(fit)
        return fit

    # ---- the judged cost

    def excess(self, fit: Fit) -> float:
        """Wrong pixels above the picture's noise."""
        return self.mismatch.excess(fit)

    def _price(self, fit: Fit, price: float) -> float:
        return self.excess(fit) + price * int((fit.scene.asset >= 0).sum())

    def content(self, fit: Fit) -> bool:
        """True where nothing is left to repair."""
        return self.excess(fit) < self.settings.content * fit.cost.numel()

    # ---- light

    def _free(self, *groups: str) -> Tensor:
        return torch.tensor([g in groups for g in self.world.groups])

    def _globals(self, fit: Fit) -> Fit:
        """Light, camera and background of the picture without objects, as far as it tells them."""
        return self.judge.polish(fit, free=self._free("light", "background", "camera"), iterations=4)

    # ---- birth

    def _births(
        self,
        fit: Fit,
        price: float,
        *,
        most: int | None = None,
        relit: int = 0,
        late: bool = False,
        hidden: bool = False,
    ) -> Fit:
        """Add objects while each saves its price; after the first `relit` the light is searched anew."""
        born = 0
        while most is None or born < most:
            empty = (fit.scene.asset[0] < 0).nonzero()[:, 0]
            if len(empty) == 0:
                break
            wrong = fit.cost - self.mismatch.floor if late else None
            c, tint, change = self.sketches.propose(fit, wrong=wrong, hidden=hidden)
            if not bool((change < -price).any()):
                break
            trials = [with_object(fit.scene, int(empty[0]), c[[i]], tint[i]) for i in range(min(4, len(c)))]
            fits = [self.judge.fit(t) for t in trials]
            best = min(fits, key=lambda f: f.total)
            if best.total > fit.total - price:
                break
            fit = relight(self.judge, best) if born < relit else best
            born += 1
            self.judge.note("birth", fit)
        return fit

    # ---- repair

    def _may_win(self, trial: Fit, fit: Fit, slot: int) -> bool:
        """True where least differences may yet make a trial, which changes a slot, better than the fit."""
        return trial.total < fit.total + max(self.settings.object_price, self.mismatch.near(fit, slot))

    def _repair(
        self, fit: Fit, moves: tuple[Callable[[Fit, float], Fit], ...], done: Callable[[Fit], bool]
    ) -> Fit:
        """Rounds of moves until it is done, nothing helps any more, or so many pictures are drawn."""
        price, end = self.settings.late_price, self.judge.renders + self.settings.repair_renders
        for _ in range(self.settings.rounds):
            if done(fit) or self.judge.renders > end:
                break
            before = self._price(fit, price)
            for move in moves:
                fit, now = self._moved(move, fit), fit
                if fit is not now and not done(fit):
                    fit = self._finished(fit, least=STEEP)  # the others had made up for what was wrong
                if done(fit) or self.judge.renders > end:
                    break
            if self._price(fit, price) > (1.0 - self.settings.gain_share) * before:
                break
            fit = self._finished(fit, least=STEEP)
        return self._finished(fit)

    def _moved(self, move: Callable[[Fit, float], Fit], fit: Fit) -> Fit:
        """What a move makes of a fit; nothing of a scene for which it did nothing before."""
        if self._vain.get(move.__name__) is fit.scene:
            return fit
        moved = move(fit, self.settings.late_price)
        if moved is fit:
            self._vain[move.__name__] = fit.scene
        return moved

    def _margin(self, fit: Fit) -> float:
        """Wrong pixels that another object must save beyond its price, lest it only covers what is wrong."""
        return max(1.0, self.settings.gain_share * self.excess(fit))

    def _accept(self, trial: Fit, fit: Fit, price: float, margin: float, what: str) -> Fit:
        if self._price(trial, price) < self._price(fit, price) - margin:
            self.judge.note(what, trial)
            return trial
        return fit

    def _deaths(self, fit: Fit, price: float, *, most: float = math.inf, relit: bool = True) -> Fit:
        """Take away what the picture does without, if need be under another light, unless `relit` is False.

        With `most` only what costs no more wrong pixels before anything else is made up for it.
        """
        for slot in reversed(self.mismatch.slots(fit)):
            trial = self.judge.fit(fit.scene.without(slot))
            loss = trial.total - fit.total
            if loss > min(10.0 * price, most):
                continue
            trial = self.judge.polish(trial, iterations=2)
            if relit and self._price(trial, price) > self._price(fit, price) and not self.content(fit):
                trial = self.judge.polish(relight(self.judge, trial), iterations=3)
            fit = self._accept(trial, fit, price, 0.0, f"death of {self._name(fit, slot)}")
        return fit

    def _relit(self, fit: Fit, price: float) -> Fit:
        """Search the light again in small pictures, now that more objects are known."""
        if self.excess(fit) < 10.0 * price:
            return fit
        small = self.rough.fit(fit.scene)
        found = relight(self.rough, small)
        if found is small:
            return fit
        trial = self.judge.polish(self.judge.fit(found.scene), iterations=3)
        return self._accept(trial, fit, price, 1.0, "new light")

    def _name(self, fit: Fit, slot: int) -> str:
        return self.world.assets[int(fit.scene.asset[0, slot])].name

    def _turns(self, fit: Fit, price: float) -> Fit:
        """Turn each object that is wrong all the way round, where it is."""
        for slot in self.mismatch.slots(fit):
            if self.mismatch.is_wrong(fit, slot):
                what = f"turn of {self._name(fit, slot)}"
                asset = int(fit.scene.asset[0, slot])
                if self.moves.period[asset] == 0.0:  # a solid of revolution: perhaps its facets alone
                    fit = self._accept(spun(self.judge, fit, slot), fit, price, 1.0, what)
                worse = self.mismatch.near(fit, slot)
                for trial in other_poses(self.judge, self.rough, fit, slot, worse=worse):
                    fit = self._accept(trial, fit, price, 1.0, what)
                    if not self.mismatch.is_wrong(fit, slot):
                        break
        return fit

    def _spins(self, fit: Fit) -> Fit:
        """Turn each object that is a little wrong by small angles, if nothing is more than a little wrong."""
        if not self.mismatch.agrees(fit):
            return fit
        start = fit
        for slot in self.mismatch.slots(fit):
            if self.mismatch.near(fit, slot) < _A_LITTLE:
                continue
            trial = spun(self.judge, fit, slot)
            if trial is not fit:
                trial = self.judge.polish(trial, free=of_slot(self.world, slot), iterations=3, least=STEEP)
                fit = self._accept(trial, fit, 0.0, 0.0, f"turn of {self._name(fit, slot)}")
        return fit if fit is start else self._finished(fit, 4, STEEP)

    def _slides(self, fit: Fit, price: float) -> Fit:
        """Move each object that is wrong along its ray, where that hardly shows."""
        for slot in self.mismatch.slots(fit):
            if self.mismatch.is_wrong(fit, slot):
                trial = slid(self.judge, fit, slot)
                fit = self._accept(trial, fit, price, 0.0, f"slide of {self._name(fit, slot)}")
        return fit

    def _rescans(self, fit: Fit, price: float) -> Fit:
        """Turn each object that is wrong all the way round, as sketches: these find its place as well."""
        for slot in self.mismatch.slots(fit):
            if not self.mismatch.is_wrong(fit, slot):
                continue
            base = candidates_of(fit.scene, [slot])
            starts = self.others.turned(base)
            rest = self.judge.fit(fit.scene.without(slot))
            c, tint, _ = self.sketches.refined(rest, starts, 5)
            trials = [
                self.judge.fit(with_object(fit.scene, slot, c[[i]], tint[i])) for i in range(min(3, len(c)))
            ]
            best = min(trials, key=lambda f: f.total, default=fit)
            if best is not fit and self._may_win(best, fit, slot):
                best = self.judge.polish(best, free=of_slot(self.world, slot), iterations=4)
                fit = self._accept(best, fit, price, 1.0, f"turn of {self._name(fit, slot)}")
        return fit

    def _exchanges(self, fit: Fit, price: float) -> Fit:
        """Put another asset in the place of each object that is wrong."""
        return self._exchanged(fit, price, self.mismatch.wrong, self.others.likeliest)

    def _urgent_exchanges(self, fit: Fit, price: float) -> Fit:
        """The same of each that is quite wrong."""
        return self._exchanged(fit, price, self.mismatch.quite_wrong, self.others.likeliest)

    def _insists(self, fit: Fit, price: float) -> Fit:
        """The same with all that is proposed for an empty place."""
        return self._exchanged(fit, price, self.mismatch.quite_wrong, self.others.imaginable)

    def _exchanged(
        self,
        fit: Fit,
        price: float,
        wrong: Callable[[Fit], dict[int, float]],
        others: Callable[[Fit, int], list[Scene]],
    ) -> Fit:
        """The fit with the best of `others` in each slot that is `wrong`, where that is a clear gain."""
        for slot in self.mismatch.slots(fit):
            if slot not in wrong(fit):
                continue
            own = of_slot(self.world, slot)
            trials = [
                self.rough.polish(self.rough.fit(s), free=own, iterations=3, least=STEEP)
                for s in others(fit, slot)
            ]
            if not trials:
                continue
            trial = self.judge.fit(min(trials, key=lambda t: t.total).scene)
            if not self._may_win(trial, fit, slot):
                continue
            trial = self.judge.polish(trial, free=own, iterations=3)
            what = f"exchange of {self._name(fit, slot)}"
            fit = self._accept(trial, fit, price, self._margin(fit), what)
        return fit

    def _late_birth(self, fit: Fit, price: float) -> Fit:
        if bool((fit.scene.asset[0] >= 0).all()):  # perhaps one is in the others' way
            fit = self._deaths(fit, price, relit=False)
        start = self._with_room(fit) if self._lacks(fit) else fit
        for hidden in (False, True)[: 1 + self.mismatch.misses(fit)]:
            trial = self._births(start, price, most=1, late=True, hidden=hidden)
            if trial is start:
                continue
            trial = self.judge.polish(trial, iterations=4)
            trial = self._accept(trial, fit, price, self._margin(fit), "late birth")
            if trial is not fit:
                return self._late_birth(trial, price) if self.mismatch.misses(trial) else trial
        return fit

    def _with_room(self, fit: Fit) -> Fit:
        """The fit with an empty slot, that of the object whose absence costs least where all are filled."""
        if bool((fit.scene.asset[0] < 0).any()):
            return fit
        less = [self.judge.fit(fit.scene.without(slot)) for slot in self.mismatch.slots(fit)]
        return min(less, key=lambda f: f.total)

    def _rebirths(self, fit: Fit, price: float) -> Fit:
        """Take the worst object away, alone and with its neighbours, and let others be born there."""
        slots = self.mismatch.slots(fit)
        if len(slots) < 2 or self.excess(fit) < 10.0 * price:
            return fit
        return self._reborn(fit, price, [slots[:1], *self._pairs(fit, 2)])

    def _anew(self, fit: Fit, price: float) -> Fit:
        """The same with its nearest neighbour alone, if an object seems to be missing."""
        if not self.mismatch.misses(fit):
            return fit
        return self._reborn(fit, price, self._pairs(fit, 1))

    def _pairs(self, fit: Fit, most: int) -> list[list[int]]:
        """The slot that is worst with each of those nearest to it."""
        slots, place = self.mismatch.slots(fit), fit.scene.translation[0]
        near = sorted(slots[1:], key=lambda s: float((place[s] - place[slots[0]]).norm()))
        return [[slots[0], n] for n in near[:most]]

    def _reborn(self, fit: Fit, price: float, drops: list[list[int]]) -> Fit:
        """The fit with some slots emptied and others born there; the first of these that is a clear gain."""
        for drop in drops:
            scene = fit.scene
            for slot in drop:
                scene = scene.without(slot)
            trial = self._births(self.judge.fit(scene), price, most=len(drop) + 1, late=True)
            trial = self.judge.polish(trial, iterations=4)
            what = "rebirth of " + ", ".join(self._name(fit, s) for s in drop)
            better = self._accept(trial, fit, price, self._margin(fit), what)
            if better is not fit:
                return better
        return fit
