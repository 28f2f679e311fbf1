"""The operators never make the host wait for a GPU: shown on a CPU, by what they ask PyTorch and Warp for.

With one host thread they take the same way as on a GPU; where they do not, tests send them there. What would
wait is forbidden: reading a tensor's value, sizes that depend on values, copies between host and device.
"""

import numpy as np
import pytest
import torch
import warp as wp
from torch.utils._python_dispatch import TorchDispatchMode

from render.attributes import PerCorner, Texture
from render.blur import blurred_squared_error, gaussian_blur
from render.blur.recursive import filtered_on_gpu
from render.edge import edge_gradient
from render.interpolate import interpolate
from render.layers import soft_layers
from render.raster import rasterize
from render.soft import operator as soft_operator
from render.soft import soft_rasterize
from render.triangles import Triangles

SIZE = (12, 16)  # (height, width) [px]
READING = ("_local_scalar_dense", "is_nonzero", "equal", "allclose", "_assert_async", "_pin_memory")
SIZED_BY_VALUES = ("nonzero", "nonzero_numpy", "masked_select", "bincount", "histc", "repeat_interleave")
UNIQUE = ("unique_dim", "unique_consecutive", "unique_dim_consecutive", "_unique", "_unique2")
FROM_HOST = ("lift_fresh", "lift")  # torch.tensor and new_tensor: numbers of the host become a tensor
# what reads a CPU's tensor past the dispatcher
TO_HOST = ("tolist", "numpy", "item", "__array__", "cpu", "cuda")
WARP = ("synchronize", "synchronize_device", "synchronize_stream", "copy", "zeros", "empty")


class Waiting(AssertionError):
    pass


class NoCalls(TorchDispatchMode):
    """Raises where PyTorch would make the host wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        forbidden = (*READING, *SIZED_BY_VALUES, *UNIQUE, *FROM_HOST)
        if name in forbidden and kwargs.get("output_size") is None:
            raise Waiting(name)
        if name in ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        ):
            raise Waiting(f"{name} by a mask")
        tensors = [t for t in args if isinstance(t, torch.Tensor)]
        moved = torch.device(kwargs.get("device") or "cpu")
        if name in ("_to_copy", "copy_") and {t.device for t in tensors} | {moved} != {moved}:
            raise Waiting(f"{name} between devices")
        return func(*args, **kwargs)


@pytest.fixture
def no_waiting(monkeypatch):
    """Call something with all that waits forbidden, PyTorch's and Warp's, also while it goes backward."""

    def refuse(*_, **__):
        raise Waiting("a tensor is read on the host, or Warp waits")

    def call(job):
        with monkeypatch.context() as patch, NoCalls():
            for name in TO_HOST:
                patch.setattr(torch.Tensor, name, refuse)
            for name in WARP:
                patch.setattr(wp, name, refuse)
            patch.setattr(torch, "from_numpy", refuse)
            patch.setattr(wp.array, "numpy", refuse)
            return job()

    return call


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Take the ways that only a GPU takes, where an operator asks for the device."""
    monkeypatch.setattr(soft_operator, "_sequential", lambda device: False)
    monkeypatch.setattr("render.blur.operator.lanes_of", lambda numbers, device: 1)
    monkeypatch.setattr("render.blur.operator.filtered", filtered_on_gpu)
    monkeypatch.setattr("render.blur.operator._held_nowhere", lambda image, sigma: False)


def scene(copies=2):
    """Two tetrahedra in one picture, drawn in several copies; of one copy, each in a picture of its own."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(copies, 8, 3, generator=generator) * torch.tensor([16.0, 12.0, 0.3])
    vertices = corners + torch.tensor([0.0, 0.0, 0.2])
    solid = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], dtype=torch.int32)
    faces = torch.cat([solid, solid + 4])
    half = torch.tensor([0, 1], dtype=torch.int32).repeat_interleave(4)
    if copies == 1:
        return vertices[0].requires_grad_(), Triangles(faces, image=half, image_count=2)
    return vertices.requires_grad_(), Triangles(faces, instance=half)


def numbers(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)).requires_grad_()


def pictured(vertices, triangles, attributes):
    raster = rasterize(vertices, triangles, image_size=SIZE)
    image = interpolate(attributes, vertices, triangles, raster)
    return edge_gradient(image, vertices, triangles, raster=raster)


TEXTURE = Texture(numbers(4, 4, 3), numbers(8, 2))
TARGET = torch.rand(1, *SIZE, 3)
STEPS = {
    "edge": lambda v, t: blurred_squared_error(pictured(v, t, numbers(8, 3)), TARGET, 1.0),
    "edge, wide blur": lambda v, t: blurred_squared_error(pictured(v, t, numbers(8, 3)), TARGET, 5.0),
    "edge, per corner": lambda v, t: gaussian_blur(pictured(v, t, PerCorner(numbers(8, 3, 3))), 1.0),
    "edge, wide gaussian": lambda v, t: gaussian_blur(pictured(v, t, numbers(8, 3)), 5.0),
    "edge, antialiased": lambda v, t: edge_gradient(numbers(2, *SIZE, 3), v, t, antialiased=True),
    "soft": lambda v, t: torch.cat(
        [c.flatten() for c in soft_rasterize(v, t, numbers(8, 3), image_size=SIZE)]
    ),
    "soft, texture": lambda v, t: soft_rasterize(v, t, TEXTURE, image_size=SIZE)[0],
    "soft, background": lambda v, t: soft_rasterize(
        v, t, numbers(8, 3), image_size=SIZE, background=numbers(2, 3)
    )[0],
    "layers": lambda v, t: soft_layers(v, t, numbers(8, 3), image_size=SIZE)[0],
    "layers, per corner": lambda v, t: soft_layers(
        v, t, PerCorner(numbers(8, 3, 3)), image_size=SIZE, sigma=1.0, background=numbers(3)
    )[0],
}


@pytest.mark.parametrize("copies", [1, 2], ids=["packed", "copies"])
@pytest.mark.parametrize("name", STEPS)
def test_steps_do_not_wait(name, copies, as_on_gpu, no_waiting):
    """After the first call with the same triangles, which finds their edges."""
    vertices, triangles = scene(copies)

    def step():
        return torch.autograd.grad(STEPS[name](vertices, triangles).sum(), vertices)[0]

    want = step()
    assert want.abs().sum() > 0.0
    got = no_waiting(step)
    assert torch.equal(got, want)


def test_bare_faces_do_not_wait(no_waiting):
    """A tensor of faces is recognised without looking into it."""
    vertices, triangles = scene()

    def step():
        return rasterize(vertices, triangles.faces, image_size=SIZE).face

    assert torch.equal(step(), no_waiting(step))


WAITS = {
    "item": lambda t: t[0].item(),
    "float": lambda t: float(t[0]),
    "if": lambda t: bool(t[0] > 0.5),
    "tolist": lambda t: t.tolist(),
    "numpy": lambda t: t.numpy(),
    "asarray": lambda t: np.asarray(t),
    "nonzero": lambda t: t.nonzero(),
    "where": lambda t: torch.where(t > 0.5),
    "mask": lambda t: t[t > 0.5],
    "masked_select": lambda t: t.masked_select(t > 0.5),
    "put a tensor by mask": lambda t: t.clone().index_put_((t > 0.5,), t[:1]),
    "unique": lambda t: t.unique(),
    "unique rows": lambda t: torch.unique(t.view(-1, 1), dim=0),
    "repeat_interleave": lambda t: t.repeat_interleave(torch.ones(len(t), dtype=torch.int64)),
    "tensor": lambda t: torch.tensor([1.0, 2.0]),
    "new_tensor": lambda t: t.new_tensor([1.0, 2.0]),
    "index by a list": lambda t: t[[0, 2]],
    "device": lambda t: t.to("meta"),
    "copy": lambda t: t.copy_(torch.empty(4, device="meta")),
    "equal": lambda t: torch.equal(t, t),
    "Warp": lambda t: wp.from_torch(t).numpy(),
    "synchronize": lambda t: wp.synchronize(),
}


@pytest.mark.parametrize("name", WAITS)
def test_waiting_is_noticed(name, no_waiting):
    """This file's own tests can fail."""
    t = torch.rand(4)
    with pytest.raises(Waiting):
        no_waiting(lambda: WAITS[name](t))


def test_waiting_is_noticed_in_backward(no_waiting):
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * grad.tolist()[0]

    x = torch.rand(4, requires_grad=True)
    with pytest.raises(Waiting):
        no_waiting(lambda: torch.autograd.grad(Reads.apply(x).sum(), x))
