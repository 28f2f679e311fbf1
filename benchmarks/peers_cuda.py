"""Other differentiable rasterizers on a GPU, on the scene of `steps.py`: nvdiffrast, PyTorch3D, SoftRas.

Each is asked for what it gives at its best for the same picture: the same vertices, faces, colours, size,
batch; the same widths; backward to the same parameters. Those that are not installed are left out. Run with
nvdiffrast 0.4, PyTorch3D 0.7.9 and SoftRas 1.0. nvdiffrast draws our picture; the other two lay the
background behind as one more face of their weighted mean.
"""

import functools
import math
from collections.abc import Callable

import torch
from steps import BLUR, GAMMA, SIGMA, Ball, Loss, squared_error
from torch import Tensor

from render.blur import blurred_squared_error

_NEAREST = 1.0  # [1/m] inverse depth of the near plane: the scene's are below
_NEAR, _FAR = 1.0, 5.0  # [m]
_FACES_PER_PIXEL = 10  # of PyTorch3D
_MOST_VISITS = 2e11
_FAINTEST = 1e-4  # coverage where peers' faces end, as ours do


def nvdiffrast(scene: Ball) -> Loss:
    """Rasterize, interpolate, antialias; the loss of the edge operator."""
    import nvdiffrast.torch as dr

    context = dr.RasterizeCudaContext(device=scene.vertices.device)
    faces = scene.triangles.faces

    def loss(vertices: Tensor, colours: Tensor) -> Tensor:
        corners = _clip(vertices, scene.pixels)
        seen, _ = dr.rasterize(context, corners, faces, resolution=list(scene.size), grad_db=False)
        image, _ = dr.interpolate(colours[None], seen, faces)
        image = dr.antialias(image.contiguous(), seen, corners, faces)
        return blurred_squared_error(image, scene.target, BLUR).sum()

    return loss


def pytorch3d(scene: Ball) -> Loss:
    """Ten nearest faces of each pixel, blended by a softmax."""
    from pytorch3d.ops import interpolate_face_attributes
    from pytorch3d.renderer.blending import BlendParams, softmax_rgb_blend
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.renderer.mesh.rasterizer import Fragments
    from pytorch3d.structures import Meshes

    faces = scene.triangles.faces.long()
    sigma = (2.0 * SIGMA / scene.pixels) ** 2  # of a squared distance, where the picture is 2 wide
    blend = BlendParams(sigma=sigma, gamma=_their_gamma(), background_color=(0.0, 0.0, 0.0))

    def loss(vertices: Tensor, colours: Tensor) -> Tensor:
        corners = _ndc(vertices, scene.pixels) * vertices.new_tensor([-1.0, 1.0, 1.0])  # their x runs left
        meshes = Meshes(verts=corners, faces=faces.expand(len(vertices), -1, -1))
        found = rasterize_meshes(
            meshes,
            image_size=scene.size,
            blur_radius=math.log(1.0 / _FAINTEST - 1.0) * sigma,
            faces_per_pixel=_FACES_PER_PIXEL,
            perspective_correct=True,
            clip_barycentric_coords=True,
            cull_backfaces=True,
        )
        fragments = Fragments(*found)
        values = colours[faces].repeat(len(vertices), 1, 1)
        values = interpolate_face_attributes(fragments.pix_to_face, fragments.bary_coords, values)
        image = softmax_rgb_blend(values, fragments, blend, znear=_NEAR, zfar=_FAR)
        return squared_error(image[..., :3], scene)

    return loss


def softras(scene: Ball) -> Loss:
    """All faces, its own CUDA kernels."""
    from soft_renderer.functional import soft_rasterize

    faces = scene.triangles.faces.long().flip(1)  # their fronts turn clockwise

    def loss(vertices: Tensor, colours: Tensor) -> Tensor:
        corners = _ndc(vertices, scene.pixels)[:, faces]
        image = soft_rasterize(
            corners,
            colours[faces].expand(len(vertices), -1, -1, -1),
            image_size=scene.pixels,
            near=_NEAR,
            far=_FAR,
            fill_back=False,
            sigma_val=(2.0 * SIGMA / scene.pixels) ** 2,
            dist_eps=_FAINTEST,
            gamma_val=_their_gamma(),
            texture_type="vertex",
        )
        return squared_error(image[:, :3].permute(0, 2, 3, 1), scene)

    return loss


# by the operator of ours that does the like
PEERS: dict[str, dict[str, Callable[[Ball], Loss]]] = {
    "edge": {"nvdiffrast": nvdiffrast},
    "soft": {"pytorch3d": pytorch3d, "softras": softras},
}


def too_long(name: str, scene: Ball) -> bool:
    """True where a step takes many seconds: SoftRas visits every face at every pixel."""
    return name == "softras" and scene.batch * scene.pixels**2 * len(scene.triangles) > _MOST_VISITS


@functools.cache
def why_not(name: str) -> str | None:
    """None where a peer can be imported, else the reason."""
    import importlib

    modules = {"nvdiffrast": "nvdiffrast.torch", "pytorch3d": "pytorch3d._C", "softras": "soft_renderer"}
    try:
        importlib.import_module(modules[name])
    except (ImportError, OSError, RuntimeError) as e:
        return str(e).splitlines()[0]
    return None


def _clip(vertices: Tensor, pixels: int) -> Tensor:
    """Clip coordinates [B, V, 4] of screen vertices; row 0, the top one, is at y = -1, as nvdiffrast's is."""
    depth = 1.0 / vertices[..., 2]
    x, y = ((2.0 / pixels * vertices[..., i] - 1.0) * depth for i in (0, 1))
    return torch.stack([x, y, depth - 2.0 / _NEAREST, depth], -1)  # z/w = 1 - 2 s/s_near, affine in s


def _ndc(vertices: Tensor, pixels: int) -> Tensor:
    """Horizontal to the right and vertical upwards in [-1, 1], and depth [m]: [B, V, 3]."""
    x, y = 2.0 / pixels * vertices[..., 0] - 1.0, 1.0 - 2.0 / pixels * vertices[..., 1]
    return torch.stack([x, y, 1.0 / vertices[..., 2]], -1)


def _their_gamma() -> float:
    """Our gamma, in inverse depth, as their depth's, which is linear between near and far plane."""
    depth = 2.5  # [m] of the middle of what is seen
    return GAMMA * depth**2 / (_FAR - _NEAR)
