"""torch.func: the operators' gradients by its transforms, and words where it cannot reach."""

import pytest
import torch

from render.blur import gaussian_blur
from render.edge import edge_gradient
from render.interpolate import interpolate
from render.layers import soft_layers
from render.raster import rasterize
from render.soft import soft_rasterize
from render.triangles import Triangles

SIZE = (16, 20)
VERTICES = torch.tensor(
    [[[2.0, 2, 1], [18, 5, 0.5], [6, 14, 0.8]], [[4.0, 1, 1], [17, 3, 0.5], [8, 15, 0.8]]]
)
COLOURS = torch.eye(3)


def faces():
    """New ones each time: what depends on them alone is then made inside the transform."""
    return Triangles(torch.tensor([[0, 1, 2]], dtype=torch.int32))


def picture():
    return interpolate(COLOURS, VERTICES, faces(), rasterize(VERTICES, faces(), image_size=SIZE))


OPERATORS = {
    "edge": (lambda x, f: edge_gradient(picture(), x, f), VERTICES),
    "soft": (lambda x, f: soft_rasterize(x, f, COLOURS, image_size=SIZE)[0], VERTICES),
    "layers": (lambda x, f: soft_layers(x, f, COLOURS, image_size=SIZE)[0], VERTICES),
    "blur": (lambda x, f: gaussian_blur(x, 3.0), picture()),
    "narrow blur": (lambda x, f: gaussian_blur(x, 1.0), picture()),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_grad(name):
    operator, x = OPERATORS[name]
    leaf, own = x.clone().requires_grad_(), faces()
    (want,) = torch.autograd.grad(operator(leaf, faces()).square().sum(), leaf)
    got = torch.func.grad(lambda x: operator(x, own).square().sum())(x)
    assert want.abs().max() > 0
    assert torch.equal(got, want)
    (again,) = torch.autograd.grad(operator(leaf, own).square().sum(), leaf)
    assert torch.equal(again, want), "the transform left nothing of its own behind"


def test_interpolate():
    own, raster = faces(), rasterize(VERTICES, faces(), image_size=SIZE)
    got = torch.func.grad(lambda c: interpolate(c, VERTICES, own, raster).sum())(COLOURS)
    assert got.sum() == pytest.approx(3 * float((raster.face >= 0).sum()), rel=1e-4)


@pytest.mark.parametrize("name", OPERATORS)
def test_vmap_is_refused(name):
    operator, x = OPERATORS[name]
    with pytest.raises((RuntimeError, NotImplementedError), match="vmap"):
        torch.func.vmap(lambda x: operator(x, faces()))(torch.stack([x, x]))
