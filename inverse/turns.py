"""Turns: other poses of an object, where it is, under which the picture is as good."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

import torch
from torch import Tensor

from inverse.bank import yaws
from inverse.candidates import Candidates, Moves, candidates_of
from inverse.least_differences import STEEP, Fit, Judge, with_object
from inverse.light import of_slot
from inverse.metrics import rotation_error
from scenes import stack
from scenes.scene import matrix

_ALIKE = 8.0  # wrong pixels by which two pictures may differ and still be called the same
_APART = math.radians(10.0)  # poses nearer than this are one
_FACET = math.radians(45.0)  # most that a facet of a solid of revolution spans
_SPINS = 12  # turns tried in so wide an arc


def other_poses(judge: Judge, small: Judge, fit: Fit, slot: int, *, worse: float = 0.0) -> Iterator[Fit]:
    """Fits as good as this one, or better, with a slot's object turned by 10 degrees or more.

    Tried are turns by 15 degrees about +y in "upright" worlds, and the 24 turns of a cube about the object's
    axes in "free" ones: those that a look from one side most often cannot tell apart.

    Args:
        judge: Decides.
        small: Of the same picture, smaller: says which turns are worth a closer look.
        fit: What is turned.
        slot: Of the object.
        worse: Wrong pixels more than usual that a turn may bring before it is refined: of an object that is
            wrong the place is wrong as well.
    """
    turned = _turned(judge.moves, candidates_of(fit.scene, [slot]))
    if len(turned) == 0:
        return
    own, tint = of_slot(judge.world, slot), fit.scene.colour[0, slot]
    turns = [with_object(fit.scene, slot, turned[[i]], tint) for i in range(len(turned))]
    scenes = stack([fit.scene, *turns])
    fold = fit.cost.numel() / math.prod(small.evidence.size)
    costs = fold * small.costs(scenes)
    pixels = float((fit.instance_id == slot).sum())
    most = alike(fit, slot)
    likely = costs < costs[0] + 0.1 * pixels + 2.0 * _ALIKE + worse
    if judge.moves.upright:
        likely &= _dips(costs) | (costs < costs[0] + most)
    found = [fit]
    for k in [k for k in costs.argsort().tolist() if k and likely[k]][:3]:
        trial = small.fit(scenes[k])
        if costs[k] > costs[0] + most:
            trial = small.polish(trial, free=own, iterations=2, least=STEEP)
        if (
            fold * trial.total > costs[0] + most + 4.0 + 0.5 * worse
            or turn_between(judge, trial, slot, found) < _APART
        ):
            continue
        trial = judge.polish(judge.fit(trial.scene), free=own, iterations=3, least=STEEP)
        if trial.total <= fit.total + most and turn_between(judge, trial, slot, found) > _APART:
            found.append(trial)
            yield trial


def alike(fit: Fit, slot: int) -> float:
    """Wrong pixels by which a fit's picture and one with a slot turned may differ and be called the same."""
    return min(_ALIKE, 2.0 + 0.05 * float((fit.instance_id == slot).sum()))


def spun(judge: Judge, fit: Fit, slot: int) -> Fit:
    """The fit with a slot's object turned about +y by less than a facet where that is better.

    Facets of a solid of revolution show, and so does a handle in a few pixels, where least differences may
    end in a turn that is best only among the nearest.
    """
    if not judge.moves.upright:
        return fit
    base = candidates_of(fit.scene, [slot]).repeat(_SPINS)
    turns = yaws((torch.arange(_SPINS) - _SPINS // 2) * (_FACET / _SPINS))
    turned = replace(base, rotation=base.rotation @ turns)
    scenes = [with_object(fit.scene, slot, turned[[i]], fit.scene.colour[0, slot]) for i in range(_SPINS)]
    best = int(judge.costs(stack(scenes)).argmin())
    return fit if best == _SPINS // 2 else judge.fit(scenes[best])


def turn_between(judge: Judge, fit: Fit, slot: int, others: list[Fit]) -> float:
    """Least angle [rad] between a slot's rotation and what others say of it, symmetry out."""
    asset = judge.world.assets[int(fit.scene.asset[0, slot])]
    rotation = matrix(fit.scene.rotation[0, slot])
    return min(float(rotation_error(asset, rotation, matrix(o.scene.rotation[0, slot]))) for o in others)


def _dips(costs: Tensor) -> Tensor:
    """Where no neighbour on the circle is lower: from elsewhere least differences lead to one of these."""
    return (costs <= costs.roll(1)) & (costs <= costs.roll(-1))


def _turned(moves: Moves, base: Candidates) -> Candidates:
    """The object turned about its own axes, the given pose left out."""
    if bool(moves.spheres[base.asset[0]]):
        return base[:0]
    if moves.upright:
        period = float(moves.period[base.asset[0]])
        if period == 0.0:
            return base[:0]
        count = max(2, round(period / math.radians(15.0)))
        turns = yaws(torch.arange(1, count) * (period / count))
    else:
        turns = _cube_group()[1:]
    many = base.repeat(len(turns))
    rotation = many.rotation @ turns
    translation = many.translation
    if moves.pivot:
        centre = moves.centre[many.asset][..., None]
        translation = translation + ((many.rotation - rotation) @ centre)[..., 0] * many.scale[:, None]
    return Candidates(many.asset, rotation, translation, many.scale)


def _cube_group() -> Tensor:
    """The 24 rotations that map the axes onto the axes, identity first, [24, 3, 3]."""
    turns = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            r = torch.zeros(3, 3)
            for row, (column, sign) in enumerate(zip(order, signs, strict=True)):
                r[row, column] = sign
            if torch.linalg.det(r) > 0:
                turns.append(r)
    return torch.stack(turns)
