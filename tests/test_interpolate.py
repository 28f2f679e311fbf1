"""Interpolation of attributes: by hand, against plain PyTorch, exact gradients, the same on any threads."""

import pytest
import torch
from torch.testing import assert_close

from render.attributes import PerCorner, Texture
from render.interpolate import interpolate, interpolate_reference
from render.interpolate import operator as interpolate_operator
from render.raster import Raster, rasterize
from render.triangles import Triangles

SIZE = (11, 14)


def random_mesh(seed=0, copies=None, images=1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    shape = (12, 3) if copies is None else (copies, 12, 3)
    vertices = torch.rand(shape, generator=g, dtype=dtype) * torch.tensor([14.0, 11.0, 0.5], dtype=dtype)
    vertices = vertices + torch.tensor([0.0, 0.0, 0.5], dtype=dtype)
    faces = torch.stack([torch.randperm(12, generator=g)[:3] for _ in range(4 * images)]).int()
    image = torch.arange(images, dtype=torch.int32).repeat_interleave(4)
    top = Triangles(faces, image=image, image_count=images)
    return vertices, top, rasterize(vertices, top, image_size=SIZE)


def test_by_hand():
    """Perspective: half way on the screen between depth 1 and depth 3 lies a quarter of the way in space."""
    vertices = torch.tensor([[0.5, 0.5, 1.0], [8.5, 0.5, 1 / 3], [0.5, 8.5, 1.0]])
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    raster = rasterize(vertices, faces, image_size=(9, 9))
    image = interpolate(torch.tensor([[0.0], [1.0], [0.0]]), vertices, faces, raster)
    assert_close(image[0, 0, 4, 0], torch.tensor(0.25))
    assert image[0, 8, 8, 0] == 0


@pytest.mark.parametrize("kind", ["vertex", "vertex of each copy", "corner", "corner of each copy"])
@pytest.mark.parametrize("images", [1, 2])
def test_matches_reference(kind, images):
    vertices, top, raster = random_mesh(1, copies=3, images=images)
    shape = (12, 2) if "vertex" in kind else (len(top), 3, 2)
    values = torch.rand((3, *shape) if "each" in kind else shape, dtype=torch.float64).requires_grad_()
    attributes = values if "vertex" in kind else PerCorner(values)
    got, want = (f(attributes, vertices, top, raster) for f in (interpolate, interpolate_reference))
    assert_close(got, want)
    cotangent = torch.randn_like(want)
    grads = [torch.autograd.grad(p, values, cotangent)[0] for p in (got, want)]
    assert grads[1].abs().max() > 0.1
    assert_close(*grads)


def test_gradcheck():
    vertices, top, raster = random_mesh(2, copies=2)
    values = torch.rand(12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: interpolate(v, vertices, top, raster), values)


@pytest.mark.parametrize("copies", [None, 6])
def test_threads_change_no_bit_of_the_picture(monkeypatch, copies):
    vertices, top, raster = random_mesh(3, copies=copies, dtype=torch.float32)
    pictures, grads = [], []
    for threads in (1, 2, 2):
        monkeypatch.setattr(interpolate_operator, "thread_count", lambda *_, n=threads, **__: n)
        values = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        image = interpolate(values, vertices, top, raster)
        pictures.append(image.detach())
        grads.append(torch.autograd.grad(image.square().sum(), values)[0])
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(grads[1], grads[2])
    assert_close(grads[0], grads[1])


@pytest.mark.parametrize("run", [1, 4])
def test_runs_of_few_pixels_as_on_a_gpu(run, monkeypatch):
    vertices, top, raster = random_mesh(5, copies=2)
    values = torch.rand(12, 3, dtype=torch.float64, requires_grad=True)
    image = interpolate(values, vertices, top, raster)
    (whole,) = torch.autograd.grad(image.square().sum(), values, retain_graph=True)
    monkeypatch.setattr(interpolate_operator, "run_length", lambda device, width: run)
    (parts,) = torch.autograd.grad(image.square().sum(), values)
    assert_close(parts, whole, rtol=1e-12, atol=0)


def test_expanded_and_transposed():
    vertices, top, raster = random_mesh(4, copies=2)
    values = torch.rand(3, 12, dtype=torch.float64).T.requires_grad_()
    image = interpolate(values.expand(2, 12, 3), vertices, top, raster)
    (grad,) = torch.autograd.grad(image, values, torch.ones(1, 1, 1, 1, dtype=torch.float64).expand_as(image))
    assert_close(image, interpolate(values.contiguous(), vertices, top, raster))
    assert_close(grad.sum(), 3.0 * (raster.face >= 0).sum().double())


def test_nothing_there():
    none = torch.zeros(0, 3, dtype=torch.int32)
    raster = rasterize(torch.zeros(2, 3), none, image_size=(4, 4))
    values = torch.rand(2, 3, requires_grad=True)
    interpolate(values, torch.zeros(2, 3), none, raster).sum().backward()
    assert values.grad.abs().max() == 0
    nobody = torch.zeros(0, 2, 3)
    empty = interpolate(values, nobody, none, rasterize(nobody, none, image_size=(4, 4)))
    assert empty.shape == (0, 4, 4, 3)


def test_bad_numbers_stay_in_their_faces():
    vertices = torch.tensor([[1.0, 1.0, 1.0], [5.0, 1.0, 1.0], [1.0, 5.0, 1.0]])
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    raster = rasterize(vertices, faces, image_size=(8, 8))
    values = torch.full((3, 2), float("nan"))
    image = interpolate(values, vertices, faces, raster)
    assert image.isnan().all(-1).equal(raster.face >= 0)
    assert (image[raster.face < 0] == 0).all()


def test_rejects():
    vertices, top, raster = random_mesh(5)
    values = torch.rand(12, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="grid_sample"):
        interpolate(Texture(torch.rand(2, 2, 3, dtype=torch.float64), values[:, :2]), vertices, top, raster)
    with pytest.raises(ValueError, match="raster has 1 images, vertices and faces make 2"):
        interpolate(values, vertices.expand(2, 12, 3), top, raster)
    with pytest.raises(ValueError, match="float32 or float64"):
        interpolate(values.half(), vertices.half(), top, raster)
    with pytest.raises(ValueError, match="attributes must have shape"):
        interpolate(values[:5], vertices, top, Raster(raster.face, raster.inverse_depth, raster.barycentric))
