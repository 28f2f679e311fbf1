"""Directions of least differences: places move across their rays and along them, by what outlines show."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from inverse.candidates import Moves, Pinhole
from inverse.directions import directions
from inverse.encoder.rays import Rays
from inverse.least_differences import Judge
from inverse.losses import Evidence
from render.engine import open_engine
from scenes import Scene, World

SIZE = (96, 192)


@pytest.fixture(scope="module")
def street() -> World:
    return World.load("street")


def sign(world: World, x: float, z: float) -> Scene:
    """A scene of one sign that half faces the camera."""
    scene = world.sample(1, generator=torch.Generator().manual_seed(5))
    asset, place = torch.full_like(scene.asset, -1), scene.translation.clone()
    rotation, scale = scene.rotation.clone(), torch.ones_like(scene.scale)
    asset[0, 0], place[0, 0] = world.index("warning_sign"), torch.tensor([x, 0.0, z])
    rotation[0, 0] = torch.tensor([0.0, math.sin(0.3), 0.0, math.cos(0.3)])
    return replace(scene, asset=asset, translation=place, rotation=rotation, scale=scale)


def rows(world: World, scene: Scene, pixels: float = 1.0) -> tuple[list[str], torch.Tensor]:
    """Names of the sign's columns, and how theta moves for each."""
    columns = torch.tensor([k for k, slot in enumerate(world.slot_of) if slot == 0])
    pinhole = Pinhole.of(scene.camera)
    steps = torch.full((len(world.names),), 0.01)
    moved = directions(world, Moves(world), scene, columns, steps, pinhole.view(*SIZE), pixels)
    return [world.names[c].split(".")[1] for c in columns], moved


def test_places_move_across_the_ray_and_along_it(street: World) -> None:
    """By a pixel of a row or column; what is no place moves by its own step."""
    scene = sign(street, 4.0, -14.0)
    names, moved = rows(street, scene)
    x, z = street.names.index("object0.x"), street.names.index("object0.z")
    across, along = moved[names.index("x"), [x, z]], moved[names.index("z"), [x, z]]
    ray = (scene.translation - scene.camera.translation)[0, 0, [0, 2]]
    assert_close(along[0] * ray[1], along[1] * ray[0])
    assert float(across @ ray) == pytest.approx(0.0, abs=1e-4)
    rays = Rays.of(scene.camera, SIZE)
    here, there = (
        rays.pixels(scene.translation[:, 0] + torch.tensor([[step[0], 0.0, step[1]]]))[0][0]
        for step in (torch.zeros(2), across)
    )
    assert float((there - here)[0].abs()) == pytest.approx(1.0, abs=0.15)
    assert_close(
        moved[names.index("yaw")], 0.01 * torch.eye(len(street.names))[street.names.index("object0.yaw")]
    )
    assert_close(rows(street, scene, 2.0)[1][names.index("z")], 2.0 * moved[names.index("z")])


def test_what_is_at_an_end_moves_along_the_axes(street: World) -> None:
    """There it can be held while the other axis moves on."""
    names, moved = rows(street, sign(street, 5.0, -14.0))
    assert_close(
        moved[names.index("x")], 0.01 * torch.eye(len(street.names))[street.names.index("object0.x")]
    )


@pytest.mark.slow
@pytest.mark.parametrize("place", [(4.0, -14.0), (2.0, -20.0)])
@pytest.mark.parametrize("share", [0.95, 1.05])
def test_a_far_sign_finds_its_distance(street: World, share: float, place: tuple[float, float]) -> None:
    """From 5 % too near or too far to less than 2 %. Along the world's axes it stays 3 to 5 % off."""
    truth = sign(street, *place)
    eye = truth.camera.translation[:, None]
    off = eye + share * (truth.translation - eye)
    off[..., 1] = 0.0
    with open_engine("software", street, size=SIZE) as engine:
        judge = Judge(engine, street, Evidence(engine.render(truth).rgb[0]))
        end = judge.polish(judge.fit(replace(truth, translation=off)), iterations=12)
    left = (end.scene.translation - truth.translation)[0, 0].norm()
    assert float(left / (truth.translation - eye)[0, 0].norm()) < 0.02
