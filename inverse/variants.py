"""Variants: one object in other turns and places, as whoever saw it may have been mistaken."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from inverse.bank import yaws
from inverse.candidates import Candidates, Moves, join

_TURN = math.radians(15.0)  # between two turns
_SHARES = (0.8, 0.87, 0.93, 1.0, 1.07, 1.15)  # of the distance
_SIZES = (0.95, 1.05)  # of its size, where that is free
_ASIDE = (-0.8, -0.4, 0.0, 0.4, 0.8)  # of the object's radius, level and across its ray


def variants(moves: Moves, eye: Tensor, c: Candidates) -> Candidates:
    """Each candidate nearer, farther, aside, smaller and larger, and if "upright" in every turn.

    All keep within the world's ranges.

    Where a picture's border cuts an object off, or another hides half of it, its heading and its place are
    mistaken together, and neither can be mended without the other.

    Args:
        moves: Of the world.
        eye: Where the camera is [m], [3].
        c: The candidates.
    """
    away = c.translation - eye
    across = torch.stack([-away[:, 2], torch.zeros(len(c)), away[:, 0]], -1)
    radius = (moves.radius[c.asset] * c.scale)[:, None]
    aside = radius * across / across.norm(dim=1, keepdim=True).clamp_min(1e-6)
    some = join([_about(moves, c[[k]], away[k], aside[k]) for k in range(len(c))])
    if not moves.sized:
        return some
    return join(
        [replace(some, scale=(f * some.scale).clamp(moves.scale_low, moves.scale_high)) for f in _SIZES]
    )


def _about(moves: Moves, one: Candidates, away: Tensor, aside: Tensor) -> Candidates:
    """One candidate's variants: as many turns at each place, places a share of `away` and `aside` [m] off."""
    count = max(1, round(float(moves.period[one.asset[0]]) / _TURN)) if moves.upright else 1
    turns = yaws(torch.arange(count) * _TURN)
    shifts = torch.stack([(share - 1.0) * away + x * aside for share in _SHARES for x in _ASIDE])
    places = torch.maximum(torch.minimum(one.translation + shifts, moves.high), moves.low)
    many = one.repeat(len(places) * count)
    return Candidates(
        many.asset,
        turns.repeat(len(places), 1, 1) @ many.rotation,
        places.repeat_interleave(count, 0),
        many.scale,
    )
