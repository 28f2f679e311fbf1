"""Gradients as arrows and arcs in the picture: where descent would move objects, how it would turn them."""

import math
from dataclasses import dataclass

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from inverse.candidates import Pinhole
from scenes.scene import Scene, matrix
from scenes.world import World

LONGEST = 0.16  # of the picture's height: the longest arrow
WIDEST = math.radians(100.0)  # the widest arc
LEAST = 0.04  # arrows and arcs that are a smaller share of the longest are left out
_TINY = 1e-3  # [px] outlines move while directions are measured
_ARC_POINTS = 24

Line = Float[np.ndarray, "point 2"]  # (column, row) [px]; an arrow's head is at its last point


@dataclass(frozen=True)
class Arrows:
    """What one gradient looks like: an arrow per object that is moved, an arc per object that is turned."""

    moves: tuple[Line, ...]
    turns: tuple[Line, ...]


def descent_arrows(
    world: World,
    scene: Scene,
    gradient: Float[Tensor, "parameter"],
    steps: Float[Tensor, "parameter"],
    size: tuple[int, int],
) -> Arrows:
    """Where steepest descent would take each object.

    Descent is steepest in units of the steps that move outlines by a pixel. The longest arrow and the widest
    arc of a gradient have a fixed size: lengths compare objects, not gradients.

    Args:
        world: Says which entries are positions and rotations.
        scene: Where the gradient was taken, B = 1.
        gradient: Of a loss, to theta, [P].
        steps: Of each entry of theta, [P].
        size: (H, W) of the picture [px].
    """
    theta, down = world.pack(scene).double(), -(gradient * steps).double()
    still = world.unpack(theta, like=scene)
    moved = world.unpack(theta + steps * _tiny(world, down, "position"), like=scene)
    turned = world.unpack(theta + steps * _tiny(world, down, "rotation"), like=scene)
    filled = (scene.asset[0] >= 0)[:, None]
    here = project(still, centres(world, still), size)
    motion = (project(moved, centres(world, moved), size) - here) * filled
    # From before to after, as a rotation vector in the world
    turn = roma.unitquat_to_rotvec(
        roma.quat_product(turned.rotation[0].double(), roma.quat_conjugation(still.rotation[0].double()))
    )
    return Arrows(_moves(here, motion, LONGEST * size[0]), _turns(world, still, turn * filled, size))


def way_to(world: World, scene: Scene, truth: Scene, size: tuple[int, int]) -> tuple[Line, ...]:
    """Arrows from where each object is to where it ought to be, in their true length."""
    here = project(scene, centres(world, scene), size)
    there = project(truth, centres(world, truth), size)
    return tuple(
        torch.stack([here[s], there[s]]).numpy() for s in range(scene.slots) if int(scene.asset[0, s]) >= 0
    )


def centres(world: World, scene: Scene) -> Float[Tensor, "slot 3"]:
    """The middles of the objects' bounding boxes in the world [m], float64."""
    index = scene.asset[0].clamp_min(0).tolist()
    middle = torch.stack([torch.from_numpy(world.assets[a].centre).double() for a in index])
    turned = (matrix(scene.rotation[0].double()) @ middle[..., None])[..., 0]
    return turned * scene.scale[0, :, None].double() + scene.translation[0].double()


def project(
    scene: Scene, points: Float[Tensor, "point 3"], size: tuple[int, int]
) -> Float[Tensor, "point 2"]:
    """Where points of the world are in a picture of `size` (H, W): (column, row) [px].

    Points behind the eye are taken to lie far off to their side.
    """
    camera = Pinhole.of(scene.camera).at(size)
    x, y, z = ((points - camera.eye.double()) @ camera.rotation.T.double()).unbind(-1)
    z = z.clamp(max=-1e-6)
    return torch.stack(
        [camera.centre[0] - camera.focal[0] * x / z, camera.centre[1] + camera.focal[1] * y / z], -1
    )


def _tiny(world: World, down: Float[Tensor, "parameter"], group: str) -> Float[Tensor, "parameter"]:
    """The part of a direction that is one group of theta's, `_TINY` long; zero where it vanishes."""
    part = torch.where(torch.tensor([g == group for g in world.groups]), down, 0.0)
    return _TINY * part / part.norm().clamp_min(1e-300)


def _moves(here: Tensor, motion: Tensor, longest: float) -> tuple[Line, ...]:
    length = motion.norm(dim=-1)
    if float(length.max()) == 0.0:
        return ()
    ends = here + motion * (longest / length.max())
    return tuple(torch.stack([here[s], ends[s]]).numpy() for s in _worth_drawing(length))


def _turns(
    world: World, scene: Scene, turn: Float[Tensor, "slot 3"], size: tuple[int, int]
) -> tuple[Line, ...]:
    """Arcs around the axes of the turns, on the side of each object that faces the eye."""
    angle = turn.norm(dim=-1)
    if float(angle.max()) < 1e-12:  # rounding
        return ()
    middle, lines = centres(world, scene), []
    eye = scene.camera.translation[0].double()
    for s in _worth_drawing(angle):
        axis = turn[s] / angle[s]
        towards = eye - middle[s]
        front = towards - (towards @ axis) * axis
        if float(front.norm()) < 1e-6 * float(towards.norm()):  # looked at along the axis
            front = torch.linalg.cross(axis, torch.eye(3, dtype=axis.dtype)[axis.abs().argmin()])
        front = front / front.norm()
        side = torch.linalg.cross(axis, front)
        width = float(WIDEST * angle[s] / angle.max())
        phase = torch.linspace(-width / 2, width / 2, _ARC_POINTS, dtype=axis.dtype)[:, None]
        radius = world.assets[int(scene.asset[0, s])].radius * float(scene.scale[0, s])
        points = middle[s] + radius * (phase.cos() * front + phase.sin() * side)
        lines.append(project(scene, points, size).numpy())
    return tuple(lines)


def _worth_drawing(length: Float[Tensor, "slot"]) -> list[int]:
    return (length >= LEAST * length.max()).nonzero()[:, 0].tolist()
