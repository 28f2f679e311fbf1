"""Symmetry detection on shapes whose turns are known, and on shapes that only look as if they had some."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from scenes import shapes
from scenes.symmetry import find_symmetry


def found(mesh, move=(0, 0, 0), turn=None):
    vertices = mesh.vertices.astype(float) @ (np.eye(3) if turn is None else turn).T + move
    return find_symmetry(vertices, mesh.faces)


def askew():
    """A rotation by 0.7 about (1, 2, 2) / 3."""
    x, y, z = np.array([1, 2, 2]) / 3
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(0.7) * cross + (1 - np.cos(0.7)) * cross @ cross


@pytest.mark.parametrize(
    ("mesh", "turns"),
    [
        (shapes.box([1, 1, 1], centred=True), 24),
        (shapes.box([1, 2, 1], centred=True), 8),
        (shapes.box([1, 2, 3], centred=True), 4),
        (shapes.pyramid(1, 1), 4),
        (shapes.mug(), 1),
    ],
    ids=["cube", "square prism", "box", "pyramid", "mug"],
)
def test_discrete_turns(mesh, turns):
    symmetry = found(mesh)
    assert len(symmetry.rotations) == turns
    assert symmetry.axis is None
    assert not symmetry.sphere
    assert_allclose(symmetry.rotations[0], np.eye(3))
    assert_allclose(np.linalg.det(symmetry.rotations), 1, atol=1e-5)


def test_axes_are_found_askew():
    turn = askew()
    box = found(shapes.box([1, 2, 3], centred=True), turn=turn)
    assert len(box.rotations) == 4
    bowl = found(shapes.lathe([[0, 0], [0.2, 0], [0.5, 0.4], [0.45, 0.4], [0, 0.1]]), turn=turn)
    assert_allclose(np.abs(bowl.axis @ turn[:, 1]), 1, atol=1e-4)


def test_an_axis_with_and_without_a_flip():
    """A torus looks alike turned over; a cone does not."""
    torus = found(shapes.torus(0.4, 0.1), move=[0, -0.1, 0])
    cone = found(shapes.lathe([[0, 0], [0.3, 0], [0, 0.8]], segments=32))
    assert_allclose(np.abs(torus.axis), [0, 1, 0], atol=1e-6)
    assert len(torus.rotations) == 2
    assert_allclose(torus.rotations[1] @ [0, 1, 0], [0, -1, 0], atol=1e-6)
    assert_allclose(np.abs(cone.axis), [0, 1, 0], atol=1e-6)
    assert len(cone.rotations) == 1


def test_spheres():
    assert found(shapes.sphere(0.5, segments=48, rings=24)).sphere
    assert found(shapes.sphere(0.5)).sphere
    assert not found(shapes.lathe([[0, 0], [0.5, 0.5], [0, 1]], smooth=8)).sphere


def test_the_centre_of_the_turns():
    """Zero where the origin will do; else the point about which the shape turns."""
    assert_allclose(found(shapes.pyramid(1, 1), move=[0, 0.3, 0]).centre, 0)
    assert_allclose(
        found(shapes.box([1, 2, 3], centred=True), move=[0.5, 0, 0]).centre, [0.5, 0, 0], atol=1e-6
    )
    ball = found(shapes.sphere(0.5, segments=48, rings=24))
    assert_allclose(ball.centre, [0, 0.5, 0], atol=1e-4)
    beside = found(shapes.lathe([[0, 0], [0.3, 0], [0, 0.8]], segments=32), move=[1, 0, 0])
    assert_allclose(beside.centre[[0, 2]], [1, 0], atol=1e-4)


@pytest.mark.parametrize("sides", [12, 16])
def test_a_prism_of_few_sides_is_not_round(sides):
    mesh = shapes.lathe([[0, 0], [0.3, 0], [0.3, 0.2], [0, 0.2]], segments=sides)
    assert found(mesh).axis is None


def test_a_small_dent_breaks_a_symmetry():
    """1 % of the diameter, five times the tolerance, at one corner of a box."""
    mesh = shapes.box([1, 1, 1], centred=True)
    vertices = mesh.vertices.copy()
    vertices[(vertices == 0.5).all(1)] += 0.01
    assert (
        find_symmetry(vertices, mesh.faces).trivial or len(find_symmetry(vertices, mesh.faces).rotations) < 24
    )
