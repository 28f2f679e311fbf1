"""The operators on CUDA: compiled without a GPU; with one, the CPU's values, and a step in a CUDA graph."""

import pytest
import torch
import warp as wp
from torch.testing import assert_close

from benchmarks.steps import OPERATORS, Step, ball, captured
from render import launch as launching
from render.attributes import PerCorner, Texture
from render.blur import blurred_squared_error, gaussian_blur
from render.blur import kernels as blur_kernels
from render.edge import edge_gradient
from render.edge import kernels as edge_kernels
from render.interpolate import interpolate
from render.interpolate import kernels as interpolate_kernels
from render.layers import kernels as layers_kernels
from render.layers import soft_layers
from render.raster import kernels as raster_kernels
from render.raster import rasterize
from render.shading import kernels as shading_kernels
from render.soft import kernels as soft_kernels
from render.soft import soft_rasterize
from render.triangles import Triangles

SIZE = (48, 64)  # (height, width) [px]
OLDEST = 80  # compute capability that kernels are compiled for: A100's


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


def objects():
    """Two balls of 80 faces, one partly hidden by the other, in two copies; culled; vertices [2, 84, 3]."""
    one = ball(1, 64, 1, torch.device("cpu"))
    moved = one.vertices * torch.tensor([0.7, 0.7, 1.2]) + torch.tensor([15.3, -2.1, 0.0])
    vertices = torch.cat([one.vertices, moved])
    faces = torch.cat([one.triangles.faces, one.triangles.faces + len(one.vertices)])
    instance = torch.tensor([0, 1], dtype=torch.int32).repeat_interleave(len(one.triangles))
    copies = torch.stack([vertices, vertices + torch.tensor([-3.2, -8.7, 0.01])])
    return copies, Triangles(faces, instance=instance, culled=torch.ones(len(faces), dtype=torch.bool))


def ragged():
    """The same two balls, each in a picture of its own."""
    vertices, both = objects()
    return vertices[0], Triangles(both.faces, image=both.instance, image_count=2)


def numbers(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def on(triangles, device):
    """The same triangles on a device."""
    return Triangles(
        triangles.faces.to(device),
        image=triangles.image.to(device),
        image_count=triangles.image_count,
        instance=triangles.instance.to(device),
        culled=triangles.culled.to(device),
    )


def edge(vertices, triangles, colours, blur=1.0):
    raster = rasterize(vertices, triangles, image_size=SIZE)
    image = interpolate(colours, vertices, triangles, raster)
    return gaussian_blur(edge_gradient(image, vertices, triangles, raster=raster), blur)


def antialiased(vertices, triangles, colours):
    image = numbers(2, *SIZE, 3).to(vertices) * colours.mean()
    return edge_gradient(image, vertices, triangles, antialiased=True)


def error(vertices, triangles, colours):
    return blurred_squared_error(edge(vertices, triangles, colours), numbers(1, *SIZE, 3).to(vertices), 4.0)


def per_corner(vertices, triangles, colours):
    return edge(vertices, triangles, PerCorner(colours[triangles.faces.long()]))


def one_channel(vertices, triangles, colours):
    """Of one channel, PyTorch's convolution goes by cuDNN, which may round to 10 bits (TF32)."""
    return edge(vertices, triangles, colours[:, :1])


def soft(vertices, triangles, colours):
    image, alpha = soft_rasterize(vertices, triangles, colours, image_size=SIZE, gamma=0.05)
    return torch.cat([image, alpha[..., None]], -1)


def textured(vertices, triangles, colours):
    texture = Texture(colours[:80].view(8, 10, 3), numbers(len(colours), 2).to(colours))
    return soft_rasterize(vertices, triangles, texture, image_size=SIZE, gamma=0.05)[0]


def layers(vertices, triangles, colours):
    image, alpha = soft_layers(vertices, triangles, colours, image_size=SIZE)
    return torch.cat([image, alpha[..., None]], -1)


DRAWN = {
    "edge": edge,
    "wide blur": lambda v, t, c: edge(v, t, c, 5.0),
    "antialiased": antialiased,
    "error": error,
    "per corner": per_corner,
    "one channel": one_channel,
    "soft": soft,
    "texture": textured,
    "layers": layers,
}


@pytest.mark.cuda
@pytest.mark.parametrize("scene", [objects, ragged], ids=["copies", "ragged"])
@pytest.mark.parametrize("name", DRAWN)
def test_cuda_draws_what_the_cpu_draws(name, scene, cuda):
    """Values and gradients under a random cotangent.

    Fused multiplications round otherwise, so a pixel on a border may be another face's: 1 % of the pixels may
    differ, and gradients by 2 % of their length.
    """
    found = []
    for device in (torch.device("cpu"), cuda):
        vertices, triangles = scene()
        vertices = vertices.to(device).requires_grad_()
        colours = numbers(vertices.shape[-2], 3, seed=1).to(device).requires_grad_()
        image = DRAWN[name](vertices, on(triangles, device), colours)
        cotangent = numbers(*image.shape, seed=2).to(device)
        grads = torch.autograd.grad((image * cotangent).sum(), (vertices, colours))
        found.append([t.detach().cpu() for t in (image, *grads)])
    (image, *grads), (other, *others) = found
    assert ((image - other).abs() > 1e-4).float().mean() <= 0.01
    for want, got in zip(grads, others, strict=True):
        assert got.isfinite().all()
        assert want.norm() > 0.0
        assert (got - want).norm() <= 0.02 * want.norm()


@pytest.mark.cuda
def test_cuda_rasterizes_what_the_cpu_rasterizes(cuda):
    vertices, triangles = objects()
    want = rasterize(vertices, triangles, image_size=SIZE)
    got = rasterize(vertices.to(cuda), on(triangles, cuda), image_size=SIZE)
    same = got.face.cpu() == want.face
    assert same.float().mean() > 0.99
    assert_close(got.inverse_depth.cpu()[same], want.inverse_depth[same], rtol=1e-5, atol=0.0)
    assert_close(got.barycentric.cpu()[same], want.barycentric[same], rtol=0.0, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.parametrize("name", OPERATORS)
def test_a_step_is_captured_in_a_graph(name, cuda):
    """Three steps to warm up and five that are replayed do what eight steps do."""
    scene = ball(3, 64, 4, cuda)
    replayed, run = (Step(scene, OPERATORS[name](scene)) for _ in range(2))
    for step in (replayed, run):
        step.optimizer.param_groups[0]["lr"] = 1e-3
    graph = captured(replayed, warm_up=3)
    for _ in range(5):
        graph.replay()
    for _ in range(8):
        run()
    torch.cuda.synchronize()
    assert run.motion.norm() > 0.0
    # Adam divides by the gradients' size: last digits of atomic additions may grow
    assert_close(replayed.motion, run.motion, rtol=0.01, atol=1e-4)
    assert_close(replayed.colours, run.colours, rtol=0.01, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.parametrize("name", OPERATORS)
def test_cuda_does_not_wait(name, cuda):
    """PyTorch itself says where the host waits, for its own calls; Warp's are in test_no_waiting.py."""
    scene = ball(3, 64, 4, cuda)
    step = Step(scene, OPERATORS[name](scene))
    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_stream_is_registered_once(monkeypatch):
    """A stream's second registration with Warp would end with the first."""
    streams, seen = [], []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "PyTorch's")
    monkeypatch.setattr(wp, "stream_from_torch", lambda s: streams.append(s) or "Warp's")
    monkeypatch.setattr(wp, "launch", lambda kernel, **given: seen.append((given["stream"], given["device"])))
    launching._stream.cache_clear()
    for _ in range(2):
        launching.launch(None, (1,), inputs=[], outputs=[], device=torch.device("cuda", 0))
    launching._stream.cache_clear()
    assert streams == ["PyTorch's"]
    assert seen == [("Warp's", "cuda:0")] * 2


def made(kernels, *arguments):
    """The Warp modules of the kernels that a factory makes."""
    return {k.module for k in vars(kernels(*arguments)).values() if isinstance(k, wp.Kernel)}


COMPILED = {
    "raster": lambda: {wp.get_module(raster_kernels.__name__)},
    "interpolate": lambda: made(interpolate_kernels.kernels, wp.float32, 3),
    "edge": lambda: made(edge_kernels.kernels, wp.float32, 3),
    "blur": lambda: made(blur_kernels.kernels, wp.float32, 1),
    "blur, recursive": lambda: made(blur_kernels.recursion_ahead, wp.float32, 16),
    "soft": lambda: made(soft_kernels.kernels, wp.float32, 3, False),
    "soft, texture": lambda: made(soft_kernels.kernels, wp.float32, 3, True),
    "layers": lambda: made(layers_kernels.kernels, wp.float32, 3),
    "shading": lambda: {wp.get_module(shading_kernels.__name__)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_kernels_compile_for_cuda(name, tmp_path):
    """To PTX, which takes no GPU: what a GPU's compiler does not take fails here."""
    if OLDEST not in wp.get_cuda_supported_archs():
        pytest.skip("this Warp has no compiler for CUDA")
    for module in COMPILED[name]():
        (ptx,) = wp.compile_aot_module(module, arch=OLDEST, module_dir=tmp_path / module.name, use_ptx=True)
        assert ".visible .entry" in ptx.read_text()
