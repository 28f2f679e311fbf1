"""Advection: inside, the surface carries its colours along, dI = -grad I . dp, p where a point is seen.

With f = -(g . I_x, g . I_y) and screen-space barycentric weights w_k, p moves with the corners by
dp/dv_k = w_k and dp/dz_k = -w_k (v_k - p) / z_k: a point's weights in space are as w_k z_k.
"""

from types import SimpleNamespace
from typing import Any

import warp as wp

from render.reading import adder, reader


def advection(c: SimpleNamespace) -> tuple[Any, Any]:
    """Build the kernels from `common`: which pixels show one surface only, and the advection."""
    real, vec3, colour = c.real, c.vec3, c.colour
    Picture, Mesh = c.Picture, c.Mesh
    usable, turn, same_surface = c.usable, c.turn, c.same_surface
    SAME_SURFACE = c.SAME_SURFACE
    read_int, read_real, read_colour = reader(wp.int32), reader(real), reader(colour)
    read_vertex, read_face, add_vertex = reader(vec3), reader(wp.vec3i), adder(vec3)

    @wp.kernel(module="unique", enable_backward=False)  # nothing to differentiate
    def pure_pixels(
        # in
        mesh: Mesh,
        p: Picture,
        span: wp.int32,
        first_image: wp.int32,
        first_row: wp.int32,
        # out
        pure_id: wp.array[wp.int32],  # the face where all four neighbours show the same surface, else -1
    ):
        item, line, block = wp.tid()
        y = first_row + line
        row = ((first_image + item) * p.height + y) * p.width
        for x in range(block * span, wp.min(block * span + span, p.width)):
            i = row + x
            f = p.face_id[i]
            z = p.inverse_depth[i]
            alike = x == 0 or same_surface(mesh, p, f, z, i - 1)
            if alike and x + 1 < p.width:
                alike = same_surface(mesh, p, f, z, i + 1)
            if alike and y > 0:
                alike = same_surface(mesh, p, f, z, i - p.width)
            if alike and y + 1 < p.height:
                alike = same_surface(mesh, p, f, z, i + p.width)
            pure_id[i] = wp.where(alike, f, -1)

    @wp.func
    def shown(
        pure_id: wp.array[wp.int32],
        group: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        i: wp.int32,
        j: wp.int32,
        f: wp.int32,
        own: wp.int32,
        z: real,
    ) -> wp.int32:
        """Pixel j where it shows only face f's smooth surface `own` near depth 1/z, else pixel i.

        As `same_surface`, without branches, which a processor would guess wrong at every other face.
        """
        other = read_int(pure_id, j)
        kin = wp.where(other >= 0, 1, 0) & wp.where(read_int(group, wp.max(other, 0)) == own, 1, 0)
        near = wp.where(wp.abs(read_real(inverse_depth, j) - z) < real(SAME_SURFACE) * z, 1, 0)
        return wp.where((wp.where(other == f, 1, 0) | kin & near) == 1, j, i)

    @wp.func
    def beside(
        pure_id: wp.array[wp.int32],
        group: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        i: wp.int32,
        j: wp.int32,
        f: wp.int32,
        own: wp.int32,
        z: real,
    ) -> wp.int32:
        """The same for pixels of one row: where runs end is guessed wrong already."""
        if read_int(pure_id, j) == f:
            return j
        return shown(pure_id, group, inverse_depth, i, j, f, own, z)

    @wp.func
    def unmixed(
        pure_id: wp.array[wp.int32],
        group: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        i: wp.int32,
        f: wp.int32,
        own: wp.int32,
        left: wp.int32,
        right: wp.int32,
        up: wp.int32,
        down: wp.int32,
    ) -> wp.int32:
        """A neighbour of pixel i that shows its surface `own` and nothing else; i itself where none does."""
        z = inverse_depth[i]
        q = shown(pure_id, group, inverse_depth, i, left, f, own, z)
        if q == i:
            q = shown(pure_id, group, inverse_depth, i, right, f, own, z)
        if q == i:
            q = shown(pure_id, group, inverse_depth, i, up, f, own, z)
        if q == i:
            q = shown(pure_id, group, inverse_depth, i, down, f, own, z)
        return q

    @wp.func
    def spread(
        grad: wp.array[vec3],
        i: wp.int32,
        v: vec3,
        px: real,
        py: real,
        force: vec3,
    ):
        """Give corner v its share: force = sum w (f_x, f_y, (p_x - px) f_x) over a run of row py."""
        lever = force[2] + (px - v[0]) * force[0] + (py - v[1]) * force[1]  # sum w ((p - v) . f)
        add_vertex(grad, i, vec3(force[0], force[1], lever / v[2]))

    # Arrays, not the structs: reading those in the innermost loop took half the time again.
    @wp.kernel(module="unique", enable_backward=False)  # this is the adjoint
    def advect(
        # in
        vertices: wp.array[vec3],
        faces: wp.array[wp.vec3i],
        group: wp.array[wp.int32],
        images_per_copy: wp.int32,
        vertices_per_copy: wp.int32,
        height: wp.int32,
        width: wp.int32,
        face_id: wp.array[wp.int32],
        pure_id: wp.array[wp.int32],  # `face_id` where pixels are samples of one point
        inverse_depth: wp.array[real],
        image: wp.array[colour],
        grad_image: wp.array[colour],
        span: wp.int32,  # pixels per work item: the width on a CPU, 1 on a GPU
        first_image: wp.int32,
        first_row: wp.int32,
        part: wp.int32,
        # out
        grad_vertices: wp.array2d[vec3],
    ):
        item, line, block = wp.tid()
        n = first_image + item
        base = n / images_per_copy * vertices_per_copy
        y = first_row + line
        row = (n * height + y) * width
        grad = grad_vertices[part]
        x = block * span
        end = wp.min(x + span, width)
        while x < end:
            f = read_int(face_id, row + x)
            if f < 0:
                x += 1
                continue
            own = read_int(group, f)
            first = x
            # over the run: f_x, f_y and their moments, p running from 0
            fx_0 = real(0.0)
            fx_1 = real(0.0)
            fx_2 = real(0.0)
            fy_0 = real(0.0)
            fy_1 = real(0.0)
            while x < end:  # the run of pixels that show this face
                i = row + x
                if read_int(face_id, i) != f:
                    break
                q = i
                qx = x
                qy = y
                if read_int(pure_id, i) != f:  # its colour is a mixture: ask a neighbour
                    left = wp.where(x > 0, i - 1, i)
                    right = wp.where(x + 1 < width, i + 1, i)
                    up = wp.where(y > 0, i - width, i)
                    down = wp.where(y + 1 < height, i + width, i)
                    q = unmixed(pure_id, group, inverse_depth, i, f, own, left, right, up, down)
                    if q == i:
                        x += 1
                        continue
                    qx = x + wp.where(q == right, 1, wp.where(q == left, -1, 0))
                    qy = y + wp.where(q == down, 1, wp.where(q == up, -1, 0))
                fq = read_int(face_id, q)
                z = read_real(inverse_depth, q)
                # what does not show the surface, or lies beyond the picture, does not count
                left = wp.where(qx > 0, q - 1, q)
                right = wp.where(qx + 1 < width, q + 1, q)
                up = wp.where(qy > 0, q - width, q)
                down = wp.where(qy + 1 < height, q + width, q)
                left = beside(pure_id, group, inverse_depth, q, left, fq, own, z)
                right = beside(pure_id, group, inverse_depth, q, right, fq, own, z)
                up = shown(pure_id, group, inverse_depth, q, up, fq, own, z)
                down = shown(pure_id, group, inverse_depth, q, down, fq, own, z)
                g = read_colour(grad_image, i)
                fx = wp.dot(g, read_colour(image, left) - read_colour(image, right))
                fy = wp.dot(g, read_colour(image, up) - read_colour(image, down))
                fx *= wp.where(right - left == 2, real(0.5), real(1.0))
                fy *= wp.where(down - up == width + width, real(0.5), real(1.0))
                p = real(x - first)
                fx_0 += fx
                fx_1 += p * fx
                fx_2 += p * p * fx
                fy_0 += fy
                fy_1 += p * fy
                x += 1
            corner = read_face(faces, f)
            a = read_vertex(vertices, base + corner[0])
            b = read_vertex(vertices, base + corner[1])
            c = read_vertex(vertices, base + corner[2])
            area = turn(a, b, c)
            if area != real(0.0) and usable(a) and usable(b) and usable(c):
                # weights of corners a and b at p right of the run's first pixel: affine along the row
                scale = real(1.0) / area
                px = real(first) + real(0.5)
                py = real(y) + real(0.5)
                here = vec3(px, py, real(0.0))
                a_0 = turn(here, b, c) * scale
                b_0 = turn(here, c, a) * scale
                a_1 = (b[1] - c[1]) * scale
                b_1 = (c[1] - a[1]) * scale
                sum_a = vec3(a_0 * fx_0 + a_1 * fx_1, a_0 * fy_0 + a_1 * fy_1, a_0 * fx_1 + a_1 * fx_2)
                sum_b = vec3(b_0 * fx_0 + b_1 * fx_1, b_0 * fy_0 + b_1 * fy_1, b_0 * fx_1 + b_1 * fx_2)
                sum_c = vec3(fx_0, fy_0, fx_1) - sum_a - sum_b
                spread(grad, base + corner[0], a, px, py, sum_a)
                spread(grad, base + corner[1], b, px, py, sum_b)
                spread(grad, base + corner[2], c, px, py, sum_c)

    return pure_pixels, advect
