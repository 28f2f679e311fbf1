"""Slides: what stands far away on a plane seen nearly edge-on is looked for nearer and farther, too."""

from dataclasses import replace

import pytest
import torch

from inverse.least_differences import Judge
from inverse.losses import Evidence
from inverse.slides import slid
from render.engine import open_engine
from scenes import Scene, World


def alone(world: World, asset: str, z: float, scale: float) -> Scene:
    """A scene of one object, 2 m to the right and turned by 80 degrees."""
    scene = world.sample(1, generator=torch.Generator().manual_seed(5))
    filled = torch.full_like(scene.asset, -1)
    filled[0, 0] = world.index(asset)
    place, rotation, size = scene.translation.clone(), scene.rotation.clone(), scene.scale.clone()
    place[0, 0] = torch.tensor([2.0, 0.0, z])
    rotation[0, 0] = torch.tensor([0.0, 0.6428, 0.0, 0.7660])
    size[0, 0] = scale
    return replace(scene, asset=filled, translation=place, rotation=rotation, scale=size)


@pytest.mark.slow
def test_a_sign_that_stands_too_far_away_is_pulled_back() -> None:
    """8 % too far and too large it looks nearly the same; slid, it ends where it is."""
    world = World.load("street")
    truth, wrong = alone(world, "stop_sign", -16.0, 0.98), alone(world, "stop_sign", -17.3, 1.058)
    wrong.translation[0, 0, 0] = 2.0 * 17.3 / 16.0
    with open_engine("software", world) as engine:
        judge = Judge(engine, world, Evidence(engine.render(truth).rgb[0]))
        start = judge.fit(wrong)
        best = slid(judge, start, 0)
    assert best.total < 0.3 * start.total
    assert float((best.scene.translation - truth.translation)[0, 0].norm()) < 0.02 * 16.0


def test_what_is_seen_from_above_is_left_where_it_is() -> None:
    world = World.load("tabletop")
    truth = world.sample(1, generator=torch.Generator().manual_seed(5))
    with open_engine("software", world) as engine:
        judge = Judge(engine, world, Evidence(engine.render(truth).rgb[0]))
        fit = judge.fit(truth)
        assert slid(judge, fit, 0) is fit
        assert judge.renders == 1
