"""Stencils: which columns share a picture, and what part of its change is whose."""

import torch
from torch.testing import assert_close

from inverse.jacobian import stencils
from scenes import World


def disc(x, y, radius=5.0, size=40):
    """How far an object reaches that is seen in a disc."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((column - x) ** 2 + (row - y) ** 2 < radius**2).float()


def entries(world, slots, suffixes):
    return [world.names.index(f"object{s}.{x}") for s in slots for x in suffixes]


def names_of(world, made):
    return [{world.names[c] for c in s.columns} for s in made]


def test_objects_apart_are_moved_together():
    """The same number of each in one set, with a share where each one is."""
    world = World.load("tabletop")
    reach = {0: disc(8, 8), 2: disc(30, 30)}
    made = stencils(world, entries(world, (0, 2), ("x", "yaw")), reach, 3)
    assert names_of(world, made) == [{"object0.x", "object2.x"}, {"object0.yaw", "object2.yaw"}]
    for stencil in made:
        for slot, share in zip((0, 2), stencil.shares, strict=True):
            assert_close(share[..., 0] * reach[0] + share[..., 0] * reach[2], reach[slot])
    assert sorted(p for s in made for p in s.places) == [0, 1, 2, 3]


def test_objects_that_touch_the_same_pixels_are_not():
    """Of three in a row the outer two share; of two with few pixels in common neither does."""
    world = World.load("tabletop")
    reach = {0: disc(8, 20), 1: disc(15, 20), 2: disc(30, 20)}
    made = stencils(world, entries(world, (0, 1, 2), ("z",)), reach, 3)
    assert names_of(world, made) == [{"object0.z", "object2.z"}, {"object1.z"}]
    reach = {0: disc(8, 8, 8.0), 1: disc(22, 8, 8.0)}
    assert 0 < int((reach[0] * reach[1]).sum()) < 10
    assert len(stencils(world, entries(world, (0, 1), ("z",)), reach, 3)) == 2


def test_tints_take_one_picture():
    """All objects and all channels at once, each with its own; even of objects that hide one another."""
    world = World.load("tabletop")
    reach = {0: 2.0 * disc(12, 20), 1: disc(15, 20)}
    (made,) = stencils(world, entries(world, (0, 1), "rgb"), reach, 3)
    assert len(made.columns) == 6
    total = torch.stack(made.shares).sum(0)
    assert_close(total, torch.maximum(reach[0], reach[1]).clamp_max(1.0)[..., None].expand_as(total))
    front_red = made.shares[0]
    assert_close(front_red[..., 0], reach[0] / 2.0)
    assert float(front_red[..., 1:].abs().sum()) == 0.0


def test_light_is_moved_alone():
    world = World.load("tabletop")
    columns = [k for k, g in enumerate(world.groups) if g == "light"]
    made = stencils(world, columns, {}, 3)
    assert [s.columns for s in made] == [[c] for c in columns]
    assert all(bool((s.shares[0] == 1.0).all()) for s in made)


def test_one_object_owns_all_changes():
    """Also where it is not seen: nothing else can have moved."""
    world = World.load("tabletop")
    made = stencils(world, entries(world, (1,), ("x",)), {1: torch.ones(4, 4)}, 4)
    assert_close(made[0].shares[0].expand(4, 4, 4), torch.ones(4, 4, 4))
