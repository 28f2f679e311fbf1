"""The edge operator's vertex gradient in plain PyTorch and Python loops: slow, short. For tests."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from render.raster import Raster
from render.triangles import Triangles


def edge_gradient_reference(
    image: Float[Tensor, "batch height width channel"],
    grad_image: Float[Tensor, "batch height width channel"],
    vertices: Float[Tensor, "vertex 3"],
    triangles: Triangles,
    raster: Raster,
) -> Float[Tensor, "vertex 3"]:
    """What :func:`render.edge.edge_gradient` gives packed vertices, for pictures of one sample per pixel."""
    grad = torch.zeros_like(vertices)
    for edge in triangles.edges.tolist():
        _contour(grad, image, grad_image, vertices, triangles, raster, edge)
    _cross(grad, image, grad_image, vertices, triangles, raster)
    _advect(grad, image, grad_image, vertices, triangles, raster)
    return grad


def _contour(grad, image, grad_image, vertices, top, raster, edge):  # type: ignore[no-untyped-def]  # rows of tensors
    iu, iv, apex, other, face, face2, crease, n = edge
    u, v = vertices[iu], vertices[iv]
    side = _turn(u, v, vertices[apex])
    silhouette = face2 < 0 or side * _turn(u, v, vertices[other]) > 0
    if not silhouette and not crease:
        return
    across, along = (0, 1) if abs(v[1] - u[1]) >= abs(v[0] - u[0]) else (1, 0)
    # steep edges run along y; transposed, flat ones do too
    seen, picture, g = raster.face[n], image[n], grad_image[n]
    if across == 1:
        seen, picture, g = seen.T, picture.transpose(0, 1), g.transpose(0, 1)
    length, width = seen.shape
    run = v[along] - u[along]
    inside_before = (side * run > 0) == (across == 0)
    low, high = max(0.0, min(u[along], v[along])), min(float(length), max(u[along], v[along]))
    for row in range(math.floor(low), math.ceil(high)):
        start, end = max(low, row), min(high, row + 1)
        t = ((start + end) / 2 - u[along]) / run
        r = u[across] + (row + 0.5 - u[along]) / run * (v[across] - u[across])
        a = math.floor(r - 0.5)
        if a < 0 or a + 1 >= width or seen[row, a] == seen[row, a + 1]:
            continue
        pair = int(seen[row, a]), int(seen[row, a + 1])
        z = u[2] + t * (v[2] - u[2])
        at = (r, row + 0.5) if across == 0 else (row + 0.5, r)
        own = top.instance[face]
        planes = [_plane(vertices[top.faces[f].long()], *at) if f >= 0 else 0.0 for f in pair]
        if silhouette:
            (inside, outside), beyond = (pair, planes[1]) if inside_before else (pair[::-1], planes[0])
            visible = inside >= 0 and top.instance[inside] == own
            visible = visible and (outside in (face, face2) or beyond <= 1.01 * z)
        else:
            visible = min(pair) >= 0 and all(top.instance[f] == own for f in pair)
            visible = visible and (bool({face, face2} & set(pair)) or abs(max(planes) - z) <= 0.01 * z)
        if visible:
            phi = r - 0.5 - a
            weight = (end - start) * ((1 - phi) * g[row, a] + phi * g[row, a + 1])
            k = weight @ (picture[row, a] - picture[row, a + 1])
            for index, share in ((iu, 1 - t), (iv, t)):
                grad[index, across] += k * share
                grad[index, along] -= k * share * (v[across] - u[across]) / run


def _cross(grad, image, grad_image, vertices, top, raster):  # type: ignore[no-untyped-def]  # rows of tensors
    depth = raster.inverse_depth.to(vertices.dtype)
    _, height, width, _ = image.shape
    for n, y, x in (raster.face >= 0).nonzero().tolist():
        for axis, (i, j) in enumerate(((y, x + 1), (y + 1, x))):
            if i >= height or j >= width:
                continue
            f, h = int(raster.face[n, y, x]), int(raster.face[n, i, j])
            if h < 0 or top.instance[f] == top.instance[h]:
                continue
            corners = [vertices[top.faces[k].long()].detach().requires_grad_() for k in (f, h)]
            rise = _slopes(corners[0].detach()) - _slopes(corners[1].detach())
            if abs(rise[axis]) < abs(rise[1 - axis]) or (axis == 1 and abs(rise[0]) == abs(rise[1])):
                continue
            gap = depth[n, y, x] - depth[n, i, j]
            lead, lag = gap + _slopes(corners[1].detach())[axis], gap + _slopes(corners[0].detach())[axis]
            if lead <= 0 or lag >= 0 or abs(rise[axis]) < 1e-5 * depth[n, y, x]:
                continue
            t = lead / (lead - lag)
            at = (x + 0.5 + t * (axis == 0), y + 0.5 + t * (axis == 1))
            if _ends(vertices, top, f, at) or _ends(vertices, top, h, at):
                continue
            weight = (1 - t) * grad_image[n, y, x] + t * grad_image[n, i, j]
            force = weight @ (image[n, y, x] - image[n, i, j])
            with torch.enable_grad():
                lead_at = [_weights(c, *at) @ c[:, 2] for c in corners]
                share = torch.autograd.grad(-force / rise[axis] * (lead_at[0] - lead_at[1]), corners)
            for k, part in zip((f, h), share, strict=True):
                grad.index_add_(0, top.faces[k].long(), part)


def _slopes(corners):  # type: ignore[no-untyped-def]  # rows of tensors
    u, v = corners[1] - corners[0], corners[2] - corners[0]
    return torch.stack([u[2] * v[1] - v[2] * u[1], v[2] * u[0] - u[2] * v[0]]) / _turn(*corners)


def _ends(vertices, top, face, at):  # type: ignore[no-untyped-def]  # rows of tensors
    corners = vertices[top.faces[face].long()]
    area, p = _turn(*corners), corners.new_tensor([*at, 0.0])
    for k in range(3):
        u, v, beyond = corners[k - 2], corners[k - 1], int(top.neighbours[face, k])
        if _turn(u, v, p) * area.sign() < 0.05 * (v - u)[:2].norm():
            if beyond < 0 or _turn(*vertices[top.faces[beyond].long()]) * area <= 0:
                return True
    return False


def _advect(grad, image, grad_image, vertices, top, raster):  # type: ignore[no-untyped-def]  # rows of tensors
    depth = raster.inverse_depth.to(vertices.dtype)
    _, height, width, _ = image.shape
    for n, y, x in (raster.face >= 0).nonzero().tolist():
        face = int(raster.face[n, y, x])
        force = []
        for dy, dx in ((0, 1), (1, 0)):
            slopes = []
            for s in (-1, 1):
                i, j = y + s * dy, x + s * dx
                if 0 <= i < height and 0 <= j < width and raster.face[n, i, j] >= 0:
                    neighbour = int(raster.face[n, i, j])
                    near = abs(depth[n, i, j] - depth[n, y, x]) < 0.1 * depth[n, y, x]
                    if neighbour == face or (top.group[neighbour] == top.group[face] and near):
                        slopes.append(s * (grad_image[n, y, x] @ (image[n, i, j] - image[n, y, x])))
            force.append(-sum(slopes) / max(1, len(slopes)))
        # the point of the surface that is seen here, as a function of the corners
        corners = vertices[top.faces[face].long()].detach().requires_grad_()
        weights = _weights(corners.detach(), x + 0.5, y + 0.5)
        material = weights * corners.detach()[:, 2]  # proportional to barycentric weights in space
        mass = material / corners[:, 2]
        point = (mass[:, None] * corners[:, :2]).sum(0) / mass.sum()
        with torch.enable_grad():
            (share,) = torch.autograd.grad(point[0] * force[0] + point[1] * force[1], corners)
        grad.index_add_(0, top.faces[face].long(), share)


def _turn(a, b, c):  # type: ignore[no-untyped-def]  # rows of tensors
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _weights(corners, x, y):  # type: ignore[no-untyped-def]  # rows of tensors
    a, b, c = corners
    p = corners.new_tensor([x, y])
    return torch.stack([_turn(p, b, c), _turn(p, c, a), _turn(p, a, b)]) / _turn(a, b, c)


def _plane(corners, x, y):  # type: ignore[no-untyped-def]  # rows of tensors
    return (_weights(corners, x, y) @ corners[:, 2]).clamp(corners[:, 2].min(), corners[:, 2].max())
