"""Advection: inside, the surface carries its colours along, dI = -grad I . dp, p where a point is seen.

With f = -(g . I_x, g . I_y) and screen-space barycentric weights w_k, p moves with the corners by
dp/dv_k = w_k and dp/dz_k = -w_k (v_k - p) / z_k: a point's weights in space are as w_k z_k.
"""

from types import SimpleNamespace
from typing import Any

import warp as wp


def advection(c: SimpleNamespace) -> tuple[Any, Any]:
    """Build the kernels from `common`: which surface each pixel shows, and the advection."""
    real, vec3, colour = c.real, c.vec3, c.colour
    Picture, Mesh = c.Picture, c.Mesh
    usable, turn, same_surface = c.usable, c.turn, c.same_surface
    SAME_SURFACE = c.SAME_SURFACE
    NOTHING = wp.constant(-1)
    MIXED = wp.constant(-2)

    @wp.kernel(module="unique", enable_backward=False)  # nothing to differentiate
    def label_pixels(
        # in
        mesh: Mesh,
        p: Picture,
        span: wp.int32,
        first_image: wp.int32,
        first_row: wp.int32,
        # out
        label: wp.array[wp.int32],  # the smooth surface seen, NOTHING, or MIXED where colours of two may mix
    ):
        item, line, block = wp.tid()
        y = first_row + line
        row = ((first_image + item) * p.height + y) * p.width
        last = wp.int32(-1)
        group = wp.int32(NOTHING)
        for x in range(block * span, wp.min(block * span + span, p.width)):
            i = row + x
            f = p.face_id[i]
            if f != last:
                last = f
                group = wp.int32(NOTHING)
                if f >= 0:
                    group = mesh.group[f]
            alike = wp.bool(True)
            if p.antialiased and f >= 0:
                z = p.inverse_depth[i]
                if x > 0:
                    alike = same_surface(mesh, p, f, z, i - 1)
                if alike and x + 1 < p.width:
                    alike = same_surface(mesh, p, f, z, i + 1)
                if alike and y > 0:
                    alike = same_surface(mesh, p, f, z, i - p.width)
                if alike and y + 1 < p.height:
                    alike = same_surface(mesh, p, f, z, i + p.width)
            label[i] = wp.where(alike, group, wp.int32(MIXED))

    @wp.func
    def shows(
        face: wp.int32, label: wp.int32, inverse_depth: real, f: wp.int32, own: wp.int32, z: real
    ) -> wp.bool:
        """True where a pixel shows face f's smooth surface `own` near depth 1/z; all terms are cheap."""
        return label == own and (face == f or wp.abs(inverse_depth - z) < real(SAME_SURFACE) * z)

    @wp.func
    def unmixed(
        face_id: wp.array[wp.int32],
        label: wp.array[wp.int32],
        inverse_depth: wp.array[real],
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
        if shows(face_id[left], label[left], inverse_depth[left], f, own, z):
            return left
        if shows(face_id[right], label[right], inverse_depth[right], f, own, z):
            return right
        if shows(face_id[up], label[up], inverse_depth[up], f, own, z):
            return up
        if shows(face_id[down], label[down], inverse_depth[down], f, own, z):
            return down
        return i

    # Whole arrays, not the structs: reading those in the innermost loop took half the time again.
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
        label: wp.array[wp.int32],
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
            force_x = vec3()  # sums over the run of w f_x, w f_y, w (p . f)
            force_y = vec3()
            moment = vec3()
            while x < end:  # the run of pixels that show this face
                i = row + x
                if face_id[i] != f:
                    break
                q = i
                qx = x
                qy = y
                if label[i] == wp.int32(MIXED):
                    left = wp.where(x > 0, i - 1, i)
                    right = wp.where(x + 1 < width, i + 1, i)
                    up = wp.where(y > 0, i - width, i)
                    down = wp.where(y + 1 < height, i + width, i)
                    q = unmixed(face_id, label, inverse_depth, i, own, left, right, up, down)
                    if q != i:
                        qx = x + wp.where(q == right, 1, wp.where(q == left, -1, 0))
                        qy = y + wp.where(q == down, 1, wp.where(q == up, -1, 0))
                if solid and label[q] != wp.int32(MIXED):
                    fq = face_id[q]
                    z = inverse_depth[q]
                    g = grad_image[i]
                    here = wp.dot(g, image[q])
                    # beyond the picture's border a pixel stands for itself, and does not count
                    left = wp.where(qx > 0, q - 1, q)
                    right = wp.where(qx + 1 < width, q + 1, q)
                    up = wp.where(qy > 0, q - width, q)
                    down = wp.where(qy + 1 < height, q + width, q)
                    to_left = left != q and shows(face_id[left], label[left], inverse_depth[left], fq, own, z)
                    to_right = right != q and shows(
                        face_id[right], label[right], inverse_depth[right], fq, own, z
                    )
                    to_up = up != q and shows(face_id[up], label[up], inverse_depth[up], fq, own, z)
                    to_down = down != q and shows(face_id[down], label[down], inverse_depth[down], fq, own, z)
                    wl = wp.where(to_left, real(1.0), real(0.0))
                    wr = wp.where(to_right, real(1.0), real(0.0))
                    wu = wp.where(to_up, real(1.0), real(0.0))
                    wd = wp.where(to_down, real(1.0), real(0.0))
                    fx = wl * (wp.dot(g, image[left]) - here) + wr * (here - wp.dot(g, image[right]))
                    fy = wu * (wp.dot(g, image[up]) - here) + wd * (here - wp.dot(g, image[down]))
                    fx = fx / wp.max(wl + wr, real(1.0))
                    fy = fy / wp.max(wu + wd, real(1.0))
                    point = vec3(real(x) + real(0.5), real(y) + real(0.5), real(0.0))
                    wa = turn(point, b, c) * scale
                    wb = turn(point, c, a) * scale
                    w = vec3(wa, wb, real(1.0) - wa - wb)
                    force_x += fx * w
                    force_y += fy * w
                    moment += (point[0] * fx + point[1] * fy) * w
                x += 1
            if solid:
                for k in range(3):
                    v = vertices[base + corner[k]]
                    grad_z = (moment[k] - v[0] * force_x[k] - v[1] * force_y[k]) / v[2]
                    grad = vec3(force_x[k], force_y[k], grad_z)
                    wp.atomic_add(grad_vertices, part, base + corner[k], grad)

    return label_pixels, advect
