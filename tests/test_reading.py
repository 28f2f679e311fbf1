"""Rows of arrays in kernels: read, written and added to as subscripts would."""

import numpy as np
import torch
import warp as wp

from render.launch import argument  # starts Warp
from render.reading import adder, reader, writer

read, write, add = reader(wp.vec3), writer(wp.vec3), adder(wp.vec3)


@wp.kernel(module="unique", enable_backward=False)
def double_and_gather(x: wp.array2d[wp.vec3], y: wp.array2d[wp.vec3], total: wp.array[wp.vec3]):
    row, column = wp.tid()
    v = read(x[row], column)
    write(y[row], column, 2.0 * v)
    add(total, row, v)


def test_rows_are_read_written_and_added_to():
    x = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    y, total = np.zeros_like(x), np.zeros((2, 3), np.float32)
    arrays = [argument(torch.from_numpy(a), wp.vec3) for a in (x, y, total)]
    wp.launch(double_and_gather, dim=(2, 4), inputs=arrays[:1], outputs=arrays[1:], device="cpu")
    np.testing.assert_array_equal(y, 2.0 * x)
    np.testing.assert_array_equal(total, x.sum(1))
