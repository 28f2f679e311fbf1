"""The hard rasterizer in plain PyTorch: slow, short. For tests."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.raster.operator import Raster


def rasterize_reference(
    vertices: Float[Tensor, "vertex 3"],
    faces: Int[Tensor, "face 3"],
    *,
    image: Int[Tensor, "face"],
    image_count: int,
    image_size: tuple[int, int],
    culled: Bool[Tensor, "face"] | None = None,
) -> Raster:
    """Same arguments and result as :func:`render.raster.rasterize`, in the vertices' own precision."""
    height, width = image_size
    y = torch.arange(height, dtype=vertices.dtype) + 0.5
    x = torch.arange(width, dtype=vertices.dtype) + 0.5
    p = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # [H, W, 2]
    face = torch.full((image_count, height, width), -1, dtype=torch.int32)
    depth = torch.zeros(image_count, height, width, dtype=vertices.dtype)
    barycentric = torch.zeros(image_count, height, width, 3, dtype=vertices.dtype)
    for f, (corners, n) in enumerate(zip(vertices[faces.long()], image.tolist(), strict=True)):
        xy, z = corners[:, :2], corners[:, 2]
        u, v = xy[[1, 2, 0]], xy[[2, 0, 1]]  # edge k is opposite corner k
        turn = (v - u)[:, 0] * (p[..., None, :] - u)[..., 1] - (v - u)[:, 1] * (p[..., None, :] - u)[..., 0]
        area = turn.sum(-1).mean()
        if not (corners.isfinite().all() and (z > 0).all() and area.abs() > 0):
            continue
        if culled is not None and bool(culled[f]) and area > 0:
            continue
        weights = turn / area  # [H, W, 3]
        inside = (weights >= 0).all(-1)
        iz = weights @ z
        nearer = inside & (iz > depth[n])
        face[n][nearer] = f
        depth[n][nearer] = iz[nearer]
        barycentric[n][nearer] = (weights * z / iz[..., None])[nearer]
    return Raster(face, depth, barycentric)
