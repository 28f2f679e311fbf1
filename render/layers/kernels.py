"""Warp kernels of the soft "over" of K layers per pixel. One source, compiled for CPU and for CUDA.

A layer l has, per pixel, a colour C_l premultiplied by coverage, the coverage A_l, and N_l, inverse depth
times coverage. Blurs overshoot a little, so
    a_l = min(max(A_l, 0), 1),    S_l = N_l / max(A_l, FAINT)
S_l is the inverse depth; where next to nothing is covered it falls to 0, far away, with bounded slopes. Then
    f_lm = 1 - a_m sigmoid((S_m - S_l) / gamma) = (1 - a_m) + a_m sigmoid((S_l - S_m) / gamma)
    T_l = prod over m != l of f_lm
    image = sum_l T_l C_l + background prod_l (1 - a_l),    alpha = 1 - prod_l (1 - a_l)
The second form of f keeps the digits of an object that is hidden all but completely.

With g, h the cotangents of image and alpha, q_l = g . C_l and x_lm = (S_m - S_l) / gamma:
    dL/dC_l = T_l g
    dL/df_lm = q_l prod over j != l, m of f_lj,     df_lm/da_m = -sigmoid(x_lm)
    df_lm/dS_l = -df_lm/dS_m = a_m sigmoid(x_lm) sigmoid(-x_lm) / gamma
    dL/da_l has besides (h - g . background) prod over m != l of (1 - a_m)
Time grows with K^2, memory with K.
"""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp


@functools.cache
def kernels(real: Any, channels: int) -> SimpleNamespace:
    """Build the kernels for a scalar type, float32 to run or float64 to check, and a colour's channels."""
    colour = wp.types.vector(length=channels, dtype=real)
    layer = wp.types.vector(length=channels + 2, dtype=real)  # C, A, N
    vec2 = wp.types.vector(length=2, dtype=real)

    A = wp.constant(channels)
    N = wp.constant(channels + 1)
    CHANNELS = wp.constant(channels)
    FAINT = wp.constant(1.0e-3)  # below the ripples that a recursive blur leaves beside an object

    @wp.struct
    class Product:
        """A product of factors in [0, 1], the least one kept apart: taking any out divides by no zero."""

        rest: real
        least: real
        at: wp.int32  # which factor is the least

    @wp.func
    def one() -> Product:
        """Return the empty product."""
        p = Product()
        p.rest = real(1.0)
        p.least = real(1.0)
        p.at = wp.int32(-1)
        return p

    @wp.func
    def times(p: Product, factor: real, index: wp.int32) -> Product:
        """Multiply by one more factor."""
        if factor < p.least:
            p.rest = p.rest * p.least
            p.least = factor
            p.at = index
        else:
            p.rest = p.rest * factor
        return p

    @wp.func
    def without(p: Product, factor: real, index: wp.int32) -> real:
        """Return the product of all factors but this one."""
        if index == p.at:
            return p.rest
        if factor <= real(0.0):  # then the least is another zero
            return real(0.0)
        return p.rest * (p.least / factor)

    @wp.func
    def covered(v: layer) -> real:
        """Return a."""
        return wp.clamp(v[A], real(0.0), real(1.0))

    @wp.func
    def score(v: layer) -> real:
        """Return S."""
        return v[N] / wp.max(v[A], real(FAINT))

    @wp.func
    def order(before: real, behind: real, inverse_gamma: real) -> vec2:
        """Return sigmoid(x) and sigmoid(-x), each with all its digits, x = (before - behind) / gamma."""
        x = (before - behind) * inverse_gamma
        e = wp.exp(-wp.abs(x))
        more = real(1.0) / (real(1.0) + e)
        if x < real(0.0):
            return vec2(e * more, more)
        return vec2(more, e * more)

    @wp.func
    def passing(a: real, o: vec2) -> real:
        """Return f, the share of a layer that a layer of coverage a, in that order before it, lets pass."""
        return (real(1.0) - a) + a * o[1]

    @wp.func
    def transmission(
        layers: wp.array4d[layer],
        n: wp.int32,
        l: wp.int32,
        y: wp.int32,
        x: wp.int32,
        inverse_gamma: real,
    ) -> Product:
        """Return T of layer l."""
        s = score(layers[n, l, y, x])
        p = one()
        for m in range(layers.shape[1]):
            if m != l:
                v = layers[n, m, y, x]
                a = covered(v)
                if a > real(0.0):
                    p = times(p, passing(a, order(score(v), s, inverse_gamma)), m)
        return p

    @wp.func
    def clearance(layers: wp.array4d[layer], n: wp.int32, y: wp.int32, x: wp.int32) -> Product:
        """Return the product of 1 - a of all layers."""
        p = one()
        for l in range(layers.shape[1]):
            p = times(p, real(1.0) - covered(layers[n, l, y, x]), l)
        return p

    @wp.kernel(module="unique", enable_backward=False)  # the adjoint is below
    def forward(
        # in
        layers: wp.array4d[layer],
        background: wp.array[colour],  # one, or one per picture
        inverse_gamma: real,
        first_image: wp.int32,
        first_row: wp.int32,
        span: wp.int32,  # pixels per work item: the width on a CPU, 1 on a GPU
        # out
        image: wp.array3d[colour],
        alpha: wp.array3d[real],
    ):
        item, line, block = wp.tid()
        n = first_image + item
        y = first_row + line
        behind = background[wp.min(n, background.shape[0] - 1)]
        for x in range(block * span, wp.min(block * span + span, image.shape[2])):
            c = clearance(layers, n, y, x)
            clear = c.rest * c.least
            seen = clear * behind
            for l in range(layers.shape[1]):
                v = layers[n, l, y, x]
                t = transmission(layers, n, l, y, x, inverse_gamma)
                for i in range(CHANNELS):
                    seen[i] = seen[i] + t.rest * t.least * v[i]
            image[n, y, x] = seen
            alpha[n, y, x] = real(1.0) - clear

    @wp.kernel(module="unique", enable_backward=False)  # this is the adjoint
    def backward(
        # in
        layers: wp.array4d[layer],
        background: wp.array[colour],
        inverse_gamma: real,
        grad_image: wp.array3d[colour],
        grad_alpha: wp.array3d[real],
        first_image: wp.int32,
        first_row: wp.int32,
        span: wp.int32,
        # out
        grad_layers: wp.array4d[layer],  # zero before; a pixel belongs to one work item
    ):
        item, line, block = wp.tid()
        n = first_image + item
        y = first_row + line
        behind = background[wp.min(n, background.shape[0] - 1)]
        for x in range(block * span, wp.min(block * span + span, grad_image.shape[2])):
            g = grad_image[n, y, x]
            k = grad_alpha[n, y, x] - wp.dot(g, behind)
            clear = clearance(layers, n, y, x)
            for l in range(layers.shape[1]):
                v = layers[n, l, y, x]
                p = transmission(layers, n, l, y, x, inverse_gamma)
                q = real(0.0)
                own = grad_layers[n, l, y, x]  # holds dL/da and dL/dS until the end
                for i in range(CHANNELS):
                    q += g[i] * v[i]
                    own[i] = p.rest * p.least * g[i]
                own[A] = own[A] + k * without(clear, real(1.0) - covered(v), l)
                if q != real(0.0):
                    s = score(v)
                    for m in range(layers.shape[1]):
                        if m != l:
                            w = layers[n, m, y, x]
                            a = covered(w)
                            o = order(score(w), s, inverse_gamma)
                            # dL/df_lm
                            grad_f = q * without(p, passing(a, o), m)
                            slope = grad_f * a * o[0] * o[1] * inverse_gamma
                            own[N] = own[N] + slope
                            other = grad_layers[n, m, y, x]
                            other[A] = other[A] - grad_f * o[0]
                            other[N] = other[N] - slope
                            grad_layers[n, m, y, x] = other
                grad_layers[n, l, y, x] = own
            for l in range(layers.shape[1]):
                v = layers[n, l, y, x]
                own = grad_layers[n, l, y, x]
                if v[A] < real(0.0) or v[A] > real(1.0):
                    own[A] = real(0.0)
                # dS/dN = 1/A, dS/dA = -S/A, the latter only where A is not held at FAINT
                own[N] = own[N] / wp.max(v[A], real(FAINT))
                if v[A] > real(FAINT):
                    own[A] = own[A] - own[N] * score(v)
                grad_layers[n, l, y, x] = own

    return SimpleNamespace(forward=forward, backward=backward, colour=colour, layer=layer)
