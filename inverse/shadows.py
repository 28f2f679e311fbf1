"""Shadows that a scene's objects throw on what else may stand there, for sketches of it."""

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.candidates import Moves, Pinhole, candidates_of
from inverse.sketch import Lamp, Shadow, Sketcher, View
from scenes import Scene

_SIDE = 128  # [texel] of the map
_FAR = 20.0  # radii of what throws shadows between it and the lamp, whose rays are nearly parallel then
_BIAS = 1.5  # [texel] by which what is in shadow lies behind


def thrown(sketcher: Sketcher, moves: Moves, scene: Scene, lamp: Lamp, size: tuple[int, int]) -> Shadow:
    """The shadow of a scene's objects (B = 1), for pictures of H x W pixels.

    Args:
        sketcher: Of the world.
        moves: Of the same world: knows how large its assets are.
        scene: Its objects, as its camera sees them.
        lamp: The scene's.
        size: H x W.
    """
    filled = (scene.asset[0] >= 0).nonzero()[:, 0].tolist()
    if not filled:
        return Shadow.none()
    c, pinhole = candidates_of(scene, filled), Pinhole.of(scene.camera)
    linear, translation = pinhole.place(c)
    middles = moves.middles(c.asset, linear, translation)
    middle = middles.mean(0)
    radius = float(((middles - middle).norm(dim=-1) + moves.radius[c.asset] * c.scale).max())
    lamp_from_camera, place = _facing(lamp.direction), middle + _FAR * radius * lamp.direction
    half = 0.5 * _SIDE  # [texel]
    focal = (_FAR - 1.0) * half  # all of it is in the map, what is nearest to the lamp, too
    seen = sketcher.draw(
        c.asset,
        lamp_from_camera @ linear,
        (translation - place) @ lamp_from_camera.T,
        View((focal, focal), (half, half), _SIDE, _SIDE),
        window=_SIDE,
        origin=torch.zeros(len(c), 2, dtype=torch.int32),
        coarse=True,
    )
    view = pinhole.view(*size)
    ray = torch.tensor(  # of a pixel (x, y, 1), in camera axes, 1 m deep
        [
            [1.0 / view.focal[0], 0.0, -view.centre[0] / view.focal[0]],
            [0.0, -1.0 / view.focal[1], view.centre[1] / view.focal[1]],
            [0.0, 0.0, -1.0],
        ]
    )
    texel = torch.tensor([[focal, 0.0, -half], [0.0, -focal, -half], [0.0, 0.0, -1.0]]) @ lamp_from_camera
    bias = _BIAS * 2.0 / _SIDE / _FAR  # in shares of the way from the lamp
    return Shadow(seen.inverse_depth.amax(0), texel @ ray, -texel @ place, 1.0 + bias, lamp.dark)


def _facing(direction: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Rotation into the axes of a camera that lies in a direction and looks back along it."""
    aside = torch.eye(3)[int(direction.abs().argmin())]
    x = torch.linalg.cross(aside, direction)
    x = x / x.norm()
    return torch.stack([x, torch.linalg.cross(direction, x), direction])
