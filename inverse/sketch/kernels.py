"""Warp kernels of the sketch: one object drawn into a small window, scored and differenced against a picture.

A sketch throws no shadow, has no highlight, and no neighbours but those that hide or shade it; it costs
microseconds, an engine's picture milliseconds. Search looks at tens of thousands of sketches to decide which
few scenes the engine shall draw.

Coordinates: pixels of the drawn resolution, centre of pixel (row i, column j) at (j + 0.5, i + 0.5); camera
axes of OpenGL (looking along -z). A window is a square of the picture, `origin` its top-left pixel (x, y).

Encoded colour is treated as a power of linear light, x^(1 / 2.2), under which a tint stays a factor: the best
tint of an object is then a weighted mean, found in closed form. The error against sRGB is below 0.03 and the
engine's own picture has the last word.

rho(r) = |r|^2 / (|r|^2 + tau^2), Geman and McClure 1987: the number of wrong pixels.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
def cross2(ax: float, ay: float, bx: float, by: float) -> float:
    """Twice the signed area that two vectors span."""
    return ax * by - ay * bx


@wp.func
def rho(r: wp.vec3, tau2: float) -> float:
    """How wrong a pixel is, in [0, 1]."""
    rr = wp.dot(r, r)
    return rr / (rr + tau2)


@wp.func
def shading(normal: wp.vec3, light: wp.vec4, ambient: float) -> float:
    """Encoded brightness of a white surface; light is (direction, intensity)."""
    lambert = wp.max(0.0, normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2])
    return wp.pow(ambient + light[3] * lambert, 1.0 / 2.2)


@wp.struct
class Shadow:
    """A shadow map; `sketcher.Shadow` says how it is read."""

    inverse_depth: wp.array2d[float]
    matrix: wp.mat33
    offset: wp.vec3
    least: float
    dark: float


@wp.func
def in_shadow(x: float, y: float, inverse_depth: float, shadow: Shadow) -> bool:
    """True where what a pixel shows lies behind what the lamp sees."""
    h = shadow.matrix * wp.vec3(x, y, 1.0) + shadow.offset * inverse_depth
    if h[2] <= 0.0:
        return False
    column = int(wp.floor(h[0] / h[2]))
    row = int(wp.floor(h[1] / h[2]))
    seen = shadow.inverse_depth
    if column < 0 or row < 0 or column >= seen.shape[1] or row >= seen.shape[0]:
        return False
    return seen[row, column] * h[2] > inverse_depth * shadow.least


@wp.func
def texel(texels: wp.array3d[wp.vec3], texture: int, t: wp.vec2) -> wp.vec3:
    """The nearest texel; the texture repeats."""
    side = texels.shape[1]
    col = int(wp.clamp((t[0] - wp.floor(t[0])) * float(side), 0.0, float(side - 1)))
    row = int(wp.clamp((t[1] - wp.floor(t[1])) * float(side), 0.0, float(side - 1)))
    return texels[texture, row, col]


@wp.kernel
def draw(
    # in
    asset: wp.array[wp.int32],
    linear: wp.array[wp.mat33],
    translation: wp.array[wp.vec3],
    focal: wp.vec2,
    centre: wp.vec2,
    height: int,
    width: int,
    window: int,
    place: int,
    vertices: wp.array[wp.vec3],
    normals: wp.array[wp.vec3],
    colours: wp.array[wp.vec3],
    uv: wp.array[wp.vec2],
    faces: wp.array[wp.vec3i],
    spans: wp.array2d[wp.int32],
    texels: wp.array3d[wp.vec3],
    # scratch
    screen: wp.array2d[wp.vec3],
    face: wp.array3d[wp.int32],
    # in when place == 0, else out
    origin: wp.array[wp.vec2i],
    # out
    inverse_depth: wp.array3d[float],
    normal: wp.array3d[wp.vec3h],
    albedo: wp.array3d[wp.vec3h],
):
    """One object into its window, by a depth buffer; normal and albedo only where it is seen."""
    n = wp.tid()
    a = asset[n]
    first_vertex = spans[a, 0]
    vertex_count = spans[a, 1]
    first_face = spans[a, 2]
    face_count = spans[a, 3]
    textured = spans[a, 4]
    closed = spans[a, 5]
    matrix = linear[n]
    low = wp.vec2(1.0e6, 1.0e6)
    high = wp.vec2(-1.0e6, -1.0e6)
    for k in range(vertex_count):
        p = matrix * vertices[first_vertex + k] + translation[n]
        inverse = -1.0 / wp.min(p[2], -1.0e-4)
        if p[2] > -1.0e-4:
            inverse = 0.0  # behind the camera: its faces are left out
        x = centre[0] + focal[0] * p[0] * inverse
        y = centre[1] - focal[1] * p[1] * inverse
        screen[n, k] = wp.vec3(x, y, inverse)
        low = wp.vec2(wp.min(low[0], x), wp.min(low[1], y))
        high = wp.vec2(wp.max(high[0], x), wp.max(high[1], y))
    if place == 1:
        ox = wp.clamp(0.5 * (low[0] + high[0]) - 0.5 * float(window) + 0.5, -1.0e6, 1.0e6)
        oy = wp.clamp(0.5 * (low[1] + high[1]) - 0.5 * float(window) + 0.5, -1.0e6, 1.0e6)
        origin[n] = wp.vec2i(
            wp.clamp(int(wp.floor(ox)), 0, wp.max(width - window, 0)),
            wp.clamp(int(wp.floor(oy)), 0, wp.max(height - window, 0)),
        )
    left = origin[n][0]
    top = origin[n][1]
    for i in range(window):
        for j in range(window):
            inverse_depth[n, i, j] = 0.0
    right = wp.min(left + window, width)
    bottom = wp.min(top + window, height)
    for f in range(face_count):
        index = faces[first_face + f]
        u = screen[n, index[0]]
        v = screen[n, index[1]]
        w = screen[n, index[2]]
        area = cross2(v[0] - u[0], v[1] - u[1], w[0] - u[0], w[1] - u[1])
        shows = area < 0.0 or (closed == 0 and area > 0.0)  # y runs down: fronts have a negative area
        if shows and u[2] > 0.0 and v[2] > 0.0 and w[2] > 0.0:
            inverse_area = 1.0 / area
            x0 = wp.max(float(left), wp.ceil(wp.min(u[0], wp.min(v[0], w[0])) - 0.5))
            x1 = wp.min(float(right - 1), wp.floor(wp.max(u[0], wp.max(v[0], w[0])) - 0.5))
            y0 = wp.max(float(top), wp.ceil(wp.min(u[1], wp.min(v[1], w[1])) - 0.5))
            y1 = wp.min(float(bottom - 1), wp.floor(wp.max(u[1], wp.max(v[1], w[1])) - 0.5))
            if x0 <= x1 and y0 <= y1:
                for i in range(int(y0), int(y1) + 1):
                    py = float(i) + 0.5
                    for j in range(int(x0), int(x1) + 1):
                        px = float(j) + 0.5
                        b0 = cross2(v[0] - px, v[1] - py, w[0] - px, w[1] - py) * inverse_area
                        b1 = cross2(w[0] - px, w[1] - py, u[0] - px, u[1] - py) * inverse_area
                        b2 = 1.0 - b0 - b1
                        if b0 >= 0.0 and b1 >= 0.0 and b2 >= 0.0:
                            z = b0 * u[2] + b1 * v[2] + b2 * w[2]
                            if z > inverse_depth[n, i - top, j - left]:
                                inverse_depth[n, i - top, j - left] = z
                                face[n, i - top, j - left] = f
    # where the object is
    first_row = int(wp.clamp(low[1] - float(top), 0.0, float(window)))
    last_row = int(wp.clamp(high[1] - float(top) + 1.0, 0.0, float(window)))
    first_column = int(wp.clamp(low[0] - float(left), 0.0, float(window)))
    last_column = int(wp.clamp(high[0] - float(left) + 1.0, 0.0, float(window)))
    for i in range(first_row, last_row):
        py = float(top + i) + 0.5
        for j in range(first_column, last_column):
            if inverse_depth[n, i, j] > 0.0:
                f = face[n, i, j]
                px = float(left + j) + 0.5
                index = faces[first_face + f]
                u = screen[n, index[0]]
                v = screen[n, index[1]]
                w = screen[n, index[2]]
                b0 = cross2(v[0] - px, v[1] - py, w[0] - px, w[1] - py) * u[2]
                b1 = cross2(w[0] - px, w[1] - py, u[0] - px, u[1] - py) * v[2]
                b2 = cross2(u[0] - px, u[1] - py, v[0] - px, v[1] - py) * w[2]
                scale = 1.0 / (b0 + b1 + b2)
                b0 *= scale
                b1 *= scale
                b2 *= scale
                i0 = first_vertex + index[0]
                i1 = first_vertex + index[1]
                i2 = first_vertex + index[2]
                m = wp.normalize(matrix * (b0 * normals[i0] + b1 * normals[i1] + b2 * normals[i2]))
                eye = matrix * (b0 * vertices[i0] + b1 * vertices[i1] + b2 * vertices[i2]) + translation[n]
                if wp.dot(m, eye) > 0.0:
                    m = -m  # a back face of an open mesh
                c = b0 * colours[i0] + b1 * colours[i1] + b2 * colours[i2]
                if textured >= 0:
                    # the mean of four texels: a pixel of a small sketch covers many
                    total = wp.vec3(0.0)
                    for k in range(4):
                        qx = px - 0.25 + 0.5 * float(k % 2)
                        qy = py - 0.25 + 0.5 * float(k // 2)
                        s0 = cross2(v[0] - qx, v[1] - qy, w[0] - qx, w[1] - qy) * u[2]
                        s1 = cross2(w[0] - qx, w[1] - qy, u[0] - qx, u[1] - qy) * v[2]
                        s2 = cross2(u[0] - qx, u[1] - qy, v[0] - qx, v[1] - qy) * w[2]
                        t = (s0 * uv[i0] + s1 * uv[i1] + s2 * uv[i2]) / (s0 + s1 + s2)
                        total += texel(texels, textured, t)
                    c = wp.cw_mul(c, total * 0.25)
                normal[n, i, j] = wp.vec3h(wp.float16(m[0]), wp.float16(m[1]), wp.float16(m[2]))
                albedo[n, i, j] = wp.vec3h(wp.float16(c[0]), wp.float16(c[1]), wp.float16(c[2]))


@wp.kernel
def shade(
    # in
    normal: wp.array[wp.vec3h],
    albedo: wp.array[wp.vec3h],
    light: wp.vec4,
    ambient: float,
    # out
    colour: wp.array[wp.vec3h],
):
    """Encoded colour of a covered pixel under a light."""
    p = wp.tid()
    m = normal[p]
    s = wp.float16(shading(wp.vec3(float(m[0]), float(m[1]), float(m[2])), light, ambient))
    colour[p] = albedo[p] * s


@wp.kernel
def score(
    # in
    chosen: wp.array[wp.int32],
    starts: wp.array[wp.int32],
    pixel: wp.array[wp.int32],
    inverse_depth: wp.array[float],
    albedo: wp.array[wp.vec3h],
    colour: wp.array[wp.vec3h],
    tinted: wp.array[wp.int32],
    tint_low: wp.vec3,
    tint_high: wp.vec3,
    target: wp.array[wp.vec3],
    mask: wp.array[float],
    rest: wp.array[wp.vec3],
    rest_depth: wp.array[float],
    width: int,
    shadow: Shadow,
    tau2: float,
    mask_weight: float,
    # scratch
    shown: wp.array[wp.vec3h],
    # out
    change: wp.array[float],
):
    """Change of the number of wrong pixels when the sketch is laid over the rest."""
    n = wp.tid()
    k = chosen[n]
    first = starts[k]
    last = starts[k + 1]
    for p in range(first, last):
        shown[p] = colour[p]
        x = float(pixel[p] % width) + 0.5
        y = float(pixel[p] // width) + 0.5
        if in_shadow(x, y, inverse_depth[p], shadow):
            shown[p] = albedo[p] * wp.float16(shadow.dark)
    tint = wp.vec3(1.0, 1.0, 1.0)
    if tinted[k] == 1:
        for it in range(3):
            top = wp.vec3(0.0)
            bottom = wp.vec3(1.0e-9, 1.0e-9, 1.0e-9)
            for p in range(first, last):
                q = pixel[p]
                if inverse_depth[p] > rest_depth[q]:
                    h = shown[p]
                    s = wp.vec3(float(h[0]), float(h[1]), float(h[2]))
                    weight = float(1.0)
                    if it > 0:
                        weight = 1.0 - rho(target[q] - wp.cw_mul(tint, s), tau2)
                        weight = weight * weight
                    top += wp.cw_mul(target[q], s) * weight
                    bottom += wp.cw_mul(s, s) * weight
            tint = wp.cw_div(top, bottom)
            tint = wp.max(tint_low, wp.min(tint_high, tint))
    total = float(0.0)
    for p in range(first, last):
        q = pixel[p]
        if inverse_depth[p] > rest_depth[q]:
            h = shown[p]
            s = wp.vec3(float(h[0]), float(h[1]), float(h[2]))
            total += rho(target[q] - wp.cw_mul(tint, s), tau2) - rho(target[q] - rest[q], tau2)
            if mask_weight > 0.0:
                covered = float(0.0)
                if rest_depth[q] > 0.0:
                    covered = 1.0
                d = 1.0 - mask[q]
                e = covered - mask[q]
                total += mask_weight * (d * d - e * e)
    change[n] = total


@wp.kernel
def residual(
    # in
    inverse_depth: wp.array3d[float],
    normal: wp.array3d[wp.vec3h],
    albedo: wp.array3d[wp.vec3h],
    origin: wp.array[wp.vec2i],
    rest_index: wp.array[wp.int32],
    tinted: wp.array[wp.int32],
    tint_low: wp.vec3,
    tint_high: wp.vec3,
    light: wp.vec4,
    ambient: float,
    target: wp.array2d[wp.vec3],
    mask: wp.array2d[float],
    rest: wp.array3d[wp.vec3],
    rest_depth: wp.array3d[float],
    shadow: Shadow,
    block: int,
    tau2: float,
    # scratch
    colour: wp.array3d[wp.vec3h],
    # out
    tint_out: wp.array[wp.vec3],
    out: wp.array3d[wp.vec4],
):
    """Drawn minus target, averaged over blocks of pixels: rgb with the best tint, and coverage minus mask."""
    n = wp.tid()
    m = rest_index[n]
    left = origin[n][0]
    top_row = origin[n][1]
    window = inverse_depth.shape[1]
    height = target.shape[0]
    width = target.shape[1]
    for i in range(window):
        for j in range(window):
            if inverse_depth[n, i, j] > 0.0:
                h = normal[n, i, j]
                x = float(left + j) + 0.5
                y = float(top_row + i) + 0.5
                lit = shadow.dark
                if not in_shadow(x, y, inverse_depth[n, i, j], shadow):
                    lit = shading(wp.vec3(float(h[0]), float(h[1]), float(h[2])), light, ambient)
                colour[n, i, j] = albedo[n, i, j] * wp.float16(lit)
    tint = wp.vec3(1.0, 1.0, 1.0)
    if tinted[n] == 1:
        for it in range(3):
            top = wp.vec3(0.0)
            bottom = wp.vec3(1.0e-9, 1.0e-9, 1.0e-9)
            for i in range(window):
                for j in range(window):
                    z = inverse_depth[n, i, j]
                    if z > 0.0:
                        if z > rest_depth[m, top_row + i, left + j]:
                            h = colour[n, i, j]
                            s = wp.vec3(float(h[0]), float(h[1]), float(h[2]))
                            t = target[top_row + i, left + j]
                            weight = float(1.0)
                            if it > 0:
                                weight = 1.0 - rho(t - wp.cw_mul(tint, s), tau2)
                                weight = weight * weight
                            top += wp.cw_mul(t, s) * weight
                            bottom += wp.cw_mul(s, s) * weight
            tint = wp.cw_div(top, bottom)
            tint = wp.max(tint_low, wp.min(tint_high, tint))
    share = 1.0 / float(block * block)
    for bi in range(window // block):
        for bj in range(window // block):
            total = wp.vec4(0.0)
            for di in range(block):
                for dj in range(block):
                    i = bi * block + di
                    j = bj * block + dj
                    row = top_row + i
                    column = left + j
                    if row < height and column < width:
                        c = rest[m, row, column]
                        covered = float(0.0)
                        if rest_depth[m, row, column] > 0.0:
                            covered = 1.0
                        if inverse_depth[n, i, j] > rest_depth[m, row, column]:
                            h = colour[n, i, j]
                            c = wp.cw_mul(tint, wp.vec3(float(h[0]), float(h[1]), float(h[2])))
                            covered = 1.0
                        d = c - target[row, column]
                        total += wp.vec4(d[0], d[1], d[2], covered - mask[row, column])
            out[n, bi, bj] = total * share
    tint_out[n] = tint
