"""The hard rasterizer on PyTorch tensors: argument checks and launches, no maths."""

from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.compilation import load
from render.launch import in_threads, launch, part, thread_count, view
from render.raster import kernels as k

_ROWS_PER_ITEM = 16  # of a face, on a GPU: a face that fills the image is shared by many threads
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
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    *,
    image: Int[Tensor, "face"],
    image_count: int,
    image_size: tuple[int, int],
    weld: Int[Tensor, "vertex"] | None = None,
    culled: Bool[Tensor, "face"] | None = None,
) -> Raster:
    """Find the nearest triangle at each pixel's centre. No gradient.

    A triangle is drawn from both sides and owns the pixel centres on its border; at equal depth the lower
    face wins. Two triangles that share an edge leave no gap. Faces that no picture can show draw nothing: a
    corner with inverse depth of 0 or less (clip at the near plane first, as `render.geometry.assemble`
    does), zero area, NaN, infinity. Results on the CPU do not depend on the number of threads, bit for bit.

    Args:
        vertices: Screen positions (x px, y px, inverse depth), y down, shape [V, 3], float32 (float64 is
            rounded).
        faces: Vertex indices, int32 [F, 3].
        image: The image each face is drawn into, ascending, int32 [F].
        image_count: Number of images B.
        image_size: (height, width) [px].
        weld: Index shared by all copies of a position, int32 [V]; without it edges between split vertices
            may crack.
        culled: True for faces whose back is not drawn, bool [F].

    Raises:
        ValueError: If a shape, dtype or device does not fit.
        KernelError: If the kernels cannot be compiled here.
    """
    _check(vertices, faces, image, image_count, image_size, weld, culled)
    shape, device = (image_count, *image_size), vertices.device
    result = Raster(
        face=torch.empty(shape, dtype=torch.int32, device=device),
        inverse_depth=torch.empty(shape, device=device),
        barycentric=torch.empty(*shape, 3, device=device),
    )
    mesh = _Mesh.of(vertices, faces, image, weld, culled)
    corners = [view(mesh.vertices, wp.vec3), view(mesh.faces, wp.vec3i), view(mesh.weld)]
    outputs = [view(result.face), view(result.inverse_depth), view(result.barycentric, wp.vec3)]
    _draw(mesh, shape, k.resolve, corners, outputs)
    return result


def nearest(
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    *,
    image: Int[Tensor, "face"],
    image_count: int,
    image_size: tuple[int, int],
    weld: Int[Tensor, "vertex"] | None = None,
) -> Float[Tensor, "batch height width"]:
    """Only `rasterize(...).inverse_depth`, quicker. Arguments, errors: as there.

    The third coordinate may be anything positive that grows towards the eye and is affine over a triangle.
    """
    _check(vertices, faces, image, image_count, image_size, weld, None)
    shape = (image_count, *image_size)
    inverse_depth = torch.empty(shape, device=vertices.device)
    mesh = _Mesh.of(vertices, faces, image, weld, None)
    _draw(mesh, shape, k.resolve_depth, [], [view(inverse_depth)])
    return inverse_depth


@dataclass(frozen=True, eq=False)
class _Mesh:
    """The checked inputs, contiguous."""

    vertices: Tensor
    faces: Tensor
    image: Tensor
    weld: Tensor
    culled: Tensor

    @classmethod
    def of(
        cls, vertices: Tensor, faces: Tensor, image: Tensor, weld: Tensor | None, culled: Tensor | None
    ) -> "_Mesh":
        device = vertices.device
        if weld is None:
            weld = torch.arange(len(vertices), dtype=torch.int32, device=device)
        if culled is None:
            culled = torch.zeros(len(faces), dtype=torch.bool, device=device)
        vertices = vertices.detach().float()
        return cls(*(t.contiguous() for t in (vertices, faces, image, weld, culled)))


def _draw(
    mesh: _Mesh, shape: tuple[int, int, int], read: Any, corners: list[Any], outputs: list[Any]
) -> None:
    """Draw the faces into keys of `shape` (B, H, W), then let the kernel `read` turn keys into `outputs`."""
    image_count, height, width = shape
    device, count = mesh.vertices.device, len(mesh.faces)
    if image_count == 0:
        return
    load(k.__name__, str(device))
    key = torch.zeros(shape, dtype=torch.int64, device=device)
    inputs = [view(mesh.vertices, wp.vec3), view(mesh.faces, wp.vec3i), view(mesh.weld), view(mesh.image)]
    inputs.append(view(mesh.culled))
    keys = view(key)
    on_cpu = device.type == "cpu"
    threads = thread_count(device, numbers=key.numel() + _NUMBERS_PER_FACE * count)
    by_image = image_count >= 4 * threads
    per_item, span = (height, width) if on_cpu else (_ROWS_PER_ITEM, 1)

    def share(index: int) -> None:
        """Draw one thread's share: whole images where there are enough, else a band of rows of all images.

        No two shares hold the same pixel: Warp's atomics on the CPU are plain reads and writes.
        """
        images = part(index, threads, image_count) if by_image else (0, image_count)
        rows = (0, height) if by_image else part(index, threads, height)
        first, end = 0, count
        if threads > 1:
            first, end = torch.searchsorted(mesh.image, mesh.image.new_tensor(images)).tolist()
        chunks = -(-(rows[1] - rows[0]) // per_item)
        launch(
            k.cover,
            (end - first, chunks),
            inputs=[*inputs, first, *rows, per_item],
            outputs=[keys],
            device=device,
        )
        launch(
            read,
            (images[1] - images[0], rows[1] - rows[0], -(-width // span)),
            inputs=[*corners, keys, images[0], rows[0], span],
            outputs=outputs,
            device=device,
        )

    in_threads(threads, share)


def _check(
    vertices: Tensor,
    faces: Tensor,
    image: Tensor,
    image_count: int,
    image_size: tuple[int, int],
    weld: Tensor | None,
    culled: Tensor | None,
) -> None:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not vertices.is_floating_point():
        raise ValueError(
            f"vertices must be float of shape [V, 3], got {vertices.dtype} {list(vertices.shape)}"
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype != torch.int32:
        raise ValueError(f"faces must be int32 of shape [F, 3], got {faces.dtype} {list(faces.shape)}")
    wanted = (
        ("image", image, torch.int32, len(faces)),
        ("weld", weld, torch.int32, len(vertices)),
        ("culled", culled, torch.bool, len(faces)),
    )
    for name, tensor, dtype, length in wanted:
        if tensor is None:
            continue
        if tensor.shape != (length,) or tensor.dtype != dtype:
            raise ValueError(
                f"{name} must be {dtype} of shape [{length}], got {tensor.dtype} {list(tensor.shape)}"
            )
        if tensor.device != vertices.device:
            raise ValueError(f"{name} is on {tensor.device}, vertices on {vertices.device}")
    if faces.device != vertices.device:
        raise ValueError(f"faces are on {faces.device}, vertices on {vertices.device}")
    if image_count < 0 or min(image_size) < 1:
        raise ValueError(
            f"there must be 0 or more images of at least 1 px, got {image_count} of {image_size}"
        )
