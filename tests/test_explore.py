"""The explorer without a display: arrows and arcs, what is asked when, and what sliders move."""

import io
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from PIL import Image
from torch.testing import assert_close

import inverse
from inverse.explorer.arrows import centres, descent_arrows, project, way_to
from inverse.explorer.canvas import Canvas
from inverse.explorer.exploration import Asked, Exploration
from inverse.explorer.widget import COLOURS, Explorer

SIZE = (64, 64)


@pytest.fixture
def exploration(table):
    exploration = Exploration(table, engine="software", height=64, seed=1)
    yield exploration
    exploration.close()


@pytest.fixture
def explorer(exploration):
    return Explorer(exploration)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def inked(explorer, name):
    """How many pixels of the large picture have a strategy's colour."""
    colour = COLOURS[list(explorer.ticks).index(name)].lstrip("#")
    want = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)])
    return int((np.abs(pixels(explorer.main.value).astype(int) - want).max(-1) <= 3).sum())


def test_arrows_lead_downhill(table):
    """For a loss that is least at the truth, equal in all directions, they point where it is."""
    truth = table.sample(1, generator=torch.Generator().manual_seed(2))
    near = replace(truth, translation=truth.translation + torch.tensor([[[3e-3, 0, 1e-3], [-2e-3, 0, 2e-3]]]))
    gradient = (table.pack(near) - table.pack(truth))[0]
    arrows = descent_arrows(table, near, gradient, torch.ones_like(gradient), SIZE)
    assert len(arrows.moves) == 2
    for move, way in zip(arrows.moves, way_to(table, near, truth, SIZE), strict=True):
        assert_close(move[0], way[0])
        a, b = move[1] - move[0], way[1] - way[0]
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9999
    lengths = [np.linalg.norm(m[1] - m[0]) for m in arrows.moves]
    ways = [np.linalg.norm(w[1] - w[0]) for w in way_to(table, near, truth, SIZE)]
    assert max(lengths) == pytest.approx(0.16 * 64)
    assert lengths[0] / lengths[1] == pytest.approx(ways[0] / ways[1], rel=1e-2)
    assert arrows.turns == ()


def test_steps_are_the_units_of_descent(table):
    """An axis on which a step is ten times as large is descended a hundred times as far: once for the slope
    in its unit, once for the unit."""
    scene = table.sample(1, generator=torch.Generator().manual_seed(2))
    gradient, steps = torch.zeros(len(table.names)), torch.ones(len(table.names))
    x, z = table.names.index("object0.x"), table.names.index("object0.z")
    gradient[x], gradient[z] = 1.0, 1.0
    steps[z] = 10.0
    (move,) = descent_arrows(table, scene, gradient, steps, SIZE).moves
    middle = centres(table, scene)[:1]
    ahead = project(scene, middle + 1e-4 * torch.tensor([[-0.01, 0.0, -1.0]]), SIZE) - project(
        scene, middle, SIZE
    )
    a, b = move[1] - move[0], ahead[0].numpy()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9999


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_arc_of_a_yaw(table, sign):
    """Turned about +y, what faces the eye goes to the right; a positive slope turns it the other way."""
    scene = table.sample(1, generator=torch.Generator().manual_seed(2))
    scene.asset[0] = torch.tensor([table.index("mug"), table.index("book")])
    gradient = torch.zeros(len(table.names))
    gradient[table.names.index("object1.yaw")] = sign
    arrows = descent_arrows(table, scene, gradient, torch.ones_like(gradient), SIZE)
    assert arrows.moves == ()
    (arc,) = arrows.turns
    assert np.sign(arc[-1, 0] - arc[0, 0]) == -sign
    middle = project(scene, centres(table, scene), SIZE)[1].numpy()
    assert arc[len(arc) // 2, 1] > middle[1]  # before the object, so below it in the picture


def test_arc_of_any_rotation(cube):
    """Its middle moves as the front of the object does when it is turned that way."""
    scene = cube.sample(1, generator=torch.Generator().manual_seed(0))
    gradient = torch.tensor([0.3, -1.0, 0.5])
    (arc,) = descent_arrows(cube, scene, gradient, torch.ones(3), SIZE).turns
    turned = cube.unpack(cube.pack(scene).double() - 1e-4 * gradient.double(), like=scene)
    turn = roma.quat_product(
        turned.rotation[0, 0].double(), roma.quat_conjugation(scene.rotation[0, 0].double())
    )
    axis = roma.unitquat_to_rotvec(turn)
    eye, middle = scene.camera.translation[0].double(), centres(cube, scene)[0]
    front = (eye - middle) - (eye - middle) @ axis / (axis @ axis) * axis
    front = middle + front / front.norm() * cube.assets[0].radius * float(scene.scale[0, 0])
    after = middle + roma.quat_action(turn, front - middle)
    here, there = project(scene, torch.stack([front, after]), SIZE).numpy()
    k = len(arc) // 2
    assert_close(torch.tensor((arc[k] + arc[k - 1]) / 2), torch.tensor(here), atol=0.3, rtol=0)
    a, b = arc[k] - arc[k - 1], there - here
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_projection_is_the_engines(table, table_engine):
    """An object's middle lies in the middle of the pixels that show it."""
    scene = table.sample(1, generator=torch.Generator().manual_seed(5)).without(1)
    scene.asset[0, 0] = table.index("block")
    rows, columns = (table_engine.render(scene).instance_id[0] == 0).nonzero(as_tuple=True)
    where = project(scene, centres(table, scene), SIZE)[0]
    assert float(where[0]) == pytest.approx(float(columns.float().mean()) + 0.5, abs=1.0)
    assert float(where[1]) == pytest.approx(float(rows.float().mean()) + 0.5, abs=1.0)


def test_random_start_is_off_a_known_truth(exploration, table):
    again = Exploration(table, engine="software", height=64, seed=1)
    assert torch.equal(again.theta, exploration.theta)
    assert exploration.scene.asset.tolist() == exploration.truth.asset.tolist()
    assert not torch.equal(table.pack(exploration.truth)[0], exploration.theta)
    assert exploration.loss(exploration.engine.render(exploration.truth).rgb[0]) == 0.0
    assert exploration.loss(exploration.picture()) > 1e-4
    again.close()


def test_gradients_are_those_of_the_loss(exploration):
    """Downhill along the edge operator's gradient the loss falls, uphill it rises."""
    steps, slope = exploration.steps, exploration.ask("manual, edge").gradient
    direction = -slope * steps**2 / (slope * steps).norm()
    losses = []
    for pixels_gone in (-1.0, 0.0, 1.0):
        exploration.theta = exploration.start + pixels_gone * direction
        losses.append(exploration.loss(exploration.picture()))
    assert losses[0] > losses[1] > losses[2]


def test_sliders_show_what_is_free(explorer, table):
    """Names, units and ranges are the world's; what does not matter, such as a bowl's yaw, has no slider."""
    exploration = explorer.exploration
    assert list(explorer.sliders) == table.active(exploration.like)[0].nonzero()[:, 0].tolist()
    for p, slider in explorer.sliders.items():
        unit = "" if table.units[p] == "1" else f" [{table.units[p]}]"
        assert slider.description == table.names[p].split(".")[-1] + unit
        assert (slider.min, slider.max) == pytest.approx((float(table.low[p]), float(table.high[p])))
        assert slider.value == pytest.approx(float(exploration.theta[p]), abs=1e-6)
    titles = explorer.children[-1].titles
    assert titles[-1] == "light"
    assert len(titles) == 3


def test_a_slider_moves_the_scene(explorer, table):
    before, p = explorer.main.value, table.names.index("object0.x")
    explorer.sliders[p].value = float(table.high[p])
    assert explorer.exploration.theta[p] == table.high[p]
    drawn = pixels(explorer.main.value)
    assert drawn.shape == (440, 440, 3)
    assert np.abs(drawn.astype(int) - pixels(before)).max() > 50
    assert set(explorer.answers) == {"manual, edge"}
    explorer.back_button.click()
    assert explorer.main.value == before


def test_ticks_show_arrows_in_their_colours(explorer):
    assert inked(explorer, "manual, edge") > 50
    explorer.ticks["manual, edge"].value = False
    assert inked(explorer, "manual, edge") == 0
    explorer.ticks["manual, soft"].value = True
    assert inked(explorer, "manual, soft") > 50
    assert "ms" in explorer.said["manual, soft"].value


def test_slow_strategies_are_asked_on_demand(explorer, table):
    explorer.ticks["score"].value = True
    assert "score" not in explorer.answers
    assert inked(explorer, "score") == 0
    explorer.ask_button.click()
    assert "score" in explorer.answers
    assert inked(explorer, "score") > 50
    slider = explorer.sliders[table.names.index("object0.x")]
    slider.value += 2 * slider.step  # what it said of another scene does not hold here
    assert "score" not in explorer.answers
    assert inked(explorer, "score") == 0


def test_following_goes_downhill_and_moves_sliders(explorer):
    exploration = explorer.exploration
    before = exploration.loss(exploration.picture())
    explorer.followed.value = "manual, edge"
    explorer.follow_button.click()
    assert exploration.loss(exploration.picture()) < 0.7 * before
    for p, slider in explorer.sliders.items():
        assert slider.value == pytest.approx(float(exploration.theta[p]), abs=1e-6)


def test_blur_is_the_losss(explorer):
    before = explorer.caption.value
    explorer.blur.value = 8.0
    assert explorer.exploration.blur == 8.0
    assert explorer.caption.value != before


def test_gradients_that_are_not_finite_are_said(explorer):
    p = len(explorer.exploration.theta)
    explorer.answers["manual, edge"] = Asked(torch.full((p,), math.nan), 1.0)
    explorer.refresh(keep=True)
    assert inked(explorer, "manual, edge") == 0
    assert "not finite" in explorer.said["manual, edge"].value


def test_closing_gives_the_engine_back(table):
    explorer = inverse.explore(table, engine="software", height=32)
    explorer.close()
    with pytest.raises(Exception, match="closed"):
        explorer.exploration.picture()


def test_a_picture_of_ones_own(table, exploration, tmp_path):
    """A file, with the scene to begin with; the truth is not known then."""
    path = tmp_path / "photo.png"
    Image.fromarray((exploration.target * 255).round().byte().numpy()).save(path)
    explorer = inverse.explore(table, path, scene=exploration.truth, engine="software", height=64)
    assert explorer.exploration.truth is None
    assert explorer.exploration.loss(explorer.exploration.picture()) < 1e-5
    explorer.close()
    explorer = inverse.explore(table, path, scene=exploration.truth, engine="software", height=32)
    assert explorer.exploration.target.shape == (32, 32, 3)
    explorer.close()


def test_mistakes(table, monkeypatch):
    picture = torch.zeros(128, 128, 3)
    with pytest.raises(ValueError, match="give a scene to begin with"):
        inverse.explore(table, picture, engine="software")
    with pytest.raises(ValueError, match="must be one, got 2"):
        inverse.explore(table, picture, scene=table.sample(2), engine="software")
    with pytest.raises(ValueError, match="no engine 'gl'"):
        inverse.explore(table, engine="gl")
    for name in [n for n in sys.modules if n.startswith(("ipywidgets", "inverse.explorer.widget"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r'pip install "unrender\[notebooks\]"'):
        inverse.explore(table, engine="software")


def test_arrows_too_short_to_see_are_left_out():
    """And the colour beneath is the picture's."""
    canvas = Canvas(torch.full((8, 8, 3), 0.5), 80)
    canvas.arrow(np.array([[4.0, 4.0], [4.01, 4.0]]), "#ff0000")
    canvas.arrow(np.array([[4.0, 4.0], [math.nan, 4.0]]), "#ff0000")
    assert set(pixels(canvas.png()).reshape(-1)) == {128}
    canvas.arrow(np.array([[1.0, 4.0], [7.0, 4.0]]), "#ff0000")
    assert (pixels(canvas.png())[39:41, 20:50] == [255, 0, 0]).all()
