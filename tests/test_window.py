"""Windows: what they hold, and that their cameras draw the same pixels."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from inverse.window import Window, grown


def touched(*pixels, size=(64, 96)):
    picture = torch.zeros(size, dtype=torch.bool)
    for row, column in pixels:
        picture[row, column] = True
    return picture


@pytest.mark.parametrize("pixels", [[(0, 0)], [(63, 95)], [(20, 30), (33, 41)], [(5, 2), (60, 90)], []])
def test_holds_what_is_touched_and_a_rim(pixels):
    """Within the picture, a square unless the picture ends it, of a few sizes."""
    window = Window.around(touched(*pixels), 3)
    assert 0 <= window.top <= 64 - window.height
    assert 0 <= window.left <= 96 - window.width
    assert window.width % 12 == 0
    assert window.height == min(window.width, 64)
    for row, column in pixels:
        for r, c in ((max(0, row - 3), max(0, column - 3)), (min(63, row + 3), min(95, column + 3))):
            assert window.top <= r < window.top + window.height
            assert window.left <= c < window.left + window.width


def test_is_no_larger_than_it_must_be():
    """7 pixels with their rims take one eighth of the picture's 96 columns, 13 take two."""
    assert Window.around(touched((30, 40)), 3).size == (12, 12)
    assert Window.around(touched((30, 40), (30, 46)), 3).size == (24, 24)


@pytest.mark.parametrize("rim", [0, 1, 4])
def test_grows_by_a_rim_up_down_and_aside(rim):
    near = grown(touched((20, 30), (0, 95)), rim)
    for row, column in ((20, 30), (0, 95)):
        rows, columns = slice(max(0, row - rim), row + rim + 1), slice(max(0, column - rim), column + rim + 1)
        assert near[rows, columns].all()
    assert int(near.sum()) == (2 * rim + 1) ** 2 + (rim + 1) ** 2


def test_cuts_and_counts():
    picture = torch.arange(20.0).reshape(4, 5)
    window = Window(1, 2, 2, 3)
    assert_close(window.cut(picture), picture[1:3, 2:5])
    assert Window(2, 4, 1, 1).within(window) == Window(1, 2, 1, 1)
    assert_close(window.cut(picture), picture[window.rows, window.columns])


@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_its_camera_draws_the_same_pixels(table, table_engine, size):
    """Of a picture of the camera's own proportions, and of others."""
    scene = table.sample(2, generator=torch.Generator().manual_seed(3))
    window = Window(10, 16, 30, 40)
    whole = table_engine.render(scene, size=size)
    part = table_engine.render(replace(scene, camera=window.camera(scene.camera, size)), size=window.size)
    for wide, near in zip(whole.rgb, part.rgb, strict=True):
        wrong = (window.cut(wide) - near).abs().amax(-1) > 1e-3
        assert float(wrong.float().mean()) < 0.002  # a sample at an outline may fall to the other side
    for wide, near in zip(whole.instance_id, part.instance_id, strict=True):
        assert float((window.cut(wide) != near).float().mean()) < 0.002
