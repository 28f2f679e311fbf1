"""Differences of supersampled pictures, held to derivatives known by hand; and the score, held to them."""

import math
from dataclasses import replace

import pytest
import torch
from small_world import small_world
from supersampled import agreement
from torch.testing import assert_close

from inverse.differences import averaged, central_differences
from inverse.least_differences import Judge
from inverse.losses import Evidence
from render import open_engine
from render.blur import blurred_squared_error
from render.score import ScoreGradients
from render.shading import decode_srgb, encode_srgb
from scenes.scene import stack


@pytest.fixture(scope="module")
def engine():
    with open_engine("software", small_world(), size=(24, 32), shadows=False) as opened:
        yield opened


def ball(x=0.2):
    """A tinted ball, and two empty slots."""
    scene = small_world().sample(1, generator=torch.Generator().manual_seed(0))
    place = torch.tensor([[[x, 0.1, 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    return replace(scene, asset=torch.tensor([[1, -1, -1]]), translation=place)


def test_derivatives_known_by_hand(engine):
    """Linear light is proportional to the tint; a shift moves the centre of mass by focal length / depth."""
    world, scene = engine.world, ball()
    steps = torch.full((len(world.names),), 0.05)
    column = torch.arange(32) + 0.5

    def light(image):
        return decode_srgb(image)[..., 0].sum((1, 2))

    def centre(image):
        mass = (decode_srgb(image) - 0.1).abs().sum(3)
        return (mass * column).sum((1, 2)) / mass.sum((1, 2))

    found = central_differences(engine, scene, light, steps)
    covered = engine.render(scene, size=(96, 128)).instance_id == 0
    glow = decode_srgb(engine.render(scene, size=(96, 128)).rgb)[..., 0] * covered
    expected = glow.sum() / 16 / scene.colour[0, 0, 0]
    assert float(found[0, world.names.index("object0.r")]) == pytest.approx(float(expected), rel=0.02)
    assert float(found[0, world.names.index("object0.g")]) == pytest.approx(0.0, abs=1e-6)
    assert found.dtype == torch.float64
    assert (found[~world.active(scene)] == 0).all()
    moved = central_differences(engine, scene, centre, steps)
    assert float(moved[0, world.names.index("object0.x")]) == pytest.approx(30.0 / 4.5, rel=0.05)


def test_each_scene_has_its_own(engine):
    """The same together as alone; with steps of its own, at another size where one is given."""
    world, scenes = engine.world, [ball(0.2), ball(-0.3)]
    steps = torch.full((2, len(world.names)), 0.05)
    steps[1] = 0.02

    def loss(image):
        assert image.shape[1:3] == (12, 16)
        return image.square().mean((1, 2, 3))

    both = central_differences(engine, stack(scenes), loss, steps, samples=2, size=(12, 16))
    for k in range(2):
        alone = central_differences(engine, scenes[k], loss, steps[k], samples=2, size=(12, 16))
        assert_close(both[[k]], alone)
    assert not torch.allclose(both[0], both[1], rtol=0.1)


def test_averages_are_of_light():
    image = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64).view(1, 2, 2, 1).expand(-1, -1, -1, 3)
    half = encode_srgb(torch.full((1, 1, 1, 3), 0.5, dtype=torch.float64))
    assert_close(averaged(image, (1, 1)), half)


@pytest.fixture(scope="module")
def cubes(cube):
    with open_engine("software", cube, size=(64, 64), shadows=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def tables(table):
    with open_engine("software", table, size=(64, 64), shadows=False) as opened:
        yield opened


def test_score_agrees_with_differences_on_cubes(cube, cubes):
    """The median cosine from 64 perturbed pictures."""
    found = [
        cosines(cubes, *problem(cubes, cube.sample(1, generator=seeded(seed)), seed)) for seed in range(5)
    ]
    assert torch.tensor([f["rotation"] for f in found]).median() > 0.9


def test_score_agrees_with_differences_on_a_table(table, tables):
    """Each kind of entry, of a book that is turned and a block: both change with each of theirs."""
    found = []
    for seed in range(3):
        truth = replace(table.sample(1, generator=seeded(seed)), asset=torch.tensor([[3, 2]]))
        found.append(cosines(tables, *problem(tables, truth, seed)))
    medians = {kind: float(torch.tensor([f[kind] for f in found]).median()) for kind in found[0]}
    assert set(medians) == {"position", "rotation", "scale", "colour", "light"}
    assert min(medians.values()) > 0.5, medians


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def problem(engine, truth, seed):
    """A scene near the truth, the blurred squared error from the truth's picture, steps of differences."""
    world = engine.world
    off = {"position": 0.03, "rotation": math.radians(10.0), "scale": 0.05, "colour": 0.08, "light": 0.1}
    theta = world.pack(truth)
    noise = torch.randn(theta.shape, generator=seeded(seed)).clamp(-2, 2)
    start = world.unpack(theta + noise * torch.tensor([off[g] for g in world.groups]), like=truth)
    target = averaged(engine.render(truth, size=(128, 128)).rgb.double(), engine.size)

    def loss(image):
        return blurred_squared_error(image, target.to(image.dtype), 2.0)

    steps = Judge(engine, world, Evidence(target[0].float())).steps(start, 0.5)
    return start, loss, steps


def cosines(engine, start, loss, steps):
    """Of the score's estimate with the differences, by kind."""
    world = engine.world
    truth = central_differences(engine, start, loss, steps, samples=2)
    theta = world.pack(start).requires_grad_()
    value = loss(ScoreGradients(engine)(world.unpack(theta, like=start))).sum()
    (gradient,) = torch.autograd.grad(value, theta)
    found = {}
    for kind in dict.fromkeys(world.groups):
        entries = torch.tensor([group == kind for group in world.groups])
        found[kind] = agreement((gradient * steps)[0, entries], (truth * steps)[0, entries])[1]
    return found
