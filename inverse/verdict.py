"""Verdicts: is each object explained, how sure is it, and which other scenes give the same picture."""

import math
from itertools import permutations, product

import torch
import torch.nn.functional as F
from torch import Tensor

from inverse.bank import yaws
from inverse.candidates import Candidates, Moves, candidates_of
from inverse.least_differences import Fit, Judge, with_object
from inverse.light import of_slot
from inverse.metrics import rotation_error
from inverse.recovery import FoundObject, Hypothesis, Verdict
from inverse.visibility import visible_fractions
from scenes import stack
from scenes.scene import matrix

_ALIKE = 8.0  # wrong pixels by which two pictures may differ and still be called the same
_APART = math.radians(10.0)  # poses nearer than this are one hypothesis


def found_objects(judge: Judge, fit: Fit, floor: float, others: dict[int, int]) -> tuple[FoundObject, ...]:
    """One verdict for each filled slot.

    Args:
        judge: The engine's pictures.
        fit: What was recovered.
        floor: Wrong pixels that noise gives each pixel.
        others: How many other poses of a slot's object give the same picture.
    """
    fractions = visible_fractions(judge.engine, fit.scene, size=judge.evidence.size)
    found = []
    for slot in filled_slots(fit):
        asset = judge.world.assets[int(fit.scene.asset[0, slot])]
        seen = fit.instance_id == slot
        pixels = int(seen.sum())
        gain = judge.fit(fit.scene.without(slot)).total - fit.total
        share = _wrong_share(fit, seen, floor)
        verdict, reason = _verdict(judge, fit, slot, pixels, share, gain, others.get(slot, 0))
        found.append(
            FoundObject(
                slot=slot,
                asset=asset.name,
                presence=1.0 - math.exp(-max(0.0, gain) / 20.0),
                verdict=verdict,
                reason=reason,
                visible_fraction=None if fractions is None else float(fractions[0, slot]),
                uncertainty=_uncertainty(judge, fit, slot),
            )
        )
    return tuple(found)


def same_picture(judge: Judge, fit: Fit) -> tuple[tuple[Hypothesis, ...], dict[int, int]]:
    """Scenes whose picture is as good although an object is turned another way; and how many for each slot.

    Tried are turns by 15 degrees about +y in "upright" worlds, and the 24 turns of a cube about the object's
    axes in "free" ones: those that a look from one side most often cannot tell apart.
    """
    moves, world = judge.moves, judge.world
    hypotheses, counts = [], {}
    for slot in filled_slots(fit):
        base = candidates_of(fit.scene, [slot])
        asset = world.assets[int(base.asset[0])]
        turned = _turned(moves, base)
        if len(turned) == 0:
            continue
        tint = fit.scene.colour[0, slot]
        scenes = stack([with_object(fit.scene, slot, turned[[i]], tint) for i in range(len(turned))])
        costs = judge.costs(scenes)
        kept: list[Tensor] = [base.rotation[0]]
        for k in costs.argsort()[:4].tolist():
            if float(costs[k]) > fit.total + 0.1 * float((fit.instance_id == slot).sum()) + 2.0 * _ALIKE:
                break
            trial = judge.polish(judge.fit(scenes[k]), free=of_slot(world, slot), iterations=4)
            rotation = matrix(trial.scene.rotation[0, slot])
            apart = min(float(rotation_error(asset, rotation, k)) for k in kept)
            alike = min(_ALIKE, 2.0 + 0.05 * float((fit.instance_id == slot).sum()))
            if trial.total <= fit.total + alike and apart > _APART:
                kept.append(rotation)
                degrees = math.degrees(float(rotation_error(asset, rotation, kept[0])))
                note = f"{asset.name} turned by {degrees:.0f} degrees"
                loss = trial.total / trial.cost.numel()
                hypotheses.append(Hypothesis(trial.scene, loss, note, trial.image))
        if len(kept) > 1:
            counts[slot] = len(kept) - 1
    return tuple(hypotheses), counts


def filled_slots(fit: Fit) -> list[int]:
    """Slots that hold an object."""
    return (fit.scene.asset[0] >= 0).nonzero()[:, 0].tolist()


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


def _wrong_share(fit: Fit, seen: Tensor, floor: float) -> float:
    """Wrong pixels above the noise on an object and just beside it, per pixel that it shows."""
    wide = F.max_pool2d(seen[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    return float((fit.cost - floor)[wide].sum()) / max(1, int(seen.sum()))


def _verdict(
    judge: Judge, fit: Fit, slot: int, pixels: int, share: float, gain: float, others: int
) -> tuple[Verdict, str]:
    if gain < 4.0:
        return "unexplained", "the picture is as well explained without it"
    if share > 0.4:
        mask = judge.evidence.mask
        seen = fit.instance_id == slot
        if mask is not None and float(mask[seen].mean()) > 0.97:
            return "doubtful", "its outline agrees, its colours do not"
        return "unexplained", f"{share:.0%} of its pixels are wrong"
    if others:
        return (
            "doubtful",
            f"ambiguous: {others} other pose{'s give' if others > 1 else ' gives'} the same picture",
        )
    if pixels < 30:
        return "doubtful", f"only {pixels} pixels of it are seen"
    if share > 0.15:
        return "doubtful", f"{share:.0%} of its pixels are wrong"
    return "explained", ""


def _uncertainty(judge: Judge, fit: Fit, slot: int) -> dict[str, float]:
    """Standard deviations of an object's numbers, from the curvature of the cost and the residual's variance.

    They hold for noise alone: a wrong asset or another engine's shading adds errors that they do not know of.
    """
    columns = (judge.world.active(fit.scene)[0] & of_slot(judge.world, slot)).nonzero()[:, 0]
    covariance = judge.covariance(fit, columns)
    names = [judge.world.names[c].split(".", 1)[1] for c in columns.tolist()]
    deviation = covariance.diagonal().clamp_min(0.0).sqrt().tolist()
    return dict(zip(names, deviation, strict=True))
