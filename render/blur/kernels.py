"""Warp kernels of the Gaussian blur along one axis. One source, compiled for CPU and for CUDA.

Pictures are seen as rows of numbers, a row's pixels and their channels one after another. A work item takes
`lanes` numbers at once, which a CPU's vector units do side by side. Outside, the image is zero.

Direct: y[n] = sum of weights[k] x[n + k - reach].

Recursive (Young, van Vliet): two sections of second order, one after the other, with zero initial state,
    d1[n] = c1 d1[n-1] + x[n] - u1[n-1],        u1[n] = u1[n-1] + s1 d1[n]
    d2[n] = c2 d2[n-1] + u1[n] - u2[n-1],       u2[n] = u2[n-1] + s2 d2[n]
forwards, u2 = F x, then the same backwards, y = F^T u2: so y = F^T F x, the blur is symmetric and its own
adjoint. In steps d towards the input, little is lost to rounding, as would be in four lags of the result.
u2 does not end with the image: what its tail beyond the last pixel gives back is linear in the last u1, d1,
u2, d2 (Triggs and Sdika 2006), the matrix `tail`.
"""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp

from render.compilation import OPTIONS
from render.reading import reader


@functools.cache
def kernels(real: Any, lanes: int) -> SimpleNamespace:
    """Build the direct kernels, and a product, for a scalar type and how many numbers they take at once."""
    vec = wp.types.vector(length=lanes, dtype=real)
    read = reader(real)
    lane = f"reinterpret_cast<wp::vec_t<{lanes}, wp::{real.__name__}>&>(row.data[i])"

    @wp.func_native(f"return {lane};")
    def read_lanes(row: wp.array(dtype=real), i: wp.int32) -> vec: ...

    @wp.func_native(f"{lane} = value;")
    def write_lanes(row: wp.array(dtype=real), i: wp.int32, value: vec): ...

    @wp.kernel(module="unique", module_options=OPTIONS)  # the blur is its own adjoint
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

    @wp.kernel(module="unique", module_options=OPTIONS)  # the blur is its own adjoint
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

    @wp.kernel(module="unique", module_options=OPTIONS)  # its adjoint is y itself
    def product(
        # in
        x: wp.array3d[real],
        less: wp.array3d[real],  # as many pictures, or one for all
        y: wp.array3d[real],
        first_image: wp.int32,
        first_row: wp.int32,
        # out
        total: wp.array2d[real],  # of (x - less) y over each row
    ):
        item, line = wp.tid()
        n = first_image + item
        row = first_row + line
        source = x[n, row]
        taken = less[n % less.shape[0], row]
        other = y[n, row]
        sums = vec()
        i = wp.int32(0)
        while i < x.shape[2]:
            sums += wp.cw_mul(read_lanes(source, i) - read_lanes(taken, i), read_lanes(other, i))
            i += lanes
        total[n, row] = wp.dot(sums, vec(real(1.0)))

    return SimpleNamespace(direct_columns=direct_columns, direct_rows=direct_rows, product=product)


@functools.cache
def recursion(real: Any, lines: int, lanes: int, *, subtract: bool = False) -> SimpleNamespace:
    """Build the recursive kernel and the types of its coefficients.

    Args:
        real: Scalar type.
        lines: How many lines a work item filters side by side: one alone waits for its own last result.
        lanes: How many neighbouring numbers of each.
        subtract: Whether x - less is filtered, instead of x.
    """
    # vectors of fewer than 32 numbers are taken apart by compilers, longer ones kept in vector registers;
    # for a pixel's channels alone, that would be work on 29 numbers more
    held = max(32, lines * lanes) if lines * lanes > 3 else lines * lanes
    vec = wp.types.vector(length=held, dtype=real)
    vec4 = wp.types.vector(length=4, dtype=real)
    mat44 = wp.types.matrix(shape=(4, 4), dtype=real)
    taken = " - less.data[at]" if subtract else ""
    each = f"for (int l = 0; l < {lines}; ++l) for (int k = 0; k < {lanes}; ++k)"

    @wp.func_native(f"""
        wp::vec_t<{held}, wp::{real.__name__}> value;
        {each} value[l * {lanes} + k] = row.data[i + l * apart + k];
        return value;
    """)
    def read_lines(row: wp.array(dtype=real), i: wp.int32, apart: wp.int32) -> vec: ...

    @wp.func_native(f"""
        wp::vec_t<{held}, wp::{real.__name__}> value;
        {each} {{
            const int at = i + l * apart + k;
            value[l * {lanes} + k] = row.data[at]{taken};
        }}
        return value;
    """)
    def read_input(
        row: wp.array(dtype=real), less: wp.array(dtype=real), i: wp.int32, apart: wp.int32
    ) -> vec: ...

    @wp.func_native(f"{each} row.data[i + l * apart + k] = value[l * {lanes} + k];")
    def write_lines(row: wp.array(dtype=real), i: wp.int32, apart: wp.int32, value: vec): ...

    @wp.func
    def filter_lines(
        source: wp.array(dtype=real),
        taken: wp.array(dtype=real),
        target: wp.array(dtype=real),
        first: wp.int32,
        c: vec4,
        tail: mat44,
        count: wp.int32,
        step: wp.int32,
        apart: wp.int32,
    ):
        """Filter the lines that begin at number `first`, there and back; arguments as in `recursive`."""
        i = wp.int32(first)
        n = wp.int32(0)
        u1 = vec()
        d1 = vec()
        u2 = vec()
        d2 = vec()
        while n < count:
            d1 = c[0] * d1 + (read_input(source, taken, i, apart) - u1)
            u1 += c[1] * d1
            d2 = c[2] * d2 + (u1 - u2)
            u2 += c[3] * d2
            write_lines(target, i, apart, u2)
            i += step
            n += 1
        y1 = tail[0, 0] * u1 + tail[0, 1] * d1 + tail[0, 2] * u2 + tail[0, 3] * d2
        e1 = tail[1, 0] * u1 + tail[1, 1] * d1 + tail[1, 2] * u2 + tail[1, 3] * d2
        y2 = tail[2, 0] * u1 + tail[2, 1] * d1 + tail[2, 2] * u2 + tail[2, 3] * d2
        e2 = tail[3, 0] * u1 + tail[3, 1] * d1 + tail[3, 2] * u2 + tail[3, 3] * d2
        while n > 0:
            i -= step
            n -= 1
            e1 = c[0] * e1 + (read_lines(target, i, apart) - y1)
            y1 += c[1] * e1
            e2 = c[2] * e2 + (y1 - y2)
            y2 += c[3] * e2
            write_lines(target, i, apart, y2)

    @wp.kernel(module="unique", module_options=OPTIONS)  # the blur is its own adjoint
    def recursive(
        # in
        x: wp.array2d[real],  # a picture in a row
        less: wp.array2d[real],  # as many pictures, or one for all
        c: vec4,  # c1, s1, c2, s2
        tail: mat44,
        count: wp.int32,  # pixels along the axis, `step` numbers apart
        step: wp.int32,
        apart: wp.int32,  # numbers from one line to the next
        spacing: wp.int32,  # numbers from one work item's to the next one's
        first_image: wp.int32,
        first_item: wp.int32,
        # out
        y: wp.array2d[real],  # may be x
    ):
        image, item = wp.tid()
        n = first_image + image
        first = (first_item + item) * spacing
        filter_lines(x[n], less[n % less.shape[0]], y[n], first, c, tail, count, step, apart)

    return SimpleNamespace(recursive=recursive, filter_lines=filter_lines, vec4=vec4, mat44=mat44)


@functools.cache
def recursion_ahead(real: Any, ahead: int) -> SimpleNamespace:
    """The same for a GPU: a work item filters one line of numbers and reads `ahead` pixels of it at once.

    Read one by one, each would wait for its memory, which takes as long as the maths of many.
    """
    pixels = wp.types.vector(length=ahead, dtype=real)
    vec4 = wp.types.vector(length=4, dtype=real)
    mat44 = wp.types.matrix(shape=(4, 4), dtype=real)
    each = f"for (int a = 0; a < {ahead}; ++a) if (a < count)"

    @wp.func_native(f"""
        wp::vec_t<{ahead}, wp::{real.__name__}> some;
        {each} some[a] = row.data[i + a * step];
        return some;
    """)
    def read_pixels(row: wp.array(dtype=real), i: wp.int32, step: wp.int32, count: wp.int32) -> pixels: ...

    @wp.func_native(f"{each} row.data[i + a * step] = some[a];")
    def write_pixels(
        row: wp.array(dtype=real), i: wp.int32, step: wp.int32, count: wp.int32, some: pixels
    ): ...

    @wp.kernel(module="unique", module_options=OPTIONS)  # the blur is its own adjoint
    def recursive(
        # in
        x: wp.array2d[real],  # a picture in a row
        c: vec4,
        tail: mat44,
        count: wp.int32,  # pixels along the axis, `step` numbers apart
        step: wp.int32,
        group: wp.int32,  # lines that begin at neighbouring numbers
        spacing: wp.int32,  # numbers from one group to the next
        # out
        y: wp.array2d[real],  # may be x
    ):
        image, item = wp.tid()
        source = x[image]
        target = y[image]
        i = item / group * spacing + item % group
        left = wp.int32(count)
        u1 = real(0.0)
        d1 = real(0.0)
        u2 = real(0.0)
        d2 = real(0.0)
        while left > 0:
            some = read_pixels(source, i, step, left)
            for a in range(ahead):
                if a < left:
                    d1 = c[0] * d1 + (some[a] - u1)
                    u1 += c[1] * d1
                    d2 = c[2] * d2 + (u1 - u2)
                    u2 += c[3] * d2
                    some[a] = u2
            write_pixels(target, i, step, left, some)
            i += ahead * step
            left -= ahead
        z = tail * vec4(u1, d1, u2, d2)
        y1 = z[0]
        e1 = z[1]
        y2 = z[2]
        e2 = z[3]
        while left < count:
            i -= ahead * step
            left += ahead
            some = read_pixels(target, i, step, left)
            for a in range(ahead):
                b = ahead - 1 - a
                if b < left:
                    e1 = c[0] * e1 + (some[b] - y1)
                    y1 += c[1] * e1
                    e2 = c[2] * e2 + (y1 - y2)
                    y2 += c[3] * e2
                    some[b] = y2
            write_pixels(target, i, step, left, some)

    return SimpleNamespace(recursive=recursive, vec4=vec4, mat44=mat44)
