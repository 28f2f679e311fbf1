"""differentiable(engine): the engine's pixels, and gradients held to differences of its pictures."""

import math
from dataclasses import replace

import pytest
import roma
import torch
from supersampled import SIZE, agreement, problem, small_world
from torch.testing import assert_close

from render import Frame, Simulator, differentiable, open_engine
from render.blur import blurred_squared_error
from scenes import World


@pytest.fixture(scope="module")
def engine():
    """Without shadows, which the gradients' shading leaves out; 4x4 samples, for smooth differences."""
    with open_engine("software", small_world(), size=(SIZE, SIZE), samples=4, shadows=False) as e:
        yield e


def lit_scene(name="two", seed=6, batch=1):
    scene = problem(name, seed).base[[0] * batch]
    return replace(
        scene,
        colour=torch.tensor([0.9, 0.6, 0.7]).expand(batch, scene.slots, 3).clone(),
        background=torch.full((batch, 3), 0.15),
    )


def lit(scene, **change):
    return replace(scene, light=replace(scene.light, **change))


def seen_by(scene, **change):
    return replace(scene, camera=replace(scene.camera, **change))


CHANGES = {  # a scene at t, away from the one at t = 0
    "rotation": lambda s, t: replace(
        s, rotation=roma.quat_product(roma.rotvec_to_unitquat(t[..., :3]).expand_as(s.rotation), s.rotation)
    ),
    "translation": lambda s, t: replace(s, translation=s.translation + t[..., :3]),
    "scale": lambda s, t: replace(s, scale=s.scale * (1 + t[..., 0])),
    "colour": lambda s, t: replace(s, colour=s.colour + t[..., :3]),
    "background": lambda s, t: replace(s, background=s.background + t[:, 0, :3]),
    "light direction": lambda s, t: lit(
        s, direction=torch.nn.functional.normalize(s.light.direction + t[:, 0, :3], dim=-1)
    ),
    "light intensity": lambda s, t: lit(s, intensity=s.light.intensity + t[:, 0, 0]),
    "light ambient": lambda s, t: lit(s, ambient=s.light.ambient + t[:, 0, 0]),
    "camera translation": lambda s, t: seen_by(s, translation=s.camera.translation + t[:, 0, :3]),
    "camera rotation": lambda s, t: seen_by(
        s, rotation=roma.quat_product(roma.rotvec_to_unitquat(t[:, 0, :3]), s.camera.rotation)
    ),
    "camera focal": lambda s, t: seen_by(s, focal=s.camera.focal * (1 + t[:, 0, :2])),
    "camera centre": lambda s, t: seen_by(s, centre=s.camera.centre + 20 * t[:, 0, :2]),
}
TOLERANCE = {"background": 0.05} | dict.fromkeys(
    ("colour", "light direction", "light intensity", "light ambient"), 0.1
)  # else 0.25


@pytest.mark.parametrize("name", CHANGES)
def test_gradient_against_differences_of_the_engine(engine, name):
    """What only shades, nearly exactly. What moves: engines average linear light, whose bend in the encoded
    values at edges the operator takes for straight, which is 5-15 % here and nothing at the target itself."""
    change, scene = CHANGES[name], lit_scene()
    away = 0.06 * torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(3))
    fine = differentiable(engine, samples=4)  # 16x16 samples: differences of fewer are noise
    target = fine(CHANGES["rotation"](change(scene, away), 2 * away))
    t = torch.zeros(1, 2, 3, requires_grad=True)
    image = differentiable(engine)(change(scene, t))
    blurred_squared_error(image, target, 1.0).sum().backward()
    step, truth = 0.01, torch.zeros_like(t)
    for slot in range(2):
        for axis in range(3):
            e = torch.zeros_like(t)
            e[0, slot, axis] = step
            ahead, behind = (
                blurred_squared_error(fine(change(scene, s * e)).double(), target.double(), 1.0)
                for s in (1, -1)
            )
            truth[0, slot, axis] = (ahead - behind) / (2 * step)
    error, cosine = agreement(t.grad.flatten(), truth.flatten())
    assert error < TOLERANCE.get(name, 0.25)
    assert cosine > 0.99


def test_pixels_are_the_engines(engine):
    scene = lit_scene(batch=2)
    leaf = replace(
        scene, translation=scene.translation.clone().requires_grad_(), colour=scene.colour.requires_grad_()
    )
    image = differentiable(engine)(leaf)
    assert torch.equal(image, engine.render(scene).rgb)
    assert image.requires_grad
    assert torch.equal(differentiable(engine)(leaf, size=(20, 30)), engine.render(scene, size=(20, 30)).rgb)


def test_samples_average_in_linear_light():
    """2x2 pictures of 2x2 samples are one picture of 4x4 samples."""
    world, scene = small_world(), lit_scene()
    few = open_engine("software", world, size=(SIZE, SIZE), samples=2, shadows=False)
    many = open_engine("software", world, size=(SIZE, SIZE), samples=4, shadows=False)
    assert_close(differentiable(few, samples=2)(scene), many.render(scene).rgb, rtol=0, atol=2e-3)


def test_more_samples_are_more_exact(engine):
    """Rotation of a cube, against differences of pictures of 16x16 samples."""
    scene = lit_scene("cube", 1)
    change, fine = CHANGES["rotation"], differentiable(engine, samples=4)
    target = fine(change(scene, torch.tensor([[[0.1, -0.07, 0.05]]])))
    truth = torch.zeros(3)
    for axis in range(3):
        e = torch.zeros(1, 1, 3)
        e[0, 0, axis] = 0.01
        ahead, behind = (
            blurred_squared_error(fine(change(scene, s * e)).double(), target.double(), 1.0) for s in (1, -1)
        )
        truth[axis] = (ahead - behind) / 0.02
    errors = []
    for samples in (1, 2):
        t = torch.zeros(1, 1, 3, requires_grad=True)
        loss = blurred_squared_error(differentiable(engine, samples=samples)(change(scene, t)), target, 1.0)
        errors.append(agreement(torch.autograd.grad(loss.sum(), t)[0].flatten(), truth)[0])
    assert errors[1] < errors[0] < 0.15


def test_a_plain_ball_under_light_does_not_feel_its_own_turn(engine):
    """Advection turns the shading with the ball; normals turn it back. Either alone is far from zero."""
    world = small_world()
    plain = replace(
        world.assets[1], colours=torch.full_like(torch.tensor(world.assets[1].colours), 0.6).numpy()
    )
    world = replace(world, assets=(world.assets[0], plain))
    scene = lit_scene("sphere", 0)
    with open_engine("software", world, size=(SIZE, SIZE), samples=4, shadows=False) as ball:
        target = ball.render(replace(scene, translation=scene.translation + 0.05)).rgb
        t = torch.zeros(1, 1, 3, requires_grad=True)
        u = torch.zeros(1, 1, 3, requires_grad=True)
        image = differentiable(ball)(CHANGES["translation"](CHANGES["rotation"](scene, t), u))
        blurred_squared_error(image, target, 1.0).sum().backward()
    assert t.grad.norm() < 0.02 * u.grad.norm()  # per radian and per metre, at 0.7 m


class Recoloured:
    """An engine of which nothing is known: channels exchanged, half as bright."""

    name = "recoloured"

    def __init__(self, inner):
        self.inner, self.world, self.size = inner, inner.world, inner.size

    def render(self, scene, *, size=None):
        return Frame(self.inner.render(scene, size=size).rgb.flip(-1) * 0.5)


def test_any_engine(engine):
    """The edge operator sees the pixels it is given: half the contrast, half the force."""
    scene = lit_scene()
    gradients = []
    for e in (engine, Recoloured(engine)):
        leaf = scene.translation.clone().requires_grad_()
        differentiable(e)(replace(scene, translation=leaf)).square().sum().backward()
        gradients.append(leaf.grad)
    assert_close(gradients[1], gradients[0] / 4, rtol=1e-4, atol=1e-4)


def test_nothing_is_computed_for_what_needs_no_gradient(engine, monkeypatch):
    from render import edge

    def never(*_, **__):
        raise AssertionError("not needed")

    monkeypatch.setattr(edge, "edge_gradient", never)
    light = lit_scene()
    ambient = light.light.ambient.clone().requires_grad_()
    image = differentiable(engine)(replace(light, light=replace(light.light, ambient=ambient)))
    image.sum().backward()
    assert ambient.grad > 0
    assert not differentiable(engine)(light).requires_grad
    with torch.no_grad():
        assert not differentiable(engine)(
            replace(light, scale=light.scale.clone().requires_grad_())
        ).requires_grad


def test_behind_and_through_the_near_plane(engine):
    """Objects around the camera: finite pictures and gradients."""
    scene = lit_scene(batch=3)
    translation = scene.translation.clone()
    translation[0, :, 2], translation[1, :, 2], translation[2, 0] = 3.5, 9.0, torch.tensor([0.2, 0.0, 3.45])
    leaves = [t.clone().requires_grad_() for t in (scene.rotation, translation, scene.scale)]
    rotation, translation, scale = leaves
    image = differentiable(engine)(replace(scene, rotation=rotation, translation=translation, scale=scale))
    image.square().sum().backward()
    assert all(t.grad.isfinite().all() for t in leaves)
    assert leaves[1].grad[1].abs().max() == 0  # wholly behind the camera
    assert leaves[1].grad[2].abs().max() > 0


def test_empty_scenes(engine):
    scene = replace(lit_scene(), asset=torch.full((1, 2), -1))
    leaf, background = scene.translation.clone().requires_grad_(), scene.background.clone().requires_grad_()
    differentiable(engine)(replace(scene, translation=leaf, background=background)).sum().backward()
    assert leaf.grad.abs().max() == 0
    assert (background.grad > 0).all()


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        (
            "manul",
            {},
            "no strategy 'manul', only manual, autodiff, surrogate, score; did you mean 'manual'",
        ),
        ("manual", {"operators": "edge"}, "no option of the strategy 'manual' 'operators'.*mean 'operator'"),
        ("surrogate", {}, "the strategy 'surrogate' needs a network that imitates the engine"),
        ("surrogate", {"kind": "locale"}, "no kind 'locale', only trained, local; did you mean 'local'"),
        (
            "manual",
            {"operator": "edges"},
            "no operator 'edges', only edge, soft, layers; did you mean 'edge'",
        ),
        (
            "manual",
            {"operator": "layer"},
            "no operator 'layer', only edge, soft, layers; did you mean 'layers'",
        ),
        ("manual", {"operator": "soft", "picture": "engin"}, "no picture 'engin'.*did you mean 'engine'"),
        ("manual", {"picture": "operator"}, "'edge' has no picture of its own; 'soft' and 'layers' have"),
        ("manual", {"operator": "soft", "sigma": 0.0}, "sigma must be positive and finite, got 0.0"),
        ("manual", {"operator": "layers", "gamma": math.nan}, "gamma must be positive and finite, got nan"),
        (
            "manual",
            {"operator": "soft", "picture": "operator", "samples": 2},
            "samples are of the engine's picture, not of the operator's: got 2",
        ),
        ("manual", {"samples": 0}, "samples must be at least 1, got 0"),
    ],
)
def test_rejects(engine, strategy, options, message):
    with pytest.raises(ValueError, match=message):
        differentiable(engine, strategy, **options)


@pytest.mark.slow
def test_cube_turned_by_20_degrees_comes_back():
    """20 problems in one batch, Adam on the turn, blur 3 px to 0.5 px: at least 90 % within 1 degree."""
    world, g = World.load("cube"), torch.Generator().manual_seed(0)
    truth = world.sample(20, generator=g)
    axis = torch.nn.functional.normalize(torch.randn(20, 1, 3, generator=g), dim=-1)
    start = roma.quat_product(roma.rotvec_to_unitquat(0.349 * axis), truth.rotation)
    turn = torch.zeros(20, 1, 3, requires_grad=True)
    steps = 60
    optimizer = torch.optim.Adam([turn], lr=0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.05 ** (1 / steps))
    with open_engine("software", world, size=(64, 64)) as engine:
        target, module = engine.render(truth).rgb, differentiable(engine)
        for i in range(steps):
            rotation = roma.quat_product(roma.rotvec_to_unitquat(turn), start)
            blur = 3.0 * (1 / 6) ** (i / steps)
            loss = blurred_squared_error(module(replace(truth, rotation=rotation)), target, blur)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            schedule.step()
    rotation = roma.quat_product(roma.rotvec_to_unitquat(turn.detach()), start)
    cosine = (rotation * truth.rotation).sum(-1).abs().clamp(max=1.0)
    off = torch.rad2deg(2 * cosine.acos())[:, 0]
    assert (off < 1.0).float().mean() >= 0.9
    assert off.median() < 0.4


def test_simulators_draw_no_pictures():
    simulator = Simulator(lambda theta: theta, [0.0], [1.0])
    for strategy in ("manual", "autodiff"):
        with pytest.raises(ValueError, match=f"'{strategy}' differentiates pictures.*'surrogate' or 'score'"):
            differentiable(simulator, strategy)
    assert differentiable(simulator, "score")(torch.tensor([[0.25]])).tolist() == [[0.25]]


OWN = """
import torch
from render.software import SoftwareEngine

class Flat(SoftwareEngine):
    name = "flat"
    def __init__(self, world, *, size, **options):
        super().__init__(world, size=size, samples=1, shadows=False, **options)

class Blind(torch.nn.Module):
    def __init__(self, engine, *, factor=1.0):
        super().__init__()
        self.engine, self.factor = engine, factor
    def forward(self, scene, size=None):
        return self.engine.render(scene, size=size).rgb + self.factor * scene.translation.sum()
"""


def test_engines_and_strategies_of_ones_own(cube, tmp_path, monkeypatch):
    (tmp_path / "own_ways.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with open_engine("own_ways:Flat", cube, size=(16, 24)) as engine:
        assert engine.name == "flat"
        module = differentiable(engine, "own_ways:Blind", factor=2.0)
        scene = cube.sample(generator=torch.Generator().manual_seed(0))
        scene.translation.requires_grad_()
        picture = module(scene)
        assert picture.shape == (1, 16, 24, 3)
        picture.sum().backward()
        assert scene.translation.grad.unique().tolist() == [2.0 * 16 * 24 * 3]
        with pytest.raises(ValueError, match=r"no option of the strategy 'own_ways:Blind' 'factr'.*'factor'"):
            differentiable(engine, "own_ways:Blind", factr=2.0)
        with pytest.raises(ValueError, match=r"'own_ways:Blnd' cannot be had: write module:Class"):
            differentiable(engine, "own_ways:Blnd")
    with pytest.raises(ValueError, match=r"'no_module:Engine' cannot be had: No module named 'no_module'"):
        open_engine("no_module:Engine", cube)
