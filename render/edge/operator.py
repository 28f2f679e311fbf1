"""Autograd operator of the edge gradient: argument checks, launches, nothing else."""

from typing import Any

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.compilation import load_unique
from render.edge.kernels import kernels
from render.edge.topology import Topology
from render.launch import REAL, in_threads, launch, part, thread_count, view
from render.raster import Raster


def edge_gradient(
    image: Float[Tensor, "batch height width channel"],
    vertices: Float[Tensor, "vertex 3"],
    topology: Topology,
    raster: Raster,
    *,
    antialiased: bool = False,
) -> Float[Tensor, "batch height width channel"]:
    """The same image, differentiable in the vertices: how the picture moves where the triangles move.

    The image may come from any renderer. Edges move the contrast across them (silhouettes, and creases where
    attributes jump), surfaces carry their colours along. The result is the derivative of the picture
    integrated over each pixel, not of the sampled picture, so it does not equal differences of the latter;
    blur the loss by 0.7 px or more, or use several samples per pixel.

    Not felt: shading that changes while a surface turns (differentiate a shading model for it), contours
    between surfaces that cut through one another, objects that are hidden or thinner than a pixel, what
    enters at the picture's border.

    Args:
        image: [B, H, W, C], float32 or float64. Carries a gradient: the identity.
        vertices: (x px, y px, inverse depth), y down, [V, 3], the image's dtype. Carries a gradient.
        topology: Of the triangles that use these vertices.
        raster: What the image's pixels show of them, same size.
        antialiased: True where pixels at edges mix the colours of both sides. The contrast across an edge
            and the slopes inside then come from pixels a step away from it, without which gradients are
            15-20 % off; where pixels are samples of one point, False is the more exact.

    Returns:
        `image`, with gradients. On a CPU, gradients have the same bits in every run; on a GPU their last
        digits vary, because atomic additions come in any order.

    Raises:
        ValueError: If a shape, dtype or device does not fit.
        KernelError: In the backward pass, if the kernels cannot be compiled here.

    Reference:
        The contour integral of Li et al. 2018 (Differentiable Monte Carlo Ray Tracing through Edge
        Sampling), one sample per row; instead of shading derivatives, the image's own.
    """
    _check(image, vertices, topology, raster)
    return _EdgeGradient.apply(image.contiguous(), vertices.contiguous(), topology, raster, antialiased)


class _EdgeGradient(torch.autograd.Function):
    """Identity in the image; contours and advection in the vertices."""

    @staticmethod
    def forward(
        image: Tensor, vertices: Tensor, topology: Topology, raster: Raster, antialiased: bool
    ) -> Tensor:
        return image.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        image, vertices, ctx.topology, ctx.raster, ctx.antialiased = inputs
        ctx.save_for_backward(image, vertices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        image, vertices = ctx.saved_tensors
        need_image, need_vertices, *_ = ctx.needs_input_grad
        grad_vertices = None
        if need_vertices:
            pixels = image, grad_output.contiguous()
            grad_vertices = _grad_vertices(*pixels, vertices, ctx.topology, ctx.raster, ctx.antialiased)
        return (
            grad_output if need_image else None,
            grad_vertices,
            None,  # topology
            None,  # raster
            None,  # antialiased
        )


def _grad_vertices(
    image: Tensor, grad_image: Tensor, vertices: Tensor, top: Topology, raster: Raster, antialiased: bool
) -> Tensor:
    """Launch the kernels, each host thread into its own buffer; the buffers are added in a fixed order."""
    batch, height, width, channels = image.shape
    device = image.device
    k = kernels(REAL[vertices.dtype], channels)
    threads = thread_count(device, numbers=image.numel())
    grad = vertices.new_zeros(threads, *vertices.shape)
    if image.numel() == 0 or len(top.faces) == 0:
        return grad[0]
    load_unique(kernels.__module__, (k.contours, k.pure_pixels, k.advection), str(device))
    face, depth = raster.face.contiguous(), raster.inverse_depth.to(vertices.dtype).contiguous()
    pure = torch.ones_like(face, dtype=torch.bool)
    mesh = [view(vertices, k.vec3), view(top.faces, wp.vec3i)]
    seen = [view(top.group), view(face), view(depth)]
    pixels = [view(image, k.colour), view(grad_image, k.colour), antialiased]
    span = 1 if image.is_cuda else width
    blocks = -(-width // span)

    def mark(index: int) -> None:
        first, last = part(index, min(threads, batch), batch)
        dim = (last - first, height, blocks)
        launch(k.pure_pixels, dim, inputs=[*seen, first, span], outputs=[view(pure)], device=device)

    def differentiate(index: int) -> None:
        first, last = part(index, threads, len(top.edges))
        inputs = [*mesh, view(top.instance), view(top.edges, k.edge), *seen, *pixels, first, index]
        launch(k.contours, (last - first,), inputs=inputs, outputs=[view(grad, k.vec3)], device=device)
        by_image = batch >= threads  # else by bands of rows
        images = part(index, threads, batch) if by_image else (0, batch)
        rows = (0, height) if by_image else part(index, threads, height)
        dim = (images[1] - images[0], rows[1] - rows[0], blocks)
        inputs = [*mesh, *seen, *pixels, view(pure), span, images[0], rows[0], index]
        launch(k.advection, dim, inputs=inputs, outputs=[view(grad, k.vec3)], device=device)

    if antialiased:
        in_threads(min(threads, batch), mark)
    in_threads(threads, differentiate)
    return grad.sum(0) if threads > 1 else grad[0]


def _check(image: Tensor, vertices: Tensor, topology: Topology, raster: Raster) -> None:
    if image.ndim != 4:
        raise ValueError(f"image must have shape [B, H, W, C], got {list(image.shape)}")
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices must have shape [V, 3], got {list(vertices.shape)}")
    if image.dtype not in REAL or vertices.dtype != image.dtype:
        raise ValueError(
            f"image and vertices must both be float32 or float64, got {image.dtype}, {vertices.dtype}"
        )
    if raster.face.shape != image.shape[:3]:
        raise ValueError(
            f"raster must be of the image's size {list(image.shape[:3])}, got {list(raster.face.shape)}"
        )
    if topology.image_count != len(image):
        raise ValueError(f"topology is of {topology.image_count} images, the batch has {len(image)}")
    for name, tensor in (("vertices", vertices), ("topology", topology.faces), ("raster", raster.face)):
        if tensor.device != image.device:
            raise ValueError(f"{name} is on {tensor.device}, image on {image.device}")
