"""Lit colours of faces' corners: the shading model where soft operators interpolate, differentiably."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from render.attributes import PerCorner
from render.geometry import Geometry, seen_from_behind
from render.shading import encode_srgb, textures
from scenes import Scene, World

_INWARDS = 1 / 4  # of the way from a corner to each other one; a face's corners keep apart from its seams


def lit_colours(geometry: Geometry, scene: Scene, world: World) -> Tensor | PerCorner:
    """sRGB-encoded colours of the surface at the corners of all faces, without shadows.

    The model of `render.shading.shade`, evaluated at the vertices: Lambert, ambient, Blinn-Phong, with
    normals that are turned towards the eye on the back of meshes that are not closed; clamped to [0, 1].

    Users will get wrong: what lies within a face is what is interpolated between its corners. A texture is
    known only as its mean around each corner, over about half of the face: patterns finer than the mesh are
    lost, and a picture on a quad is a gradation. Highlights and the light's border are as coarse.

    Args:
        geometry: Of the scene, as `assemble` gives it.
        scene: The same B scenes. Gradients flow to colour, light, and through normals and positions to poses
            and camera.
        world: Whose textures are meant. Where a texture lies carries no gradient.

    Returns:
        Per vertex, [V, 3], where that says it all; per corner, [F, 3, 3], where faces are textured or
        seen from behind. Of the vertices' type.
    """
    dtype, faces = geometry.vertices.dtype, geometry.triangles.faces.long()
    back = seen_from_behind(geometry.vertices.detach()[faces]) & ~geometry.triangles.culled
    textured = (geometry.texture >= 0).nonzero()[:, 0]
    turned = bool(back.any())
    sides = (geometry.normals, -geometry.normals) if turned else (geometry.normals,)
    both = [_light(geometry, scene, normals) for normals in sides]
    diffuse, highlight = (torch.cat(parts) for parts in zip(*both, strict=True))
    if not turned and len(textured) == 0:
        return _encoded(diffuse + highlight).to(dtype)
    rows = faces + len(geometry.vertices) * back[:, None]
    diffuse, highlight = diffuse[rows], highlight[rows]
    if len(textured):
        texel = torch.ones_like(diffuse)
        texel[textured] = _texels(geometry, world, textured).to(texel.dtype)
        diffuse = diffuse * texel
    return PerCorner(_encoded(diffuse + highlight).to(dtype))


def _encoded(linear: Tensor) -> Tensor:
    return encode_srgb(linear.clamp(0.0, 1.0))


def _light(geometry: Geometry, scene: Scene, normals: Tensor) -> tuple[Tensor, Tensor]:
    """What each vertex scatters [V, 3], before texture, and what it mirrors [V, 1], in linear light."""
    image, light = geometry.image_of_vertex, scene.light
    to_light = light.direction.index_select(0, image)
    intensity, ambient = light.intensity.index_select(0, image), light.ambient.index_select(0, image)
    normals = normalize(normals, dim=-1)
    cosine = (normals * to_light).sum(-1)
    diffuse = geometry.colours * (ambient + intensity * cosine.clamp_min(0.0))[:, None]
    highlight = torch.zeros_like(cosine)
    specular = _of_vertices(geometry, geometry.specular)
    glossy = ((specular > 0) & (cosine.detach() > 0)).nonzero()[:, 0]
    if len(glossy):
        eye = scene.camera.translation.index_select(0, image[glossy]) - geometry.positions[glossy]
        half = normalize(to_light[glossy] + normalize(eye, dim=-1), dim=-1)
        # The floor keeps the slope of the power finite where the half vector is level with the surface.
        cosine_half = (normals[glossy] * half).sum(-1).clamp_min(1e-6)
        mirror = cosine_half ** _of_vertices(geometry, geometry.shininess)[glossy]
        highlight = highlight.index_add(0, glossy, specular[glossy] * intensity[glossy] * mirror)
    return diffuse, highlight[:, None]


def _of_vertices(geometry: Geometry, of_faces: Float[Tensor, "face"]) -> Float[Tensor, "vertex"]:
    """What all faces of a mesh have in common, for its vertices; 0 for those without a face."""
    values = geometry.vertices.new_zeros(len(geometry.vertices))
    values[geometry.triangles.faces.long()] = of_faces.to(values.dtype)[:, None].expand(-1, 3)
    return values


def _texels(geometry: Geometry, world: World, face: Int[Tensor, "face"]) -> Float[Tensor, "face 3 3"]:
    """The texture's mean around each corner of these faces, over about half of the face each way."""
    uv = geometry.uv.detach()[geometry.triangles.faces.long()[face]]  # [P, 3, 2]
    after, before = uv.roll(-1, 1) - uv, uv.roll(-2, 1) - uv
    at = uv + _INWARDS * (after + before)
    texture = geometry.texture[face].repeat_interleave(3)
    points = (at, 0.5 * after, 0.5 * before)
    texels = textures(world).to(face.device).sample(texture, *(p.reshape(-1, 2) for p in points))
    return texels.view(-1, 3, 3)
