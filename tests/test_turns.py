"""Turns: solids of revolution whose facets show are turned as the picture says."""

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


def test_a_plate_is_turned_until_its_facets_agree(world, engine):
    judge, fit = judged(world, engine, "plate")
    best = spun(judge, fit, 0)
    assert fit.total > 5.0
    assert best.total < 0.2 * fit.total
    assert judge.renders == 1 + 24 + 1


def test_what_is_no_solid_of_revolution_is_left_to_other_turns(world, engine):
    judge, fit = judged(world, engine, "mug")
    assert spun(judge, fit, 0) is fit
    assert judge.renders == 1


def test_what_agrees_already_is_left(world, engine):
    judge, _ = judged(world, engine, "plate")
    fit = judge.fit(alone(world, "plate", 0.0))
    assert spun(judge, fit, 0) is fit
