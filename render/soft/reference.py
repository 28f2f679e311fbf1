"""Soft rasterization in plain PyTorch, differentiated by autograd: the operator's twin."""

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from render.attributes import Attributes, Carried, background_rows, carried
from render.triangles import Triangles, packed

_PAIRS_AT_ONCE = 1 << 18  # of face and pixel: some 80 MB of float32 on the tape


def soft_rasterize_reference(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: "Int[Tensor, 'face 3'] | Triangles",
    attributes: Attributes,
    *,
    image_size: tuple[int, int],
    sigma: float = 1.0,
    gamma: float = 0.01,
    background: Float[Tensor, "*batch channel"] | None = None,
    reach: float = math.inf,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width"]]:
    """Same arguments and result as :func:`render.soft.soft_rasterize`, slower, with gradients of gradients.

    `reach`, which that has not, says how many sigma outside faces end: the operator's end at the root of 9.2.
    With infinity they end nowhere, every face meets every pixel, and nothing is left out.

    Pairs of a face and a pixel are worked off in bands of rows. Where there is more than one, the backward
    pass draws each again, so that what is kept are faces, pictures, and the pairs of one band.
    """
    height, width = image_size
    softness = _Softness(sigma, gamma, reach)
    flat, triangles, copies = packed(vertices, faces)
    surface = carried(attributes, vertices, triangles, copies)
    pictures = copies * triangles.image_count
    behind = background_rows(background, vertices, pictures, surface.channels)
    behind = behind.expand(pictures, -1).repeat_interleave(height, 0)
    seen = _seen(flat, triangles, surface, copies)
    boxes = _boxes(seen, image_size, reach * sigma)
    lengths = _lengths(boxes, len(behind))
    again = len(lengths) > 1 and torch.is_grad_enabled()
    bands, top = [flat.new_zeros(0, width, surface.channels + 1)], 0
    for band in behind.split(lengths):
        draw = partial(_draw, seen, boxes, top, image_size, softness)
        bands.append(checkpoint(draw, band, use_reentrant=False) if again else draw(band))
        top += len(band)
    drawn = torch.cat(bands).view(pictures, height, width, surface.channels + 1)
    return drawn[..., :-1], drawn[..., -1]


@dataclass(frozen=True)
class _Softness:
    sigma: float  # [px]
    gamma: float
    reach: float  # [sigma]


@dataclass(frozen=True, eq=False)
class _Seen:
    """The faces of all pictures that can be seen; pictures stand on top of each other."""

    corners: Float[Tensor, "face 3 3"]
    values: Float[Tensor, "face 3 number"]
    picture: Int[Tensor, "face"]
    texels: Float[Tensor, "copy row column channel"] | None
    layer: Int[Tensor, "face"]  # of the texels


def _seen(flat: Tensor, triangles: Triangles, surface: Carried, copies: int) -> _Seen:
    copy = torch.arange(copies, device=flat.device).repeat_interleave(len(triangles))
    face = torch.arange(len(triangles), device=flat.device).repeat(copies)
    index = copy[:, None] * (len(flat) // max(1, copies)) + triangles.faces.long()[face]
    shown = _can_be_seen(flat.detach()[index], triangles.culled[face])
    copy, face, index = copy[shown], face[shown], index[shown]
    value = copy[:, None] * surface.stride + surface.index.long()[face]
    return _Seen(
        corners=_rows(flat, index),
        values=_rows(surface.values, value),
        picture=copy * triangles.image_count + triangles.image.long()[face],
        texels=surface.texels,
        layer=torch.zeros_like(copy) if surface.texels is None else copy.clamp_max(len(surface.texels) - 1),
    )


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """table[index]; its backward pass is much quicker than that of indexing."""
    return table.index_select(0, index.reshape(-1)).view(*index.shape, *table.shape[1:])


def _can_be_seen(corners: Tensor, culled: Tensor) -> Bool[Tensor, "face"]:
    """False without an area, behind the eye, far off, not finite (as NaN fails), and for culled backs."""
    a, b, c = corners[..., :2].unbind(1)
    area = _turn(b - a, c - a)
    length = (b - a).norm(dim=-1).maximum((c - b).norm(dim=-1)).maximum((a - c).norm(dim=-1))
    depth = corners[..., 2]
    there = ((depth > 1e-9) & (depth < 1e9) & (corners.abs() < 1e9).all(-1)).all(-1)
    return there & (area.abs() > length * (1e-7 * length).clamp_min(1e-6)) & ~(culled & (area > 0))


def _boxes(seen: _Seen, image_size: tuple[int, int], margin: float) -> Int[Tensor, "face 4"]:
    """First column, column after the last, first row, row after the last, where a face may be felt."""
    height, width = image_size
    points, first_row = seen.corners.detach()[..., :2], seen.picture * height
    size = points.new_tensor([width, height])
    zero = torch.zeros_like(size)
    low = (points.amin(1) - margin - 0.5).ceil().clamp(zero, size).long()
    high = (points.amax(1) + margin - 0.5).floor().clamp(zero - 1, size - 1).long() + 1
    high = high.maximum(low)
    return torch.stack([low[:, 0], high[:, 0], low[:, 1] + first_row, high[:, 1] + first_row], 1)


def _lengths(boxes: Tensor, rows: int) -> list[int]:
    """Numbers of rows of bands with about `_PAIRS_AT_ONCE` pairs."""
    left, right, top, bottom = boxes.unbind(1)
    more = boxes.new_zeros(rows + 1).index_add(0, top, right - left).index_add(0, bottom, left - right)
    pairs_so_far = more[:rows].cumsum(0).cumsum(0)
    lengths: list[int] = (pairs_so_far // _PAIRS_AT_ONCE).unique_consecutive(return_counts=True)[1].tolist()
    return lengths


def _draw(
    seen: _Seen, boxes: Tensor, top: int, image_size: tuple[int, int], softness: _Softness, behind: Tensor
) -> Float[Tensor, "row width channel_and_alpha"]:
    """Colours and alpha of the rows from `top` on, over what is behind each of them [R, C]."""
    height, width = image_size
    face, row, column = _pairs(boxes, top, top + len(behind))
    at = torch.stack([column, row % height], -1).to(behind.dtype) + 0.5
    with torch.no_grad():
        within = _signed_square(seen.corners[face], at) >= -((softness.reach * softness.sigma) ** 2)
        felt = within.nonzero()[:, 0]
    face, at, pixel = face[felt], at[felt], ((row - top) * width + column)[felt]
    corners = _rows(seen.corners, face)
    x = _signed_square(corners, at) / softness.sigma**2
    depth, weights = _interpolation(corners, at)
    colour = (weights[..., None] * _rows(seen.values, face)).sum(1)
    if seen.texels is not None:
        colour = _bilinear(seen.texels, seen.layer[face], colour)

    count = len(behind) * width

    def summed(values: Tensor) -> Tensor:
        """Of all faces at a pixel."""
        return values.new_zeros(count, *values.shape[1:]).index_add(0, pixel, values)

    score = F.logsigmoid(x) + depth / softness.gamma
    most = score.detach().new_full((count,), -math.inf)
    most = most.scatter_reduce(0, pixel, score.detach(), "amax")
    share = (score - most[pixel]).exp()
    mean = summed(share[:, None] * colour) / summed(share)[:, None].clamp_min(1.0)  # 1 where no face is
    transparency = summed(F.logsigmoid(-x)).exp()[:, None]
    picture = (1 - transparency) * mean + transparency * behind.repeat_interleave(width, 0)
    return torch.cat([picture, 1 - transparency], -1).view(-1, width, picture.shape[-1] + 1)


def _pairs(boxes: Tensor, top: int, bottom: int) -> tuple[Tensor, Tensor, Tensor]:
    """Face, row and column of every pixel in the boxes, of rows from `top` to before `bottom`."""
    left, right, first, end = boxes.unbind(1)
    first = first.clamp(top, bottom)
    count = (right - left) * (end.clamp(top, bottom) - first)
    face = torch.repeat_interleave(count)
    nth = torch.arange(len(face), device=face.device) - (count.cumsum(0) - count)[face]
    columns = (right - left)[face]
    return face, first[face] + nth // columns, left[face] + nth % columns


def _signed_square(corners: Tensor, at: Tensor) -> Float[Tensor, "pair"]:
    """Squared distance from a point to the border of a triangle, + inside [px^2]."""
    start = corners[..., :2]  # of the edges ab, bc, ca
    edge, away = start.roll(-1, 1) - start, at[:, None] - start
    t = ((away * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    square = (away - t[..., None] * edge).square().sum(-1).amin(-1)
    turn = _turn(edge, away).detach()
    inside = (turn >= 0).all(-1) | (turn <= 0).all(-1)
    return torch.where(inside, square, -square)


def _interpolation(corners: Tensor, at: Tensor) -> tuple[Float[Tensor, "pair"], Float[Tensor, "pair 3"]]:
    """Inverse depth and perspective-correct weights; outside of a triangle, those of its border near by."""
    start = corners[..., :2]
    turn = _turn(start.roll(-1, 1) - start, at[:, None] - start)
    w = (turn / turn.sum(-1, keepdim=True)).roll(-1, -1)  # the edge bc is opposite to a
    w = w.clamp_min(0)
    w = w / w.sum(-1, keepdim=True) * corners[..., 2]
    depth = w.sum(-1)
    return depth, w / depth[:, None]


def _bilinear(texels: Tensor, layer: Tensor, uv: Tensor) -> Float[Tensor, "pair channel"]:
    height, width = texels.shape[1:3]
    x, y = uv[..., 0] * width - 0.5, uv[..., 1] * height - 0.5
    left, top = x.detach().floor(), y.detach().floor()
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    i, j = top.long(), left.long()
    rows, columns = (i % height, (i + 1) % height), (j % width, (j + 1) % width)
    upper = (1 - fx) * texels[layer, rows[0], columns[0]] + fx * texels[layer, rows[0], columns[1]]
    lower = (1 - fx) * texels[layer, rows[1], columns[0]] + fx * texels[layer, rows[1], columns[1]]
    return (1 - fy) * upper + fy * lower


def _turn(u: Tensor, v: Tensor) -> Tensor:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
