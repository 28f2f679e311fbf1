"""Warp kernel of the recursive blur along rows, for a CPU, of pixels whose channels fill no vector.

Gathered from several rows pixel by pixel, they cost more than the filter. So some rows are transposed first,
into memory that stays in the cache; there, what is filtered side by side lies side by side.
"""

# mypy: ignore-errors
# what is in here is Warp's language, not Python's, as in the kernels

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp

from render.blur.kernels import recursion
from render.compilation import OPTIONS

_AHEAD = 128  # numbers, from those at work to those asked for: 64 and 128 do, 256 come too early


@functools.cache
def recursion_in_rows(real: Any, lines: int, channels: int, *, subtract: bool = False) -> SimpleNamespace:
    """Build the kernel and the types of its coefficients.

    Args:
        real: Scalar type.
        lines: How many rows a work item filters side by side, a multiple of 4.
        channels: Numbers of a pixel.
        subtract: Whether x - less is filtered, instead of x.
    """
    k = recursion(real, 1, lines * channels)
    filter_lines, vec4, mat44 = k.filter_lines, k.vec4, k.mat44
    turn, turn_back = transposition(real, lines, subtract=subtract), transposition(real, lines, back=True)

    @wp.kernel(module="unique", module_options=OPTIONS)  # the blur is its own adjoint
    def recursive(
        # in
        x: wp.array2d[real],  # a picture in a row
        less: wp.array2d[real],  # as many pictures, or one for all
        c: vec4,
        tail: mat44,
        width: wp.int32,
        first_image: wp.int32,
        first_item: wp.int32,
        part: wp.int32,
        # out
        turned: wp.array2d[real],  # `lines` rows for each host thread
        y: wp.array2d[real],
    ):
        image, item = wp.tid()
        n = first_image + image
        numbers = width * channels
        first = (first_item + item) * lines * numbers
        held = turned[part]
        turn(x[n], less[n % less.shape[0]], first, numbers, held)
        filter_lines(held, held, held, 0, c, tail, width, lines * channels, 0)
        turn_back(y[n], held, first, numbers, held)

    return SimpleNamespace(recursive=recursive, vec4=vec4, mat44=mat44)


def transposition(real: Any, lines: int, *, subtract: bool = False, back: bool = False) -> Any:
    """Make the function that transposes `lines` rows of a picture, or of picture - less; or `back`.

    Four by four numbers, along each four rows by cache lines, which are asked for in time: of so many rows at
    once, a CPU does not see by itself that they go on.
    """
    source, target = ("turned", "picture") if back else ("picture", "turned")
    minus = "- less.data[in_picture]" if subtract else ""
    minus_four = "- *at(less, from + k * from_step)" if subtract else ""

    @wp.func_native(f"""
        using real = wp::{real.__name__};
        typedef real four __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real))));
        const auto at = [](const auto &row, int i) {{ return reinterpret_cast<four *>(row.data + i); }};
        const auto turn = [&](int from, int from_step, int to, int to_step) {{
            four v[4], w[4];
            for (int k = 0; k < 4; ++k) v[k] = *at({source}, from + k * from_step) {minus_four};
            for (int k = 0; k < 4; k += 2) {{
                w[k] = __builtin_shufflevector(v[k], v[k + 1], 0, 4, 1, 5);
                w[k + 1] = __builtin_shufflevector(v[k], v[k + 1], 2, 6, 3, 7);
            }}
            for (int k = 0; k < 2; ++k) {{
                v[2 * k] = __builtin_shufflevector(w[k], w[k + 2], 0, 1, 4, 5);
                v[2 * k + 1] = __builtin_shufflevector(w[k], w[k + 2], 2, 3, 6, 7);
            }}
            for (int k = 0; k < 4; ++k) *at({target}, to + k * to_step) = v[k];
        }};
        const int whole = numbers / 4 * 4;
        for (int block = 0; block < whole; block += 16)
            for (int l = 0; l < {lines}; l += 4) {{
                for (int k = 0; k < 4; ++k) {{
                    const int soon = first + (l + k) * numbers + block + {_AHEAD};
                    __builtin_prefetch(picture.data + soon);
                    if ({int(subtract)}) __builtin_prefetch(less.data + soon);
                }}
                for (int j = block; j < block + 16 && j < whole; j += 4) {{
                    const int in_picture = first + l * numbers + j, in_turned = j * {lines} + l;
                    if ({int(back)}) turn(in_turned, {lines}, in_picture, numbers);
                    else turn(in_picture, numbers, in_turned, {lines});
                }}
            }}
        for (int j = whole; j < numbers; ++j)
            for (int l = 0; l < {lines}; ++l) {{
                const int in_picture = first + l * numbers + j, in_turned = j * {lines} + l;
                {target}.data[in_{target}] = {source}.data[in_{source}] {minus};
            }}
    """)
    def transpose(
        picture: wp.array(dtype=real),
        less: wp.array(dtype=real),
        first: wp.int32,  # number of the picture
        numbers: wp.int32,  # of a row
        turned: wp.array(dtype=real),
    ): ...

    return transpose
