"""Scene: batches, slots, and the conventions of quaternions and matrices."""

import pytest
import torch
from torch.testing import assert_close

from scenes import World, stack
from scenes.scene import matrix

WORLD = World.load("tabletop")


@pytest.fixture
def scene():
    return WORLD.sample(4, generator=torch.Generator().manual_seed(5))


def test_indexing_keeps_the_batch_axis(scene):
    one = scene[2]
    assert len(one) == 1
    assert one.slots == scene.slots == 5
    assert_close(one.camera.translation, scene.camera.translation[2:3])
    assert_close(scene[torch.tensor([3, 0])].light.direction, scene.light.direction[[3, 0]])
    assert_close(scene[-1].asset, scene.asset[3:])
    assert len(scene[1:3]) == 2


def test_stack_undoes_indexing(scene):
    again = stack([scene[0], scene[1:4]])
    assert len(again) == 4
    for name in ("asset", "rotation", "translation", "scale", "colour", "background"):
        assert torch.equal(getattr(again, name), getattr(scene, name))
    assert torch.equal(again.light.ambient, scene.light.ambient)
    assert again.camera.width == 128


def test_without_empties_a_slot_and_leaves_the_original(scene):
    slot = 0
    less = scene.without(slot)
    assert (less.asset[:, slot] == -1).all()
    assert (scene.asset[:, slot] >= 0).all()
    assert torch.equal(less.asset[:, 1:], scene.asset[:, 1:])


def test_detach_and_to_reach_every_part(scene):
    theta = WORLD.pack(scene).requires_grad_()
    live = WORLD.unpack(theta, like=scene)
    assert live.light.direction.requires_grad
    still = live.detach().to("cpu")
    assert not still.light.direction.requires_grad
    assert not still.translation.requires_grad


def test_quaternions_are_xyzw_and_turn_right_handed():
    """A quarter turn about +y takes +z to +x; as a matrix, world_from_object times a column."""
    half = torch.tensor(0.5).sqrt()
    turned = matrix(torch.stack([half * 0, half, half * 0, half])) @ torch.tensor([0.0, 0.0, 1.0])
    assert_close(turned, torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)
