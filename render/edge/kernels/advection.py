"""Advection: inside, the surface carries its colours along, dI = -grad I . dp, p where a point is seen.

With f = -(g . I_x, g . I_y) and screen-space barycentric weights w_k, p moves with the corners by
dp/dv_k = w_k and dp/dz_k = -w_k (v_k - p) / z_k: a point's weights in space are as w_k z_k.
"""

from types import SimpleNamespace
from typing import Any

import warp as wp

from render.compilation import OPTIONS
from render.reading import adder, reader, writer


def advection(c: SimpleNamespace, lanes: int) -> tuple[Any, Any]:
    """Build the kernels from `common`: which surfaces pixels show; advection, `lanes` pixels at once."""
    real, vec2, vec3, colour = c.real, c.vec2, c.vec3, c.colour
    Mesh, picture_of = c.Mesh, c.picture_of
    usable, turn, same_surface = c.usable, c.turn, c.same_surface
    SAME_SURFACE = c.SAME_SURFACE
    read_int, read_real, write_int = reader(wp.int32), reader(real), writer(wp.int32)
    read_vertex, read_face, add_vertex = reader(vec3), reader(wp.vec3i), adder(vec3)
    slopes, slope = slopes_of(c, lanes), slopes_of(c, 1)

    @wp.kernel(module="unique", module_options=OPTIONS)  # nothing to differentiate
    def surfaces(
        # in
        mesh: Mesh,
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
        # out
        surface: wp.array[wp.int32],  # the smooth surface a pixel shows; -1 for none, or a mixture of several
    ):
        item, line, block = wp.tid()
        p = picture_of(height, width, face_id, inverse_depth, image, grad_image, antialiased)
        y = first_row + line
        row = ((first_image + item) * p.height + y) * p.width
        begin = block * span
        end = wp.min(begin + span, p.width)
        group = mesh.group
        i = row + begin
        while i < row + end:
            f = read_int(face_id, i)
            write_int(surface, i, wp.where(f < 0, -1, read_int(group, wp.max(f, 0))))
            i += 1
        x = wp.where(p.antialiased, begin, end)
        while x < end:
            i = row + x
            f = read_int(face_id, i)
            z = read_real(p.inverse_depth, i)
            alike = x == 0 or same_surface(mesh, p, f, z, i - 1)
            if alike and x + 1 < p.width:
                alike = same_surface(mesh, p, f, z, i + 1)
            if alike and y > 0:
                alike = same_surface(mesh, p, f, z, i - p.width)
            if alike and y + 1 < p.height:
                alike = same_surface(mesh, p, f, z, i + p.width)
            if not alike:
                write_int(surface, i, -1)
            x += 1

    @wp.func
    def shows(
        face_id: wp.array[wp.int32],
        surface: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        i: wp.int32,
        j: wp.int32,
        own: wp.int32,
    ) -> wp.bool:
        """True where pixel j shows only the surface `own` of pixel i's face, near its depth."""
        if read_int(surface, j) != own:
            return False
        if read_int(face_id, j) == read_int(face_id, i):
            return True
        z = read_real(inverse_depth, i)
        return wp.abs(read_real(inverse_depth, j) - z) < real(SAME_SURFACE) * z

    @wp.func
    def borrowed(
        face_id: wp.array[wp.int32],
        surface: wp.array[wp.int32],
        group: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        image: wp.array[colour],
        grad_image: wp.array[colour],
        i: wp.int32,
        x: wp.int32,
        y: wp.int32,
        width: wp.int32,
        height: wp.int32,
    ) -> vec2:
        """f_x and f_y where pixel i, at (x, y), mixes surfaces: with slopes of a neighbour that does not."""
        own = read_int(group, read_int(face_id, i))
        qx = x
        qy = y
        if x > 0 and shows(face_id, surface, inverse_depth, i, i - 1, own):
            qx = x - 1
        elif x + 1 < width and shows(face_id, surface, inverse_depth, i, i + 1, own):
            qx = x + 1
        elif y > 0 and shows(face_id, surface, inverse_depth, i, i - width, own):
            qy = y - 1
        elif y + 1 < height and shows(face_id, surface, inverse_depth, i, i + width, own):
            qy = y + 1
        else:
            return vec2()
        q = i + (qy - y) * width + qx - x
        left = wp.where(qx > 0, -1, 0)
        right = wp.where(qx + 1 < width, 1, 0)
        up = wp.where(qy > 0, -width, 0)
        down = wp.where(qy + 1 < height, width, 0)
        return slope(face_id, surface, 0, inverse_depth, image, grad_image, i, q, 1, left, right, up, down)

    @wp.func
    def spread(grad: wp.array[vec3], i: wp.int32, v: vec3, px: real, py: real, force: vec3):
        """Give corner v its share: force = sum w (f_x, f_y, (p_x - px) f_x) over a run of row py."""
        lever = force[2] + (px - v[0]) * force[0] + (py - v[1]) * force[1]  # sum w ((p - v) . f)
        add_vertex(grad, i, vec3(force[0], force[1], lever / v[2]))

    @wp.func
    def end_run(
        grad: wp.array[vec3],
        vertices: wp.array[vec3],
        faces: wp.array[wp.vec3i],
        base: wp.int32,
        f: wp.int32,
        x: wp.int32,
        y: wp.int32,
        fx_0: real,
        fx_1: real,
        fx_2: real,
        fy_0: real,
        fy_1: real,
    ):
        """Give face f's corners their shares of a run of row y that ends before pixel x.

        Args as in `advect`: sums of f, of those sums, and of those again. A pixel q before x counts once in
        the first, q times in the second, q (q + 1) / 2 times in the third.
        """
        corner = read_face(faces, f)
        a = read_vertex(vertices, base + corner[0])
        b = read_vertex(vertices, base + corner[1])
        c = read_vertex(vertices, base + corner[2])
        area = turn(a, b, c)
        if area != real(0.0) and usable(a) and usable(b) and usable(c):
            # weights of corners a and b, affine along the row: at pixel x, and their slopes to the left
            scale = real(1.0) / area
            px = real(x) + real(0.5)
            py = real(y) + real(0.5)
            here = vec3(px, py, real(0.0))
            a_0 = turn(here, b, c) * scale
            b_0 = turn(here, c, a) * scale
            a_1 = (c[1] - b[1]) * scale
            b_1 = (a[1] - c[1]) * scale
            square = real(2.0) * fx_2 - fx_1  # sum q^2 f_x
            sum_a = vec3(a_0 * fx_0 + a_1 * fx_1, a_0 * fy_0 + a_1 * fy_1, -a_0 * fx_1 - a_1 * square)
            sum_b = vec3(b_0 * fx_0 + b_1 * fx_1, b_0 * fy_0 + b_1 * fy_1, -b_0 * fx_1 - b_1 * square)
            sum_c = vec3(fx_0, fy_0, -fx_1) - sum_a - sum_b
            spread(grad, base + corner[0], a, px, py, sum_a)
            spread(grad, base + corner[1], b, px, py, sum_b)
            spread(grad, base + corner[2], c, px, py, sum_c)

    # Arrays, not the structs: reading those in the innermost loop took half the time again.
    @wp.kernel(module="unique", module_options=OPTIONS)  # this is the adjoint
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
        surface: wp.array[wp.int32],
        shift: wp.int32,
        span: wp.int32,  # pixels per work item: the width on a CPU, few on a GPU
        first_image: wp.int32,
        first_row: wp.int32,
        part: wp.int32,
        # out
        grad_vertices: wp.array2d[vec3],
    ):
        item, line, chunk = wp.tid()
        n = first_image + item
        base = n / images_per_copy * vertices_per_copy
        y = first_row + line
        row = (n * height + y) * width
        grad = grad_vertices[part]
        up = wp.where(y > 0, -width, 0)  # to a pixel's neighbours; 0 beyond the picture
        down = wp.where(y + 1 < height, width, 0)
        # the run of pixels that show one face: sums of f_x and f_y, of those sums, and of those again
        f = wp.int32(-1)
        fx_0 = real(0.0)
        fx_1 = real(0.0)
        fx_2 = real(0.0)
        fy_0 = real(0.0)
        fy_1 = real(0.0)
        x = chunk * span
        end = wp.min(x + span, width)
        while x < end:
            first = row + x
            if f < 0 and read_int(face_id, first) < 0:
                x += 1
                continue
            left = wp.where(x > 0, -1, 0)
            right = wp.where(x + 1 < width, 1, 0)
            count = wp.where(left * right == 0, 1, wp.min(lanes, width - 1 - x))  # all have both
            block = slopes(
                face_id,
                surface,
                shift,
                inverse_depth,
                image,
                grad_image,
                first,
                first,
                count,
                left,
                right,
                up,
                down,
            )
            k = wp.where(antialiased, 0, count)
            while k < count:
                i = first + k
                if read_int(face_id, i) >= 0 and read_int(surface, i) < 0:
                    lent = borrowed(
                        face_id, surface, group, inverse_depth, image, grad_image, i, x + k, y, width, height
                    )
                    block[k] = lent[0]
                    block[lanes + k] = lent[1]
                k += 1
            k = wp.int32(0)
            while k < count:
                seen = read_int(face_id, first + k)
                if seen != f:
                    if f >= 0:
                        end_run(grad, vertices, faces, base, f, x + k, y, fx_0, fx_1, fx_2, fy_0, fy_1)
                    f = seen
                    fx_0 = real(0.0)
                    fx_1 = real(0.0)
                    fx_2 = real(0.0)
                    fy_0 = real(0.0)
                    fy_1 = real(0.0)
                fx = block[k]
                fy = block[lanes + k]
                fx_0 += fx
                fx_1 += fx_0
                fx_2 += fx_1
                fy_0 += fy
                fy_1 += fy_0
                k += 1
            x += count
        if f >= 0:
            end_run(grad, vertices, faces, base, f, end, y, fx_0, fx_1, fx_2, fy_0, fy_1)

    return surfaces, advect


def slopes_of(c: SimpleNamespace, lanes: int) -> Any:
    """Make the function that gives f_x and f_y of up to `lanes` pixels, which a CPU does side by side.

    Pixels i + k give the cotangent, pixels q + k the slopes, k < count. `left`, `right`, `up`, `down` lead to
    their neighbours, or are 0 at the picture's border. What does not show the same surface does not count.
    `surface` may be `face_id` where all faces are of one surface: with a `shift` of 31, only its signs tell.
    """
    real, colour = c.real, c.colour
    vec = wp.types.vector(length=2 * lanes, dtype=real)

    # Differences of all neighbours, then selections: a branch would keep the loop out of vector units.
    @wp.func_native(f"""
        using real = wp::{real.__name__};
        constexpr int C = {c.channels};
        const int *face = face_id.data + q, *own = surface.data + q;
        const real *z = inverse_depth.data + q;
        const real *here = reinterpret_cast<const real *>(image.data + q);
        const real *g = reinterpret_cast<const real *>(grad_image.data + i);
        // beyond the border a pixel is its own neighbour, and differs from it in nothing
        const real half_x = left && right ? 0.5 : 1.0, half_y = up && down ? 0.5 : 1.0;
        wp::vec_t<{2 * lanes}, real> f;
        for (int k = 0; k < count; ++k) {{
            const real reach = real({c.SAME_SURFACE}) * z[k];
            const auto shows = [&](int to) {{
                const bool near = (face[k + to] == face[k]) | (wp::abs(z[k + to] - z[k]) < reach);
                return (((own[k + to] ^ own[k]) >> shift) == 0) & near;
            }};
            const auto change = [&](int to) {{
                real sum = 0;
                for (int c = 0; c < C; ++c)
                    sum += g[k * C + c] * (here[(k + to) * C + c] - here[k * C + c]);
                return sum;
            }};
            const bool l = shows(left), r = shows(right), u = shows(up), d = shows(down);
            const real to_l = change(left), to_r = change(right), to_u = change(up), to_d = change(down);
            const real x = (l ? to_l : real(0)) - (r ? to_r : real(0));
            const real y = (u ? to_u : real(0)) - (d ? to_d : real(0));
            f[k] = (l & r) ? half_x * x : x;
            f[{lanes} + k] = (u & d) ? half_y * y : y;
        }}
        return f;
    """)
    def slopes(
        face_id: wp.array[wp.int32],
        surface: wp.array[wp.int32],
        shift: wp.int32,
        inverse_depth: wp.array[real],
        image: wp.array[colour],
        grad_image: wp.array[colour],
        i: wp.int32,
        q: wp.int32,
        count: wp.int32,
        left: wp.int32,
        right: wp.int32,
        up: wp.int32,
        down: wp.int32,
    ) -> vec: ...

    return slopes
