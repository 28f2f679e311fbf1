"""The least time of a step: bytes over bandwidth or operations over throughput, whichever is longer.

Bytes: every array that a kernel needs is read once by it, and written once. Operations are counted by hand in
the kernels' inner loops, additions and multiplications alike, a quotient, root or exponential as ten. Caches
and atomic additions are not counted, so that no step can be quicker, and most cannot come near.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from steps import SIGMA, Ball
from torch import Tensor

# bandwidth [bytes/s], float32 operations [1/s], by NVIDIA's data sheets; the first name that fits counts
KNOWN = (
    ("H200", 4.8e12, 67e12),
    ("H100 PCIe", 2.0e12, 51e12),
    ("H100 NVL", 3.9e12, 60e12),
    ("H100", 3.35e12, 67e12),
    ("A100-SXM4-80GB", 2.04e12, 19.5e12),
    ("A100 80GB PCIe", 1.94e12, 19.5e12),
    ("A100", 1.56e12, 19.5e12),
)
SOFT_END = 3.03  # [sigma] where faces of soft rasterization end
SOFT_OPERATIONS = 350  # of a pair of face and pixel: 100 forward, 250 backward


@dataclass(frozen=True)
class Machine:
    """What a device can do."""

    name: str
    bandwidth: float  # [bytes/s]
    operations: float  # [1/s]
    source: str

    def seconds(self, work: "Work") -> float:
        """The floor."""
        return max(work.bytes / self.bandwidth, work.operations / self.operations)


@dataclass(frozen=True)
class Work:
    """What a step cannot do without, and the memory that it holds at its peak [bytes]."""

    bytes: float
    operations: float
    memory: float


def machine(device: torch.device) -> Machine:
    """Figures from the table, or measured where it does not name the device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    for known, bandwidth, operations in KNOWN:
        if known in name:
            return Machine(name, bandwidth, operations, "data sheet")
    size = 2**26 if device.type == "cuda" else 2**23
    a, b = torch.zeros(2, size, device=device)
    bandwidth = 2 * 4 * size / _seconds(lambda: a.copy_(b), device)
    m = torch.ones(1024, 1024, device=device)
    return Machine(name, bandwidth, 2 * 1024**3 / _seconds(lambda: m @ m, device), "copy and matrix product")


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of the quickest of ten runs."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def work(operator: str, scene: Ball) -> Work:
    """The floor's ingredients for one step, Adam included."""
    faces, vertices = len(scene.triangles), len(scene.vertices)
    pictures = scene.batch
    pixels = pictures * scene.pixels**2
    if operator == "blur":
        return Work(_BLUR[0] * pixels, _BLUR[1] * pixels, _BLUR[2] * pixels)
    # positions written, read by three kernels, their gradients cleared, added to, summed; colours, Adam once
    shared = 60.0 * faces + 100.0 * vertices
    moved = 72.0 * pictures * vertices
    memory = 48.0 * pictures * vertices + 110.0 * faces + 72.0 * vertices
    pixel = {"edge": _EDGE, "soft": _SOFT, "layers": _LAYERS}[operator]
    operations = pixel[1] * pixels + 100.0 * pictures * faces
    if operator == "soft":
        operations += SOFT_OPERATIONS * pictures * pairs(scene.vertices, scene.triangles.faces)
    return Work(shared + moved + pixel[0] * pixels, operations, memory + pixel[2] * pixels)


# per pixel of a picture: bytes moved, operations, bytes held. Three channels, float32.
# picture, blurred picture, error; two passes each way read and write 12; means and gradients
_BLUR = (192.0, 150.0, 72.0)
# keys cleared, drawn, read 28; face, depth, weights 20 + 16; picture 12; error 24; two passes of blur 48;
# loss 24; its gradient 24; colours' gradients 28; advection 36
_EDGE = (260.0, 300.0, 96.0)
# state and colour cleared 24; finished 52; loss and gradient 60; prepared 44; read by faces 28
_SOFT = (208.0, 100.0, 96.0)
# two layers of five channels, each: keys and raster 48; colour and depth 48; put together 60; blur 80, back
# 80; composed 20, back 40; advection 60; colours' gradients 48; the picture 76
_LAYERS = (2 * 484.0 + 76.0, 2 * 500.0, 2 * 130.0 + 60.0)


def pairs(vertices: Tensor, faces: Tensor) -> float:
    """How many pairs of a face's front and a pixel soft rasterization visits, at least, in one picture.

    A face with area A and girth P has A + P r + pi r^2 pixels within a distance of r (Steiner).
    """
    a, b, c = (vertices[faces[:, k].long(), :2].double() for k in range(3))
    u, v = b - a, c - a
    area = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / 2.0
    girth = (b - a).norm(dim=1) + (c - b).norm(dim=1) + (a - c).norm(dim=1)
    reach = SOFT_END * SIGMA
    visited = -area + girth * reach + math.pi * reach * reach
    return float(visited[area < 0.0].sum())
