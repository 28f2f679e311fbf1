"""Warp kernels of the Gaussian blur along one axis. One source, compiled for CPU and for CUDA.

Pictures are seen as rows of numbers, a row's pixels and their channels one after another. A work item takes
`lanes` numbers at once, which a CPU's vector units do side by side. Outside, the image is zero.

Direct: y[n] = sum of weights[k] x[n + k - reach].

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

from render.reading import reader


@functools.cache
def kernels(real: Any, lanes: int) -> SimpleNamespace:
    """Build the kernels for a scalar type and how many numbers a work item takes."""
    vec = wp.types.vector(length=lanes, dtype=real)
    # for wide blurs the coefficients nearly cancel: a float32 state would be 1 % off at 40 px
    wide = wp.types.vector(length=lanes, dtype=wp.float64)
    read = reader(real)
    lane = f"reinterpret_cast<wp::vec_t<{lanes}, wp::{real.__name__}>&>(row.data[i])"

    @wp.func_native(f"return {lane};")
    def read_lanes(row: wp.array(dtype=real), i: wp.int32) -> vec: ...

    @wp.func_native(f"{lane} = value;")
    def write_lanes(row: wp.array(dtype=real), i: wp.int32, value: vec): ...

    @wp.kernel(module="unique", enable_backward=False)  # the blur is its own adjoint
    def direct_columns(
        # in
        x: wp.array3d[real],
        weights: wp.array[real],
        reach: wp.int32,
        first_image: wp.int32,
        first_row: wp.int32,
        margin: wp.int32,  # numbers that y's rows begin with
        # out
        y: wp.array3d[real],
    ):
        item, line, block = wp.tid()
        n = first_image + item
        row = first_row + line
        total = vec()
        k = wp.max(row - reach, 0)
        last = wp.min(row + reach, x.shape[1] - 1)
        while k <= last:
            total += read(weights, k - row + reach) * read_lanes(x[n, k], block * lanes)
            k += 1
        write_lanes(y[n, row], margin + block * lanes, total)

    @wp.kernel(module="unique", enable_backward=False)  # the blur is its own adjoint
    def direct_rows(
        # in
        x: wp.array3d[real],  # rows with `reach` pixels of zeros on both sides
        weights: wp.array[real],
        reach: wp.int32,
        first_image: wp.int32,
        first_row: wp.int32,
        channels: wp.int32,
        # out
        y: wp.array3d[real],
    ):
        item, line, block = wp.tid()
        n = first_image + item
        source = x[n, first_row + line]
        total = vec()
        k = wp.int32(0)
        while k <= 2 * reach:
            total += read(weights, k) * read_lanes(source, block * lanes + k * channels)
            k += 1
        write_lanes(y[n, first_row + line], block * lanes, total)

    @wp.kernel(module="unique", enable_backward=False)  # the blur is its own adjoint
    def recursive(
        # in
        x: wp.array2d[real],  # a picture in a row
        s: wp.float64,
        a: wp.vec4d,
        tail: wp.mat44d,
        count: wp.int32,  # pixels along the axis, `step` numbers apart
        step: wp.int32,
        spacing: wp.int32,  # numbers from one work item's to the next one's
        first_image: wp.int32,
        first_item: wp.int32,
        # out
        y: wp.array2d[real],  # may be x
    ):
        image, item = wp.tid()
        source = x[first_image + image]
        target = y[first_image + image]
        i = (first_item + item) * spacing
        n = wp.int32(0)
        w1 = wide()
        w2 = wide()
        w3 = wide()
        w4 = wide()
        while n < count:
            w = s * wide(read_lanes(source, i)) + a[3] * w4 + a[2] * w3 + a[1] * w2 + a[0] * w1
            write_lanes(target, i, vec(w))
            w4 = w3
            w3 = w2
            w2 = w1
            w1 = w
            i += step
            n += 1
        y1 = tail[0, 0] * w1 + tail[0, 1] * w2 + tail[0, 2] * w3 + tail[0, 3] * w4
        y2 = tail[1, 0] * w1 + tail[1, 1] * w2 + tail[1, 2] * w3 + tail[1, 3] * w4
        y3 = tail[2, 0] * w1 + tail[2, 1] * w2 + tail[2, 2] * w3 + tail[2, 3] * w4
        y4 = tail[3, 0] * w1 + tail[3, 1] * w2 + tail[3, 2] * w3 + tail[3, 3] * w4
        while n > 0:
            i -= step
            n -= 1
            v = s * wide(read_lanes(target, i)) + a[3] * y4 + a[2] * y3 + a[1] * y2 + a[0] * y1
            write_lanes(target, i, vec(v))
            y4 = y3
            y3 = y2
            y2 = y1
            y1 = v

    return SimpleNamespace(direct_columns=direct_columns, direct_rows=direct_rows, recursive=recursive)
