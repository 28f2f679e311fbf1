"""Candidates: cameras against the engine's geometry, moves and steps against projected points, symmetry."""

import math
from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from small_world import cuboid, small_world
from torch.testing import assert_close

from inverse.candidates import Candidates, Moves, Pinhole, candidates_of, join, yaw_period
from render.geometry import assemble
from scenes import World
from scenes.asset import Symmetry
from scenes.world import Interval

FIXED = Interval(0.0, 0.0)


def candidates(world, count=4, seed=0):
    """Objects of all of the world's assets, placed as it allows."""
    scene = replace(world, count=(count, count)).sample(generator=torch.Generator().manual_seed(seed))
    c = candidates_of(scene, list(range(count)))
    return Candidates(torch.arange(count) % len(world.assets), c.rotation, c.translation, c.scale)


def pinhole(world):
    return Pinhole.of(world.empty().camera)


def projected(c, camera, view, points):
    """Points [P, 3] of each candidate's own frame on the screen of a view [px], [N, P, 2]."""
    linear, translation = camera.place(c)
    p = points @ linear.transpose(1, 2) + translation[:, None]
    x = view.centre[0] - view.focal[0] * p[..., 0] / p[..., 2]
    y = view.centre[1] + view.focal[1] * p[..., 1] / p[..., 2]
    return torch.stack([x, y], -1)


@pytest.mark.parametrize("name", ["cube", "street", "tabletop"])
def test_projection_is_the_engines(name):
    """Where a candidate's vertices are seen, the renderer's geometry has them, at another size too."""
    world = World.load(name)
    scene = world.sample(generator=torch.Generator().manual_seed(3))
    c, asset = candidates_of(scene, [0]), world.assets[int(scene.asset[0, 0])]
    got = projected(c, pinhole(world), pinhole(world).view(90, 60), torch.from_numpy(asset.vertices))
    want = assemble(world, scene.without(1) if scene.slots > 1 else scene, (90, 60)).vertices[:, :2]
    assert_close(got[0], want[: len(asset.vertices)], rtol=0, atol=1e-3)


def test_views_of_one_camera():
    """A crop is the picture shifted and scaled; `at` refers to the pixels of another size."""
    camera = pinhole(small_world(width=40, height=24))
    points, c = torch.randn(50, 3), candidates(small_world())
    whole = projected(c, camera, camera.view(24, 40), points)
    crop = projected(c, camera, camera.crop(5.0, -3.0, 12.0, 48), points)
    assert_close(crop, (whole - torch.tensor([5.0, -3.0])) * 4.0)
    twice = camera.at((48, 80))
    assert (twice.height, twice.width) == (48, 80)
    assert_close(projected(c, twice, twice.view(48, 80), points), 2.0 * whole)
    assert_close(projected(c, twice, twice.crop(10.0, -6.0, 24.0, 48), points), crop)


def test_lists():
    c = candidates(small_world(), 3)
    assert len(c) == 3
    assert c.repeat(2).asset.tolist() == [0, 0, 1, 1, 0, 0]
    both = join([c[[2]], c[:2]])
    assert_close(both.translation, c.translation[[2, 0, 1]])
    assert_close(both.rotation[0], c.rotation[2])
    assert_close(both.scale, c.scale[[2, 0, 1]])


@pytest.mark.parametrize("placement", ["upright", "free"])
def test_steps_move_outlines_by_a_pixel(placement):
    """Each move by its step: the vertex that moves furthest on the screen goes about as far as was asked for.

    A step is an estimate from the bounding sphere of an object near the middle of the picture: 0.3 to 2 px
    for 1. Twice the pixels are twice the step.
    """
    near = Interval(-0.2, 0.2)
    world = replace(small_world(placement=placement), position=(near, near, Interval(-1.0, 2.0)))
    moves, c, camera = Moves(world), candidates(world, 6), pinhole(world)
    c = c[c.asset == 0]  # the box: no turn leaves it as it is
    view = camera.view(480, 640)
    points = torch.from_numpy(world.assets[0].vertices)
    steps = moves.steps(c, camera, view, 1.0)
    assert_close(moves.steps(c, camera, view, 2.0), 2.0 * steps)
    for k in range(moves.count):
        move = torch.zeros_like(steps)
        move[:, k] = steps[:, k]
        ahead, behind = (projected(moves.apply(c, m), camera, view, points) for m in (move, -move))
        moved = (ahead - behind).norm(dim=-1).amax(-1) / 2
        assert 0.3 < float(moved.min()), (k, moved)
        assert float(moved.max()) < 2.0, (k, moved)


def test_a_move_by_hand():
    """Metres along the axes, a turn about the world's +y, a factor on the size."""
    world = small_world(placement="upright")
    moves = Moves(world)
    c = replace_translation(candidates(world, 2), torch.zeros(2, 3))
    c = Candidates(c.asset, c.rotation, c.translation, torch.ones(2))
    after = moves.apply(c, torch.tensor([[0.1, 0.2, 0.3, 0.4, math.log(1.5)]]).expand(2, 5))
    turn = roma.rotvec_to_rotmat(torch.tensor([0.0, 0.4, 0.0]))
    assert_close(after.translation, torch.tensor([[0.1, 0.2, 0.3]]).expand(2, 3))
    assert_close(after.rotation, turn @ c.rotation)
    assert_close(after.scale, torch.full((2,), 1.5))
    assert after.asset.tolist() == c.asset.tolist()


def test_free_turns_are_in_world_axes():
    world = small_world()
    c, vector = candidates(world, 2), torch.tensor([0.3, -0.2, 0.5])
    move = torch.zeros(2, 7)
    move[:, 3:6] = vector
    assert_close(Moves(world).apply(c, move).rotation, roma.rotvec_to_rotmat(vector) @ c.rotation)


def replace_translation(c, translation):
    return Candidates(c.asset, c.rotation, translation, c.scale)


def middles(c, world):
    centre = torch.tensor(np.stack([a.centre for a in world.assets]))[c.asset]
    return c.translation + c.scale[:, None] * (c.rotation @ centre[..., None])[..., 0]


def beside(world, **symmetry):
    """The world with every mesh 0.3 m beside its origin."""
    shift = np.float32([0.3, 0.0, 0.0])
    return replace(
        world, assets=tuple(replace(a, vertices=a.vertices + shift, **symmetry) for a in world.assets)
    )


def test_middles_in_camera_axes():
    world = beside(small_world())
    c, turn, eye = candidates(world), roma.rotvec_to_rotmat(torch.tensor([0.3, -0.2, 0.5])), torch.ones(3)
    camera = replace(pinhole(world), rotation=turn, eye=eye)
    got = Moves(world).middles(c.asset, *camera.place(c))
    assert_close(got, (middles(c, world) - eye) @ turn.T)


def test_free_objects_turn_and_grow_about_their_middle():
    world = beside(small_world())
    c = replace_translation(candidates(world, 3), torch.zeros(3, 3))
    move = torch.zeros(3, 7)
    move[:, 3:] = torch.tensor([0.4, 0.1, -0.3, 0.05])
    after = Moves(world).apply(c, move)
    assert (after.translation - c.translation).norm(dim=1).min() > 0.01
    assert_close(middles(after, world), middles(c, world), rtol=0, atol=1e-6)


@pytest.mark.parametrize("where", ["upright", "held"])
def test_others_turn_about_their_origin(where):
    """Upright objects and those whose position is known keep it when they turn."""
    world = beside(small_world(placement="upright" if where == "upright" else "free"))
    if where == "held":
        world = replace(world, position=(FIXED, FIXED, FIXED))
    moves = Moves(world)
    c = replace_translation(candidates(world, 3), torch.zeros(3, 3))
    move = torch.full((3, moves.count), 0.2)
    move[:, : len(moves.axes)] = 0.0
    assert_close(moves.apply(c, move).translation, c.translation)


@pytest.mark.parametrize("placement", ["upright", "free"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_ranges_are_kept(placement, sign):
    world = small_world(placement=placement)
    moves, c = Moves(world), candidates(world, 5)
    after = moves.apply(c, sign * torch.full((5, moves.count), 9.0))
    for k, interval in enumerate(world.position):
        assert after.translation[:, k].min() >= interval.low
        assert after.translation[:, k].max() <= interval.high
    assert_close(after.scale, torch.full((5,), 2.0 if sign > 0 else 0.5))


def test_only_what_is_free_moves():
    world = replace(small_world(), position=(FIXED, Interval(0.0, 1.0), FIXED), scale=Interval(1.0, 1.0))
    moves = Moves(world)
    assert moves.axes == [1]
    assert moves.count == 4
    assert not moves.sized
    c = Candidates(torch.tensor([0]), torch.eye(3)[None], torch.zeros(1, 3), torch.ones(1))
    after = moves.apply(c, torch.tensor([[0.5, 0.0, 0.0, 0.0]]))
    assert_close(after.translation, torch.tensor([[0.0, 0.5, 0.0]]))
    assert_close(after.scale, c.scale)


def test_turns_that_show_nothing_have_no_step():
    """A sphere's turns; in upright worlds the yaw of what is round about +y."""
    free, upright = small_world(), small_world(placement="upright")
    for world in (free, upright):
        moves, c, camera = Moves(world), candidates(world, 2), pinhole(world)
        steps = moves.steps(c, camera, camera.view(24, 32), 1.0)
        turns = steps[:, 3 : 3 + moves.turns]
        assert (turns[0] > 0).all()
        assert (turns[1] == 0).all()


def test_yaw_period():
    """Each asset's least turn about +y that shows nothing [degrees]."""
    want = {"mug": 360, "bowl": 0, "block": 90, "pyramid": 90, "book": 360, "ball": 360, "cone": 0}
    table = World.load("tabletop")
    for name, degrees in want.items():
        assert math.degrees(yaw_period(table.assets[table.index(name)])) == pytest.approx(degrees, abs=1e-3)


UP = np.array([0.0, 1.0, 0.0], np.float32)
HALF_TURN = np.stack([np.eye(3), np.diag([-1.0, 1.0, -1.0])]).astype(np.float32)


@pytest.mark.parametrize(
    ("symmetry", "degrees"),
    [
        ({"sphere": True}, 0),
        ({"axis": UP}, 0),
        ({"rotations": HALF_TURN}, 180),
        ({"axis": UP[[1, 0, 2]]}, 360),
    ],
    ids=["sphere", "upright axis", "half turn", "lying axis"],
)
def test_yaw_turns_about_the_origin(symmetry, degrees):
    """A symmetry about another upright line than the origin's own does not help yaw; one higher up does."""
    for centre, want in (
        ((0, 0, 0), degrees),
        ((0, 0.4, 0), degrees),
        ((0.1, 0, 0), 360),
        ((0, 0, 0.1), 360),
    ):
        thing = cuboid("thing", (0.2, 0.2, 0.2), symmetry=Symmetry(**symmetry, centre=np.float32(centre)))
        assert math.degrees(yaw_period(thing)) == pytest.approx(want, abs=1e-3)


def test_a_sphere_beside_a_known_origin_shows_its_turns():
    """Where its position is free, a turn only shifts it, and search need not turn it; where not, it must."""
    symmetry = Symmetry(sphere=True, centre=np.float32([0.3, 0.0, 0.0]))
    free = beside(small_world(), symmetry=symmetry)
    held = replace(free, position=(FIXED, FIXED, FIXED))
    assert Moves(free).spheres.all()
    assert not Moves(held).spheres.any()
