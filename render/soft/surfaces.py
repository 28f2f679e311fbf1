"""Triangles and what they carry, at a pixel: the Warp functions that the kernels of soft rasterization share.

`kernels.py` has coordinates and formulas.
"""
# Warp functions are Warp's language, not Python's: tests check them
# mypy: ignore-errors

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp


@functools.cache
def surfaces(real: Any, channels: int, textured: bool) -> SimpleNamespace:
    """Build types and functions for a scalar type and for what surfaces carry."""
    vec2 = wp.types.vector(length=2, dtype=real)
    vec3 = wp.types.vector(length=3, dtype=real)
    colour = wp.types.vector(length=channels, dtype=real)
    carried = vec2 if textured else colour  # what corners have: texture coordinates or colours

    FAR = wp.constant(1.0e9)  # [px], [1/m] a coordinate beyond says nothing, and int() of it would be garbage
    NEAR = wp.constant(1.0e-9)  # [1/m] inverse depth of what is behind the eye or endlessly far
    FLAT = wp.constant(1.0e-7)  # height over length of a triangle without an area, to float32's precision
    SPECK = wp.constant(1.0e-6)  # [px] height of one
    HUGE = wp.constant(1.0e30)

    @wp.struct
    class Scene:
        vertices: wp.array(dtype=vec3)  # copy after copy
        faces: wp.array(dtype=wp.vec3i)
        image: wp.array(dtype=wp.int32)
        culled: wp.array(dtype=wp.bool)
        values: wp.array(dtype=carried)
        rows: wp.array(dtype=wp.vec3i)  # of `values`, for the corners of a face
        texels: wp.array3d(dtype=colour)
        vertex_count: wp.int32  # per copy
        image_count: wp.int32  # per copy
        stride: wp.int32  # rows of `values` per copy

    @wp.struct
    class Softness:
        inverse_sigma2: real  # [1/px^2]
        inverse_gamma: real
        radius: real  # [px] where x = -cut
        cut: real
        faint: real  # a face whose s/gamma is that much below the best has no weight
        negligible: real  # transparency or weight that is as good as none

    @wp.struct
    class Work:  # of one launch
        first_copy: wp.int32
        first_face: wp.int32
        row_begin: wp.int32
        row_end: wp.int32
        chunks: wp.int32  # work items that a face's rows are dealt to, one after another

    @wp.struct
    class Face:
        a: vec2
        b: vec2
        c: vec2
        s: vec3
        slope_x: vec3  # of the barycentric weights
        slope_y: vec3
        inverse_length2: vec3  # of the edges ab, bc, ca
        shift: vec3  # where the lines beside the edges cross the height of the edge's start
        lean: vec3
        best: real  # greatest s/gamma
        n: wp.int32  # picture
        x0: wp.int32
        x1: wp.int32
        y0: wp.int32
        y1: wp.int32  # not above y0 where nothing is to be drawn

    @wp.struct
    class Hit:
        x: real
        w: vec3  # not clamped
        side: real
        edge: wp.int32
        t: real
        q: vec2

    @wp.struct
    class Point:  # of a face, what a pixel sees
        w: vec3  # clamped, normalised
        inverse_total: real  # of the clamped weights before the normalisation
        s: real
        inverse_s: real
        b: vec3  # perspective-correct weights

    @wp.func
    def usable(v: vec3) -> wp.bool:
        """False for vertices that are not finite, far off, or behind the eye."""
        near = wp.abs(v[0]) < real(FAR) and wp.abs(v[1]) < real(FAR)  # written so that NaN fails
        return near and v[2] > real(NEAR) and v[2] < real(FAR)

    @wp.func
    def cross2(u: vec2, v: vec2) -> real:
        return u[0] * v[1] - u[1] * v[0]

    @wp.func
    def first_pixel(low: real, size: wp.int32) -> wp.int32:
        """First pixel whose centre is not before `low`: clamped first, int() of a huge float is garbage."""
        return wp.int32(wp.ceil(wp.clamp(low - real(0.5), real(0.0), real(size))))

    @wp.func
    def end_pixel(high: real, size: wp.int32) -> wp.int32:
        """One more than the last pixel whose centre is not after `high`."""
        return wp.int32(wp.floor(wp.clamp(high - real(0.5), real(-1.0), real(size) - real(1.0)))) + 1

    @wp.func
    def face_of(
        scene: Scene,
        soft: Softness,
        work: Work,
        copy: wp.int32,
        f: wp.int32,
        chunk: wp.int32,
        height: wp.int32,
        width: wp.int32,
    ) -> Face:
        """A face's constants, and its pixels; of its rows each `chunks`-th, from its `chunk`-th on."""
        face = Face()
        first = copy * scene.vertex_count
        i = scene.faces[f]
        va = scene.vertices[first + i[0]]
        vb = scene.vertices[first + i[1]]
        vc = scene.vertices[first + i[2]]
        if not (usable(va) and usable(vb) and usable(vc)):
            return face
        a = vec2(va[0], va[1])
        b = vec2(vb[0], vb[1])
        c = vec2(vc[0], vc[1])
        ab = b - a
        bc = c - b
        ca = a - c
        area = cross2(bc, ca)  # positive where a, b, c turn clockwise as seen: y runs down
        if scene.culled[f] and area > real(0.0):
            return face
        lab = wp.dot(ab, ab)
        lbc = wp.dot(bc, bc)
        lca = wp.dot(ca, ca)
        long2 = wp.max(lab, wp.max(lbc, lca))
        if not (wp.abs(area) > wp.max(real(FLAT) * long2, real(SPECK) * wp.sqrt(long2))):
            return face
        x_low = wp.min(a[0], wp.min(b[0], c[0])) - soft.radius
        x_high = wp.max(a[0], wp.max(b[0], c[0])) + soft.radius
        y_low = wp.min(a[1], wp.min(b[1], c[1])) - soft.radius
        y_high = wp.max(a[1], wp.max(b[1], c[1])) + soft.radius
        y0 = wp.max(work.row_begin, first_pixel(y_low, height)) + chunk
        y1 = wp.min(work.row_end, end_pixel(y_high, height))
        x0 = first_pixel(x_low, width)
        x1 = end_pixel(x_high, width)
        if y0 >= y1 or x0 >= x1:
            return face
        face.x0 = x0
        face.x1 = x1
        face.y0 = y0
        face.y1 = y1
        tiny = real(1.0e-30)
        inverse = real(1.0) / area
        face.n = copy * scene.image_count + scene.image[f]
        face.a = a
        face.b = b
        face.c = c
        face.s = vec3(va[2], vb[2], vc[2])
        face.best = wp.max(va[2], wp.max(vb[2], vc[2])) * soft.inverse_gamma
        face.slope_x = vec3(-bc[1], -ca[1], -ab[1]) * inverse
        face.slope_y = vec3(bc[0], ca[0], ab[0]) * inverse
        face.inverse_length2 = vec3(
            real(1.0) / wp.max(lab, tiny), real(1.0) / wp.max(lbc, tiny), real(1.0) / wp.max(lca, tiny)
        )
        start = vec3(b[0], c[0], a[0])  # of the edge opposite to a, b, c
        for k in range(3):
            sx = face.slope_x[k]
            sy = face.slope_y[k]
            if wp.abs(sx) > real(1.0e-3) * wp.abs(sy):
                lean = sy / sx
                aside = soft.radius * wp.sqrt(real(1.0) + lean * lean)
                face.lean[k] = lean
                face.shift[k] = start[k] - wp.sign(sx) * aside
            else:  # a level edge bounds no row
                face.shift[k] = wp.where(sx > real(0.0), -real(HUGE), real(HUGE))
        return face

    @wp.func
    def columns(face: Face, py: real, width: wp.int32) -> wp.vec2i:
        """First and past-the-last pixel of a row that may be in reach: within `radius` of all three lines."""
        low = -real(HUGE)
        high = real(HUGE)
        start = vec3(face.b[1], face.c[1], face.a[1])
        for k in range(3):
            at = face.shift[k] - face.lean[k] * (py - start[k])
            slack = real(0.01) + real(1.0e-6) * (wp.abs(face.shift[k]) + wp.abs(at))
            if face.slope_x[k] > real(0.0):
                low = wp.max(low, at - slack)
            else:
                high = wp.min(high, at + slack)
        return wp.vec2i(
            wp.max(face.x0, first_pixel(low, width)),
            wp.min(face.x1, end_pixel(high, width)),
        )

    @wp.func
    def hit_of(face: Face, p: vec2, inverse_sigma2: real) -> Hit:
        """The signed squared distance from p to the nearest edge, and where that edge is nearest."""
        hit = Hit()
        ab = face.b - face.a
        bc = face.c - face.b
        ca = face.a - face.c
        pa = p - face.a
        pb = p - face.b
        pc = p - face.c
        hit.w = vec3(
            face.slope_x[0] * pb[0] + face.slope_y[0] * pb[1],
            face.slope_x[1] * pc[0] + face.slope_y[1] * pc[1],
            face.slope_x[2] * pa[0] + face.slope_y[2] * pa[1],
        )
        ta = wp.clamp(wp.dot(pa, ab) * face.inverse_length2[0], real(0.0), real(1.0))
        tb = wp.clamp(wp.dot(pb, bc) * face.inverse_length2[1], real(0.0), real(1.0))
        tc = wp.clamp(wp.dot(pc, ca) * face.inverse_length2[2], real(0.0), real(1.0))
        qa = pa - ta * ab
        qb = pb - tb * bc
        qc = pc - tc * ca
        da = wp.dot(qa, qa)
        db = wp.dot(qb, qb)
        dc = wp.dot(qc, qc)
        hit.t = ta
        hit.q = qa
        d2 = da
        if db < d2:
            hit.edge = 1
            hit.t = tb
            hit.q = qb
            d2 = db
        if dc < d2:
            hit.edge = 2
            hit.t = tc
            hit.q = qc
            d2 = dc
        hit.side = real(-1.0)
        if wp.min(hit.w[0], wp.min(hit.w[1], hit.w[2])) >= real(0.0):
            hit.side = real(1.0)
        hit.x = hit.side * d2 * inverse_sigma2
        return hit

    @wp.func
    def point_of(face: Face, w: vec3) -> Point:
        point = Point()
        ca = wp.max(w[0], real(0.0))
        cb = wp.max(w[1], real(0.0))
        cc = wp.max(w[2], real(0.0))
        point.inverse_total = real(1.0) / (ca + cb + cc)
        point.w = point.inverse_total * vec3(ca, cb, cc)
        point.b = wp.cw_mul(point.w, face.s)
        point.s = point.b[0] + point.b[1] + point.b[2]
        point.inverse_s = real(1.0) / point.s
        point.b = point.inverse_s * point.b
        return point

    @wp.func
    def grad_weights(face: Face, hit: Hit, point: Point, grad_w: vec3) -> vec2:
        """Sum over k of dL/dw_k grad w_k, given the cotangent of the clamped and normalised weights."""
        mean = wp.dot(grad_w, point.w)
        slope = vec2()
        for k in range(3):
            if hit.w[k] > real(0.0):
                slope += (grad_w[k] - mean) * vec2(face.slope_x[k], face.slope_y[k])
        return point.inverse_total * slope

    @wp.func
    def shares(hit: Hit) -> vec3:
        """How the corners a, b, c share the nearest edge's motion where it is nearest."""
        if hit.edge == 0:
            return vec3(real(1.0) - hit.t, hit.t, real(0.0))
        if hit.edge == 1:
            return vec3(real(0.0), real(1.0) - hit.t, hit.t)
        return vec3(hit.t, real(0.0), real(1.0) - hit.t)

    if textured:

        @wp.struct
        class Texel:  # the four texels round a point
            x0: wp.int32
            x1: wp.int32
            y0: wp.int32
            y1: wp.int32
            fx: real
            fy: real

        @wp.func
        def repeated(u: real) -> real:
            """The fractional part; 0 for what is not finite."""
            part = u - wp.floor(u)
            if part >= real(0.0) and part < real(1.0):
                return part
            return real(0.0)

        @wp.func
        def texel_of(uv: vec2, height: wp.int32, width: wp.int32) -> Texel:
            texel = Texel()
            x = repeated(uv[0]) * real(width) - real(0.5)
            y = repeated(uv[1]) * real(height) - real(0.5)
            left = wp.int32(wp.floor(x))
            top = wp.int32(wp.floor(y))
            texel.fx = x - real(left)
            texel.fy = y - real(top)
            texel.x0 = (left + width) % width
            texel.x1 = (left + 1) % width
            texel.y0 = (top + height) % height
            texel.y1 = (top + 1) % height
            return texel

        @wp.func
        def colour_at(scene: Scene, copy: wp.int32, uv: carried) -> colour:
            layer = wp.min(copy, scene.texels.shape[0] - 1)
            e = texel_of(uv, scene.texels.shape[1], scene.texels.shape[2])
            upper = (real(1.0) - e.fx) * scene.texels[layer, e.y0, e.x0] + e.fx * scene.texels[
                layer, e.y0, e.x1
            ]
            lower = (real(1.0) - e.fx) * scene.texels[layer, e.y1, e.x0] + e.fx * scene.texels[
                layer, e.y1, e.x1
            ]
            return (real(1.0) - e.fy) * upper + e.fy * lower

        @wp.func
        def grad_value(scene: Scene, copy: wp.int32, uv: carried, grad_colour: colour) -> carried:
            """Cotangent of the texture coordinates, given that of the colour."""
            height = scene.texels.shape[1]
            width = scene.texels.shape[2]
            layer = wp.min(copy, scene.texels.shape[0] - 1)
            e = texel_of(uv, height, width)
            g00 = wp.dot(grad_colour, scene.texels[layer, e.y0, e.x0])
            g01 = wp.dot(grad_colour, scene.texels[layer, e.y0, e.x1])
            g10 = wp.dot(grad_colour, scene.texels[layer, e.y1, e.x0])
            g11 = wp.dot(grad_colour, scene.texels[layer, e.y1, e.x1])
            return carried(
                real(width) * ((real(1.0) - e.fy) * (g01 - g00) + e.fy * (g11 - g10)),
                real(height) * ((real(1.0) - e.fx) * (g10 - g00) + e.fx * (g11 - g01)),
            )

        @wp.func
        def seen_by(scene: Scene, copy: wp.int32, uv: carried, g: colour, mean: real) -> real:
            return wp.dot(g, colour_at(scene, copy, uv))

        @wp.func
        def add_texels(
            grad_texels: wp.array4d(dtype=colour),
            part: wp.int32,
            copy: wp.int32,
            uv: carried,
            grad_colour: colour,
        ):
            layer = wp.min(copy, grad_texels.shape[1] - 1)
            e = texel_of(uv, grad_texels.shape[2], grad_texels.shape[3])
            upper = (real(1.0) - e.fy) * grad_colour
            lower = e.fy * grad_colour
            wp.atomic_add(grad_texels, part, layer, e.y0, e.x0, (real(1.0) - e.fx) * upper)
            wp.atomic_add(grad_texels, part, layer, e.y0, e.x1, e.fx * upper)
            wp.atomic_add(grad_texels, part, layer, e.y1, e.x0, (real(1.0) - e.fx) * lower)
            wp.atomic_add(grad_texels, part, layer, e.y1, e.x1, e.fx * lower)

    else:

        @wp.func
        def colour_at(scene: Scene, copy: wp.int32, value: carried) -> colour:
            return value

        @wp.func
        def grad_value(scene: Scene, copy: wp.int32, value: carried, grad_colour: colour) -> carried:
            return grad_colour

        @wp.func
        def seen_by(scene: Scene, copy: wp.int32, value: carried, g: colour, mean: real) -> real:
            return mean

        @wp.func
        def add_texels(
            grad_texels: wp.array4d(dtype=colour),
            part: wp.int32,
            copy: wp.int32,
            value: carried,
            grad_colour: colour,
        ):
            return

    return SimpleNamespace(
        vec2=vec2,
        vec3=vec3,
        colour=colour,
        carried=carried,
        Scene=Scene,
        Softness=Softness,
        Work=Work,
        Face=Face,
        face_of=face_of,
        columns=columns,
        hit_of=hit_of,
        point_of=point_of,
        grad_weights=grad_weights,
        shares=shares,
        colour_at=colour_at,
        grad_value=grad_value,
        seen_by=seen_by,
        add_texels=add_texels,
    )
