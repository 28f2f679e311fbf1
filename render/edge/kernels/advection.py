"""Advection: inside, the surface carries its colours along, dI = -grad I . dp, p where a point is seen.

With f = -(g . I_x, g . I_y) and screen-space barycentric weights w_k, p moves with the corners by
dp/dv_k = w_k and dp/dz_k = -w_k (v_k - p) / z_k: a point's weights in space are as w_k z_k.
"""

from types import SimpleNamespace
from typing import Any

import warp as wp


def advection(c: SimpleNamespace) -> tuple[Any, Any]:
    """Build the kernels from `common`: which pixels show one surface only, and the advection."""
    real, vec3, colour = c.real, c.vec3, c.colour
    Picture, Mesh = c.Picture, c.Mesh
    usable, turn, same_surface = c.usable, c.turn, c.same_surface
    SAME_SURFACE = c.SAME_SURFACE

    @wp.kernel(module="unique", enable_backward=False)  # nothing to differentiate
    def pure_pixels(
        # in
        mesh: Mesh,
        p: Picture,
        span: wp.int32,
        first_image: wp.int32,
        first_row: wp.int32,
        # out
        pure: wp.array[wp.bool],  # True where all four neighbours show the same surface
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
            pure[i] = alike

    @wp.func
    def spread(
        grad_vertices: wp.array2d[vec3],
        part: wp.int32,
        i: wp.int32,
        v: vec3,
        origin: real,
        py: real,
        force: vec3,
    ):
        """Give corner v its share: force = sum w (f_x, f_y, (p_x - origin) f_x) over a run of row p_y."""
        moment = force[2] + origin * force[0] + py * force[1]  # sum w (p . f)
        grad_z = (moment - v[0] * force[0] - v[1] * force[1]) / v[2]
        wp.atomic_add(grad_vertices, part, i, vec3(force[0], force[1], grad_z))

    @wp.func
    def shows(
        face_id: wp.array[wp.int32],
        group: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        pure: wp.array[wp.bool],
        antialiased: wp.bool,
        j: wp.int32,
        f: wp.int32,
        own: wp.int32,
        z: real,
    ) -> wp.bool:
        """True where pixel j shows only face f's smooth surface `own` near depth 1/z.

        As `same_surface`, without branches, which a processor would guess wrong at every other face.
        """
        other = face_id[j]
        near = wp.abs(inverse_depth[j] - z) < real(SAME_SURFACE) * z
        same = other == f or (other >= 0 and group[wp.max(other, 0)] == own and near)
        return same and (not antialiased or pure[wp.where(antialiased, j, 0)])

    @wp.func
    def unmixed(
        face_id: wp.array[wp.int32],
        group: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        pure: wp.array[wp.bool],
        i: wp.int32,
        own: wp.int32,
        left: wp.int32,
        right: wp.int32,
        up: wp.int32,
        down: wp.int32,
    ) -> wp.int32:
        """A neighbour of pixel i that shows its surface `own` and nothing else; i itself where none does."""
        f = face_id[i]
        z = inverse_depth[i]
        if shows(face_id, group, inverse_depth, pure, True, left, f, own, z):
            return left
        if shows(face_id, group, inverse_depth, pure, True, right, f, own, z):
            return right
        if shows(face_id, group, inverse_depth, pure, True, up, f, own, z):
            return up
        if shows(face_id, group, inverse_depth, pure, True, down, f, own, z):
            return down
        return i

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
        inverse_depth: wp.array[real],
        image: wp.array[colour],
        grad_image: wp.array[colour],
        antialiased: wp.bool,
        pure: wp.array[wp.bool],  # empty unless antialiased
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
        x = block * span
        end = wp.min(x + span, width)
        while x < end:
            f = face_id[row + x]
            if f < 0:
                x += 1
                continue
            corner = faces[f]
            own = group[f]
            a = vertices[base + corner[0]]
            b = vertices[base + corner[1]]
            c = vertices[base + corner[2]]
            area = turn(a, b, c)
            solid = area != real(0.0) and usable(a) and usable(b) and usable(c)
            scale = real(0.0)
            if solid:
                scale = real(1.0) / area
            # weights of corners a and b at px right of corner c: affine along the row
            py = real(y) + real(0.5)
            a_x = (b[1] - c[1]) * scale
            b_x = (c[1] - a[1]) * scale
            a_0 = (c[0] - b[0]) * scale * (py - c[1])
            b_0 = (a[0] - c[0]) * scale * (py - c[1])
            sum_a = vec3()  # over the run: w (f_x, f_y, px f_x) of corners a and b, and for w = 1
            sum_b = vec3()
            total = vec3()
            while x < end:  # the run of pixels that show this face
                i = row + x
                if face_id[i] != f:
                    break
                q = i
                qx = x
                qy = y
                sure = solid
                if antialiased:
                    if not pure[i]:  # its colour is a mixture: ask a neighbour
                        left = wp.where(x > 0, i - 1, i)
                        right = wp.where(x + 1 < width, i + 1, i)
                        up = wp.where(y > 0, i - width, i)
                        down = wp.where(y + 1 < height, i + width, i)
                        q = unmixed(face_id, group, inverse_depth, pure, i, own, left, right, up, down)
                        qx = x + wp.where(q == i + 1, 1, wp.where(q == i - 1, -1, 0))
                        qy = y + wp.where(q == i + width, 1, wp.where(q == i - width, -1, 0))
                        sure = solid and q != i
                if sure:
                    fq = face_id[q]
                    z = inverse_depth[q]
                    g = grad_image[i]
                    here = wp.dot(g, image[q])
                    # beyond the picture's border a pixel stands for itself, and does not count
                    left = wp.where(qx > 0, q - 1, q)
                    right = wp.where(qx + 1 < width, q + 1, q)
                    up = wp.where(qy > 0, q - width, q)
                    down = wp.where(qy + 1 < height, q + width, q)
                    to_left = shows(face_id, group, inverse_depth, pure, antialiased, left, fq, own, z)
                    to_right = shows(face_id, group, inverse_depth, pure, antialiased, right, fq, own, z)
                    to_up = shows(face_id, group, inverse_depth, pure, antialiased, up, fq, own, z)
                    to_down = shows(face_id, group, inverse_depth, pure, antialiased, down, fq, own, z)
                    wl = wp.where(to_left and left != q, real(1.0), real(0.0))
                    wr = wp.where(to_right and right != q, real(1.0), real(0.0))
                    wu = wp.where(to_up and up != q, real(1.0), real(0.0))
                    wd = wp.where(to_down and down != q, real(1.0), real(0.0))
                    fx = wl * (wp.dot(g, image[left]) - here) + wr * (here - wp.dot(g, image[right]))
                    fy = wu * (wp.dot(g, image[up]) - here) + wd * (here - wp.dot(g, image[down]))
                    fx = fx * wp.where(wl + wr > real(1.5), real(0.5), real(1.0))
                    fy = fy * wp.where(wu + wd > real(1.5), real(0.5), real(1.0))
                    px = real(x) + real(0.5) - c[0]
                    force = vec3(fx, fy, px * fx)
                    sum_a += (a_x * px + a_0) * force
                    sum_b += (b_x * px + b_0) * force
                    total += force
                x += 1
            if solid:
                sum_c = total - sum_a - sum_b
                spread(grad_vertices, part, base + corner[0], a, c[0], py, sum_a)
                spread(grad_vertices, part, base + corner[1], b, c[0], py, sum_b)
                spread(grad_vertices, part, base + corner[2], c, c[0], py, sum_c)

    return pure_pixels, advect
