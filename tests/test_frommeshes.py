"""Worlds made of meshes and a camera, and camera files."""

import json
import math

import pytest
import torch
from torch.testing import assert_close

from scenes.frommeshes import from_meshes
from scenes.intrinsics import Intrinsics, IntrinsicsError, read_intrinsics


@pytest.fixture
def box(tmp_path):
    """A box of 0.6 x 0.8 x 0 m: its radius is half a metre, its centre lies 1 m right of its origin."""
    path = tmp_path / "box.obj"
    corners = [(0.7, -0.4), (1.3, -0.4), (1.3, 0.4), (0.7, 0.4)]
    path.write_text("".join(f"v {x} {y} 0\n" for x, y in corners) + "f 1 2 3\nf 1 3 4\n")
    return path


def test_ranges_by_hand(box):
    camera = Intrinsics(width=200, height=100, fx=100.0, fy=100.0, cx=90.0, cy=50.0)
    world = from_meshes([box], camera)
    x, y, z = world.position
    # 1 m across at depth d covers 100 / d pixels: 200 of them (twice the shorter side) at 0.5 m, 4 at 25 m.
    assert (z.high, z.low) == pytest.approx((-0.5, -25.0))
    # At 25 m the picture reaches 110 / 100 * 25 m to the right; the origin may lie 1.5 m beyond.
    assert x.high == pytest.approx(27.5 + 1.5)
    assert y.high == pytest.approx(12.5 + 1.5)
    assert not world.scale.free
    assert world.count == (1, 1)


def test_camera_stands_at_the_origin_and_looks_along_minus_z(box):
    camera = Intrinsics(width=200, height=100, fx=110.0, fy=100.0, cx=90.0, cy=50.0)
    scene = from_meshes([box], camera).empty()
    assert_close(scene.camera.translation, torch.zeros(1, 3))
    assert_close(scene.camera.rotation, torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
    assert_close(scene.camera.focal, torch.tensor([[110.0, 100.0]]))
    assert_close(scene.camera.centre, torch.tensor([[90.0, 50.0]]))


def test_no_meshes(box):
    with pytest.raises(ValueError, match="at least one mesh"):
        from_meshes([], Intrinsics.from_fov(64, 64, 50.0))


def test_equal_names_are_numbered(box):
    world = from_meshes([box, box], Intrinsics.from_fov(64, 64, 50.0))
    assert [a.name for a in world.assets] == ["box-1", "box-2"]
    assert world.count == (1, 2)
    assert all(a.colour_free for a in world.assets)


def test_field_of_view():
    camera = Intrinsics.from_fov(640, 480, 90.0)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((240.0, 240.0, 320.0, 240.0))
    for bad in (0.0, 180.0, math.nan):
        with pytest.raises(IntrinsicsError, match="between 0 and 180 degrees"):
            Intrinsics.from_fov(640, 480, bad)


def test_camera_file(tmp_path):
    content = {"width": 640, "height": 480, "fx": 570, "fy": 571.5, "cx": 320, "cy": 240}
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(content))
    assert read_intrinsics(path) == Intrinsics(640, 480, 570.0, 571.5, 320.0, 240.0)
    for bad, message in [
        ("[]", "must hold one object"),
        ("{", "is no JSON"),
        ('{"widht": 1}', "mean 'width'"),
    ]:
        path.write_text(bad)
        with pytest.raises(IntrinsicsError, match=message) as error:
            read_intrinsics(path)
        assert "\n" not in str(error.value)
