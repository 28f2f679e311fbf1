"""The hard rasterizer on PyTorch tensors: argument checks and launches, no maths."""

from dataclasses import dataclass

import torch
import warp as wp
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.compilation import load
from render.launch import in_threads, launch, part, thread_count, view
from render.raster import kernels as k

_ROWS_PER_ITEM = 16  # of a face, on a GPU: a face that fills the image is shared by many threads


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

    A triangle is drawn from both sides and owns the pixel centres on its border; at equal depth the lower face wins.
    Two triangles that share an edge leave no gap. Faces that no picture can show draw nothing: a corner with inverse
    depth of 0 or less (clip at the near plane first, as `render.geometry.assemble` does), zero area, NaN, infinity.
    Results on the CPU do not depend on the number of threads, bit for bit.

    Args:
        vertices: Screen positions (x px, y px, inverse depth), y down, shape [V, 3], float32 (float64 is rounded).
        faces: Vertex indices, int32 [F, 3].
        image: The image each face is drawn into, ascending, int32 [F].
        image_count: Number of images B.
        image_size: (height, width) [px].
        weld: Index shared by all copies of a position, int32 [V]; without it edges between split vertices may crack.
        culled: True for faces whose back is not drawn, bool [F].

    Raises:
        ValueError: If a shape, dtype or device does not fit.
        KernelError: If the kernels cannot be compiled here.
    """
    height, width = image_size
    _check(vertices, faces, image, image_count, image_size, weld, culled)
    device, count = vertices.device, len(faces)
    vertices = vertices.detach().float().contiguous()
    faces, image = faces.contiguous(), image.contiguous()
    if weld is None:
        weld = torch.arange(len(vertices), dtype=torch.int32, device=device)
    if culled is None:
        culled = torch.zeros(count, dtype=torch.bool, device=device)
    key = torch.zeros(image_count, height, width, dtype=torch.int64, device=device)
    result = Raster(
        face=torch.empty(image_count, height, width, dtype=torch.int32, device=device),
        inverse_depth=torch.empty(image_count, height, width, device=device),
        barycentric=torch.empty(image_count, height, width, 3, device=device),
    )
    if image_count == 0:
        return result
    load(k.__name__, str(device))
    mesh = [view(vertices, wp.vec3), view(faces, wp.vec3i), view(weld.contiguous())]
    drawn = [view(image), view(culled.contiguous())]
    keys = view(key)
    out = [view(result.face), view(result.inverse_depth), view(result.barycentric, wp.vec3)]

    threads = thread_count(device, numbers=key.numel() + 8 * count)
    by_image = image_count >= 4 * threads
    on_cpu = device.type == "cpu"
    per_item, span = (height, width) if on_cpu else (_ROWS_PER_ITEM, 1)

    def draw(index: int) -> None:
        """Draw one thread's share: whole images where there are enough, else a band of rows of all images.

        No two shares hold the same pixel: Warp's atomics on the CPU are plain reads and writes.
        """
        images = part(index, threads, image_count) if by_image else (0, image_count)
        rows = (0, height) if by_image else part(index, threads, height)
        first, end = torch.searchsorted(image, image.new_tensor(images)).tolist() if threads > 1 else (0, count)
        chunks = -(-(rows[1] - rows[0]) // per_item)
        launch(
            k.cover,
            (end - first, chunks),
            inputs=[*mesh, *drawn, first, *rows, per_item],
            outputs=[keys],
            device=device,
        )
        launch(
            k.resolve,
            (images[1] - images[0], rows[1] - rows[0], -(-width // span)),
            inputs=[*mesh, keys, images[0], rows[0], span],
            outputs=out,
            device=device,
        )

    in_threads(threads, draw)
    return result


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
        raise ValueError(f"vertices must be float of shape [V, 3], got {vertices.dtype} {list(vertices.shape)}")
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
            raise ValueError(f"{name} must be {dtype} of shape [{length}], got {tensor.dtype} {list(tensor.shape)}")
        if tensor.device != vertices.device:
            raise ValueError(f"{name} is on {tensor.device}, vertices on {vertices.device}")
    if faces.device != vertices.device:
        raise ValueError(f"faces are on {faces.device}, vertices on {vertices.device}")
    if image_count < 0 or min(image_size) < 1:
        raise ValueError(f"there must be 0 or more images of at least 1 px, got {image_count} of {image_size}")
