"""The shading model in plain PyTorch: slow, differentiated by autograd. For tests."""

import torch
from jaxtyping import Float
from torch import Tensor

from render.geometry import Geometry, seen_from_behind
from render.raster import Raster
from render.shading.textures import textures
from scenes import Scene, World


def shade_reference(
    geometry: Geometry, raster: Raster, scene: Scene, world: World
) -> Float[Tensor, "batch height width 3"]:
    """Same arguments and result as :func:`render.shading.shade`, in the geometry's own precision."""
    seen = raster.face >= 0
    image, row, column = seen.nonzero(as_tuple=True)
    face = raster.face[seen].long()
    corners = geometry.triangles.faces[face].long()  # [P, 3]
    weights = raster.barycentric[seen].to(geometry.vertices.dtype)

    def interpolate(attribute: Tensor) -> Tensor:
        a, b, c = (attribute.index_select(0, corners[:, k]) * weights[:, k, None] for k in range(3))
        return a + b + c

    light = scene.light
    to_light = light.direction.index_select(0, image)
    intensity, ambient = light.intensity.index_select(0, image), light.ambient.index_select(0, image)
    normal = torch.nn.functional.normalize(interpolate(geometry.normals), dim=-1)
    corner = geometry.vertices.detach()[corners]
    normal = torch.where(
        (seen_from_behind(corner) & ~geometry.triangles.culled[face])[:, None], -normal, normal
    )
    cosine = (normal * to_light).sum(-1)
    albedo = interpolate(geometry.colours)
    textured = (geometry.texture[face] >= 0).nonzero()[:, 0]
    if len(textured):
        texel = torch.ones_like(albedo)
        texel[textured] = _texels(geometry, world, face[textured], corner[textured], weights[textured])
        albedo = albedo * texel
    colour = albedo * (ambient + intensity * cosine.clamp_min(0.0))[:, None]
    glossy = ((geometry.specular[face] > 0) & (cosine.detach() > 0)).nonzero()[:, 0]
    if len(glossy):
        at = image[glossy]
        eye = scene.camera.translation.index_select(0, at) - interpolate(geometry.positions)[glossy]
        half = torch.nn.functional.normalize(
            to_light[glossy] + torch.nn.functional.normalize(eye, dim=-1), dim=-1
        )
        # The floor keeps the slope of the power finite where the half vector is level with the surface.
        mirror = (normal[glossy] * half).sum(-1).clamp_min(1e-6) ** geometry.shininess[face[glossy]]
        highlight = geometry.specular[face[glossy]] * intensity[glossy] * mirror
        colour = colour.index_add(0, glossy, highlight[:, None].expand(-1, 3))
    height, width = raster.face.shape[1:]
    picture = scene.background[:, None, None, :].to(colour.dtype).expand(-1, height, width, -1)
    return picture.index_put((image, row, column), colour)


def _texels(geometry: Geometry, world: World, face: Tensor, corner: Tensor, weights: Tensor) -> Tensor:
    """Texture colours at points of faces; the level comes from uv's change over a pixel.

    With w_k affine on the screen and z_k inverse depths, b_k = w_k z_k / D, D = sum w_k z_k:
    db_k/dx = (dw_k/dx z_k - b_k sum_j dw_j/dx z_j) / D.
    """
    uv = geometry.uv.detach()[geometry.triangles.faces[face].long()]  # [P, 3, 2]
    x, y, z = corner.unbind(-1)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    w_x = (y.roll(-1, 1) - y.roll(-2, 1)) / area[:, None]
    w_y = (x.roll(-2, 1) - x.roll(-1, 1)) / area[:, None]
    depth = (weights / z).sum(-1, keepdim=True)  # 1/D: b_k / z_k = w_k / D, and the w_k sum to 1

    def change(w: Tensor) -> Tensor:
        b = (w * z - weights * (w * z).sum(-1, keepdim=True)) * depth
        return (b[..., None] * uv).sum(1)

    at = (weights[..., None] * uv).sum(1)
    pyramid = textures(world).to(face.device)
    return pyramid.sample(geometry.texture[face], at, change(w_x), change(w_y)).to(weights.dtype)
