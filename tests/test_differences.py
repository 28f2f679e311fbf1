"""Differences of supersampled pictures, held to derivatives known by hand; agreement, to vectors."""

import math
from dataclasses import replace

import pytest
import torch
from small_world import small_world
from torch.testing import assert_close

from inverse.differences import agreement, averaged, central_differences
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


def test_agreement_by_kind():
    """Cosine and length; units weigh what cannot be added; nothing is said where nothing changes."""
    world = small_world()
    truth = torch.zeros(2, len(world.names), dtype=torch.float64)
    at = {name: i for i, name in enumerate(world.names)}
    truth[0, at["object0.x"]], truth[0, at["object1.y"]] = 3.0, 4.0
    truth[1, at["light.azimuth"]], truth[1, at["light.intensity"]] = 1.0, 10.0
    gradient = torch.zeros_like(truth)
    gradient[0, at["object0.x"]], gradient[0, at["light.azimuth"]] = 2.5, 1.0
    gradient[1, at["light.azimuth"]] = -1.0
    unit = torch.ones(len(world.names))
    unit[at["light.intensity"]] = 0.1
    found = agreement(gradient, truth, world, unit)
    assert list(found) == ["position", "rotation", "scale", "colour", "light"]
    cosine, length = found["position"]
    assert cosine[0] == pytest.approx(0.6)
    assert length[0] == pytest.approx(0.5)
    assert cosine[1].isnan()
    assert length[1].isnan()
    assert found["light"][0][1] == pytest.approx(-math.sqrt(0.5))
    assert found["light"][0][0].isnan()
    same = agreement(truth, truth, world, unit)
    assert same["position"][0][0] == pytest.approx(1.0)


@pytest.fixture(scope="module")
def cubes(cube):
    with open_engine("software", cube, size=(64, 64), shadows=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def tables(table):
    with open_engine("software", table, size=(64, 64), shadows=False) as opened:
        yield opened


def test_score_agrees_with_differences_on_cubes(cube, cubes):
    """The median cosine from 64 perturbed pictures; a wrong sign could not be mistaken for it."""
    cosines = []
    for seed in range(5):
        start, loss, steps = problem(cubes, cube.sample(1, generator=seeded(seed)), seed)
        cosines.append(float(score_agreement(cubes, start, loss, steps)["rotation"][0]))
    assert torch.tensor(cosines).median() > 0.9


def test_score_agrees_with_differences_on_a_table(table, tables):
    """Each kind of entry, of a book that is turned and a block: both change with each of theirs."""
    found = {}
    for seed in range(3):
        truth = table.sample(1, generator=seeded(seed))
        truth = replace(truth, asset=torch.tensor([[3, 2]]))
        start, loss, steps = problem(tables, truth, seed)
        for kind, (cosine, _) in score_agreement(tables, start, loss, steps).items():
            found.setdefault(kind, []).append(float(cosine))
    medians = {kind: float(torch.tensor(values).median()) for kind, values in found.items()}
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


def score_agreement(engine, start, loss, steps):
    """Of the estimate with the differences, by kind."""
    world = engine.world
    truth = central_differences(engine, start, loss, steps, samples=2)
    theta = world.pack(start).requires_grad_()
    value = loss(ScoreGradients(engine)(world.unpack(theta, like=start))).sum()
    (gradient,) = torch.autograd.grad(value, theta)
    return agreement(gradient, truth, world, steps)
