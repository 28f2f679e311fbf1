"""Turns: objects are turned a little as facets and handles say."""

import math
from dataclasses import replace

import pytest
import torch

from inverse.least_differences import Fit, Judge
from inverse.losses import Evidence
from inverse.turns import spun
from render.engine import Engine, open_engine
from scenes import Scene, World


@pytest.fixture(scope="module")
def world() -> World:
    return World.load("tabletop")


@pytest.fixture(scope="module")
def engine(world):
    with open_engine("software", world) as opened:
        yield opened


def alone(world: World, asset: str, degrees: float) -> Scene:
    """A scene of one asset, turned about +y."""
    scene = world.sample(1, generator=torch.Generator().manual_seed(5))
    filled, rotation = torch.full_like(scene.asset, -1), scene.rotation.clone()
    filled[0, 0], half = world.index(asset), math.radians(degrees) / 2
    rotation[0, 0] = torch.tensor([0.0, math.sin(half), 0.0, math.cos(half)])
    return replace(scene, asset=filled, rotation=rotation)


def judged(world: World, engine: Engine, asset: str) -> tuple[Judge, Fit]:
    """A judge of a picture of an asset as it stands, and the fit of the same turned by 6 degrees."""
    judge = Judge(engine, world, Evidence(engine.render(alone(world, asset, 0.0)).rgb[0]))
    return judge, judge.fit(alone(world, asset, 6.0))


@pytest.mark.parametrize("asset", ["plate", "mug"])
def test_a_small_turn_is_undone(world, engine, asset):
    """Until a plate's facets agree, or a mug's handle."""
    judge, fit = judged(world, engine, asset)
    best = spun(judge, fit, 0)
    assert fit.total > 5.0
    assert best.total < 0.4 * fit.total  # the turns tried are 3.75 degrees apart
    assert judge.renders == 1 + 12 + 1


def test_what_agrees_already_is_left(world, engine):
    judge, _ = judged(world, engine, "plate")
    fit = judge.fit(alone(world, "plate", 0.0))
    assert spun(judge, fit, 0) is fit
