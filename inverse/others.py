"""Others: what else may be in the place of an object, as the bank's sketches propose it."""

import torch

from inverse.bank import rotations, yaws
from inverse.candidates import Candidates, Moves, join
from inverse.least_differences import Fit, Judge, with_object
from inverse.mismatch import Mismatch
from inverse.proposals import Proposals
from scenes import Scene, stack

_LIKELIEST = 3  # scenes that are refined
_IMAGINABLE = 16  # the same where nothing else helps
_APART = 0.04  # share of the box of positions by which two places of one asset differ


class Others:
    """Scenes in which one object is another.

    Args:
        judge: Of the picture.
        rough: Of the same picture, smaller: ranks the scenes.
        sketches: Of the judge's picture.
        mismatch: Knows its noise.
    """

    def __init__(self, judge: Judge, rough: Judge, sketches: Proposals, mismatch: Mismatch) -> None:
        self.judge, self.rough, self.sketches, self.mismatch = judge, rough, sketches, mismatch
        self.moves: Moves = judge.moves

    def likeliest(self, fit: Fit, slot: int) -> list[Scene]:
        """The best of each asset that may be seen where a slot's object is, at most three, none as it is."""
        rest = self.judge.fit(fit.scene.without(slot))
        c, tint, _ = self.sketches.propose(rest, near=fit.instance_id == slot)
        scenes = [with_object(rest.scene, slot, c[[i]], tint[i]) for i in range(len(c))]
        now, best = fit.scene, dict[int, Scene]()
        for k in self._ranked(scenes):
            asset, shift = int(scenes[k].asset[0, slot]), scenes[k].translation - now.translation
            apart = float(shift[0, slot].norm()) > _APART * self.sketches.reach
            if apart or asset != int(now.asset[0, slot]):
                best.setdefault(asset, scenes[k])
        return list(best.values())[:_LIKELIEST]

    def imaginable(self, fit: Fit, slot: int) -> list[Scene]:
        """The best of all that is proposed for a slot, were it empty, and of each asset all the way round."""
        rest = self.judge.fit(fit.scene.without(slot))
        wrong = rest.cost - self.mismatch.floor
        found = [self.sketches.propose(rest, wrong=wrong, hidden=h) for h in (True, False)]
        c, change = join([f[0] for f in found]), torch.cat([f[2] for f in found])
        best: dict[int, Candidates] = {}
        for k in change.argsort().tolist():
            best.setdefault(int(c.asset[k]), self.turned(c[[k]]))
        if not best:
            return []
        found.append(self.sketches.refined(rest, join(list(best.values())), 12, per_asset=3))
        scenes = [
            with_object(rest.scene, slot, c[[i]], tint[i]) for c, tint, _ in found for i in range(len(c))
        ]
        return [scenes[k] for k in self._ranked(scenes)[:_IMAGINABLE]]

    def turned(self, base: Candidates) -> Candidates:
        """One candidate turned all the way round; what does not show its turns, moved a little."""
        period = float(self.moves.period[base.asset[0]])
        if not self.moves.upright:
            turns = rotations(300)
            many = base.repeat(len(turns))
            return Candidates(many.asset, turns, many.translation, many.scale)
        if period > 0:
            turns = yaws(torch.arange(24) * (period / 24))
            many = base.repeat(24)
            return Candidates(many.asset, turns @ many.rotation, many.translation, many.scale)
        many = base.repeat(5)
        shift = torch.zeros(5, self.moves.count)
        shift[1:, :2] = (
            0.012 * self.sketches.reach * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        )
        return self.moves.apply(many, shift)

    def _ranked(self, scenes: list[Scene]) -> list[int]:
        """Their places, the best in small pictures first."""
        return self.rough.costs(stack(scenes)).argsort().tolist() if scenes else []
