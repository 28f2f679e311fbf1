"""The shading model in one Warp kernel, without gradients: argument checks and launches, no maths."""

from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from render.compilation import load
from render.geometry import Geometry
from render.launch import in_threads, launch, part, thread_count, view
from render.raster import Raster
from render.shading import kernels as k
from render.shading.textures import textures
from scenes import Scene, World

_NUMBERS_PER_SAMPLE = (
    8  # shading costs this much more than the plain passes thread_count's threshold is meant for
)


@dataclass(frozen=True, eq=False)
class Shadow:
    """What the light sees of each scene, orthographically.

    Attributes:
        closeness: Of the surface nearest to the light, 0 where there is none, [B, N, N].
        rows: Affine map of a world point to column [texels], row [texels] and closeness, [B, 3, 4].
        texel: Width of a texel [m], [B].
    """

    closeness: Float[Tensor, "batch texel texel"]
    rows: Float[Tensor, "batch 3 4"]
    texel: Float[Tensor, "batch"]


def draw(
    geometry: Geometry,
    raster: Raster,
    scene: Scene,
    world: World,
    *,
    samples: int,
    shadow: Shadow | None = None,
) -> Float[Tensor, "batch height width 3"]:
    """sRGB pictures by the model of `shade`, averaged over samples x samples points per pixel in linear light.

    Args:
        geometry: Of the scene, in the raster's size.
        raster: (samples * H, samples * W) points.
        scene: The same B scenes.
        world: Whose textures are meant.
        samples: Points per pixel and axis.
        shadow: Where the light does not reach; without it, it reaches all.

    Raises:
        ValueError: If the raster's size is no multiple of `samples`.
        KernelError: If the kernel cannot be compiled here.
    """
    count, rows, columns = raster.face.shape
    if rows % samples or columns % samples:
        raise ValueError(f"a raster of {rows} x {columns} points has no pixels of {samples} x {samples}")
    device = raster.face.device
    rgb = torch.empty(count, rows // samples, columns // samples, 3, device=device)
    if count == 0:
        return rgb
    load(k.__name__, str(device))
    inputs = [
        _mesh(geometry),
        _pyramids(world, device),
        _lights(scene, shadow),
        view(raster.face),
        view(raster.barycentric, wp.vec3),
        samples,
    ]
    out = view(rgb, wp.vec3)
    height, width = rgb.shape[1:3]
    threads = min(count, thread_count(device, numbers=_NUMBERS_PER_SAMPLE * raster.face.numel()))
    span = width if device.type == "cpu" else 1

    def some(index: int) -> None:
        first, end = part(index, threads, count)
        dim = (end - first, height, -(-width // span))
        launch(k.picture, dim, inputs=[*inputs, first, span], outputs=[out], device=device)

    in_threads(threads, some)
    return rgb


def _floats(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


def _mesh(geometry: Geometry) -> Any:
    mesh = k.Mesh()
    for name in ("vertices", "positions", "normals", "colours"):
        setattr(mesh, name, view(_floats(getattr(geometry, name)), wp.vec3))
    mesh.uv = view(_floats(geometry.uv), wp.vec2)
    mesh.faces = view(geometry.faces.contiguous(), wp.vec3i)
    mesh.texture, mesh.closed = view(geometry.texture), view(geometry.closed)
    mesh.specular, mesh.shininess = view(_floats(geometry.specular)), view(_floats(geometry.shininess))
    return mesh


def _pyramids(world: World, device: torch.device) -> Any:
    made = textures(world).to(device)
    pyramids = k.Pyramids()
    pyramids.texels = view(made.texels, wp.vec3)
    pyramids.first, pyramids.levels = view(made.first), view(made.levels)
    pyramids.size = view(made.size, wp.vec2i)
    return pyramids


def _lights(scene: Scene, shadow: Shadow | None) -> Any:
    lights = k.Lights()
    light = scene.light
    lights.direction = view(_floats(light.direction), wp.vec3)
    lights.intensity, lights.ambient = view(_floats(light.intensity)), view(_floats(light.ambient))
    lights.eye = view(_floats(scene.camera.translation), wp.vec3)
    lights.background = view(_floats(scene.background), wp.vec3)
    lights.shadows = int(shadow is not None)
    if shadow is not None:
        lights.shadow_rows = view(_floats(shadow.rows), wp.vec4)
        lights.shadow_texel = view(_floats(shadow.texel))
        lights.closeness = view(_floats(shadow.closeness))
    return lights
