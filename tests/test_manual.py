"""Soft operators behind an engine's pixels and behind their own, held to differences of their pictures."""

from dataclasses import replace

import pytest
import torch
from supersampled import CUBE, SIZE, SPHERE, agreement, problem, small_world
from test_differentiable import CHANGES, lit_scene
from test_lit import double
from torch.testing import assert_close

from render import differentiable, open_engine
from render.blur import blurred_squared_error
from scenes.scene import stack

SOFT = ("soft", "layers")


@pytest.fixture(scope="module")
def engine():
    with open_engine("software", small_world(), size=(SIZE, SIZE), samples=4, shadows=False) as e:
        yield e


def moving(scene):
    """The scene with leaves that move and colour it, and these."""
    leaves = [t.clone().requires_grad_() for t in (scene.rotation, scene.translation, scene.colour)]
    rotation, translation, colour = leaves
    return replace(scene, rotation=rotation, translation=translation, colour=colour), leaves


def ragged():
    """Two objects; either of them."""
    scene = lit_scene()
    return stack([scene, scene.without(0), scene.without(1)])


# the engine's pixels


@pytest.mark.parametrize("operator", SOFT)
@pytest.mark.parametrize("samples", [1, 2])
def test_pixels_are_the_engines(engine, operator, samples):
    """Bit for bit, and the gradient is that of the operator's own picture, bit for bit too."""
    scene, weight = ragged(), torch.rand(3, 20, 30, 3, generator=torch.Generator().manual_seed(0))
    straight = differentiable(engine, operator=operator, samples=samples)
    leaf, leaves = moving(scene)
    image = straight(leaf, size=(20, 30))
    assert torch.equal(image, differentiable(engine, samples=samples)(scene, size=(20, 30)))
    gradients = torch.autograd.grad((image * weight).sum(), leaves)
    leaf, leaves = moving(scene)
    drawn = differentiable(engine, operator=operator, picture="operator")(leaf, size=(20, 30))
    for one, other in zip(gradients, torch.autograd.grad((drawn * weight).sum(), leaves), strict=True):
        assert torch.equal(one, other)
        assert other.abs().max() > 0
    assert not torch.equal(image, drawn)


@pytest.mark.parametrize("operator", SOFT)
def test_nothing_is_computed_for_what_needs_no_gradient(engine, operator, monkeypatch):
    """Nothing is drawn by the operator without a gradient, nothing by the engine for the other's picture."""

    def never(*_, **__):
        raise AssertionError("not needed")

    scene = lit_scene()
    straight = differentiable(engine, operator=operator)
    own = differentiable(engine, operator=operator, picture="operator")
    with monkeypatch.context() as patch:
        patch.setattr("render.soft.soft_rasterize", never)
        patch.setattr("render.layers.soft_layers", never)
        assert not straight(scene).requires_grad
        with torch.no_grad():
            assert not straight(moving(scene)[0]).requires_grad
    monkeypatch.setattr(engine, "render", never)
    assert own(moving(scene)[0]).requires_grad


# the operator's own picture


@pytest.mark.parametrize("operator", SOFT)
def test_hardly_soft_it_is_nearly_the_engines_picture(engine, operator):
    """Without textures: inside within 8 bits' rounding or so, at borders wrong by what 4x4 samples smooth."""
    scene = ragged()
    own = differentiable(engine, operator=operator, picture="operator", sigma=0.02, gamma=1e-4)
    away = (own(scene) - engine.render(scene).rgb).abs().amax(-1)
    assert (away < 0.02).float().mean() > 0.9
    assert away.mean() < 0.012


@pytest.mark.parametrize("operator", SOFT)
def test_ragged_scenes_are_drawn_as_alone(engine, operator):
    """With one that is empty among them."""
    scene = stack([ragged(), lit_scene().without(0).without(1)])
    own = differentiable(engine, operator=operator, picture="operator")
    leaf, leaves = moving(scene)
    together = own(leaf)
    gradients = torch.autograd.grad(together.square().sum(), leaves)
    assert all(g.isfinite().all() for g in gradients)
    for index in range(4):
        single, inputs = moving(scene[index])
        alone = own(single)
        assert_close(alone, together[[index]])
        apart = torch.autograd.grad(alone.square().sum(), inputs)
        for one, several in zip(apart, gradients, strict=True):
            assert_close(one, several[[index]], rtol=1e-4, atol=1e-3)


def test_layers_reach_the_border():
    """A ground that reaches over the picture's border does not fade there."""
    p = problem("near", 0)
    scene = p.base.without(1)
    with open_engine("software", p.world, size=(SIZE, SIZE), shadows=False) as engine:
        ref = engine.render(scene).rgb
        own = differentiable(engine, operator="layers", picture="operator", sigma=2.0)(scene)
    covered = ref[0, -1].amax(-1) > 0
    assert covered[8:-8].all()
    assert_close(own[0, -1, 8:-8], ref[0, -1, 8:-8], rtol=0, atol=0.02)


def gradient_and_differences(module, fine, change, scene, step):
    """Of the blurred squared difference from a scene that is turned and changed, by each number of t."""
    dtype = scene.translation.dtype
    away = (0.06 * torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(3))).to(dtype)
    with torch.no_grad():
        target = fine(CHANGES["rotation"](change(scene, away), 2 * away)).double()

    def loss(image):
        return blurred_squared_error(image.double(), target, 1.0).sum()

    t = torch.zeros(1, 2, 3, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(module(change(scene, t))), t)
    truth = torch.zeros_like(t)
    with torch.no_grad():
        for slot in range(2):
            for axis in range(3):
                e = torch.zeros_like(t)
                e[0, slot, axis] = step
                ahead, behind = (loss(fine(change(scene, s * e))) for s in (1, -1))
                truth[0, slot, axis] = (ahead - behind) / (2 * step)
    return agreement(gradient.flatten(), truth.flatten())


@pytest.mark.parametrize("name", CHANGES)
def test_soft_against_differences(engine, name):
    """In double precision, where differences can be small; what is left are jumps where faces end."""
    module = differentiable(engine, operator="soft", picture="operator")
    error, cosine = gradient_and_differences(module, module, CHANGES[name], double(lit_scene()), 1e-5)
    assert error < 0.01
    assert cosine > 0.9999


@pytest.mark.parametrize("name", CHANGES)
def test_layers_against_differences(engine, name):
    """Of pictures drawn 6 times larger, as the gradient is of pictures integrated over their pixels."""
    module = differentiable(engine, operator="layers", picture="operator")
    larger = differentiable(engine, operator="layers", picture="operator", sigma=6.0)

    def fine(scene):
        image = larger(scene, size=(6 * SIZE, 6 * SIZE))
        return image.view(1, SIZE, 6, SIZE, 6, 3).mean((2, 4))

    error, cosine = gradient_and_differences(module, fine, CHANGES[name], lit_scene(), 0.01)
    assert error < 0.15  # measured: at most 0.08
    assert cosine > 0.99


def behind():
    """A cube wholly hidden behind a ball, 1.6 m farther away."""
    scene = lit_scene()
    return replace(
        scene,
        asset=torch.tensor([[SPHERE, CUBE]]),
        translation=torch.tensor([[[0.0, 0.0, 0.5], [0.1, 0.05, -1.1]]]),
        scale=torch.tensor([[1.0, 0.4]]),
    )


def test_hidden_objects_feel_layers(engine):
    """A cube behind a ball is pulled towards the target's with layers; with the edge operator not at all."""
    scene = behind()
    assert not (engine.render(scene).instance_id == 1).any()
    aside = replace(scene, translation=scene.translation + torch.tensor([[[0.0, 0, 0], [1.2, 0, 0]]]))
    gradients = {}
    for operator, options in (("edge", {}), ("layers", {"gamma": 0.2})):
        leaf = scene.translation.clone().requires_grad_()
        module = differentiable(engine, operator=operator, **options)
        image = module(replace(scene, translation=leaf))
        loss = blurred_squared_error(image, engine.render(aside).rgb, 8.0).sum()
        gradients[operator] = torch.autograd.grad(loss, leaf)[0][0, 1]
    assert gradients["edge"].abs().max() == 0
    assert gradients["layers"][0] < 0  # to the right, where the target's cube is
    assert gradients["layers"][0].abs() > gradients["layers"][1].abs()


@pytest.mark.parametrize("operator", SOFT)
def test_behind_and_through_the_near_plane(engine, operator):
    """Objects around the camera: finite pictures and gradients."""
    scene = lit_scene(batch=3)
    translation = scene.translation.clone()
    translation[0, :, 2], translation[1, :, 2], translation[2, 0] = 3.5, 9.0, torch.tensor([0.2, 0.0, 3.45])
    leaf, leaves = moving(replace(scene, translation=translation))
    image = differentiable(engine, operator=operator, picture="operator")(leaf)
    assert image.isfinite().all()
    gradients = torch.autograd.grad(image.square().sum(), leaves)
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[1][1].abs().max() == 0  # wholly behind the camera
    assert gradients[1][2].abs().max() > 0


@pytest.mark.cuda
@pytest.mark.parametrize("operator", SOFT)
def test_on_a_gpu(engine, operator):
    """The same picture and gradients as on a CPU, but for last digits."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    results = []
    for device in ("cpu", "cuda"):
        leaf, leaves = moving(ragged().to(device))
        image = differentiable(engine, operator=operator, picture="operator")(leaf)
        gradients = torch.autograd.grad(image.square().sum(), leaves)
        results.append([t.cpu() for t in (image, *gradients)])
    assert_close(results[0][0], results[1][0], rtol=0, atol=1e-3)
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        assert agreement(one.flatten(), other.flatten())[1] > 0.999
