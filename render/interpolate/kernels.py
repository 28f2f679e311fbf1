"""Warp kernels of the interpolation of attributes. One source, compiled for CPU and for CUDA.

A pixel that sees face f with perspective-correct barycentrics b has
    c = b_0 a_0 + b_1 a_1 + b_2 a_2,     dL/da_k = b_k g     (a_k: the attributes of f's corner k)
"""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp

from render.compilation import OPTIONS
from render.reading import adder, reader, writer


@functools.cache
def kernels(real: Any, channels: int) -> SimpleNamespace:
    """Build the kernels for a scalar type, float32 to run or float64 to check, and a channel count."""
    row = wp.types.vector(length=channels, dtype=real)
    read_values, read_corners = reader(row), reader(wp.vec3i)
    read_face, read_weights, write_values = reader(wp.int32), reader(wp.vec3), writer(row)
    add_values = adder(row)

    @wp.kernel(module="unique", module_options=OPTIONS)  # the adjoint is below
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
        faces = face[n, y]
        weights = barycentric[n, y]
        colours = image[n, y]
        x = block * span
        end = wp.min(x + span, face.shape[2])
        while x < end:
            f = read_face(faces, x)
            colour = row()
            if f >= 0:  # its corners anew at each pixel: CPUs guess wrong where a face of few pixels ends
                w = read_weights(weights, x)
                i = read_corners(index, f)
                a = read_values(values, base + i[0])
                b = read_values(values, base + i[1])
                c = read_values(values, base + i[2])
                colour = real(w[0]) * a + real(w[1]) * b + real(w[2]) * c
            write_values(colours, x, colour)
            x += 1

    @wp.kernel(module="unique", module_options=OPTIONS)  # this is the adjoint
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
        span: wp.int32,  # here a few on a GPU: runs of one face are added up first
        part: wp.int32,
        # out
        grad_values: wp.array2d[row],  # one row per host thread: atomics are none on a CPU
    ):
        item, line, block = wp.tid()
        n = first_image + item
        y = first_row + line
        base = n / images_per_copy * rows_per_copy
        faces = face[n, y]
        weights = barycentric[n, y]
        grads = grad_image[n, y]
        grad = grad_values[part]
        x = block * span
        end = wp.min(x + span, face.shape[2])
        while x < end:
            f = read_face(faces, x)
            if f < 0:
                x += 1
                continue
            a = row()
            b = row()
            c = row()
            while x < end and read_face(faces, x) == f:  # the run of pixels that show this face
                w = read_weights(weights, x)
                g = read_values(grads, x)
                a += real(w[0]) * g
                b += real(w[1]) * g
                c += real(w[2]) * g
                x += 1
            i = read_corners(index, f)
            add_values(grad, base + i[0], a)
            add_values(grad, base + i[1], b)
            add_values(grad, base + i[2], c)

    return SimpleNamespace(forward=forward, backward=backward, row=row)
