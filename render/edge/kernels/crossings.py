"""Crossings: where surfaces f and h of two objects cut through one another, no mesh edge runs.

Between two pixels that see one each, D = z_f - z_h changes its sign, and the line moves along the pair by
-dD / D_s; its contrast acts as an edge's. Lines count the pixel pairs of the axis along which D changes more.
"""

from types import SimpleNamespace
from typing import Any

import warp as wp

from render.compilation import OPTIONS


def crossings(c: SimpleNamespace) -> Any:
    """Build the kernel from `common`."""
    real, vec2, vec3, colour = c.real, c.vec2, c.vec3, c.colour
    Mesh, picture_of = c.Mesh, c.picture_of
    usable, turn, beyond = c.usable, c.turn, c.beyond

    HAIR = wp.constant(0.05)  # [px] nearer to a contour, the contour answers for what moves
    PARALLEL = wp.constant(1.0e-5)  # relative change of depth per pixel: planes closer than this do not cross

    @wp.struct
    class Plane:
        """A triangle, and how inverse depth changes per pixel to the right and down on it."""

        corners: wp.vec3i
        a: vec3
        b: vec3
        c: vec3
        area: real
        slope: vec2

    @wp.func
    def plane_of(mesh: Mesh, vertices: wp.array[vec3], base: wp.int32, f: wp.int32) -> Plane:
        """The plane of a face; of area 0 if that says nothing."""
        q = Plane()
        i = mesh.faces[f]
        q.corners = wp.vec3i(base + i[0], base + i[1], base + i[2])
        q.a = vertices[q.corners[0]]
        q.b = vertices[q.corners[1]]
        q.c = vertices[q.corners[2]]
        q.area = real(0.0)
        if usable(q.a) and usable(q.b) and usable(q.c):
            q.area = turn(q.a, q.b, q.c)
        if q.area != real(0.0):
            u = q.b - q.a
            v = q.c - q.a
            q.slope = vec2((u[2] * v[1] - v[2] * u[1]) / q.area, (v[2] * u[0] - u[2] * v[0]) / q.area)
        return q

    @wp.func
    def ends_at(
        mesh: Mesh, vertices: wp.array[vec3], base: wp.int32, f: wp.int32, q: Plane, p: vec3
    ) -> wp.bool:
        """True where the surface of face f ends, by border or contour, before p or a hair beyond."""
        ended = wp.bool(False)
        for k in range(3):
            u = q.b
            v = q.c
            if k == 1:
                u = q.c
                v = q.a
            if k == 2:
                u = q.a
                v = q.b
            length = wp.length(vec2(v[0] - u[0], v[1] - u[1]))
            inward = turn(u, v, p) * wp.sign(q.area)  # distance from the edge times its length
            if inward < real(HAIR) * length:
                next_face = mesh.neighbours[f][k]
                if next_face < 0:
                    ended = True
                else:
                    j = mesh.faces[next_face]
                    turned = turn(vertices[base + j[0]], vertices[base + j[1]], vertices[base + j[2]])
                    if turned * q.area <= real(0.0):
                        ended = True
        return ended

    @wp.func
    def lift(grad_vertices: wp.array2d[vec3], part: wp.int32, q: Plane, p: vec3, force: real):
        """Give a plane's corners their shares of a force on its inverse depth at p.

        dz(p) = sum w_k (dz_k - slope . (dx_k, dy_k))
        """
        direction = force / q.area * vec3(-q.slope[0], -q.slope[1], real(1.0))
        wp.atomic_add(grad_vertices, part, q.corners[0], turn(p, q.b, q.c) * direction)
        wp.atomic_add(grad_vertices, part, q.corners[1], turn(p, q.c, q.a) * direction)
        wp.atomic_add(grad_vertices, part, q.corners[2], turn(p, q.a, q.b) * direction)

    @wp.kernel(module="unique", module_options=OPTIONS)  # this is the adjoint
    def kernel(
        # in
        mesh: Mesh,
        vertices: wp.array[vec3],
        vertices_per_copy: wp.int32,
        height: wp.int32,
        width: wp.int32,
        face_id: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        image: wp.array[colour],
        grad_image: wp.array[colour],
        antialiased: wp.bool,
        span: wp.int32,
        first_image: wp.int32,
        first_row: wp.int32,
        part: wp.int32,
        # out
        grad_vertices: wp.array2d[vec3],
    ):
        item, line, block = wp.tid()
        p = picture_of(height, width, face_id, inverse_depth, image, grad_image, antialiased)
        n = first_image + item
        base = n / mesh.images_per_copy * vertices_per_copy
        y = first_row + line
        row = (n * p.height + y) * p.width
        for x in range(block * span, wp.min(block * span + span, p.width)):
            i = row + x
            f = p.face_id[i]
            if f < 0:
                continue
            for axis in range(2):  # the pixel to the right, the pixel below
                j = i + 1
                at = x
                size = p.width
                if axis == 1:
                    j = i + p.width
                    at = y
                    size = p.height
                if at + 1 >= size:
                    continue
                h = p.face_id[j]
                if h < 0 or h == f:
                    continue
                if mesh.instance[h] == mesh.instance[f]:
                    continue
                qf = plane_of(mesh, vertices, base, f)
                qh = plane_of(mesh, vertices, base, h)
                if qf.area == real(0.0) or qh.area == real(0.0):
                    continue
                rise = qf.slope - qh.slope  # of D, the depth of f before h
                steepest = wp.abs(rise[0]) >= wp.abs(rise[1])
                if steepest != (axis == 0):
                    continue
                z = p.inverse_depth[i]
                lead = z - p.inverse_depth[j] + qh.slope[axis]  # D here
                lag = z - p.inverse_depth[j] + qf.slope[axis]  # D there
                if not (lead > real(0.0) and lag < real(0.0)) or wp.abs(rise[axis]) < real(PARALLEL) * z:
                    continue
                t = lead / (lead - lag)
                crossing = vec3(real(x) + real(0.5), real(y) + real(0.5), real(0.0))
                crossing[axis] = crossing[axis] + t
                if ends_at(mesh, vertices, base, f, qf, crossing):
                    continue
                if ends_at(mesh, vertices, base, h, qh, crossing):
                    continue
                g = (real(1.0) - t) * p.grad_image[i] + t * p.grad_image[j]
                here = p.image[i]
                there = p.image[j]
                if p.antialiased and t < real(0.5):
                    here = beyond(mesh, p, i, i + i - j, at > 0)
                if p.antialiased and t > real(0.5):
                    there = beyond(mesh, p, j, j + j - i, at + 2 < size)
                force = -wp.dot(g, here - there) / rise[axis]  # D = 0 moves by -dD / rise
                lift(grad_vertices, part, qf, crossing, force)
                lift(grad_vertices, part, qh, crossing, -force)

    return kernel
