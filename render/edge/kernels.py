"""Warp kernels of the edge operator's backward pass. One source, compiled for CPU and for CUDA.

Screen coordinates are (x px, y px, 1/depth), origin at the picture's top-left corner, y down; the centre of
pixel (row i, column j) is (j + 0.5, i + 0.5). 1/depth is affine over a triangle in these coordinates.

Contours. A picture changes where an edge moves by the contrast across it. Along a steep edge (u, v), for
each row it crosses: `step` is the length inside the row, t the parameter at the middle of that part, r the x
at which the edge's line crosses the row's centre, A and B the pixels left and right of r,
phi = r - 1/2 - A in [0, 1):
    k = step [(1 - phi) g_A + phi g_B] . (I_A - I_B)                    dL per pixel of motion to the right
    u.x += k (1 - t),  v.x += k t,  u.y -= k (1 - t) dx/dy,  v.y -= k t dx/dy
Flat edges (|dx| > |dy|) are the same with x and y exchanged.

Advection. Inside, the surface carries its colours along: dI = -grad I . dp, where p is where a point of the
surface is seen. With f = -(g . I_x, g . I_y) and screen-space barycentric weights w_k, p moves with the
corners by dp/dv_k = w_k and dp/dz_k = w_k (v_k - p) / z_k.
"""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp


@functools.cache
def kernels(real: Any, channels: int) -> SimpleNamespace:
    """Build the kernels for a scalar type, float32 to run or float64 to check, and a channel count."""
    vec2 = wp.types.vector(length=2, dtype=real)
    vec3 = wp.types.vector(length=3, dtype=real)
    colour = wp.types.vector(length=channels, dtype=real)
    # ends u and v; apexes; faces (the second -1 at a border); 1 for a crease; image
    edge = wp.types.vector(length=8, dtype=wp.int32)

    HUGE = wp.constant(1.0e9)  # [px] a coordinate beyond says nothing, and int() of it would be garbage
    SAME_DEPTH = wp.constant(0.01)  # relative; 0.1 % to 5 % made no difference
    SAME_SURFACE = wp.constant(0.1)  # relative change of depth from pixel to pixel within one smooth surface

    @wp.func
    def usable(v: vec3) -> wp.bool:
        """False for vertices that are not finite, far off, or behind the camera."""
        near = wp.abs(v[0]) < real(HUGE) and wp.abs(v[1]) < real(HUGE)  # written so that NaN fails
        return near and v[2] > real(0.0) and v[2] < real(HUGE)

    @wp.func
    def turn(a: vec3, b: vec3, c: vec3) -> real:
        """Twice the signed area of the triangle abc on the screen: which side of ab the point c lies on."""
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    @wp.func
    def plane_at(vertices: wp.array[vec3], base: wp.int32, corner: wp.vec3i, x: real, y: real) -> real:
        """Inverse depth of a face's plane at (x, y), within the range of its corners; 0 without an area."""
        a = vertices[base + corner[0]]
        b = vertices[base + corner[1]]
        c = vertices[base + corner[2]]
        area = turn(a, b, c)
        if area == real(0.0):
            return real(0.0)
        p = vec3(x, y, real(0.0))
        z = (turn(p, b, c) * a[2] + turn(p, c, a) * b[2] + turn(p, a, b) * c[2]) / area
        return wp.clamp(z, wp.min(a[2], wp.min(b[2], c[2])), wp.max(a[2], wp.max(b[2], c[2])))

    @wp.func
    def contour_visible(
        vertices: wp.array[vec3],
        base: wp.int32,
        faces: wp.array[wp.vec3i],
        instance: wp.array[wp.int32],
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
        if instance[inside] != instance[e[4]]:
            return False
        if outside < 0 or outside == e[4] or outside == e[5]:
            return True
        return plane_at(vertices, base, faces[outside], x, y) <= z * real(1.0 + SAME_DEPTH)

    @wp.func
    def crease_visible(
        vertices: wp.array[vec3],
        base: wp.int32,
        faces: wp.array[wp.vec3i],
        instance: wp.array[wp.int32],
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
        if instance[left] != instance[e[4]] or instance[right] != instance[e[4]]:
            return False
        if left == e[4] or left == e[5] or right == e[4] or right == e[5]:
            return True
        nearest = wp.max(
            plane_at(vertices, base, faces[left], x, y), plane_at(vertices, base, faces[right], x, y)
        )
        return wp.abs(nearest - z) <= z * real(SAME_DEPTH)

    @wp.func
    def same_surface(
        face_id: wp.array3d[wp.int32],
        inverse_depth: wp.array3d[real],
        group: wp.array[wp.int32],
        n: wp.int32,
        y: wp.int32,
        x: wp.int32,
        f: wp.int32,
        z: real,
    ) -> wp.bool:
        """True where pixel (y, x) is in the picture and shows the smooth surface of face f near depth 1/z."""
        if y < 0 or x < 0 or y >= face_id.shape[1] or x >= face_id.shape[2]:
            return False
        other = face_id[n, y, x]
        if other == f:
            return True
        if other < 0 or f < 0:
            return False
        return group[other] == group[f] and wp.abs(inverse_depth[n, y, x] - z) < real(SAME_SURFACE) * z

    @wp.kernel(module="unique", enable_backward=False)  # nothing to differentiate
    def pure_pixels(
        # in
        group: wp.array[wp.int32],
        face_id: wp.array3d[wp.int32],
        inverse_depth: wp.array3d[real],
        first_image: wp.int32,
        span: wp.int32,
        # out
        pure: wp.array3d[wp.bool],  # True where all four neighbours show the same surface
    ):
        item, y, block = wp.tid()
        n = first_image + item
        height = face_id.shape[1]
        width = face_id.shape[2]
        for x in range(block * span, wp.min(block * span + span, width)):
            f = face_id[n, y, x]
            z = inverse_depth[n, y, x]
            alike = x == 0 or same_surface(face_id, inverse_depth, group, n, y, x - 1, f, z)
            if alike and x + 1 < width:
                alike = same_surface(face_id, inverse_depth, group, n, y, x + 1, f, z)
            if alike and y > 0:
                alike = same_surface(face_id, inverse_depth, group, n, y - 1, x, f, z)
            if alike and y + 1 < height:
                alike = same_surface(face_id, inverse_depth, group, n, y + 1, x, f, z)
            pure[n, y, x] = alike

    @wp.func
    def beyond(
        face_id: wp.array3d[wp.int32],
        inverse_depth: wp.array3d[real],
        group: wp.array[wp.int32],
        image: wp.array3d[colour],
        n: wp.int32,
        y: wp.int32,
        x: wp.int32,
        dy: wp.int32,
        dx: wp.int32,
    ) -> colour:
        """Colour of the surface seen at (y, x), from the next pixel if that shows it too."""
        if same_surface(
            face_id, inverse_depth, group, n, y + dy, x + dx, face_id[n, y, x], inverse_depth[n, y, x]
        ):
            return image[n, y + dy, x + dx]
        return image[n, y, x]

    @wp.kernel(module="unique", enable_backward=False)  # this is the adjoint
    def contours(
        # in
        vertices: wp.array[vec3],
        faces: wp.array[wp.vec3i],
        images_per_copy: wp.int32,
        vertices_per_copy: wp.int32,
        instance: wp.array[wp.int32],
        edges: wp.array[edge],
        group: wp.array[wp.int32],
        face_id: wp.array3d[wp.int32],
        inverse_depth: wp.array3d[real],
        image: wp.array3d[colour],
        grad_image: wp.array3d[colour],
        antialiased: wp.bool,
        first_copy: wp.int32,
        first: wp.int32,
        part: wp.int32,
        # out
        grad_vertices: wp.array2d[vec3],  # one row per host thread: atomics are none on a CPU
    ):
        copy, item = wp.tid()
        copy += first_copy
        base = copy * vertices_per_copy
        e = edges[first + item]
        n = copy * images_per_copy + e[7]
        u = vertices[base + e[0]]
        v = vertices[base + e[1]]
        if not (usable(u) and usable(v)):
            return
        side = turn(u, v, vertices[base + e[2]])
        silhouette = True
        if e[5] >= 0:
            silhouette = side * turn(u, v, vertices[base + e[3]]) > real(0.0)
            if not silhouette and e[6] == 0:
                return
        # s runs along the edge, r across; steep edges run along y
        steep = wp.abs(v[1] - u[1]) >= wp.abs(v[0] - u[0])
        us = u[0]
        ur = u[1]
        vs = v[0]
        vr = v[1]
        length = image.shape[2]
        width = image.shape[1]
        apex_before = side * (vs - us) < real(0.0)  # the object's side is that of smaller r
        if steep:
            us = u[1]
            ur = u[0]
            vs = v[1]
            vr = v[0]
            length = image.shape[1]
            width = image.shape[2]
            apex_before = side * (vs - us) > real(0.0)
        low = wp.max(wp.min(us, vs), real(0.0))
        high = wp.min(wp.max(us, vs), real(length))
        if not (high > low and wp.abs(vs - us) > real(1.0e-6)):
            return
        slope = (vr - ur) / (vs - us)
        force_u = real(0.0)
        force_v = real(0.0)
        for row in range(wp.int32(low), wp.min(wp.int32(wp.ceil(high)), length)):
            start = wp.max(low, real(row))
            end = wp.min(high, real(row) + real(1.0))
            t = (real(0.5) * (start + end) - us) / (vs - us)
            s = real(row) + real(0.5)
            # at the row's centre: elsewhere the pixels on both sides may not differ
            r = ur + (s - us) * slope
            before = wp.floor(r - real(0.5))
            if before >= real(0.0) and before + real(1.0) < real(width):  # int() only of what is in range
                a = wp.int32(before)
                ya = a
                xa = row
                yb = a + 1
                xb = row
                x = s
                y = r
                if steep:
                    ya = row
                    xa = a
                    yb = row
                    xb = a + 1
                    x = r
                    y = s
                fa = face_id[n, ya, xa]
                fb = face_id[n, yb, xb]
                if fa != fb:
                    z = u[2] + t * (v[2] - u[2])
                    visible = False
                    if not silhouette:
                        visible = crease_visible(vertices, base, faces, instance, e, fa, fb, x, y, z)
                    elif apex_before:
                        visible = contour_visible(vertices, base, faces, instance, e, fa, fb, x, y, z)
                    else:
                        visible = contour_visible(vertices, base, faces, instance, e, fb, fa, x, y, z)
                    if visible:
                        phi = r - real(0.5) - before
                        g = (real(1.0) - phi) * grad_image[n, ya, xa] + phi * grad_image[n, yb, xb]
                        ia = image[n, ya, xa]
                        ib = image[n, yb, xb]
                        if antialiased and phi < real(0.5):
                            ia = beyond(face_id, inverse_depth, group, image, n, ya, xa, ya - yb, xa - xb)
                        if antialiased and phi > real(0.5):
                            ib = beyond(face_id, inverse_depth, group, image, n, yb, xb, yb - ya, xb - xa)
                        k = (end - start) * wp.dot(g, ia - ib)
                        force_u += k * (real(1.0) - t)
                        force_v += k * t
        if force_u != real(0.0) or force_v != real(0.0):
            along = vec3(real(1.0), -slope, real(0.0))
            if not steep:
                along = vec3(-slope, real(1.0), real(0.0))
            wp.atomic_add(grad_vertices, part, base + e[0], force_u * along)
            wp.atomic_add(grad_vertices, part, base + e[1], force_v * along)

    @wp.func
    def reliable(
        face_id: wp.array3d[wp.int32],
        inverse_depth: wp.array3d[real],
        group: wp.array[wp.int32],
        pure: wp.array3d[wp.bool],
        antialiased: wp.bool,
        n: wp.int32,
        y: wp.int32,
        x: wp.int32,
        f: wp.int32,
        z: real,
    ) -> wp.bool:
        """True where pixel (y, x) shows face f's surface at depth 1/z and nothing else."""
        if not same_surface(face_id, inverse_depth, group, n, y, x, f, z):
            return False
        return not antialiased or pure[n, y, x]

    @wp.func
    def spread(
        grad_vertices: wp.array2d[vec3], part: wp.int32, i: wp.int32, v: vec3, force: vec2, moment: real
    ):
        """Give corner v its share: force = sum w f, moment = sum w (p . f), over a run of pixels."""
        grad_z = (v[0] * force[0] + v[1] * force[1] - moment) / v[2]
        wp.atomic_add(grad_vertices, part, i, vec3(force[0], force[1], grad_z))

    @wp.kernel(module="unique", enable_backward=False)  # this is the adjoint
    def advection(
        # in
        vertices: wp.array[vec3],
        faces: wp.array[wp.vec3i],
        images_per_copy: wp.int32,
        vertices_per_copy: wp.int32,
        group: wp.array[wp.int32],
        face_id: wp.array3d[wp.int32],
        inverse_depth: wp.array3d[real],
        image: wp.array3d[colour],
        grad_image: wp.array3d[colour],
        antialiased: wp.bool,
        pure: wp.array3d[wp.bool],
        span: wp.int32,  # pixels per work item: the width on a CPU, 1 on a GPU
        first_image: wp.int32,
        first_row: wp.int32,
        part: wp.int32,
        # out
        grad_vertices: wp.array2d[vec3],  # one row per host thread
    ):
        item, line, block = wp.tid()
        n = first_image + item
        base = n / images_per_copy * vertices_per_copy
        y = first_row + line
        end = wp.min(block * span + span, image.shape[2])
        x = block * span
        while x < end:
            f = face_id[n, y, x]
            if f < 0:
                x += 1
                continue
            corner = faces[f]
            a = vertices[base + corner[0]]
            b = vertices[base + corner[1]]
            c = vertices[base + corner[2]]
            area = turn(a, b, c)
            solid = area != real(0.0) and usable(a) and usable(b) and usable(c)
            force_a = vec2()
            force_b = vec2()
            force_c = vec2()
            moment = vec3()
            while x < end:  # the run of pixels that show this face
                if face_id[n, y, x] != f:
                    break
                qy = y
                qx = x
                usable_pixel = solid
                if solid and antialiased and not pure[n, y, x]:  # its colour is a mixture: ask a neighbour
                    z = inverse_depth[n, y, x]
                    if reliable(face_id, inverse_depth, group, pure, antialiased, n, y, x - 1, f, z):
                        qx = x - 1
                    elif reliable(face_id, inverse_depth, group, pure, antialiased, n, y, x + 1, f, z):
                        qx = x + 1
                    elif reliable(face_id, inverse_depth, group, pure, antialiased, n, y - 1, x, f, z):
                        qy = y - 1
                    elif reliable(face_id, inverse_depth, group, pure, antialiased, n, y + 1, x, f, z):
                        qy = y + 1
                    else:
                        usable_pixel = False
                if usable_pixel:
                    q = face_id[n, qy, qx]
                    z = inverse_depth[n, qy, qx]
                    g = grad_image[n, y, x]
                    here = image[n, qy, qx]
                    slope_x = real(0.0)
                    slope_y = real(0.0)
                    count_x = real(0.0)
                    count_y = real(0.0)
                    if reliable(face_id, inverse_depth, group, pure, antialiased, n, qy, qx - 1, q, z):
                        slope_x -= wp.dot(g, image[n, qy, qx - 1] - here)
                        count_x += real(1.0)
                    if reliable(face_id, inverse_depth, group, pure, antialiased, n, qy, qx + 1, q, z):
                        slope_x += wp.dot(g, image[n, qy, qx + 1] - here)
                        count_x += real(1.0)
                    if reliable(face_id, inverse_depth, group, pure, antialiased, n, qy - 1, qx, q, z):
                        slope_y -= wp.dot(g, image[n, qy - 1, qx] - here)
                        count_y += real(1.0)
                    if reliable(face_id, inverse_depth, group, pure, antialiased, n, qy + 1, qx, q, z):
                        slope_y += wp.dot(g, image[n, qy + 1, qx] - here)
                        count_y += real(1.0)
                    force = vec2(-slope_x / wp.max(count_x, real(1.0)), -slope_y / wp.max(count_y, real(1.0)))
                    p = vec3(real(x) + real(0.5), real(y) + real(0.5), real(0.0))
                    wa = turn(p, b, c) / area
                    wb = turn(p, c, a) / area
                    wc = real(1.0) - wa - wb
                    force_a += wa * force
                    force_b += wb * force
                    force_c += wc * force
                    moment += (p[0] * force[0] + p[1] * force[1]) * vec3(wa, wb, wc)
                x += 1
            if solid:
                spread(grad_vertices, part, base + corner[0], a, force_a, moment[0])
                spread(grad_vertices, part, base + corner[1], b, force_b, moment[1])
                spread(grad_vertices, part, base + corner[2], c, force_c, moment[2])

    return SimpleNamespace(
        contours=contours, pure_pixels=pure_pixels, advection=advection, vec3=vec3, colour=colour, edge=edge
    )
