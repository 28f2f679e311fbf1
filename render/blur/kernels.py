"""Warp kernels of the Gaussian blur along one axis. One source, compiled for CPU and for CUDA.

Images are seen as [outer, n, inner] arrays of short vectors and blurred along n: a row pass has one pixel's
channels in a vector, a column pass a block of neighbouring columns. Outside, the image is zero.

Recursive (Young, van Vliet), with zero initial state:
    w[n] = s x[n] + a1 w[n-1] + ... + a4 w[n-4]        forwards:  w = F x
    y[n] = s w[n] + a1 y[n+1] + ... + a4 y[n+4]        backwards: y = F^T w
so y = F^T F x: the blur is symmetric and its own adjoint. w does not end with the image: what its tail beyond
the last pixel gives back is linear in the last four w (Triggs and Sdika 2006), the matrix `tail`.
"""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp


@functools.cache
def kernels(real: Any, lanes: int) -> SimpleNamespace:
    """Build the kernel for a scalar type and a vector length."""
    vec = wp.types.vector(length=lanes, dtype=real)
    # for wide blurs the coefficients nearly cancel: a float32 state would be 1 % off at 40 px
    wide = wp.types.vector(length=lanes, dtype=wp.float64)

    @wp.kernel(module="unique", enable_backward=False)  # the blur is its own adjoint
    def recursive(
        # in
        x: wp.array3d[vec],
        s: wp.float64,
        a: wp.vec4d,
        tail: wp.mat44d,
        first: wp.int32,
        # out
        y: wp.array3d[vec],
    ):
        item, k = wp.tid()
        o = first + item
        count = x.shape[1]
        w1 = wide()
        w2 = wide()
        w3 = wide()
        w4 = wide()
        for n in range(count):
            w = s * wide(x[o, n, k]) + a[3] * w4 + a[2] * w3 + a[1] * w2 + a[0] * w1
            y[o, n, k] = vec(w)
            w4 = w3
            w3 = w2
            w2 = w1
            w1 = w
        y1 = tail[0, 0] * w1 + tail[0, 1] * w2 + tail[0, 2] * w3 + tail[0, 3] * w4
        y2 = tail[1, 0] * w1 + tail[1, 1] * w2 + tail[1, 2] * w3 + tail[1, 3] * w4
        y3 = tail[2, 0] * w1 + tail[2, 1] * w2 + tail[2, 2] * w3 + tail[2, 3] * w4
        y4 = tail[3, 0] * w1 + tail[3, 1] * w2 + tail[3, 2] * w3 + tail[3, 3] * w4
        for i in range(count):
            n = count - 1 - i
            v = s * wide(y[o, n, k]) + a[3] * y4 + a[2] * y3 + a[1] * y2 + a[0] * y1
            y[o, n, k] = vec(v)
            y4 = y3
            y3 = y2
            y2 = y1
            y1 = v

    return SimpleNamespace(recursive=recursive, vec=vec)
