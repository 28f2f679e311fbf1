"""Which columns of a picture's Jacobian can share a picture: those that change different pixels."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from scenes import World

_TOUCHED = 0.05  # change of a pixel by an object's removal from which on it counts as the object's


@dataclass(frozen=True, eq=False)
class Stencil:
    """Columns that are moved together.

    Attributes:
        columns: Entries of theta.
        places: Of each, which column of the Jacobian it is.
        shares: Of each, what part of the pictures' change is its own; broadcast to [H, W, channel].
    """

    columns: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    shares: list[Tensor] = field(default_factory=list)


def stencils(
    world: World, columns: list[int], reach: dict[int, Float[Tensor, "height width"]], channels: int
) -> list[Stencil]:
    """As few sets of columns as can be told apart in the pictures.

    The same number of objects that are apart is moved at once. A tint changes what shows its object, and only
    in its own channel: all tints are moved at once.

    Args:
        world: Names the entries of theta.
        columns: Entries of theta, those of the Jacobian.
        reach: For each slot among them how far its object changes each pixel.
        channels: Of the pictures that are compared.

    Reference:
        Curtis, Powell and Reid 1974, "On the estimation of sparse Jacobian matrices".
    """
    group = _apart(reach)
    sets: dict[tuple[int | str, ...], Stencil] = {}
    for place, c in enumerate(columns):
        slot, name = world.slot_of[c], world.names[c].rsplit(".", 1)[1]
        share = torch.ones(1, 1, 1)
        key: tuple[int | str, ...] = (c,)
        if slot >= 0:
            tint = world.groups[c] == "colour"
            beside = reach if tint else {s: r for s, r in reach.items() if group[s] == group[slot]}
            share = _owned(slot, beside)[..., None]
            key = ("tint",) if tint else (group[slot], name)
            if tint:
                share = share * (torch.arange(channels) == "rgb".index(name))
        stencil = sets.setdefault(key, Stencil())
        stencil.columns.append(c)
        stencil.places.append(place)
        stencil.shares.append(share)
    return list(sets.values())


def _apart(reach: dict[int, Tensor]) -> dict[int, int]:
    """A number for each slot, the same only for objects that touch no pixel in common."""
    touched = {slot: r > _TOUCHED for slot, r in reach.items()}
    group: dict[int, int] = {}
    for slot, mine in touched.items():
        taken = {group[other] for other in group if bool((mine & touched[other]).any())}
        group[slot] = next(k for k in range(len(touched)) if k not in taken)
    return group


def _owned(slot: int, reach: dict[int, Tensor]) -> Float[Tensor, "height width"]:
    """1 where the slot reaches farther than all others."""
    others = [r for s, r in reach.items() if s != slot]
    if not others:
        return torch.ones_like(reach[slot])
    return (reach[slot] > torch.stack(others).amax(0)).float()
