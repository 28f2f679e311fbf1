"""The shading model on PyTorch tensors: launches and autograd, no maths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.compilation import load
from render.geometry import Geometry
from render.launch import Function, in_threads, launch, part, thread_count, view
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


def shade(
    geometry: Geometry, raster: Raster, scene: Scene, world: World
) -> Float[Tensor, "batch height width 3"]:
    """Linear colours of what each pixel's centre sees, without shadows.

    albedo * (ambient + intensity * max(0, n . l)) + specular * intensity * max(0, n . h)^shininess, the
    highlight only where n . l > 0. n is interpolated, normalised, and turned towards the eye on the back of
    meshes that are not closed; h is half way between the light l and the eye.

    Gradients flow to the scene's colour, light and background, and through normals and positions to poses and
    camera as far as they change the light on a point that stays on its pixel. What moves on the screen,
    silhouettes and textures, is the edge operator's part: barycentrics are taken as constants.

    Args:
        geometry: Of the scene, as `assemble` gives it.
        raster: Of the geometry, as `rasterize` gives it, at the geometry's size.
        scene: The same B scenes.
        world: Whose textures are meant.

    Returns:
        Linear colours, not clamped: a highlight may exceed 1. Clamp, average over samples, then
        `encode_srgb`. float32.

    Raises:
        KernelError: If the kernels cannot be compiled here.
    """
    return _Shade.apply(geometry, raster, world, *_inputs(geometry, scene))


class _Shade(Function):
    """Linear colours. Saves its inputs only; the backward pass shades again."""

    @staticmethod
    def forward(geometry: Geometry, raster: Raster, world: World, *inputs: Tensor) -> Tensor:
        rgb = torch.empty(*raster.face.shape, 3, device=raster.face.device)
        _launch(k.shade, geometry, raster, world, inputs, [], [view(rgb, wp.vec3)], threads_for=rgb)
        return rgb

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.geometry, ctx.raster, ctx.world = inputs[:3]
        ctx.save_for_backward(*inputs[3:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rgb: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        grads = [torch.zeros_like(x) for x in inputs]
        out = k.Gradients()
        wanted = ctx.needs_input_grad[3:]
        out.want_colours, out.want_normals, out.want_positions = (int(w) for w in wanted[:3])
        names = ("colours", "normals", "positions", "direction", "intensity", "ambient", "eye", "background")
        for name, grad in zip(names, grads, strict=True):
            setattr(out, name, view(grad, wp.vec3 if grad.ndim == 2 else None))
        grad_rgb = grad_rgb.contiguous()
        cotangent = [view(grad_rgb, wp.vec3)]
        _launch(
            k.shade_backward,
            ctx.geometry,
            ctx.raster,
            ctx.world,
            inputs,
            cotangent,
            [out],
            threads_for=grad_rgb,
        )
        needed = (g if w else None for g, w in zip(grads, wanted, strict=True))
        return (
            None,  # geometry
            None,  # raster
            None,  # world
            *needed,
        )


def draw(
    geometry: Geometry,
    raster: Raster,
    scene: Scene,
    world: World,
    *,
    samples: int,
    shadow: Shadow | None = None,
) -> Float[Tensor, "batch height width 3"]:
    """Draw sRGB pictures by the model of `shade`, of samples x samples points per pixel. No gradient.

    Colours are clamped to [0, 1] and averaged in linear light.

    Args:
        geometry: Of the scene, in the raster's size.
        raster: (samples * H, samples * W) points.
        scene: The same B scenes.
        world: Whose textures are meant.
        samples: Points per pixel and axis.
        shadow: Where the light does not reach; without it, it reaches all.

    Raises:
        ValueError: If the raster's size is no multiple of `samples`.
        KernelError: If the kernels cannot be compiled here.
    """
    count, rows, columns = raster.face.shape
    if rows % samples or columns % samples:
        raise ValueError(f"a raster of {rows} x {columns} points has no pixels of {samples} x {samples}")
    rgb = torch.empty(count, rows // samples, columns // samples, 3, device=raster.face.device)
    inputs = [x.detach() for x in _inputs(geometry, scene)]
    out = [view(rgb, wp.vec3)]
    _launch(k.picture, geometry, raster, world, inputs, [samples], out, threads_for=rgb, shadow=shadow)
    return rgb


def _inputs(geometry: Geometry, scene: Scene) -> list[Tensor]:
    """What may carry gradients, in the order of `Gradients`."""
    light = scene.light
    attributes = geometry.colours, geometry.normals, geometry.positions
    lamp = light.direction, light.intensity, light.ambient, scene.camera.translation, scene.background
    return [x.float().contiguous() for x in (*attributes, *lamp)]


def _launch(
    kernel: Any,
    geometry: Geometry,
    raster: Raster,
    world: World,
    inputs: Sequence[Tensor],
    more: list[Any],
    outputs: list[Any],
    *,
    threads_for: Tensor,
    shadow: Shadow | None = None,
) -> None:
    """Launch over all pixels of `threads_for` [B, H, W, 3]; no two host threads have an image in common."""
    count, height, width, _ = threads_for.shape
    device = threads_for.device
    if count == 0:
        return
    load(k.__name__, str(device))
    given = [
        _mesh(geometry, inputs[:3]),
        _pyramids(world, device),
        _lights(inputs[3:], shadow),
        view(raster.face),
        view(raster.barycentric, wp.vec3),
        *more,
    ]
    threads = min(count, thread_count(device, numbers=_NUMBERS_PER_SAMPLE * raster.face.numel()))
    span = width if device.type == "cpu" else 1

    def some(index: int) -> None:
        first, end = part(index, threads, count)
        dim = (end - first, height, -(-width // span))
        launch(kernel, dim, inputs=[*given, first, span], outputs=outputs, device=device)

    in_threads(threads, some)


def _mesh(geometry: Geometry, attributes: Sequence[Tensor]) -> Any:
    mesh = k.Mesh()
    mesh.vertices = view(geometry.vertices.detach().float().contiguous(), wp.vec3)
    mesh.colours, mesh.normals, mesh.positions = (view(a, wp.vec3) for a in attributes)
    mesh.uv = view(geometry.uv.float().contiguous(), wp.vec2)
    mesh.faces = view(geometry.triangles.faces, wp.vec3i)
    mesh.texture, mesh.closed = view(geometry.texture), view(geometry.triangles.culled)
    mesh.specular, mesh.shininess = view(geometry.specular), view(geometry.shininess)
    return mesh


def _pyramids(world: World, device: torch.device) -> Any:
    made = textures(world).to(device)
    pyramids = k.Pyramids()
    pyramids.texels = view(made.texels, wp.vec3)
    pyramids.first, pyramids.levels = view(made.first), view(made.levels)
    pyramids.size = view(made.size, wp.vec2i)
    return pyramids


def _lights(lamp: Sequence[Tensor], shadow: Shadow | None) -> Any:
    direction, intensity, ambient, eye, background = lamp
    lights = k.Lights()
    lights.direction, lights.eye = view(direction, wp.vec3), view(eye, wp.vec3)
    lights.intensity, lights.ambient = view(intensity), view(ambient)
    lights.background = view(background, wp.vec3)
    lights.shadows = int(shadow is not None)
    if shadow is not None:
        lights.shadow_rows = view(shadow.rows.float().contiguous(), wp.vec4)
        lights.shadow_texel = view(shadow.texel.float().contiguous())
        lights.closeness = view(shadow.closeness)
    return lights
