"""Warp kernels of the edge operator's backward pass. One source, compiled for CPU and for CUDA.

Screen coordinates are (x px, y px, 1/depth), origin at the picture's top-left corner, y down; the centre of
pixel (row i, column j) is (j + 0.5, i + 0.5). 1/depth is affine over a triangle in these coordinates. Pixels
are numbered through the batch, (image * height + row) * width + column: three subscripts cost more than the
maths.

All three kernels add to `grad_vertices`, one row for each host thread: atomics are none on a CPU.
"""

import functools
from types import SimpleNamespace
from typing import Any

from render.edge.kernels.advection import advection
from render.edge.kernels.common import common
from render.edge.kernels.contours import contours
from render.edge.kernels.crossings import crossings


@functools.cache
def kernels(real: Any, channels: int, lanes: int = 1) -> SimpleNamespace:
    """Build the kernels for a scalar type, float32 to run or float64 to check, and a channel count.

    `lanes` is how many pixels the advection takes at once: a GPU one, a CPU what fills its vector units.
    """
    c = common(real, channels)
    surfaces, advect = advection(c, lanes)
    return SimpleNamespace(
        contours=contours(c),
        crossings=crossings(c),
        surfaces=surfaces,
        advection=advect,
        vec3=c.vec3,
        colour=c.colour,
        edge=c.edge,
        Mesh=c.Mesh,
    )
