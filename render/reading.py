"""Reading and writing rows of arrays in Warp kernels, at the price of a pointer.

A subscript `array[i]` of Warp lets i be negative and asks the array for its stride, at every read: in loops
over pixels that costs more than the maths. These functions do neither; they are for arrays without gaps, as
all that `render.launch.view` gives are, and i from 0 on. A row of a picture is `array[n, y]`.
"""

# mypy: ignore-errors
# what is in here is Warp's language, not Python's, as in the kernels

import functools
from typing import Any

import warp as wp


@functools.cache
def reader(dtype: Any) -> Any:
    """Make the function that reads number i of a row of `dtype`."""

    @wp.func_native("return row.data[i];")
    def read(row: wp.array(dtype=dtype), i: wp.int32) -> dtype: ...

    return read


@functools.cache
def writer(dtype: Any) -> Any:
    """Make the function that writes number i of a row of `dtype`."""

    @wp.func_native("row.data[i] = value;")
    def write(row: wp.array(dtype=dtype), i: wp.int32, value: dtype): ...

    return write


@functools.cache
def adder(dtype: Any) -> Any:
    """Make the function that adds to number i of a row of `dtype`, atomically on a GPU."""

    @wp.func_native("wp::atomic_add(row.data + i, value);")
    def add(row: wp.array(dtype=dtype), i: wp.int32, value: dtype): ...

    return add
