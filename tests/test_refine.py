"""Gradients followed with the real engine: a turned cube comes back, and not without the right gradient."""

import math
from dataclasses import replace

import pytest
import roma
import torch
from torch.testing import assert_close

from inverse.compare.cost import Counted
from inverse.least_differences import Judge
from inverse.losses import Evidence
from inverse.metrics import rotation_error
from inverse.refine import RefineSettings, descend
from render.differentiable import differentiable
from render.score import ScoreSettings
from scenes.scene import matrix, stack
from scenes.world import Interval


def scene_of(cube, seed=3):
    return cube.sample(generator=torch.Generator().manual_seed(seed))


def judge_of(engine, scene):
    return Judge(engine, engine.world, Evidence(engine.render(scene).rgb[0]))


def turned(scene, degrees, axis):
    """The scene with its cube turned about an axis of the world."""
    vector = torch.nn.functional.normalize(torch.tensor(axis), dim=0) * math.radians(degrees)
    turn = roma.rotvec_to_rotmat(vector) @ matrix(scene.rotation[0])
    return replace(scene, rotation=roma.rotmat_to_unitquat(turn)[None])


def off(cube, scene, truth):
    """Degrees between the cubes of scenes and the true one."""
    return torch.rad2deg(
        rotation_error(cube.assets[0], matrix(scene.rotation[:, 0]), matrix(truth.rotation[:, 0]))
    )


class Changed(torch.nn.Module):
    """A strategy whose gradients are multiplied by `factor`, one number or one per scene."""

    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, scene, size=None):
        image = self.inner(scene, size)
        image.register_hook(lambda grad: grad * self.factor)
        return image


@pytest.mark.parametrize("axis", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.3, -0.5, 0.8]])
def test_a_cube_turned_by_20_degrees_comes_back(cube, cube_engine, axis):
    """To within 1 degree, by gradients alone."""
    truth = scene_of(cube)
    judge = judge_of(cube_engine, truth)
    start = turned(truth, 20.0, axis)
    assert float(off(cube, start, truth)) == pytest.approx(20.0, abs=0.01)
    end = descend(differentiable(cube_engine), judge, start, RefineSettings())
    assert float(off(cube, end, truth)) < 1.0
    assert judge.renders == 60


@pytest.mark.parametrize(("operator", "within"), [("soft", 4.0), ("layers", 1.0)])
def test_soft_operators_bring_it_back(cube, cube_engine, operator, within):
    """From 20 degrees; soft's straight-through gradient does not vanish quite where the loss does."""
    truth = scene_of(cube)
    start = turned(truth, 20.0, [0.3, -0.5, 0.8])
    render = differentiable(cube_engine, operator=operator)
    end = descend(render, judge_of(cube_engine, truth), start, RefineSettings(steps=40))
    assert float(off(cube, end, truth)) < within


def test_a_gradient_of_the_wrong_sign_does_not_lead_there(cube, cube_engine):
    """What brings the cube back is the gradient, and nothing else in `descend`."""
    truth = scene_of(cube)
    start = turned(truth, 20.0, [0.3, -0.5, 0.8])
    wrong = Changed(differentiable(cube_engine), -1.0)
    end = descend(wrong, judge_of(cube_engine, truth), start, RefineSettings(steps=20))
    assert float(off(cube, end, truth)) > 20.0


def test_places_sizes_and_tints(table, table_engine):
    """A mug and a book 4 cm off and too large, the mug too dark: each number comes nearer the truth."""
    truth = table.sample(generator=torch.Generator().manual_seed(0))
    place = torch.tensor([[[-0.12, 0.0, 0.1], [0.13, 0.0, -0.05]]])
    truth = replace(truth, asset=torch.tensor([[0, 3]]), translation=place)
    truth = replace(truth, colour=torch.stack([torch.tensor([0.7, 0.2, 0.1]), torch.ones(3)])[None])
    wrong = replace(
        truth,
        translation=place + torch.tensor([0.03, 0.0, -0.03]),
        scale=truth.scale * 1.1,
        colour=truth.colour * torch.tensor([[[0.6], [1.0]]]),
    )
    end = descend(differentiable(table_engine), judge_of(table_engine, truth), wrong, RefineSettings())
    assert (end.translation - place).norm(dim=-1).max() < 0.008
    assert (end.scale / truth.scale - 1).abs().max() < 0.04
    assert (end.colour - truth.colour).abs().max() < 0.12  # from 0.28; the light is free too


def test_several_starts_at_once(cube, cube_engine):
    """Each goes its own way, the same as alone."""
    truth = scene_of(cube)
    starts = [turned(truth, d, [0.3, -0.5, 0.8]) for d in (15.0, -10.0)]
    settings, render = RefineSettings(steps=30), differentiable(cube_engine)
    both = descend(render, judge_of(cube_engine, truth), stack(starts), settings)
    for k, start in enumerate(starts):
        alone = descend(render, judge_of(cube_engine, truth), start, settings)
        assert_close(both.rotation[[k]], alone.rotation, rtol=0, atol=1e-3)
    assert (off(cube, both, truth) < 3.0).all()


def test_a_gradient_that_is_not_finite_moves_nothing(cube, cube_engine):
    """Of its own scene; the others go on."""
    truth = scene_of(cube)
    start = turned(truth, 15.0, [0.3, -0.5, 0.8])
    factor = torch.tensor([1.0, math.nan]).view(2, 1, 1, 1)
    render = Changed(differentiable(cube_engine), factor)
    end = descend(render, judge_of(cube_engine, truth), stack([start, start]), RefineSettings(steps=30))
    assert_close(end.rotation[1].abs(), start.rotation[0].abs(), rtol=0, atol=1e-5)
    assert float(off(cube, end, truth)[0]) < 3.0


def test_ranges_are_kept(table, table_engine):
    """The bowl stops at the end of the world that the picture's lies beyond."""
    truth = table.sample(generator=torch.Generator().manual_seed(0))
    place = torch.tensor([[[0.0, 0.0, 0.15], [-0.2, 0.0, -0.2]]])
    truth = replace(
        truth, asset=torch.tensor([[1, -1]]), translation=place, colour=torch.full((1, 2, 3), 0.6)
    )
    narrow = replace(table, position=(table.position[0], table.position[1], Interval(-0.36, 0.1)))
    judge = Judge(table_engine, narrow, Evidence(table_engine.render(truth).rgb[0]))
    start = replace(truth, translation=place - torch.tensor([0.0, 0.0, 0.1]))
    end = descend(differentiable(table_engine), judge, start, RefineSettings(steps=40))
    assert float(end.translation[0, 0, 2]) == pytest.approx(0.1, abs=0.003)
    assert float(end.translation[0, 0, 2]) <= 0.1 + 1e-6


def test_no_steps_change_nothing(cube, cube_engine):
    truth = scene_of(cube)
    start = turned(truth, 20.0, [1.0, 0.0, 0.0])
    end = descend(differentiable(cube_engine), judge_of(cube_engine, truth), start, RefineSettings(steps=0))
    assert float(off(cube, end, start)) < 1e-2


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("score", {"settings": ScoreSettings(samples=8)}), ("surrogate", {"kind": "local", "samples": 8})],
)
def test_pictures_of_strategies_that_ask_are_counted(cube, cube_engine, strategy, options):
    """Nine a step: one to see, eight for the gradient."""
    truth = scene_of(cube)
    counted, judge = Counted(cube_engine), judge_of(cube_engine, truth)
    render = differentiable(counted, strategy, **options)
    descend(render, judge, turned(truth, 10.0, [0.3, -0.5, 0.8]), RefineSettings(steps=3, side=32))
    assert judge.renders == counted.renders == 3 * 9
