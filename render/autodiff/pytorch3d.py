"""Soft pictures by PyTorch3D: an adapter from our geometry to its cameras, meshes, rasterizer and blending.

What is converted:

* Camera. Ours looks along -z with y up; PyTorch3D's looks along +z with x to the left, and multiplies row
  vectors. Half a turn about y is between them.
* Screen. Our pixels count to the right and down; its normalised device coordinates span [-1, 1] along the
  shorter side, to the left and up.
* Softness. Our sigma is a length in pixels; its is a squared length in those coordinates, and so is its
  `blur_radius`. Our gamma is a difference of inverse depths in 1/m; its is a share of the way between two
  clipping planes, which therefore stand 1/m apart in inverse depth.
* Meshes. Each corner of a face is a vertex of its own, which may have a colour of its own. Backs of closed
  meshes are left out, and what is before the near plane is cut off already.
* Textures and light. Colours are those of `render.lit.lit_colours`, with textures and light in them:
  PyTorch3D has no Blinn-Phong highlights, and its scenes cannot mix textured and plain meshes.

What differs from `render.soft.soft_rasterize`: PyTorch3D computes in float32, and keeps the `_FACES` nearest
faces of a pixel, so that it draws something else where softness is wide and meshes are dense. Of the tabletop
at 64 x 40 px with sigma 2 px, single pixels differ by 0.35 for that. Its derivatives of distances and
barycentric coordinates are written by hand, in C++; the rest is on the tape.

Reference: Ravi et al. 2020, Accelerating 3D Deep Learning with PyTorch3D. Its functions used here are as of
0.7.9.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.attributes import Attributes, carried
from render.engine import EngineError
from render.geometry import NEAR, Geometry, seen_from_behind
from scenes.scene import Camera, matrix

_FACES = 150  # per pixel: as many as PyTorch3D can keep on a GPU
_CLEAR = 40.0  # [gamma] from the far plane to anything: PyTorch3D's own background then weighs 1e-10


def require() -> None:
    """Import PyTorch3D.

    Raises:
        EngineError: If it cannot be imported.
    """
    try:
        import pytorch3d.renderer.mesh.rasterize_meshes  # noqa: F401  # needs its compiled part
    except ImportError as e:
        raise EngineError(
            f"the renderer 'pytorch3d' needs PyTorch3D, which cannot be imported ({e}); build it from source "
            "as its INSTALL.md says, or take the renderer 'torch'"
        ) from e


def draw(
    geometry: Geometry,
    colours: Attributes,
    camera: Camera,
    *,
    background: Float[Tensor, "batch channel"],
    sigma: float,
    gamma: float,
    reach: float,
) -> Float[Tensor, "batch height width channel"]:
    """A `render.autodiff.module.Renderer`."""
    from pytorch3d.ops import interpolate_face_attributes
    from pytorch3d.renderer.blending import BlendParams, softmax_rgb_blend

    behind = background[:, None, None].expand(-1, *geometry.size, -1)
    shown = _shown(geometry)
    if len(shown) == 0:
        return behind
    surface = carried(colours, geometry.vertices, geometry.triangles, 1)
    values = surface.values[surface.index[shown].long()].float()
    meshes = _meshes(geometry, shown, camera)
    inverse_depth = meshes.verts_packed()[meshes.faces_packed(), 2]
    square = (2.0 * sigma / min(geometry.size)) ** 2  # of sigma, in PyTorch3D's coordinates
    fragments = _fragments(meshes, geometry.size, reach**2 * square)
    nearness = fragments.bary_coords * inverse_depth[fragments.pix_to_face]
    total = nearness.sum(-1, keepdim=True)
    surfaces = interpolate_face_attributes(fragments.pix_to_face, nearness / total, values)
    fragments = replace(fragments, zbuf=-total[..., 0])
    softness = BlendParams(sigma=square, gamma=gamma, background_color=(0.0, 0.0, 0.0))
    far = _CLEAR * gamma  # where the inverse depth is -far
    picture = softmax_rgb_blend(surfaces, fragments, softness, znear=far - 1.0, zfar=far).to(behind.dtype)
    colour, alpha = picture[..., :3], picture[..., 3:]
    return alpha * colour + (1.0 - alpha) * behind


def _shown(geometry: Geometry) -> Int[Tensor, "shown"]:
    """The faces but for backs that are culled."""
    corners = geometry.vertices.detach()[geometry.triangles.faces.long()]
    return (~(geometry.triangles.culled & seen_from_behind(corners))).nonzero()[:, 0]


def _meshes(geometry: Geometry, shown: Tensor, camera: Camera) -> Any:
    """PyTorch3D's meshes, one per picture, of (x, y) in its coordinates and inverse depth [1/m]."""
    from pytorch3d.structures import Meshes

    corners = geometry.positions[geometry.triangles.faces[shown].long()].float()
    counts = torch.bincount(geometry.triangles.image[shown], minlength=len(camera.focal)).tolist()
    meshes = Meshes(
        [points.reshape(-1, 3) for points in corners.split(counts)],
        [torch.arange(3 * count, device=corners.device).view(-1, 3) for count in counts],
    )
    # The padding of small meshes may lie in the eye's plane; all else is behind the near plane
    projected = _cameras(camera, geometry.size).transform_points_ndc(meshes.verts_padded(), eps=0.5 * NEAR)
    return meshes.update_padded(projected)


def _cameras(camera: Camera, size: tuple[int, int]) -> Any:
    """PyTorch3D's cameras for pictures of (height, width) [px]."""
    from pytorch3d.renderer.cameras import PerspectiveCameras

    height, width = size
    zoom = camera.focal.new_tensor([width / camera.width, height / camera.height])
    turn = matrix(camera.rotation) * camera.rotation.new_tensor([-1.0, 1.0, -1.0])
    return PerspectiveCameras(
        focal_length=(camera.focal * zoom).float(),
        principal_point=(camera.centre * zoom).float(),
        R=turn.float(),
        T=-(camera.translation[:, None] @ turn)[:, 0].float(),
        in_ndc=False,
        image_size=torch.tensor(size, device=turn.device).expand(len(turn), -1),
        device=turn.device,
    )


def _fragments(meshes: Any, size: tuple[int, int], blur_radius: float) -> Any:
    """What PyTorch3D's rasterizer finds: faces, depths, weights, signed squared distances, [B, H, W, K].

    Its depth is positive and grows away from the eye: here, the greatest inverse depth plus 1 less a point's.
    That orders faces, no more: float32 has too few digits for it where anything is near the eye.
    """
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.renderer.mesh.rasterizer import Fragments

    x, y, inverse_depth = meshes.verts_padded().unbind(-1)
    top = float(meshes.verts_packed().detach()[:, 2].max()) + 1.0
    found = rasterize_meshes(
        meshes.update_padded(torch.stack([x, y, top - inverse_depth], -1)),
        image_size=size,
        blur_radius=blur_radius,
        faces_per_pixel=min(int(meshes.num_faces_per_mesh().max()), _FACES),
        clip_barycentric_coords=True,
    )
    return Fragments(*found)
