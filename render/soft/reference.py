"""Soft rasterization in plain PyTorch: slow, short, differentiated by autograd. For tests."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from render.attributes import Attributes, carried
from render.triangles import Triangles, packed


def soft_rasterize_reference(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: "Int[Tensor, 'face 3'] | Triangles",
    attributes: Attributes,
    *,
    image_size: tuple[int, int],
    sigma: float = 1.0,
    gamma: float = 0.01,
    background: Float[Tensor, "*batch channel"] | None = None,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width"]]:
    """Same arguments and result as :func:`render.soft.soft_rasterize`, without its limits and early ends.

    Memory grows with pixels times faces. Faces that cannot be seen draw nothing here too: without an area,
    behind the eye, back faces that are culled.
    """
    flat, triangles, copies = packed(vertices, faces)
    surface = carried(attributes, vertices, triangles, copies)
    count = len(flat) // max(1, copies)
    if background is None:
        background = flat.new_zeros(surface.channels)
    background = background.expand(copies * triangles.image_count, -1)
    pictures = []
    for n, behind in enumerate(background):
        copy, image = divmod(n, triangles.image_count)
        mine = (triangles.image == image) & _seen(flat[copy * count + triangles.faces.long()], triangles)
        corners = flat[copy * count + triangles.faces[mine].long()]  # [F, 3, 3]
        values = surface.values[copy * surface.stride + surface.index[mine].long()]  # [F, 3, A]
        log_coverage, log_transparency, depth, weights = _faces(corners, image_size, sigma)
        colour = torch.einsum("hwfk,fkc->hwfc", weights, values)
        if surface.texels is not None:
            colour = _bilinear(surface.texels[min(copy, len(surface.texels) - 1)], colour)
        shares = (log_coverage + depth / gamma).softmax(-1)
        transparency = log_transparency.sum(-1, keepdim=True).exp()
        picture = (1 - transparency) * (shares[..., None] * colour).sum(-2) + transparency * behind
        pictures.append((picture, 1 - transparency[..., 0]))
    if not pictures:
        return flat.new_zeros(0, *image_size, surface.channels), flat.new_zeros(0, *image_size)
    colours, alphas = zip(*pictures, strict=True)
    return torch.stack(colours), torch.stack(alphas)


def _seen(corners: Tensor, triangles: Triangles) -> Tensor:
    a, b, c = corners[..., :2].unbind(1)
    area = _turn(b - a, c - a)
    return (area.abs() > 1e-6) & ~(triangles.culled & (area > 0)) & (corners[..., 2] > 0).all(-1)


def _faces(
    corners: Tensor, image_size: tuple[int, int], sigma: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find log D, log (1 - D), inverse depth [H, W, F] and perspective-correct weights [H, W, F, 3]."""
    height, width = image_size
    y = torch.arange(height, dtype=corners.dtype, device=corners.device) + 0.5
    x = torch.arange(width, dtype=corners.dtype, device=corners.device) + 0.5
    p = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None, None]  # [H, W, 1, 1, 2]
    u = corners[..., :2]  # starts of the edges ab, bc, ca
    edge = u.roll(-1, 1) - u
    t = (((p - u) * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    d2 = (p - u - t[..., None] * edge).square().sum(-1).amin(-1)
    turn = _turn(edge, p - u)
    w = (turn / turn.sum(-1, keepdim=True)).roll(-1, -1)  # the edge bc is opposite to a
    x = torch.where((w >= 0).all(-1), d2, -d2) / sigma**2
    w = w.clamp_min(0)
    w = w / w.sum(-1, keepdim=True) * corners[..., 2]
    depth = w.sum(-1)
    return F.logsigmoid(x), F.logsigmoid(-x), depth, w / depth[..., None]


def _bilinear(texels: Tensor, uv: Tensor) -> Tensor:
    height, width, _ = texels.shape
    x, y = uv[..., 0] * width - 0.5, uv[..., 1] * height - 0.5
    left, top = x.detach().floor(), y.detach().floor()
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    i, j = top.long(), left.long()
    rows, columns = (i % height, (i + 1) % height), (j % width, (j + 1) % width)
    upper = (1 - fx) * texels[rows[0], columns[0]] + fx * texels[rows[0], columns[1]]
    lower = (1 - fx) * texels[rows[1], columns[0]] + fx * texels[rows[1], columns[1]]
    return (1 - fy) * upper + fy * lower


def _turn(u: Tensor, v: Tensor) -> Tensor:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
