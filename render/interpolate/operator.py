"""Autograd operator of the interpolation: argument checks, launches, nothing else."""

from typing import Any

import warp as wp
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.attributes import Attributes, Carried, Texture, carried
from render.compilation import load_unique
from render.interpolate.kernels import kernels
from render.launch import (
    REAL,
    Function,
    Share,
    argument,
    in_threads,
    launch,
    run_length,
    shares,
    thread_count,
)
from render.raster import Raster
from render.triangles import Triangles, packed


def interpolate(
    attributes: Attributes,
    vertices: Float[Tensor, "*copy vertex 3"],
    faces: Int[Tensor, "face 3"] | Triangles,
    raster: Raster,
) -> Float[Tensor, "batch height width channel"]:
    """Attributes of the surface that each pixel's centre sees, perspective-correct, 0 where there is none.

    Gradients flow to the attributes. The vertices are held: give the result to `render.edge.edge_gradient`
    for how the picture moves with them. Together the two are a renderer with gradients to everything.

    Memory: nothing besides the result; in the backward pass one more copy of the attributes per host thread.

    Args:
        attributes: Per vertex, [V, C] or [B, V, C], or `PerCorner`; the vertices' type. Carries a gradient.
        vertices: As given to `rasterize`, float32 or float64.
        faces: As given to `rasterize`.
        raster: What it found.

    Raises:
        ValueError: If a shape, dtype or device does not fit, or the attributes are a texture.
        KernelError: If the kernels cannot be compiled here.
    """
    _, triangles, copies = packed(vertices, faces)
    if isinstance(attributes, Texture):
        raise ValueError("interpolate a texture's uv and look it up with torch.nn.functional.grid_sample")
    if vertices.dtype not in REAL:
        raise ValueError(f"vertices must be float32 or float64, got {vertices.dtype}")
    if len(raster.face) != copies * triangles.image_count:
        raise ValueError(
            f"raster has {len(raster.face)} images, vertices and faces make {copies * triangles.image_count}"
        )
    if raster.face.device != vertices.device:
        raise ValueError(f"raster is on {raster.face.device}, vertices on {vertices.device}")
    given = carried(attributes, vertices, triangles, copies)
    return _Interpolate.apply(given.values, given, triangles.image_count, copies, raster)


class _Interpolate(Function):
    """c = sum b_k a_k, linear in the attributes."""

    @staticmethod
    def forward(values: Tensor, given: Carried, images_per_copy: int, copies: int, raster: Raster) -> Tensor:
        image = values.new_empty(*raster.face.shape, values.shape[1])
        k = _loaded(image)
        inputs = [argument(values, k.row), *_seen(given, images_per_copy, raster)]
        width, span = image.shape[2], _span(image)

        def some(s: Share) -> None:
            more = [s.images[0], s.rows[0], span]
            dim, out = s.pixels(width, span), [argument(image, k.row)]
            launch(k.forward, dim, inputs=[*inputs, *more], outputs=out, device=image.device)

        if image.numel():
            parts = shares(_threads(image), *image.shape[:2])
            in_threads(len(parts), lambda i: some(parts[i]))
        return image

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, *ctx.rest = inputs
        ctx.shape = values.shape

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Tensor) -> tuple[Tensor | None, ...]:
        given, images_per_copy, copies, raster = ctx.rest
        grad_image = grad_image.contiguous()
        k = _loaded(grad_image)
        inputs = [argument(grad_image, k.row), *_seen(given, images_per_copy, raster)]
        width, threads = grad_image.shape[2], _threads(grad_image)
        span = run_length(grad_image.device, width)
        # threads that share no row of the attributes need no buffer of their own
        apart = given.stride > 0 and copies >= threads
        grad = grad_image.new_zeros(1 if apart else threads, *ctx.shape)
        together = images_per_copy if apart else 1

        def some(s: Share) -> None:
            more = [s.images[0], s.rows[0], span, 0 if apart else s.thread]
            dim, out = s.pixels(width, span), [argument(grad, k.row)]
            launch(k.backward, dim, inputs=[*inputs, *more], outputs=out, device=grad.device)

        if grad_image.numel():
            parts = shares(threads, *grad_image.shape[:2], together=together)
            in_threads(threads, lambda i: some(parts[i]))
        return (
            grad.sum(0) if len(grad) > 1 else grad[0],
            None,  # given
            None,  # images_per_copy
            None,  # copies
            None,  # raster
        )


def _loaded(image: Tensor) -> Any:
    k = kernels(REAL[image.dtype], image.shape[3])
    load_unique(kernels.__module__, (k.forward, k.backward), str(image.device))
    return k


def _seen(given: Carried, images_per_copy: int, raster: Raster) -> list[Any]:
    face, weights = raster.face.contiguous(), raster.barycentric.float().contiguous()
    corners = argument(given.index, wp.vec3i)
    return [corners, max(1, images_per_copy), given.stride, argument(face), argument(weights, wp.vec3)]


def _threads(image: Tensor) -> int:
    return thread_count(image.device, numbers=image.numel())


def _span(image: Tensor) -> int:
    return 1 if image.is_cuda else image.shape[2]
