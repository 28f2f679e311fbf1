"""The recursive Gaussian: its coefficients, and how its work is dealt on a CPU and on a GPU."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from render.blur.kernels import recursion, recursion_ahead
from render.blur.rows import recursion_in_rows
from render.compilation import load_unique
from render.launch import REAL, argument, in_threads, launch, part, thread_count

_AHEAD = 16  # pixels that a GPU's thread reads before it filters the first: what its registers hold
_BLOCK = 32  # lines are few: in small blocks they reach more of a GPU's multiprocessors


def filtered(image: Tensor, sigma: float) -> Tensor:
    """The blur of contiguous pictures [B, H, W, C] by `sigma` px: rows, then columns."""
    return filtered_on_gpu(image, sigma) if image.is_cuda else filtered_on_cpu(image, sigma)


def filtered_on_gpu(image: Tensor, sigma: float) -> Tensor:
    """A number of a line each; neighbouring work items read neighbouring numbers."""
    pictures, height, width, channels = image.shape
    numbers = width * channels
    result = torch.empty_like(image)
    k = recursion_ahead(REAL[image.dtype], _AHEAD)
    load_unique(recursion_ahead.__module__, (k.recursive,), str(image.device), _BLOCK)
    constants = _constants(k.vec4, k.mat44, sigma)
    given, out = (argument(x, shape=(pictures, height * numbers)) for x in (image, result))
    rows = height * channels, [given, *constants, width, channels, channels, numbers]
    columns = numbers, [out, *constants, height, numbers, numbers, 0]
    for lines, inputs in (rows, columns):
        dim = pictures, lines
        launch(k.recursive, dim, inputs=inputs, outputs=[out], device=image.device, block=_BLOCK)
    return result


def filtered_on_cpu(image: Tensor, sigma: float, *, less: Tensor | None = None) -> Tensor:
    """Rows, a pixel's channels at a time and several side by side, then columns, in blocks.

    Rows are transposed for it where a pixel fills no vector, and its channels are few.

    Of image - less, if that is given, [B, H, W, C] or [1, H, W, C]: the difference itself is held nowhere.
    """
    _, height, width, channels = image.shape
    real, numbers = REAL[image.dtype], width * channels
    result = torch.empty_like(image)
    subtract = less is not None
    lines = next(n for n in (16, 8, 4, 2, 1) if height % n == 0)
    held = 0
    if lines >= 4 and channels % 4 and channels <= 8:
        k = recursion_in_rows(real, lines, channels, subtract=subtract)
        places, held = [width], lines * numbers
    else:
        lines = min(lines, 8)
        k = recursion(real, lines, channels, subtract=subtract)
        places = [width, channels, numbers, lines * numbers]
    _recursive(k, image, result, sigma, less=less, items=height // lines, places=places, held=held)
    lanes = lanes_of(numbers, image.device)
    k = recursion(real, 1, lanes)
    _recursive(k, result, result, sigma, items=numbers // lanes, places=[height, numbers, 0, lanes])
    return result


def lanes_of(numbers: int, device: torch.device) -> int:
    """How many neighbouring numbers one work item takes: cache lines, on a GPU two."""
    most = 2 if device.type == "cuda" else 64
    return next(n for n in (64, 48, 32, 24, 16, 12, 8, 4, 2, 1) if n <= most and numbers % n == 0)


def _recursive(
    k: Any,
    x: Tensor,
    y: Tensor,
    sigma: float,
    *,
    items: int,
    places: list[int],
    less: Tensor | None = None,
    held: int = 0,
) -> None:
    """Blur pictures along an axis into y, which may be x.

    Args:
        k: The kernel and its types, of `recursion`.
        x: [B, H, W, C].
        y: The result.
        sigma: Width [px].
        items: Work items of a picture.
        places: Where they find their pixels: the kernel's `count`, `step`, `apart`, `spacing`, or `width`.
        less: What the kernel subtracts from x, if it does.
        held: Numbers that a host thread holds transposed, if the kernel does that.
    """
    load_unique(recursion.__module__, (k.recursive,), str(x.device))
    pictures = x.shape[0]
    by_picture = pictures >= items  # what host threads share
    threads = min(max(pictures, items), thread_count(x.device, numbers=x.numel()))
    size = x.numel() // pictures
    given = [argument(t, shape=(t.shape[0], size)) for t in (x, x if less is None else less)]
    out = [argument(y, shape=(pictures, size))]
    if held:
        out.insert(0, argument(x.new_empty(threads, held)))
    constants = [*_constants(k.vec4, k.mat44, sigma), *places]

    def run(index: int) -> None:
        first, last = part(index, threads, pictures if by_picture else items)
        dim = (last - first, items) if by_picture else (pictures, last - first)
        begin = (first, 0) if by_picture else (0, first)
        inputs = [*given, *constants, *begin, *([index] if held else [])]
        launch(k.recursive, dim, inputs=inputs, outputs=out, device=x.device)

    in_threads(threads, run)


@functools.lru_cache(maxsize=256)
def _constants(vec4: Any, mat44: Any, sigma: float) -> tuple[Any, Any]:
    """The kernel's coefficients and its tail matrix, of its types."""
    coefficients, tail = _coefficients(sigma)
    return vec4(*coefficients), mat44(*tail)


def _coefficients(sigma: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients c1, s1, c2, s2 of the recursion, and the rows of its tail matrix.

    The poles 1/d are van Vliet's fourth-order fit to a Gaussian of 2 px, drawn out: d becomes d^(1/q), with
    the q that gives the variance sum 2 d / (d - 1)^2 = sigma^2 exactly. A section of poles p and conj(p) has
    c = |p|^2 and s = |1 - p|^2.
    """
    poles = np.array([1.13228 + 1.28114j, 1.13228 - 1.28114j, 1.78534 + 0.46763j, 1.78534 - 0.46763j])
    low, high = 0.1 * sigma, 2.0 * sigma  # of q, which is near sigma / 2; the variance grows with it
    for _ in range(60):
        q = (low + high) / 2.0
        d = poles ** (1.0 / q)
        variance = (2.0 * d / (d - 1.0) ** 2).sum().real
        low, high = (q, high) if variance < sigma * sigma else (low, q)
    c1, c2 = np.abs(1.0 / d[::2]) ** 2
    s1, s2 = np.abs(1.0 - 1.0 / d[::2]) ** 2
    sections = float(c1), float(s1), float(c2), float(s2)
    return sections, _tail(*sections)


def _tail(c1: float, s1: float, c2: float, s2: float) -> tuple[float, ...]:
    """Matrix from the state at the last pixel, (u1, d1, u2, d2), to that of the way back, just beyond it.

    Beyond the image the state z runs free, z[n+1] = A z[n], and the way back has r[n] = A r[n+1] + b u2[n].
    With r[n] = T z[n-1] everywhere beyond, T = (A T + B) A, where B z = b u2.
    """
    first = np.array([[1.0 - s1, s1 * c1, 0.0, 0.0], [-1.0, c1, 0.0, 0.0]])  # u1, d1
    second = np.array([[0.0, 0.0, -1.0, c2]]) + first[0]  # d2, of the new u1
    advance = np.vstack([first, s2 * second + np.eye(4)[2], second])
    gain = np.array([s1, 1.0, s1 * s2, s1])
    into = np.outer(gain, np.eye(4)[2])
    # row by row, vec(A T A) = (A x A^T) vec(T)
    t = np.linalg.solve(np.eye(16) - np.kron(advance, advance.T), (into @ advance).reshape(-1))
    return tuple(t.tolist())
