"""First birth: the first object of a picture whose light is not known yet."""

import math

from inverse.bank import spread
from inverse.least_differences import Fit, Judge, with_object
from inverse.light import lights, relight
from inverse.proposals import Proposals


def first_birth(judge: Judge, sketches: Proposals, fit: Fit, price: float) -> Fit:
    """The first object, with the light under which it explains most; `fit` itself where none does.

    Before an object is known nothing tells where the light comes from, and an asset of known colour is
    not recognised under a wrong one: objects are proposed under the best light of each quarter of the
    directions.

    Args:
        judge: Decides.
        sketches: Of the judge's picture.
        fit: A scene without objects.
        price: Wrong pixels that the object must save.
    """
    if not judge.world.light.azimuth.free:
        return fit
    several = lights(judge.world, fit.scene, few=True)
    bank, target, rest = (
        sketches.bank(fit.scene),
        sketches.target(sketches.quarter),
        sketches.rest(fit.scene, sketches.quarter),
    )
    gains = []
    for i in range(len(several)):
        score = bank.score(sketches.lamp(several[i]), target, rest)
        best = spread(bank.candidates, score, 5, distance=0.1 * sketches.reach, turn=math.pi, per_asset=2)
        gains.append(float(score[best].sum()))
    quarter = math.ceil(len(several) / 4)
    trials = []
    for start in range(0, len(several), quarter):
        k = min(range(start, min(start + quarter, len(several))), key=gains.__getitem__)
        under = judge.fit(several[k])
        c, tint, change = sketches.propose(under)
        scenes = [
            with_object(under.scene, 0, c[[i]], tint[i])
            for i in range(min(4, len(c)))
            if float(change[i]) < -price
        ]
        trials += [judge.fit(s) for s in scenes]
    trials = [t for t in trials if t.total < fit.total - price]
    if not trials:
        return fit
    assets: dict[int, Fit] = {}
    for trial in sorted(trials, key=lambda t: t.total):
        assets.setdefault(int(trial.scene.asset[0, 0]), trial)
    best_fit = min((relight(judge, t) for t in list(assets.values())[:3]), key=lambda t: t.total)
    judge.note("birth", best_fit)
    return best_fit
