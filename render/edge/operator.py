"""Autograd operator of the edge gradient: argument checks, launches, nothing else."""

from typing import Any

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.compilation import load_unique
from render.edge.kernels import kernels
from render.launch import (
    REAL,
    Function,
    argument,
    in_threads,
    launch,
    part,
    run_length,
    shares,
    thread_count,
    view,
)
from render.raster import Raster, rasterize
from render.triangles import Triangles, packed

_LANES = 16  # pixels that a CPU takes at once: two of its vectors, so that one need not wait for itself


def edge_gradient(
    image: Float[Tensor, "batch height width channel"],
    vertices: Float[Tensor, "*copy vertex 3"],
    faces: Int[Tensor, "face 3"] | Triangles,
    *,
    raster: Raster | None = None,
    antialiased: bool = False,
) -> Float[Tensor, "batch height width channel"]:
    """The same image, differentiable in the vertices: how the picture moves where the triangles move.

    The image may come from any renderer. Edges move the contrast across them (silhouettes, and creases where
    attributes jump), and so do the lines where two objects cut through one another; surfaces carry their
    colours along. The result is the derivative of the picture integrated over each pixel, not of the sampled
    picture, so it does not equal differences of the latter; blur the loss by 0.7 px or more, or use several
    samples per pixel.

    Not felt: shading that changes while a surface turns (differentiate a shading model for it, as
    `render.shading.shade`), surfaces of one object that cut through one another, objects that are hidden or
    thinner than a pixel.

    At the picture's border, contours within half a pixel of it are not felt, since what lies beyond is not
    seen. A picture drawn one pixel wider on each side, and cropped after this call, feels them.

    Memory: in the backward pass 12 bytes a vertex and host thread, 4 bytes a pixel.

    Args:
        image: [B, H, W, C], float32 or float64. Carries a gradient: the identity.
        vertices: (x px, y px, inverse depth), y down, [B, V, 3] for B pictures of the same faces or [V, 3]
            packed; the image's dtype. Carries a gradient.
        faces: Vertex indices, int32 [F, 3], or `Triangles`, which tells objects, creases and ragged scenes
            apart. With bare faces all is one smooth object.
        raster: What the image's pixels show of them, same size; None: it is found here.
        antialiased: True where pixels at edges mix the colours of both sides. The contrast across an edge
            and the slopes inside then come from pixels a step away from it, without which gradients are
            15-20 % off; where pixels are samples of one point, False is the more exact.

    Returns:
        `image`, with gradients. On a CPU, gradients have the same bits in every run; on a GPU their last
        digits vary, because atomic additions come in any order.

    Raises:
        ValueError: If a shape, dtype or device does not fit.
        KernelError: If the kernels cannot be compiled here.

    Reference:
        The contour integral of Li et al. 2018 (Differentiable Monte Carlo Ray Tracing through Edge
        Sampling), one sample per row; instead of shading derivatives, the image's own.
    """
    flat, triangles, copies = packed(vertices, faces)
    _check(image, vertices, triangles, copies)
    if raster is None:
        raster = rasterize(vertices, triangles, image_size=(image.shape[1], image.shape[2]))
    elif raster.face.shape != image.shape[:3]:
        raise ValueError(
            f"raster must be of the image's size {list(image.shape[:3])}, got {list(raster.face.shape)}"
        )
    elif raster.face.device != image.device:
        raise ValueError(f"raster is on {raster.face.device}, image on {image.device}")
    return _EdgeGradient.apply(image.contiguous(), flat.contiguous(), triangles, copies, raster, antialiased)


class _EdgeGradient(Function):
    """Identity in the image; contours and advection in the vertices."""

    @staticmethod
    def forward(
        image: Tensor, vertices: Tensor, triangles: Triangles, copies: int, raster: Raster, antialiased: bool
    ) -> Tensor:
        return image.view_as(image)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        image, vertices, *ctx.rest = inputs
        ctx.save_for_backward(image, vertices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        image, vertices = ctx.saved_tensors
        need_image, need_vertices, *_ = ctx.needs_input_grad
        grad_vertices = None
        if need_vertices:
            grad_vertices = _grad_vertices(image, grad_output.contiguous(), vertices, *ctx.rest)
        return (
            grad_output if need_image else None,
            grad_vertices,
            None,  # triangles
            None,  # copies
            None,  # raster
            None,  # antialiased
        )


def _grad_vertices(
    image: Tensor,
    grad_image: Tensor,
    vertices: Tensor,
    top: Triangles,
    copies: int,
    raster: Raster,
    antialiased: bool,
) -> Tensor:
    """Launch the kernels, each host thread into its own buffer; the buffers are added in a fixed order."""
    batch, height, width, channels = image.shape
    device = image.device
    k = kernels(REAL[vertices.dtype], channels, 1 if image.is_cuda else _LANES)
    threads = thread_count(device, numbers=image.numel())
    by_copy = copies >= threads  # threads then share no vertex, and one buffer serves all
    grad = vertices.new_zeros(1 if by_copy else threads, *vertices.shape)
    if image.numel() == 0 or len(top) == 0:
        return grad[0]
    # then a pixel's face tells enough: whether there is one
    alike = not antialiased and top.keep("alike", lambda: bool((top.group == top.group[0]).all()))
    loaded = (k.contours, k.crossings, k.surfaces, k.advection)
    load_unique(kernels.__module__, loaded, str(device))
    mesh = top.keep(k.contours, lambda: _mesh(k, top))
    placed = [argument(vertices, k.vec3), len(vertices) // copies]
    picture = _picture(k, image, grad_image, raster, antialiased)
    shift = 31 if alike else 0
    surface = (
        picture[2]
        if alike
        else argument(torch.empty(batch * height * width, dtype=torch.int32, device=device))
    )
    moving = [placed[0], mesh.faces, mesh.group, top.image_count, placed[1]]
    parts = shares(threads, batch, height, together=top.image_count if by_copy else 1)
    span = 1 if image.is_cuda else width
    out = [argument(grad, k.vec3)]

    def mark(index: int) -> None:
        s = parts[index]
        inputs = [mesh, *picture, span, s.images[0], s.rows[0]]
        launch(k.surfaces, s.pixels(width, span), inputs=inputs, outputs=[surface], device=device)

    def differentiate(index: int) -> None:
        s, row = parts[index], 0 if by_copy else index
        copy, edge = (0, copies), part(index, threads, len(top.edges))
        if by_copy:
            copy, edge = part(index, threads, copies), (0, len(top.edges))
        dim = (copy[1] - copy[0], edge[1] - edge[0])
        inputs = [mesh, *placed, *picture, copy[0], edge[0], row]
        launch(k.contours, dim, inputs=inputs, outputs=out, device=device)
        here = [span, s.images[0], s.rows[0], row]
        run = run_length(device, width)
        if top.instance_count > 1:
            inputs = [mesh, *placed, *picture, *here]
            launch(k.crossings, s.pixels(width, span), inputs=inputs, outputs=out, device=device)
        inputs = [*moving, *picture, surface, shift, run, *here[1:]]
        launch(k.advection, s.pixels(width, run), inputs=inputs, outputs=out, device=device)

    if not alike:
        in_threads(threads, mark)
    in_threads(threads, differentiate)
    return grad.sum(0) if len(grad) > 1 else grad[0]


def _mesh(k: Any, top: Triangles) -> Any:
    mesh = k.Mesh()
    mesh.faces, mesh.neighbours = view(top.faces, wp.vec3i), view(top.neighbours, wp.vec3i)
    mesh.instance, mesh.group, mesh.edges = view(top.instance), view(top.group), view(top.edges, k.edge)
    mesh.images_per_copy = top.image_count
    return mesh


def _picture(k: Any, image: Tensor, grad_image: Tensor, raster: Raster, antialiased: bool) -> list[Any]:
    """The kernels' arguments, from `height` to `antialiased`."""
    batch, height, width, channels = image.shape
    pixels = batch * height * width
    found = raster.face.contiguous(), raster.inverse_depth.to(image.dtype).contiguous()
    seen = [argument(x, shape=(pixels,)) for x in found]
    colours = [argument(x, k.colour, shape=(pixels, channels)) for x in (image, grad_image)]
    return [height, width, *seen, *colours, antialiased]


def _check(image: Tensor, vertices: Tensor, triangles: Triangles, copies: int) -> None:
    if image.ndim != 4:
        raise ValueError(f"image must have shape [B, H, W, C], got {list(image.shape)}")
    if image.dtype not in REAL or vertices.dtype != image.dtype:
        raise ValueError(
            f"image and vertices must both be float32 or float64, got {image.dtype}, {vertices.dtype}"
        )
    if vertices.device != image.device:
        raise ValueError(f"vertices are on {vertices.device}, image on {image.device}")
    if copies * triangles.image_count != len(image):
        raise ValueError(
            f"there are {len(image)} images, but vertices of {copies} copies of triangles "
            f"of {triangles.image_count} pictures"
        )
