"""Automatic differentiation of soft pictures: against the operator, differences and PyTorch3D's figures."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from scene_tensors import gradients, tensors, with_leaves, with_tensors
from small_world import small_world
from test_differentiable import lit_scene
from test_lit import double
from torch.autograd.gradcheck import GradcheckError
from torch.testing import assert_close

import render.soft.reference as reference
from render import EngineError, differentiable
from scenes import World
from scenes.scene import stack

DATA = Path(__file__).parent / "data" / "pytorch3d_scenes.npz"
CASES = {"cube": "cube", "occluding": "tabletop", "near": "tabletop"}  # and their worlds
SOFTNESS = {"sigma": 1.0, "gamma": 0.02}


class Unasked:
    """An engine that must not be asked for a picture: its world and size are all that is needed."""

    name = "unasked"

    def __init__(self, world, size=(24, 32)):
        self.world, self.size = world, size

    def render(self, scene, *, size=None):
        raise AssertionError("the engine was asked")


def autodiff(world, size=(24, 32), *, renderer="torch", **softness):
    return differentiable(Unasked(world, size), "autodiff", renderer=renderer, **SOFTNESS | softness)


def operator(world, size=(24, 32), **softness):
    options = {"operator": "soft", "picture": "operator"} | SOFTNESS | softness
    return differentiable(Unasked(world, size), "manual", **options)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lit_pair(batch=1):
    """Two lit objects, one before the other, of a world without scenery, in double precision."""
    return double(lit_scene(batch=batch))


def assert_gradients_close(found, wanted, share):
    """Each tensor's gradient to a share of its length."""
    for key, want in wanted.items():
        away = float((found[key].double() - want.double()).norm())
        assert away < share * float(want.norm()), key


# one formula, three implementations


@pytest.mark.parametrize("name", ["cube", "tabletop"])
def test_equals_the_operator(name, device):
    """Same formula, same end of faces; the operator leaves out weights below 1e-7. Two scenes at once."""
    world = World.load(name)
    scene = double(world.sample(batch=2, generator=torch.Generator().manual_seed(1))).to(device)
    cotangent = normal(0, 2, 24, 32, 3).to(device)
    want, wanted = gradients(operator(world), scene, cotangent)
    image, found = gradients(autodiff(world), scene, cotangent)
    assert image.dtype == torch.float64
    assert_close(image, want, rtol=0, atol=1e-6)
    assert_gradients_close(found, wanted, 1e-5)


def stored(name):
    """A world, its scene, and what PyTorch3D made of it; data/make_pytorch3d_scenes.py says how."""
    with np.load(DATA) as data:
        arrays = {k.removeprefix(f"{name}/"): torch.from_numpy(data[k]) for k in data if k.startswith(name)}
    world = World.load(CASES[name])
    empty = world.empty(len(arrays["asset"]))
    scene = with_tensors(replace(empty, asset=arrays["asset"]), {k: arrays[k] for k in tensors(empty)})
    wanted = {k: arrays[f"grad/{k}"] for k in tensors(empty)}
    sigma, gamma = arrays["softness"].tolist()
    return world, scene, {"sigma": sigma, "gamma": gamma}, arrays["cotangent"], arrays["image"], wanted


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ours", [autodiff, operator])
def test_equals_pytorch3d(name, ours):
    """Its figures: the camera, the rasterizer, the blending and their gradients are its own, in float32.

    Placing, near plane and lit corners are ours in both. The mathematics is the same but for an epsilon in
    its barycentric coordinates and areas. Measured: at most 1e-6 in pictures, 1e-5 of gradients.
    """
    world, scene, softness, cotangent, want, wanted = stored(name)
    image, found = gradients(ours(world, tuple(want.shape[1:3]), **softness), double(scene), cotangent)
    assert_close(image, want.double(), rtol=0, atol=5e-6)
    assert_gradients_close(found, wanted, 5e-5)


@pytest.mark.parametrize("name", CASES)
def test_pytorch3d_itself(name, monkeypatch):
    """The adapter, where PyTorch3D imports; elsewhere its figures stand for it."""
    try:
        import pytorch3d.renderer.mesh.rasterize_meshes  # noqa: F401  (only whether its compiled part is there)
    except ImportError as e:
        pytest.skip(f"PyTorch3D cannot be imported: {e}")
    world, scene, softness, cotangent, want, wanted = stored(name)
    module = autodiff(world, tuple(want.shape[1:3]), renderer="pytorch3d", **softness)
    image, found = gradients(module, scene, cotangent)
    assert_close(image, want, rtol=0, atol=5e-6)
    assert_gradients_close(found, wanted, 5e-5)
    blind = with_tensors(scene, {"camera/focal": torch.full_like(scene.camera.focal, math.nan)})
    _, found = gradients(module, stack([scene, blind]), torch.cat([cotangent, cotangent]))
    assert_gradients_close({k: g[: len(scene)] for k, g in found.items()}, wanted, 5e-5)
    assert all(
        (found[k][len(scene) :] == 0).all() for k in ("rotation", "camera/translation", "camera/focal")
    )
    empty = replace(scene, asset=torch.full_like(scene.asset, -1))
    origin = with_tensors(empty, {"camera/translation": torch.zeros_like(scene.camera.translation)})
    _, found = gradients(module, stack([scene, origin]), torch.cat([cotangent, cotangent]))
    assert all(g.isfinite().all() for g in found.values())  # its meshes' padding lies in the eye
    monkeypatch.setattr("render.autodiff.pytorch3d._FACES", 30)
    assert (module(scene) - want).abs().mean() < 0.005  # the nearest faces are kept
    assert_close(autodiff(small_world(), renderer="pytorch3d")(empty), autodiff(small_world())(empty))


def test_without_pytorch3d(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    with pytest.raises(EngineError, match=r"needs PyTorch3D, .*build it from source.*renderer 'torch'"):
        autodiff(small_world(), renderer="pytorch3d")


# the tape's gradient


def test_gradcheck():
    """Every number of every tensor of a scene, against differences in double precision."""
    module = autodiff(small_world(), (6, 9), sigma=0.7, gamma=0.1)
    scene, leaves = with_leaves(lit_pair())

    def weighed(*values):
        image = module(with_tensors(scene, dict(zip(leaves, values, strict=True))))
        return (image * normal(5, *image.shape)).sum()

    assert torch.autograd.gradcheck(weighed, tuple(leaves.values()), atol=1e-6, rtol=1e-4)


def test_a_wrong_sign_fails_gradcheck(monkeypatch):
    """What the check above is worth: a derivative of distances that points the other way."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return -grad

    right = reference._signed_square
    monkeypatch.setattr(reference, "_signed_square", lambda *a: Wrong.apply(right(*a)))
    with pytest.raises(GradcheckError):
        test_gradcheck()


def test_nothing_but_the_tape():
    """No operator with a backward pass of our own is among the picture's ancestors."""
    image = autodiff(small_world())(with_leaves(lit_pair())[0])
    waiting, met = [image.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in met:
            met.add(node)
            waiting += [n for n, _ in node.next_functions]
    assert len(met) > 100
    assert not any(isinstance(n, torch.autograd.function.BackwardCFunction) for n in met)


def test_gradients_of_gradients():
    """A product with the Hessian, against differences of the gradient."""
    module, scene = autodiff(small_world()), lit_pair()
    weight, way = normal(0, 24, 32, 3), normal(1, *scene.translation.shape).double()

    def gradient(translation, **options):
        image = module(replace(scene, translation=translation))
        return torch.autograd.grad((image * weight).sum(), translation, **options)[0]

    leaf = scene.translation.clone().requires_grad_()
    (product,) = torch.autograd.grad((gradient(leaf, create_graph=True) * way).sum(), leaf)
    step = 1e-6
    ahead, behind = (gradient((scene.translation + s * way).requires_grad_()) for s in (step, -step))
    assert_close(product, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-4 * float(product.norm()))


def test_recovers_poses(cube):
    """Six cubes turned by 15 degrees, by their own pictures' squared difference; one may end elsewhere."""
    module = autodiff(cube, (32, 32))
    truth = cube.sample(batch=6, generator=torch.Generator().manual_seed(0))
    target = module(truth)
    turn = torch.tensor([0.15, -0.18, 0.12]).repeat(6, 1, 1).requires_grad_()  # [rad], 15 degrees
    optimiser = torch.optim.Adam([turn], lr=0.03)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.94)
    for _ in range(50):
        moved = roma.quat_product(roma.rotvec_to_unitquat(turn), truth.rotation)
        optimiser.zero_grad()
        (module(replace(truth, rotation=moved)) - target).square().mean((1, 2, 3)).sum().backward()
        optimiser.step()
        decay.step()
    away = turn.detach().norm(dim=-1).rad2deg()
    assert (away < 0.5).sum() >= 5, away


# bounds


def test_bands_change_nothing(monkeypatch):
    """Any number of bands gives the picture and the gradients of one."""
    world, scene = small_world(), stack([lit_pair(), lit_pair().without(0)])
    cotangent = normal(0, 2, 24, 32, 3)
    want, wanted = gradients(autodiff(world), scene, cotangent)
    for at_once in (1, 500):
        monkeypatch.setattr(reference, "_PAIRS_AT_ONCE", at_once)
        image, found = gradients(autodiff(world), scene, cotangent)
        assert_close(image, want, rtol=1e-12, atol=1e-12)
        assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_the_tape_is_bounded(monkeypatch):
    """What is kept for the backward pass grows with the faces and the picture, not with their product."""
    monkeypatch.setattr(reference, "_PAIRS_AT_ONCE", 1 << 14)
    table = World.load("tabletop")
    scene, _ = with_leaves(table.sample(generator=torch.Generator().manual_seed(0)))
    kept = []
    for size in ((64, 64), (128, 128)):
        numbers = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, n=numbers: n.append(t.numel()), lambda _: None
        ):
            autodiff(table, size)(scene)
        kept.append(sum(numbers))
    assert kept[1] < 1.5 * kept[0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("key", tensors(small_world().empty(1)))
def test_what_is_not_finite_is_left_out(key, value):
    """Finite pictures and gradients, zero for what is bad; the other scene of the batch feels nothing."""
    world, good, cotangent = small_world(), lit_pair(), normal(0, 2, 24, 32, 3)
    bad = tensors(good)[key].clone()
    bad[0].view(-1)[0] = value
    scene = stack([with_tensors(good, {key: bad}), good])
    image, found = gradients(autodiff(world), scene, cotangent)
    assert image.isfinite().all()
    assert all(g.isfinite().all() for g in found.values())
    assert (found[key][0].view(-1)[0] == 0).all()
    want, wanted = gradients(autodiff(world), good, cotangent[1:])
    assert_close(image[1:], want)
    assert_close({k: g[1:] for k, g in found.items()}, wanted)


def test_one_object_that_is_not_finite_leaves_the_other():
    scene, cotangent = lit_pair(), normal(0, 1, 24, 32, 3)
    bad = scene.translation.clone()
    bad[0, 0, 1] = math.nan
    image, found = gradients(autodiff(small_world()), replace(scene, translation=bad), cotangent)
    want, wanted = gradients(autodiff(small_world()), scene.without(0), cotangent)
    assert_close(image, want)
    assert_close(found, wanted)
    assert wanted["translation"][0, 1].abs().max() > 0


def test_empty_scenes_show_the_background():
    """One among filled ones, one alone, and a batch of none."""
    module, scene = autodiff(small_world()), lit_pair()
    empty = scene.without(0).without(1)
    image, found = gradients(module, stack([scene, empty]), normal(0, 2, 24, 32, 3))
    encoded = 1.055 * 0.15 ** (1 / 2.4) - 0.055  # its background is linear 0.15
    assert_close(image[1], torch.full_like(image[1], encoded), rtol=0, atol=1e-6)
    assert all(g.isfinite().all() for g in found.values())
    assert (found["translation"][1] == 0).all()
    assert module(empty).shape == (1, 24, 32, 3)
    assert module(scene[:0]).shape == (0, 24, 32, 3)


def test_size_and_errors():
    module = autodiff(small_world())
    assert module(lit_pair(), size=(7, 5)).shape == (1, 7, 5, 3)
    with pytest.raises(
        ValueError, match="there is no renderer 'pytorch', only torch, pytorch3d; did you mean"
    ):
        autodiff(small_world(), renderer="pytorch")
    with pytest.raises(ValueError, match=r"sigma must be positive and finite, got 0\.0"):
        autodiff(small_world(), sigma=0.0)
    with pytest.raises(ValueError, match="gamma must be positive and finite, got nan"):
        autodiff(small_world(), gamma=math.nan)
    with pytest.raises(ValueError, match="size must be"):
        module(lit_pair(), size=(0, 5))
    with pytest.raises(ValueError, match=r"scene\.asset must lie in"):
        module(replace(lit_pair(), asset=torch.tensor([[7, 0]])))
