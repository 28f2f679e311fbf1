"""Verdicts: is each object explained, how sure is it, and which other scenes give the same picture."""

import math
from collections import Counter

from torch import Tensor

from inverse.least_differences import Fit, Judge
from inverse.light import of_slot
from inverse.recovery import FoundObject, Hypothesis, Verdict
from inverse.turns import alike, other_poses, turn_between
from inverse.visibility import visible_fractions
from inverse.window import grown

_SMALL = 64  # [px] side of a square as large as the pictures that tell which turns are worth a closer look
_BETTER = 0.00005  # share of wrong pixels by which another pose must be better to take the place of the best


def found_objects(judge: Judge, fit: Fit, floor: float, others: dict[int, int]) -> tuple[FoundObject, ...]:
    """One verdict for each filled slot.

    Args:
        judge: The engine's pictures.
        fit: What was recovered.
        floor: Wrong pixels that noise gives each pixel.
        others: How many other poses of a slot's object give the same picture.
    """
    fractions = visible_fractions(judge.engine, fit.scene, size=judge.evidence.size)
    uncertainty = _uncertainty(judge, fit)
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
                uncertainty=uncertainty[slot],
            )
        )
    return tuple(found)


def same_picture(judge: Judge, fit: Fit) -> tuple[Fit, tuple[Hypothesis, ...], dict[int, int]]:
    """The best of a fit and its objects' other poses, and those whose picture is as good.

    Tried are turns by 15 degrees about +y in "upright" worlds, and the 24 turns of a cube about the object's
    axes in "free" ones: those that a look from one side most often cannot tell apart.

    Returns:
        The fit, with objects turned where that is better; scenes whose picture is as good although an object
        is turned another way; and how many there are for each slot.
    """
    small, best, least = judge.coarser(_SMALL), fit, _BETTER * fit.cost.numel()
    turned: list[tuple[int, Fit]] = []
    for slot in filled_slots(fit):
        for other in other_poses(judge, small, best, slot):
            best, less = (other, best) if other.total < best.total - least else (best, other)
            turned.append((slot, less))
    hypotheses, counts = [], Counter[int]()
    for slot, other in turned:
        if other.total > best.total + alike(best, slot):
            continue
        asset = judge.world.assets[int(best.scene.asset[0, slot])]
        degrees = math.degrees(turn_between(judge, other, slot, [best]))
        note = f"{asset.name} turned by {degrees:.0f} degrees"
        hypotheses.append(Hypothesis(other.scene, other.total / other.cost.numel(), note, other.image))
        counts[slot] += 1
    return best, tuple(hypotheses), dict(counts)


def filled_slots(fit: Fit) -> list[int]:
    """Slots that hold an object."""
    return (fit.scene.asset[0] >= 0).nonzero()[:, 0].tolist()


def _wrong_share(fit: Fit, seen: Tensor, floor: float) -> float:
    """Wrong pixels above the noise on an object and just beside it, per pixel that it shows."""
    return float((fit.cost - floor)[grown(seen, 1)].sum()) / max(1, int(seen.sum()))


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


def _uncertainty(judge: Judge, fit: Fit) -> dict[int, dict[str, float]]:
    """Standard deviations of each object's numbers, from the cost's curvature and the residual's variance.

    They hold for noise alone: a wrong asset or another engine's shading adds errors that they do not know of.
    """
    world, active, slots = judge.world, judge.world.active(fit.scene)[0], filled_slots(fit)
    if not slots:
        return {}
    blocks = [(active & of_slot(world, slot)).nonzero()[:, 0] for slot in slots]
    told = {}
    for slot, block, covariance in zip(slots, blocks, judge.covariances(fit, blocks), strict=True):
        names = [world.names[c].split(".", 1)[1] for c in block.tolist()]
        deviation = covariance.diagonal().clamp_min(0.0).sqrt().tolist()
        told[slot] = dict(zip(names, deviation, strict=True))
    return told
