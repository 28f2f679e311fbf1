"""Autograd operator of the Gaussian blur: argument checks, and the convolution that narrow ones are."""

import functools
import math
from typing import Any

import numpy as np
import torch
import torch._C._functorch as functorch  # no public way tells wrapped tensors
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.blur.kernels import kernels
from render.blur.recursive import filtered, filtered_on_cpu, lanes_of
from render.compilation import load_unique
from render.launch import REAL, Function, argument, in_threads, launch, shares, thread_count

# no public way tells; PyTorch before 2.6 has none, and the graph then counts as kept
_graph_is_kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
RECURSIVE_FROM = 3.0  # [px]; below, the recursive filter strays and a convolution is as quick


def gaussian_blur(
    image: Float[Tensor, "batch height width channel"], sigma: float
) -> Float[Tensor, "batch height width channel"]:
    """Blur images with a Gaussian; the image is taken as zero outside its border.

    From 3 px on it is a recursive filter, within 1 % of the exact Gaussian, whose cost does not grow with
    `sigma`; below, a convolution with weights down to 1e-7. The blur is symmetric, <a, G b> = <G a, b>,
    borders included; its gradient is the same blur.

    Memory: the result; while it runs, below 3 px as much again and a margin of 6 `sigma`, from there on 16
    rows a host thread.

    Args:
        image: Any values, [B, H, W, C], float32 or float64. Carries a gradient.
        sigma: Standard deviation [px], at least 0. At 0 the image comes back unchanged.

    Raises:
        ValueError: If the shape or dtype does not fit or `sigma` is negative or not finite.
        KernelError: If the kernels cannot be compiled here.

    Reference:
        van Vliet, Young, Verbeek 1998, Recursive Gaussian Derivative Filters, fourth order.
        Triggs, Sdika 2006, Boundary Conditions for Young - van Vliet Recursive Filtering: the far border.
    """
    _check(image, sigma)
    if sigma == 0.0 or image.numel() == 0:
        return image
    return _Blur.apply(image, float(sigma))


def blurred_squared_error(
    image: Float[Tensor, "batch height width channel"],
    target: Float[Tensor, "batch height width channel"],
    sigma: float,
) -> Float[Tensor, "batch"]:
    """Mean squared difference of two blurred pictures, for the price of one blur, forward and backward.

    With d = image - target and G a Gaussian of width `sigma`, |G d|^2 = <d, G G d>, and G G is one blur of
    width sqrt(2) sigma. What the blur carries beyond the picture's border counts too. Divided by the number
    of pixels and channels, so that values do not depend on the size.

    Memory: at the peak, two pictures like `image`, three below 2.1 px or where the graph is kept; one less on
    a CPU from 2.1 px on; from the forward to the backward pass, one.

    Args:
        image: [B, H, W, C], float32 or float64. Carries a gradient.
        target: Of the same shape and type, or with B = 1. Carries a gradient.
        sigma: Width [px] of the blur of each picture, at least 0.

    Raises:
        ValueError: If the shapes, dtypes or devices do not fit or `sigma` is negative or not finite.
        KernelError: If the kernels cannot be compiled here.
    """
    _check(image, sigma)
    if target.shape[1:] != image.shape[1:] or len(target) not in (1, len(image)):
        raise ValueError(
            f"target must have image's shape {list(image.shape)} or a batch of 1, got {list(target.shape)}"
        )
    if target.dtype != image.dtype:
        raise ValueError(f"target is {target.dtype}, image {image.dtype}; they must be equal")
    if target.device != image.device:
        raise ValueError(f"target is on {target.device}, image on {image.device}")
    error, _ = _BlurredError.apply(image, target, math.sqrt(2.0) * sigma)
    return error


class _Blur(Function):
    """y = G x. G is symmetric, so the backward pass is the same blur."""

    @staticmethod
    def forward(image: Tensor, sigma: float) -> Tensor:
        return _blur(image, sigma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.sigma = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        blur = _Blur.apply if torch.is_grad_enabled() else _blur  # or there is no second derivative
        return (
            blur(grad_output, ctx.sigma),
            None,  # sigma
        )


class _BlurredError(Function):
    """mean(d * G d) per image, d = image - target; its gradient is 2 G d over the count, which is kept."""

    @staticmethod
    def forward(image: Tensor, target: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        if _held_nowhere(image, sigma):
            image, target = image.detach().contiguous(), target.detach().contiguous()
            blurred = filtered_on_cpu(image, sigma, less=target)
            total = _products(image, target, blurred)
        else:
            total, blurred = _error(image - target, sigma)
        return total / math.prod(image.shape[1:]), blurred

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        # else there were zeros for the blurred difference, as large as it is
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad_output is None:
            return None, None, None
        (blurred,) = ctx.saved_tensors
        scale = 2.0 / math.prod(blurred.shape[1:])
        grad = _scaled(blurred, scale * grad_output.view(-1, 1, 1, 1))
        need_image, need_target, _ = ctx.needs_input_grad
        return (
            grad if need_image else None,
            -grad if need_target else None,  # of a target that all images share, PyTorch takes the sum
            None,  # sigma
        )


def _held_nowhere(image: Tensor, sigma: float) -> bool:
    """True where kernels subtract while they read: on a CPU, fresh memory costs as much as the blur."""
    return image.device.type == "cpu" and sigma >= RECURSIVE_FROM and image.numel() > 0


def _error(difference: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Sums of d * G d over each picture, [B], and G d."""
    blurred = _blur(difference, sigma) if sigma > 0.0 and difference.numel() else difference
    # not a sum of products, which would be as large as the pictures
    # on a GPU row by row: as one product, a picture is the work of one multiprocessor
    parts = max(1, difference.shape[1]) if difference.is_cuda else 1
    rows, count = len(difference) * parts, math.prod(difference.shape[1:]) // parts
    total = torch.bmm(difference.reshape(rows, 1, count), blurred.reshape(rows, count, 1))
    return total.view(len(difference), parts).sum(1), blurred


def _products(image: Tensor, less: Tensor, other: Tensor) -> Tensor:
    """Sums of (image - less) * other over each picture, [B], on a CPU."""
    batch, height, width, channels = image.shape
    lanes = lanes_of(width * channels, image.device)
    k = kernels(REAL[image.dtype], lanes)
    load_unique(kernels.__module__, (k.product,), str(image.device))
    total = image.new_empty(batch, height)
    given = [argument(t, shape=(t.shape[0], height, width * channels)) for t in (image, less, other)]
    out = argument(total)
    parts = shares(thread_count(image.device, numbers=image.numel()), batch, height)

    def some(index: int) -> None:
        s = parts[index]
        dim = s.images[1] - s.images[0], s.rows[1] - s.rows[0]
        inputs = [*given, s.images[0], s.rows[0]]
        launch(k.product, dim, inputs=inputs, outputs=[out], device=image.device)

    in_threads(len(parts), some)
    return total.sum(1)


def _scaled(blurred: Tensor, factor: Tensor) -> Tensor:
    """Their product, in place where no backward pass comes after: fresh memory costs as much as the blur."""
    last = not _graph_is_kept() and not functorch.is_functorch_wrapped_tensor(factor)
    return blurred.mul_(factor) if last else blurred * factor


def _check(image: Tensor, sigma: float) -> None:
    if image.ndim != 4:
        raise ValueError(f"image must have shape [B, H, W, C], got {list(image.shape)}")
    if image.dtype not in REAL:
        raise ValueError(f"image must be float32 or float64, got {image.dtype}")
    if not 0.0 <= sigma < math.inf:
        raise ValueError(f"sigma must be a finite number of pixels, at least 0, got {sigma}")


def _blur(image: Tensor, sigma: float) -> Tensor:
    image = image.detach().contiguous()
    return _convolved(image, sigma) if sigma < RECURSIVE_FROM else filtered(image, sigma)


def _convolved(image: Tensor, sigma: float) -> Tensor:
    """Columns first, into rows that begin and end with zeros, then rows."""
    batch, height, width, channels = image.shape
    weights = _weights(sigma, image.dtype, image.device)
    reach, numbers = len(weights) // 2, width * channels
    lanes = lanes_of(numbers, image.device)
    k = kernels(REAL[image.dtype], lanes)
    load_unique(kernels.__module__, (k.direct_columns, k.direct_rows), str(image.device))
    padded = image.new_zeros(batch, height, (width + 2 * reach) * channels)
    result = torch.empty_like(image)
    given, out = (argument(x, shape=(batch, height, numbers)) for x in (image, result))
    between = argument(padded)
    kernel = [argument(weights), reach]
    parts = shares(thread_count(image.device, numbers=image.numel()), batch, height)

    def blur(index: int) -> None:
        s = parts[index]
        dim, first = s.pixels(numbers, lanes), [s.images[0], s.rows[0]]
        inputs = [given, *kernel, *first, reach * channels]
        launch(k.direct_columns, dim, inputs=inputs, outputs=[between], device=image.device)
        inputs = [between, *kernel, *first, channels]
        launch(k.direct_rows, dim, inputs=inputs, outputs=[out], device=image.device)

    in_threads(len(parts), blur)
    return result


@functools.lru_cache(maxsize=256)  # also because copying to a GPU makes the host wait
def _weights(sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The Gaussian at distances -r ... r [px], of sum 1; weights below 1e-7 are left out."""
    distance = np.arange(math.ceil(6.0 * sigma) + 1)
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    weights = weights[weights > 1e-7]
    weights = np.concatenate([weights[:0:-1], weights])
    return torch.tensor(weights / weights.sum(), dtype=dtype, device=device)
