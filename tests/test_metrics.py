"""Errors of poses: angles by hand, every kind of symmetry taken out, about whichever point it turns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from small_world import cuboid
from torch.testing import assert_close

from inverse.metrics import anchor, angle, position_error, rotation_error
from scenes.asset import Symmetry

QUARTERS = np.stack(
    [roma.rotvec_to_rotmat(torch.tensor([0.0, k * math.pi / 2, 0.0])).numpy() for k in range(4)]
)

HALVES = np.stack([np.eye(3, dtype=np.float32), np.diag(np.float32([1.0, -1.0, -1.0]))])
UP = np.array([0.0, 1.0, 0.0], np.float32)


def turn(x, y, z):
    return roma.rotvec_to_rotmat(torch.tensor([x, y, z], dtype=torch.float64))


def turns(count, seed=0):
    vectors = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return roma.unitquat_to_rotmat(torch.nn.functional.normalize(vectors, dim=-1))


def asset(**symmetry):
    return cuboid("thing", (0.4, 0.2, 0.2), symmetry=Symmetry(**symmetry))


@pytest.mark.parametrize("radians", [0.0, 1e-5, 0.5, math.pi / 2, math.pi - 1e-5])
def test_angle(radians):
    """Right also where a cosine alone would lose half the digits."""
    axis = torch.tensor([1.0, 2.0, -2.0], dtype=torch.float64) / 3
    assert float(angle(roma.rotvec_to_rotmat(axis * radians))) == pytest.approx(radians, abs=1e-9)


def test_without_symmetry_it_is_the_angle_between():
    """Whichever frame both are turned in, and the same both ways."""
    truth, world = turns(20), turns(20, seed=1)
    estimate = truth @ turn(0.0, 0.3, 0.0)
    assert_close(rotation_error(asset(), estimate, truth), torch.full((20,), 0.3, dtype=torch.float64))
    assert_close(
        rotation_error(asset(), world @ truth, world @ estimate), rotation_error(asset(), estimate, truth)
    )


def test_discrete_turns():
    """About the object's own axis: 95 degrees are 5, and 45 are the worst that can be."""
    truth = turns(10)
    box = asset(rotations=QUARTERS)
    for degrees, left in ((90, 0), (95, 5), (-180, 0), (45, 45), (130, 40)):
        error = rotation_error(box, truth @ turn(0.0, math.radians(degrees), 0.0), truth)
        assert_close(error, torch.full((10,), math.radians(left)).double(), rtol=0, atol=1e-6)
    tilted = rotation_error(box, truth @ turn(0.2, 0.0, 0.0), truth)
    assert_close(tilted, torch.full((10,), 0.2).double(), rtol=0, atol=1e-6)


def test_an_axis_of_revolution():
    """Turns about it are free; a tilt counts in full, also a half turn unless the asset has that too."""
    truth, cone, torus = turns(10), asset(axis=UP), asset(axis=UP, rotations=HALVES)
    for tilt in (0.0, 1e-4, 0.3, 2.0):
        estimate = truth @ turn(0.0, 1.1, 0.0) @ turn(tilt, 0.0, 0.0) @ turn(0.0, -0.4, 0.0)
        want = torch.full((10,), tilt).double()
        assert_close(rotation_error(cone, estimate, truth), want, rtol=0, atol=1e-6)
        assert_close(
            rotation_error(torus, estimate, truth), want.clamp(max=math.pi - tilt), rtol=0, atol=1e-6
        )


def test_a_sphere_has_no_rotation_error():
    assert_close(
        rotation_error(asset(sphere=True), turns(6).view(2, 3, 3, 3), turns(1)), torch.zeros(2, 3).double()
    )


def test_small_angles_in_float32():
    """A thousandth of a degree is told from none, also between axes."""
    tiny = roma.rotvec_to_rotmat(torch.tensor([2e-5, 0.0, 0.0]))
    cone = asset(axis=UP)
    for thing in (asset(), cone):
        assert float(rotation_error(thing, tiny, torch.eye(3))) == pytest.approx(2e-5, rel=0.01)


def pose(rotation, translation, scale=1.0):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = rotation * scale, torch.as_tensor(translation)
    return matrix


@pytest.mark.parametrize(
    ("symmetry", "free"),
    [
        ({"sphere": True}, turn(0.4, -1.0, 0.3)),
        ({"axis": UP}, turn(0.0, 0.7, 0.0)),
        ({"rotations": QUARTERS}, turn(0.0, math.pi / 2, 0.0)),
        ({"axis": UP, "rotations": HALVES}, turn(0.0, 0.7, 0.0) @ turn(math.pi, 0.0, 0.0)),
    ],
    ids=["sphere", "axis", "turns", "axis and flip"],
)
@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (0.5, 0.1, -0.3)], ids=["origin", "elsewhere"])
def test_a_turn_of_the_symmetry_is_no_error_of_position(symmetry, free, centre):
    """It moves the origin where it turns about another point; the look stays where it is."""
    centre = np.array(centre, np.float32)
    thing = asset(**symmetry, centre=centre)
    truth, about = pose(turns(1, seed=3)[0], [1.0, 2.0, -3.0], 1.5), torch.from_numpy(centre).double()
    estimate = truth @ pose(free, about - free @ about)
    assert float(position_error(thing, estimate, truth)) == pytest.approx(0.0, abs=1e-6)
    estimate[:3, 3] += 0.1
    both = position_error(thing, torch.stack([estimate, truth]), truth)
    assert_close(both, torch.tensor([0.1 * math.sqrt(3), 0.0]).double(), rtol=1e-5, atol=1e-6)


def test_position_without_symmetry_is_that_of_the_box():
    """A mesh far from its origin: turned about its middle, its origin moves, the object does not."""
    thing = asset()
    far = replace(thing, vertices=thing.vertices + np.float32([5.0, 0.0, 0.0]))
    rotation, middle = turn(0.0, 0.01, 0.0), torch.tensor([5.0, 0.0, 0.0]).double()
    estimate = pose(rotation, middle - rotation @ middle)
    assert float(estimate[:3, 3].norm()) > 0.04
    assert float(position_error(far, estimate, torch.eye(4).double())) < 1e-6


def test_the_anchor_stays_near_the_middle():
    """A cone's symmetry turns about the origin at its foot; its place is told half way up its axis."""
    for x in (0.0, 1.0):
        cone = asset(axis=UP, centre=np.float32([x, 0.05, 0.0]))
        cone = replace(cone, vertices=cone.vertices + np.float32([x, 0.1, 0.0]))
        np.testing.assert_allclose(anchor(cone), [x, 0.1, 0.0], atol=1e-6)
