"""Directions: the ways in which least differences move a scene."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse.candidates import Candidates, Moves, Pinhole, candidates_of
from inverse.sketch import View
from scenes import Scene, World

_END = 1e-5  # share of its range within which a number is at an end of it


def directions(
    world: World,
    moves: Moves,
    scene: Scene,
    columns: Int[Tensor, "column"],
    steps: Float[Tensor, "parameter"],
    view: View,
    pixels: float,
) -> Float[Tensor, "column parameter"]:
    """How theta moves for each of its columns, by what shifts outlines by about `pixels`.

    A column moves one entry of theta, but for objects' places: these move across the object's ray and along
    it. Of what stands far away on a plane a picture tells the distance by little more than a row; along the
    world's axes that is the small difference of two large shifts, and is lost in the error of finite
    differences. What is at an end of its range moves along the axes, so that it can be held there.

    Args:
        world: Of the scene.
        moves: Of the world's objects.
        scene: One scene.
        columns: Entries of theta.
        steps: Of each entry of theta alone.
        view: What the picture shows.
        pixels: Shift of outlines.
    """
    rows = torch.diag(steps)[columns]
    place = {int(c): k for k, c in enumerate(columns)}
    inside = ~at_end(world, world.pack(scene)[0]).any(0)
    pinhole = Pinhole.of(scene.camera)
    for slot in {world.slot_of[c] for c in place} - {-1}:
        entries = [world.names.index(f"object{slot}.{'xyz'[axis]}") for axis in moves.axes]
        if len(entries) < 2 or not all(e in place and inside[e] for e in entries):
            continue
        one = candidates_of(scene, [slot])
        for entry, direction in zip(
            entries, _frame(one.translation[0] - pinhole.eye, moves.axes), strict=True
        ):
            step = pixels / _shift(moves, one, pinhole, view, direction)
            rows[place[entry], entries] = step * direction[moves.axes]
    return rows


def at_end(world: World, theta: Float[Tensor, "parameter"]) -> Tensor:
    """Which entries of theta are at the low and at the high end of a range that has ends, bool [2, P]."""
    slack = _END * (world.high - world.low)
    return world.ends & torch.stack([theta <= world.low + slack, theta >= world.high - slack])


def _frame(ray: Float[Tensor, "3"], axes: list[int]) -> Float[Tensor, "axis 3"]:
    """Orthonormal directions among axes of the world, the last one along the ray as far as these allow."""
    along = ray[axes] / ray[axes].norm().clamp_min(1e-6)
    basis = torch.linalg.qr(torch.cat([along[:, None], torch.eye(len(axes))], 1)).Q.T
    frame = torch.zeros(len(axes), 3)
    frame[:, axes] = basis.flip(0)
    return frame


def _shift(
    moves: Moves, one: Candidates, pinhole: Pinhole, view: View, direction: Float[Tensor, "3"]
) -> float:
    """Pixels by which an object's outline moves for each metre in a direction of the world.

    Across its ray all of it moves, along it the outline grows or shrinks.
    """
    middle = moves.middles(one.asset, *pinhole.place(one))[0]
    focal, depth = view.focal[1], max(1e-3, -float(middle[2]))
    radius = max(1.0, focal / depth * float(moves.radius[one.asset] * one.scale))
    inward = float((pinhole.rotation @ direction) @ middle / middle.norm().clamp_min(1e-6))
    return (math.sqrt(max(0.0, 1.0 - inward**2)) * focal + abs(inward) * radius) / depth
