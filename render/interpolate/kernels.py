"""Warp kernels of the interpolation of attributes. One source, compiled for CPU and for CUDA.

A pixel that sees face f with perspective-correct barycentrics b has
    c = b_0 a_0 + b_1 a_1 + b_2 a_2,     dL/da_k = b_k g     (a_k: the attributes of f's corner k)
"""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp


@functools.cache
def kernels(real: Any, channels: int) -> SimpleNamespace:
    """Build the kernels for a scalar type, float32 to run or float64 to check, and a channel count."""
    row = wp.types.vector(length=channels, dtype=real)

    @wp.kernel(module="unique", enable_backward=False)  # the adjoint is below
    def forward(
        # in
        values: wp.array[row],
        index: wp.array[wp.vec3i],
        images_per_copy: wp.int32,
        rows_per_copy: wp.int32,
        face: wp.array3d[wp.int32],
        barycentric: wp.array3d[wp.vec3],
        first_image: wp.int32,
        first_row: wp.int32,
        span: wp.int32,  # pixels per work item: the width on a CPU, 1 on a GPU
        # out
        image: wp.array3d[row],
    ):
        item, line, block = wp.tid()
        n = first_image + item
        y = first_row + line
        base = n / images_per_copy * rows_per_copy
        last = wp.int32(-1)
        a = row()
        b = row()
        c = row()
        for x in range(block * span, wp.min(block * span + span, face.shape[2])):
            f = face[n, y, x]
            colour = row()
            if f >= 0:
                if f != last:  # a face's attributes serve all pixels of its run
                    last = f
                    i = index[f]
                    a = values[base + i[0]]
                    b = values[base + i[1]]
                    c = values[base + i[2]]
                w = barycentric[n, y, x]
                colour = real(w[0]) * a + real(w[1]) * b + real(w[2]) * c
            image[n, y, x] = colour

    @wp.kernel(module="unique", enable_backward=False)  # this is the adjoint
    def backward(
        # in
        grad_image: wp.array3d[row],
        index: wp.array[wp.vec3i],
        images_per_copy: wp.int32,
        rows_per_copy: wp.int32,
        face: wp.array3d[wp.int32],
        barycentric: wp.array3d[wp.vec3],
        first_image: wp.int32,
        first_row: wp.int32,
        span: wp.int32,
        part: wp.int32,
        # out
        grad_values: wp.array2d[row],  # one row per host thread: atomics are none on a CPU
    ):
        item, line, block = wp.tid()
        n = first_image + item
        y = first_row + line
        base = n / images_per_copy * rows_per_copy
        x = block * span
        end = wp.min(x + span, face.shape[2])
        while x < end:
            f = face[n, y, x]
            if f < 0:
                x += 1
                continue
            a = row()
            b = row()
            c = row()
            while x < end:  # the run of pixels that show this face
                if face[n, y, x] != f:
                    break
                w = barycentric[n, y, x]
                g = grad_image[n, y, x]
                a += real(w[0]) * g
                b += real(w[1]) * g
                c += real(w[2]) * g
                x += 1
            i = index[f]
            wp.atomic_add(grad_values, part, base + i[0], a)
            wp.atomic_add(grad_values, part, base + i[1], b)
            wp.atomic_add(grad_values, part, base + i[2], c)

    return SimpleNamespace(forward=forward, backward=backward, row=row)
