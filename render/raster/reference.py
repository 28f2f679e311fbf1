"""The hard rasterizer in plain PyTorch: slow, short. For tests."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.raster.operator import Raster
from render.triangles import Triangles, packed


def rasterize_reference(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: Int[Tensor, "face 3"] | Triangles,
    *,
    image_size: tuple[int, int],
) -> Raster:
    """Same arguments and result as :func:`render.raster.rasterize`, in the vertices' own precision."""
    flat, triangles, copies = packed(vertices, faces)
    height, width = image_size
    y = torch.arange(height, dtype=vertices.dtype) + 0.5
    x = torch.arange(width, dtype=vertices.dtype) + 0.5
    p = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # [H, W, 2]
    shape = (copies * triangles.image_count, height, width)
    face = torch.full(shape, -1, dtype=torch.int32)
    depth = torch.zeros(shape, dtype=vertices.dtype)
    barycentric = torch.zeros(*shape, 3, dtype=vertices.dtype)
    for copy, points in enumerate(flat.view(copies, -1, 3)):
        for f, (corners, image) in enumerate(zip(triangles.faces.long(), triangles.image, strict=True)):
            n = copy * triangles.image_count + int(image)
            xy, z = points[corners, :2], points[corners, 2]
            u, v = xy[[1, 2, 0]], xy[[2, 0, 1]]  # edge k is opposite corner k
            along, to = v - u, p[..., None, :] - u
            turn = along[:, 0] * to[..., 1] - along[:, 1] * to[..., 0]
            area = turn.sum(-1).mean()
            if not (points[corners].isfinite().all() and (z > 0).all() and area.abs() > 0):
                continue
            if bool(triangles.culled[f]) and area > 0:
                continue
            weights = turn / area  # [H, W, 3]
            iz = weights @ z
            nearer = (weights >= 0).all(-1) & (iz > depth[n])
            face[n][nearer] = f
            depth[n][nearer] = iz[nearer]
            barycentric[n][nearer] = (weights * z / iz[..., None])[nearer]
    return Raster(face, depth, barycentric)
