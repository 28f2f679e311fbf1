"""Contours: a picture changes where an edge moves by the contrast across it.

Along a steep edge (u, v), for each row it crosses: `step` is the length inside the row, t the parameter at
the middle of that part, r the x at which the edge's line crosses the row's centre, A and B the pixels left
and right of r, phi = r - 1/2 - A in [0, 1):
    k = step [(1 - phi) g_A + phi g_B] . (I_A - I_B)                    dL per pixel of motion to the right
    u.x += k (1 - t),  v.x += k t,  u.y -= k (1 - t) dx/dy,  v.y -= k t dx/dy
Flat edges (|dx| > |dy|) are the same with x and y exchanged.
"""

from types import SimpleNamespace
from typing import Any

import warp as wp

from render.compilation import OPTIONS
from render.reading import reader


def contours(c: SimpleNamespace) -> Any:
    """Build the kernel from `common`."""
    real, vec3, colour, edge = c.real, c.vec3, c.colour, c.edge
    Mesh, picture_of = c.Mesh, c.picture_of
    usable, turn, beyond = c.usable, c.turn, c.beyond

    read_edge, read_vertex, read_face = reader(edge), reader(vec3), reader(wp.vec3i)
    SAME_DEPTH = wp.constant(0.01)  # relative; 0.1 % to 5 % made no difference

    @wp.func
    def plane_at(mesh: Mesh, vertices: wp.array[vec3], base: wp.int32, f: wp.int32, x: real, y: real) -> real:
        """Inverse depth of a face's plane at (x, y), within the range of its corners; 0 without an area."""
        i = read_face(mesh.faces, f)
        a = read_vertex(vertices, base + i[0])
        b = read_vertex(vertices, base + i[1])
        c = read_vertex(vertices, base + i[2])
        area = turn(a, b, c)
        if area == real(0.0):
            return real(0.0)
        p = vec3(x, y, real(0.0))
        z = (turn(p, b, c) * a[2] + turn(p, c, a) * b[2] + turn(p, a, b) * c[2]) / area
        return wp.clamp(z, wp.min(a[2], wp.min(b[2], c[2])), wp.max(a[2], wp.max(b[2], c[2])))

    @wp.func
    def contour_visible(
        mesh: Mesh,
        vertices: wp.array[vec3],
        base: wp.int32,
        e: edge,
        inside: wp.int32,
        outside: wp.int32,
        x: real,
        y: real,
        z: real,
    ) -> wp.bool:
        """A silhouette shows where its own object is seen inside and nothing nearer outside.

        Depth alone cannot decide "inside": a curved surface is much nearer there than its contour.
        """
        if inside < 0:
            return False
        if mesh.instance[inside] != mesh.instance[e[4]]:
            return False
        if outside < 0 or outside == e[4] or outside == e[5]:
            return True
        return plane_at(mesh, vertices, base, outside, x, y) <= z * real(1.0 + SAME_DEPTH)

    @wp.func
    def crease_visible(
        mesh: Mesh,
        vertices: wp.array[vec3],
        base: wp.int32,
        e: edge,
        left: wp.int32,
        right: wp.int32,
        x: real,
        y: real,
        z: real,
    ) -> wp.bool:
        """A crease shows where both sides are its own object, and one of its faces or another at its depth.

        Without the first, creases just behind a contour would each take the contour's contrast for their own.
        """
        if left < 0 or right < 0:
            return False
        own = mesh.instance[e[4]]
        if mesh.instance[left] != own or mesh.instance[right] != own:
            return False
        if left == e[4] or left == e[5] or right == e[4] or right == e[5]:
            return True
        nearest = wp.max(
            plane_at(mesh, vertices, base, left, x, y), plane_at(mesh, vertices, base, right, x, y)
        )
        return wp.abs(nearest - z) <= z * real(SAME_DEPTH)

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
        first_copy: wp.int32,
        first_edge: wp.int32,
        part: wp.int32,
        # out
        grad_vertices: wp.array2d[vec3],
    ):
        copy, item = wp.tid()
        p = picture_of(height, width, face_id, inverse_depth, image, grad_image, antialiased)
        copy += first_copy
        base = copy * vertices_per_copy
        e = read_edge(mesh.edges, first_edge + item)
        u = read_vertex(vertices, base + e[0])
        v = read_vertex(vertices, base + e[1])
        side = turn(u, v, read_vertex(vertices, base + e[2]))
        silhouette = True
        if e[5] >= 0:
            silhouette = side * turn(u, v, read_vertex(vertices, base + e[3])) > real(0.0)
            if not silhouette and e[6] == 0:
                return
        if not (usable(u) and usable(v)):
            return
        # s runs along the edge, r across; steep edges run along y
        steep = wp.abs(v[1] - u[1]) >= wp.abs(v[0] - u[0])
        us = u[0]
        ur = u[1]
        vs = v[0]
        vr = v[1]
        length = p.width
        breadth = p.height
        along_pixel = wp.int32(1)  # from a pixel's number to the next along s, across
        across_pixel = p.width
        apex_before = side * (vs - us) < real(0.0)  # the object's side is that of smaller r
        if steep:
            us = u[1]
            ur = u[0]
            vs = v[1]
            vr = v[0]
            length = p.height
            breadth = p.width
            along_pixel = p.width
            across_pixel = wp.int32(1)
            apex_before = side * (vs - us) > real(0.0)
        low = wp.max(wp.min(us, vs), real(0.0))
        high = wp.min(wp.max(us, vs), real(length))
        if not (high > low and wp.abs(vs - us) > real(1.0e-6)):
            return
        first_pixel = (copy * mesh.images_per_copy + e[7]) * p.height * p.width
        run = real(1.0) / (vs - us)
        slope = (vr - ur) * run
        force_u = real(0.0)
        force_v = real(0.0)
        for row in range(wp.int32(low), wp.min(wp.int32(wp.ceil(high)), length)):
            start = wp.max(low, real(row))
            end = wp.min(high, real(row) + real(1.0))
            t = (real(0.5) * (start + end) - us) * run
            s = real(row) + real(0.5)
            # at the row's centre: elsewhere the pixels on both sides may not differ
            r = ur + (s - us) * slope
            before = wp.floor(r - real(0.5))
            if before >= real(0.0) and before + real(1.0) < real(breadth):  # int() only of what is in range
                column = wp.int32(before)
                a = first_pixel + row * along_pixel + column * across_pixel
                b = a + across_pixel
                fa = p.face_id[a]
                fb = p.face_id[b]
                if fa != fb:
                    x = s
                    y = r
                    if steep:
                        x = r
                        y = s
                    z = u[2] + t * (v[2] - u[2])
                    visible = False
                    if not silhouette:
                        visible = crease_visible(mesh, vertices, base, e, fa, fb, x, y, z)
                    elif apex_before:
                        visible = contour_visible(mesh, vertices, base, e, fa, fb, x, y, z)
                    else:
                        visible = contour_visible(mesh, vertices, base, e, fb, fa, x, y, z)
                    if visible:
                        phi = r - real(0.5) - before
                        g = (real(1.0) - phi) * p.grad_image[a] + phi * p.grad_image[b]
                        ia = p.image[a]
                        ib = p.image[b]
                        if p.antialiased and phi < real(0.5):
                            ia = beyond(mesh, p, a, a - across_pixel, column > 0)
                        if p.antialiased and phi > real(0.5):
                            ib = beyond(mesh, p, b, b + across_pixel, column + 2 < breadth)
                        k = (end - start) * wp.dot(g, ia - ib)
                        force_u += k * (real(1.0) - t)
                        force_v += k * t
        if force_u != real(0.0) or force_v != real(0.0):
            along = vec3(real(1.0), -slope, real(0.0))
            if not steep:
                along = vec3(-slope, real(1.0), real(0.0))
            wp.atomic_add(grad_vertices, part, base + e[0], force_u * along)
            wp.atomic_add(grad_vertices, part, base + e[1], force_v * along)

    return kernel
