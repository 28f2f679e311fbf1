"""The hard rasterizer on PyTorch tensors: argument checks and launches, no maths."""

from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from render.compilation import load
from render.launch import argument, in_threads, launch, part, thread_count
from render.raster import kernels as k
from render.triangles import Triangles, packed

_CHUNKS = 16  # work items that share a face's rows on a GPU, so that large faces do not hold up the rest
_NUMBERS_PER_FACE = 8  # a face costs about as much as 8 pixels read


@dataclass(frozen=True, eq=False)
class Raster:
    """What each pixel of a batch of images sees.

    Attributes:
        face: Index of the triangle, -1 where there is none, int32 [B, H, W].
        inverse_depth: [1/m], 0 where there is none, float32 [B, H, W].
        barycentric: Perspective-correct weights of the triangle's three vertices, at least 0, sum 1;
            0 where there is no triangle. float32 [B, H, W, 3].
    """

    face: Int[Tensor, "batch height width"]
    inverse_depth: Float[Tensor, "batch height width"]
    barycentric: Float[Tensor, "batch height width 3"]


def rasterize(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: Int[Tensor, "face 3"] | Triangles,
    *,
    image_size: tuple[int, int],
) -> Raster:
    """Find the nearest triangle at each pixel's centre. No gradient.

    A triangle is drawn from both sides, unless `Triangles.culled` says otherwise, and owns the pixel centres
    on its border; at equal depth the lower face wins. Two triangles that share an edge leave no gap. Faces
    that no picture can show draw nothing: a corner with inverse depth of 0 or less (clip at the near plane
    first: `render.clipping.clip_near`), zero area, NaN, infinity. Results on the CPU do not depend on
    the number of threads, bit for bit.

    Memory: 20 bytes a pixel that it returns, on a GPU 8 more while it runs; nothing grows with pixels times
    faces.

    Args:
        vertices: Screen positions (x px, y px, inverse depth), y down, [B, V, 3] for B pictures of the same
            faces, or [V, 3] packed. float32 (float64 is rounded).
        faces: Vertex indices, int32 [F, 3], or `Triangles` for ragged scenes, split vertices, culling.
        image_size: (height, width) [px].

    Returns:
        One image for each of the B copies and each of the triangles' pictures, B * image_count in all. Faces
        are numbered within their copy, 0 to F - 1.

    Raises:
        ValueError: If a shape, dtype or device does not fit, or faces name vertices that are not there.
        KernelError: If the kernels cannot be compiled here.
    """
    mesh = _Mesh.of(vertices, faces, image_size)
    drawn = _Drawn.of(mesh)
    barycentric = torch.empty(*mesh.shape, 3, device=mesh.vertices.device)
    top = mesh.triangles
    corners = [argument(mesh.vertices, wp.vec3), top.keep("faces", lambda: argument(top.faces, wp.vec3i))]
    outputs = [*drawn.arguments, argument(barycentric, wp.vec3)]
    _draw(mesh, top.culled, drawn, (k.resolve, [*corners, *mesh.strides], outputs))
    return Raster(drawn.face, drawn.inverse_depth, barycentric)


def nearest(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: Int[Tensor, "face 3"] | Triangles,
    *,
    image_size: tuple[int, int],
) -> Float[Tensor, "batch height width"]:
    """Only `rasterize(...).inverse_depth`, quicker, backs included. Arguments, errors: as there.

    The third coordinate may be anything positive that grows towards the eye and is affine over a triangle.
    """
    mesh = _Mesh.of(vertices, faces, image_size)
    drawn = _Drawn.of(mesh)
    key, _, inverse_depth = drawn.arguments
    read = (k.resolve_depth, [key], [inverse_depth]) if drawn.key.numel() else None
    _draw(mesh, torch.zeros_like(mesh.triangles.culled), drawn, read)
    return drawn.inverse_depth


@dataclass(frozen=True, eq=False)
class _Mesh:
    """The checked inputs: vertices of all copies, the triangles of one, the images' shape (B, H, W)."""

    vertices: Tensor
    triangles: Triangles
    copies: int
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, vertices: Tensor, faces: Tensor | Triangles, image_size: tuple[int, int]) -> "_Mesh":
        flat, triangles, copies = packed(vertices, faces)
        if len(image_size) != 2 or min(image_size) < 1:
            raise ValueError(f"image_size must be (height, width) of at least 1 px, got {image_size}")
        shape = (copies * triangles.image_count, *image_size)
        return cls(flat.detach().float().contiguous(), triangles, copies, shape)

    @property
    def strides(self) -> list[int]:
        """Images and vertices per copy."""
        return [max(1, self.triangles.image_count), len(self.vertices) // max(1, self.copies)]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What faces are drawn into: on a CPU the results, on a GPU keys that hold both, for its atomics."""

    key: Tensor
    face: Tensor
    inverse_depth: Tensor

    @classmethod
    def of(cls, mesh: _Mesh) -> "_Drawn":
        shape, device = mesh.shape, mesh.vertices.device
        if device.type == "cpu":
            key = torch.empty(0, 0, 0, dtype=torch.int64)
            return cls(key, torch.full(shape, -1, dtype=torch.int32), torch.zeros(shape))
        key = torch.zeros(shape, dtype=torch.int64, device=device)
        face = torch.empty(shape, dtype=torch.int32, device=device)
        return cls(key, face, torch.empty(shape, device=device))

    @property
    def arguments(self) -> list[Any]:
        return [argument(x) for x in (self.key, self.face, self.inverse_depth)]


def _views(top: Triangles) -> list[Any]:
    return [argument(top.faces, wp.vec3i), argument(top.weld, wp.vec3i), argument(top.image)]


def _draw(mesh: _Mesh, culled: Tensor, drawn: _Drawn, read: tuple[Any, list[Any], list[Any]] | None) -> None:
    """Draw the faces, then read what is drawn: by a kernel, with its inputs and outputs."""
    image_count, height, width = mesh.shape
    device, top, copies = mesh.vertices.device, mesh.triangles, mesh.copies
    if image_count == 0:
        return
    load(k.__name__, str(device))
    topology = top.keep(k, lambda: _views(top))
    inputs = [argument(mesh.vertices, wp.vec3), *topology, argument(culled), *mesh.strides]
    into = drawn.arguments
    chunks, span = (1, width) if device.type == "cpu" else (min(_CHUNKS, height), 1)
    threads = thread_count(device, numbers=drawn.face.numel() + _NUMBERS_PER_FACE * len(top) * copies)

    def share(index: int) -> None:
        """Draw one thread's share: whole images where there are enough, else a band of rows of all images.

        No two shares hold the same pixel: Warp's atomics on the CPU are plain reads and writes.
        """
        copy, face = (0, copies), (0, len(top))
        images, rows = (0, image_count), (0, height)
        if copies >= 4 * threads:
            copy = part(index, threads, copies)
            images = copy[0] * top.image_count, copy[1] * top.image_count
        elif threads > 1 and copies == 1 and image_count >= 4 * threads:
            images = part(index, threads, image_count)
            ends = torch.searchsorted(top.image, top.image.new_tensor(images)).tolist()
            face = ends[0], ends[1]
        else:
            rows = part(index, threads, height)
        launch(
            k.cover,
            (copy[1] - copy[0], face[1] - face[0], chunks),
            inputs=[*inputs, copy[0], face[0], *rows, chunks],
            outputs=into,
            device=device,
        )
        if read is None:
            return
        kernel, given, outputs = read
        dim = images[1] - images[0], rows[1] - rows[0], -(-width // span)
        launch(kernel, dim, inputs=[*given, images[0], rows[0], span], outputs=outputs, device=device)

    in_threads(threads, share)
