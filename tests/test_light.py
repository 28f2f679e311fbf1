"""Finding the light: lights that a world allows, tints and strengths that fit, and a light found again."""

import math
from dataclasses import replace

import pytest
import torch
from small_world import small_world
from torch.testing import assert_close

from inverse.least_differences import Judge
from inverse.light import exposed, lights, of_slot, relight
from inverse.losses import Evidence
from render.software import SoftwareEngine
from scenes.scene import Light


def table_scene(table, seed=0):
    """A mug and a block, apart."""
    scene = table.sample(generator=torch.Generator().manual_seed(seed))
    place = torch.tensor([[[-0.12, 0.0, 0.1], [0.13, 0.0, -0.05]]])
    tints = torch.tensor([[[0.6, 0.3, 0.2], [0.2, 0.4, 0.7]]])
    return replace(scene, asset=torch.tensor([[0, 2]]), translation=place, colour=tints)


def judge_of(engine, scene):
    return Judge(engine, engine.world, Evidence(engine.render(scene).rgb[0]))


def apart(a, b):
    """Degrees between the directions of two lights."""
    return float((a.light.direction * b.light.direction).sum().clamp(-1, 1).acos().rad2deg())


def on_the_ground(light):
    return light.ambient + light.intensity * light.direction[:, 1]


def test_lights_are_all_round_and_allowed(table):
    """From every side, within the ranges of the world; the table as bright under each as it was."""
    scene = table_scene(table)
    many = lights(table, scene)
    theta = table.pack(many)
    where = torch.tensor([g == "light" for g in table.groups])
    assert (theta >= table.low - 1e-5)[:, where].all()
    assert (theta <= table.high + 1e-5)[:, where].all()
    assert_close(many.translation, scene.translation.expand_as(many.translation))
    azimuth = torch.atan2(many.light.direction[:, 0], many.light.direction[:, 2]).sort().values
    assert (azimuth.diff() < math.radians(31)).all()
    bright = on_the_ground(many.light) / on_the_ground(scene.light)
    assert ((bright - 1).abs() < 0.05).float().mean() > 0.5
    assert ((bright - 1).abs() < 0.25).all()


def test_exposed_tints(table, table_engine):
    """Tints of twice and half the brightness come back in one step; the book has none to change."""
    truth = replace(table_scene(table), asset=torch.tensor([[0, 3]]))
    truth = replace(truth, colour=torch.tensor([[[0.4, 0.3, 0.2], [1.0, 1.0, 1.0]]]))
    wrong = replace(truth, colour=truth.colour * torch.tensor([[[0.5, 2.0, 1.0], [1.0, 1.0, 1.0]]]))
    found, _ = exposed(judge_of(table_engine, truth), wrong)
    assert_close(found.colour[0, 0], truth.colour[0, 0], rtol=0.1, atol=0)
    assert_close(found.colour[0, 1], torch.ones(3))
    assert_close(found.light.intensity, truth.light.intensity)


def test_exposed_light():
    """Where nothing but an object of known colour tells how strong the light is, the object does."""
    world = small_world()
    truth = replace(world.empty(), asset=torch.tensor([[0, -1, -1]]), scale=torch.full((1, 3), 2.0))
    truth.translation[0, 0] = torch.tensor([0.0, 0.0, 2.0])
    with SoftwareEngine(world, size=(96, 128)) as engine:
        dim = Light(truth.light.direction, truth.light.intensity * 0.7, truth.light.ambient * 0.7)
        found, _ = exposed(judge_of(engine, truth), replace(truth, light=dim))
    assert_close(found.light.intensity, truth.light.intensity, rtol=0.02, atol=0)
    assert_close(found.light.ambient, truth.light.ambient, rtol=0.02, atol=0)


@pytest.mark.parametrize("turned", [100.0, 180.0])
def test_relight(table, table_engine, turned):
    """The light and the tints are found again from a light of another side."""
    truth = table_scene(table)
    judge, angle = judge_of(table_engine, truth), math.radians(turned)
    x, y, z = truth.light.direction[0].tolist()
    away = [x * math.cos(angle) + z * math.sin(angle), y, z * math.cos(angle) - x * math.sin(angle)]
    wrong = replace(truth, light=replace(truth.light, direction=torch.tensor([away])))
    start = judge.fit(wrong)
    assert apart(wrong, truth) > 40
    end = relight(judge, start)
    assert end.total < 0.2 * start.total
    assert apart(end.scene, truth) < 3
    assert (end.scene.colour - truth.colour).abs().max() < 0.05
    assert_close(end.scene.translation, truth.translation)


def test_relight_is_never_worse(table, table_engine):
    truth = table_scene(table)
    judge = judge_of(table_engine, truth)
    start = judge.fit(truth)
    assert relight(judge, start).total <= start.total


def test_a_known_light_stays(cube, cube_engine):
    scene = cube.sample(generator=torch.Generator().manual_seed(0))
    judge = judge_of(cube_engine, scene)
    fit = judge.fit(scene)
    assert relight(judge, fit) is fit


def test_of_slot(table):
    names = [n for n, mine in zip(table.names, of_slot(table, 1).tolist(), strict=True) if mine]
    assert names == [n for n in table.names if n.startswith("object1.")]
