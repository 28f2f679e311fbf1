"""Black boxes: what strategies ask, of engines and of plain functions alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_world import small_world
from torch.testing import assert_close

from render import open_engine
from render.blackbox import Simulator, asked


def test_a_scene_is_asked_about_through_theta():
    """Each answer is the engine's picture of its question; who is seen comes with it."""
    world = small_world()
    with open_engine("software", world, size=(24, 32)) as engine:
        scenes = world.sample(2, generator=torch.Generator().manual_seed(0))
        theta, box = asked(engine, scenes)
        assert_close(theta, world.pack(scenes))
        shift = torch.zeros(3, theta.shape[1])
        shift[1, 0], shift[2, -1] = 0.1, 0.05
        questions = theta[:, None] + shift
        answer = box.observe(questions)
        assert answer.value.shape == (2, 3, 24, 32, 3)
        for b in range(2):
            for n in range(3):
                frame = engine.render(world.unpack(questions[b, n][None], like=scenes[b]))
                assert torch.equal(answer.value[b, n], frame.rgb[0])
                assert torch.equal(answer.owner[b, n], frame.instance_id[0])
        assert not torch.equal(answer.value[:, 0], answer.value[:, 1])
        assert box.slot_of.tolist() == world.slot_of
        assert torch.equal(box.active, world.active(scenes))
        assert asked(engine, scenes, (6, 8))[1].observe(questions).value.shape == (2, 3, 6, 8, 3)


def test_what_is_known_of_a_scenes_theta():
    """Unperturbed, it is the engine's picture bit for bit; angles go round; sizes stay positive."""
    world = small_world()
    with open_engine("software", world, size=(24, 32), shadows=False) as engine:
        scenes = world.sample(2, generator=torch.Generator().manual_seed(0))
        theta, box = asked(engine, scenes)
        alone = box.unperturbed()
        assert torch.equal(alone.value[:, 0], engine.render(scenes).rgb)
        assert torch.equal(alone.owner[:, 0], engine.render(scenes).instance_id)
        ends = dict(zip(world.names, box.ends.tolist(), strict=True))
        assert not any(ends[n] for n in ("object0.rotation_x", "light.azimuth"))
        assert all(ends[n] for n in ("object0.x", "object1.scale", "object0.r", "light.elevation"))
        assert box.width.shape == box.low.shape
        size = world.names.index("object0.scale")
        tiny, least = theta[:, None].clone(), theta[:, None].clone()
        tiny[..., size], least[..., size] = -1.0, 0.05  # a tenth of the range's lower end
        assert torch.equal(box.observe(tiny).value, box.observe(least).value)


def test_gradients_of_theta_reach_the_scene():
    """To free numbers; a part that the world keeps fixed cannot have one, and says so."""
    world = small_world()
    scenes = world.sample(1, generator=torch.Generator().manual_seed(0))
    with open_engine("software", world, size=(24, 32)) as engine:
        moved = replace(scenes, translation=scenes.translation.clone().requires_grad_())
        theta, _ = asked(engine, moved)
        theta[0, 0].backward()
        assert moved.translation.grad[0, 0].tolist() == [1.0, 0.0, 0.0]
        fixed = replace(scenes, background=scenes.background.clone().requires_grad_())
        with pytest.raises(
            ValueError, match="the background requires a gradient, but the world small keeps it"
        ):
            asked(engine, fixed)


def test_a_simulator_is_a_function_with_ranges():
    simulator = Simulator(lambda theta: np.outer(theta, [1.0, 10.0]), [0.0, -1.0, 2.0], [1.0, 1.0, 3.0])
    theta = torch.tensor([[0.5, 0.0, 2.5], [0.1, 0.2, 2.2]], requires_grad=True)
    same, box = asked(simulator, theta)
    assert same is theta
    questions = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0))
    value = box.observe(questions).value
    assert_close(value, questions[..., None] * torch.tensor([1.0, 10.0]))
    assert not value.requires_grad
    assert value.dtype == torch.float32
    assert simulator.names == ["theta0", "theta1", "theta2"]
    assert torch.equal(box.unperturbed().value[:, 0], box.observe(theta[:, None]).value[:, 0])
    assert box.ends.all()
    assert box.active.all()
    assert box.slot_of.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("low", "high", "names", "message"),
    [
        ([0.0], [1.0, 2.0], None, r"low and high must be \[P\] each, got \[1\], \[2\]"),
        ([0.0, 1.0], [1.0, 1.0], None, "low must be below high"),
        ([0.0, np.nan], [1.0, 1.0], None, "low must be below high"),
        ([0.0, -np.inf], [1.0, 1.0], None, "both finite"),
        ([0.0, 0.0], [1.0, 1.0], ["a"], "there must be 2 names, got 1"),
    ],
)
def test_ranges_are_checked(low, high, names, message):
    with pytest.raises(ValueError, match=message):
        Simulator(np.sum, low, high, names=names)


def test_what_does_not_suit_is_refused():
    simulator = Simulator(lambda theta: theta[: int(theta[0])], [0.0, 0.0], [3.0, 1.0])
    with pytest.raises(ValueError, match=r"theta must have shape \[N, 2\], got \[2, 3\]"):
        simulator(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"must always return one shape, got \[\(0,\), \(1,\)\]"):
        simulator(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    world = small_world()
    with pytest.raises(ValueError, match="a simulator is asked about vectors"):
        asked(simulator, world.empty())
    with (
        open_engine("software", world, size=(24, 32)) as engine,
        pytest.raises(ValueError, match="an engine is asked about a Scene, got Tensor"),
    ):
        asked(engine, torch.zeros(1, 3))
