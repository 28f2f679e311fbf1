"""Variants: the turns and places about a candidate that are looked at again."""

import math
from dataclasses import replace

import pytest
import torch

from inverse.candidates import Candidates, Moves, candidates_of
from inverse.variants import variants
from scenes import World
from scenes.scene import matrix


@pytest.fixture(scope="module")
def world() -> World:
    return World.load("street")


def one(world: World, asset: str, place: list[float]) -> Candidates:
    return Candidates(
        torch.tensor([world.index(asset)]), torch.eye(3)[None], torch.tensor([place]), torch.ones(1)
    )


@pytest.mark.parametrize(("asset", "turns"), [("hatchback", 24), ("stop_sign", 12), ("cone", 1)])
def test_every_place_is_taken_in_every_turn(world: World, asset: str, turns: int) -> None:
    """Turns by 15 degrees fill the asset's own period, in two sizes, wherever it may stand."""
    start = one(world, asset, [0.5, 0.0, -15.0])
    many = variants(Moves(world), torch.tensor([0.0, 1.4, 0.0]), start)
    places = many.translation.unique(dim=0)
    assert len(places) > 20
    assert len(many) == len(places) * turns * 2
    assert many.scale.unique().tolist() == pytest.approx([0.95, 1.05])
    yaw = torch.atan2(many.rotation[:, 0, 2], many.rotation[:, 0, 0])
    here = ((many.translation - start.translation).norm(dim=1) < 1e-5) & (many.scale > 1.0)
    told = sorted(math.degrees(a) % 360 for a in yaw[here].tolist())
    assert told == pytest.approx([15.0 * k for k in range(turns)], abs=1e-3)


def test_places_keep_to_the_world(world: World) -> None:
    """At the border of its range an object is not looked for beyond it, nor off the ground."""
    start = replace(one(world, "van", [4.9, 0.0, -7.1]), scale=torch.tensor([1.08]))
    many = variants(Moves(world), torch.tensor([0.0, 1.4, 0.0]), start)
    low, high = torch.tensor([-5.0, 0.0, -24.0]), torch.tensor([5.0, 0.0, -7.0])
    assert bool(((many.translation >= low) & (many.translation <= high)).all())
    assert float(many.translation[:, 0].max()) == 5.0
    assert many.scale.unique().tolist() == pytest.approx([1.026, 1.1])


def test_what_floats_keeps_its_rotation() -> None:
    """Where objects are not upright there are too many turns; the encoder's own is kept."""
    world = World.load("cube")
    scene = world.sample(1, generator=torch.Generator().manual_seed(3))
    many = variants(Moves(world), scene.camera.translation[0], candidates_of(scene, [0]))
    assert torch.equal(many.rotation, matrix(scene.rotation[0, :1]).expand_as(many.rotation))
