"""Warp kernels of the shading model: pictures with shadows, and linear colours with their gradients.

colour = a (A + I max(0, c)) + k I m^p, the second term only where c = n . l > 0:
    a  albedo: interpolated colour times texture       A, I  ambient and intensity of the light
    n  unit normal N / |N|, turned to the eye          l  unit vector to the light
    h  half vector u / |u|, u = l + v                  v  unit vector e / |e| to the eye, e = eye - position
    m = max(n . h, 1e-6)                               k, p  strength and exponent of the highlight
"""

import warp as wp

wp.set_module_options({"enable_backward": False})

NORMAL_BIAS = wp.constant(1.5)  # [shadow texels] off the surface where the light grazes it
LIGHT_BIAS = wp.constant(0.5)  # [shadow texels] towards the light


@wp.struct
class Mesh:
    """Geometry's arrays: per vertex, then per face."""

    vertices: wp.array(dtype=wp.vec3)
    positions: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    colours: wp.array(dtype=wp.vec3)
    uv: wp.array(dtype=wp.vec2)
    faces: wp.array(dtype=wp.vec3i)
    texture: wp.array(dtype=int)
    closed: wp.array(dtype=wp.bool)
    specular: wp.array(dtype=float)
    shininess: wp.array(dtype=float)


@wp.struct
class Pyramids:
    """`Textures`' arrays."""

    texels: wp.array(dtype=wp.vec3)
    first: wp.array2d(dtype=int)
    size: wp.array2d(dtype=wp.vec2i)
    levels: wp.array(dtype=int)


@wp.struct
class Lights:
    """Per scene. Rows of `shadow_rows[n]` give a world point's column, row [texels] and closeness."""

    direction: wp.array(dtype=wp.vec3)
    intensity: wp.array(dtype=float)
    ambient: wp.array(dtype=float)
    eye: wp.array(dtype=wp.vec3)
    background: wp.array(dtype=wp.vec3)
    shadows: int
    shadow_rows: wp.array2d(dtype=wp.vec4)
    shadow_texel: wp.array(dtype=float)
    closeness: wp.array3d(dtype=float)


@wp.func
def encode(x: float):
    """Value of linear light on the sRGB curve."""
    r = 12.92 * x
    if x > 0.0031308:
        r = 1.055 * wp.pow(x, 1.0 / 2.4) - 0.055
    return r


@wp.func
def saturate(c: wp.vec3):
    """Colour clamped to [0, 1]."""
    return wp.vec3(wp.clamp(c[0], 0.0, 1.0), wp.clamp(c[1], 0.0, 1.0), wp.clamp(c[2], 0.0, 1.0))


@wp.func
def blend(a: wp.vec3, b: wp.vec3, c: wp.vec3, w: wp.vec3):
    """Interpolate by barycentrics."""
    return w[0] * a + w[1] * b + w[2] * c


@wp.func
def wrapped(i: int, size: int):
    """Index repeated once to either side, which is as far as an interpolation reaches."""
    r = i
    if i < 0:
        r = i + size
    if i >= size:
        r = i - size
    return r


@wp.func
def bilinear(p: Pyramids, texture: int, level: int, uv: wp.vec2):
    """Interpolate a level of a texture, which repeats, at uv in [0, 1]."""
    first = p.first[texture, level]
    height = p.size[texture, level][0]
    width = p.size[texture, level][1]
    x = uv[0] * float(width) + 0.5
    y = uv[1] * float(height) + 0.5
    x0 = int(x)  # of a positive number this is the floor, which costs a call
    y0 = int(y)
    fx = x - float(x0)
    fy = y - float(y0)
    x0 = x0 - 1
    y0 = y0 - 1
    x1 = wrapped(x0 + 1, width)
    y1 = first + wrapped(y0 + 1, height) * width
    x0 = wrapped(x0, width)
    y0 = first + wrapped(y0, height) * width
    upper = (1.0 - fx) * p.texels[y0 + x0] + fx * p.texels[y0 + x1]
    lower = (1.0 - fx) * p.texels[y1 + x0] + fx * p.texels[y1 + x1]
    return (1.0 - fy) * upper + fy * lower


@wp.func
def trilinear(p: Pyramids, texture: int, uv: wp.vec2, uv_x: wp.vec2, uv_y: wp.vec2):
    """Interpolate between the two levels whose texels are nearest to a pixel in size."""
    height = float(p.size[texture, 0][0])
    width = float(p.size[texture, 0][1])
    across = uv_x[0] * uv_x[0] * width * width + uv_x[1] * uv_x[1] * height * height
    down = uv_y[0] * uv_y[0] * width * width + uv_y[1] * uv_y[1] * height * height
    square = wp.max(across, down)
    at = wp.vec2(uv[0] - wp.floor(uv[0]), uv[1] - wp.floor(uv[1]))
    if not (square > 1.0):
        return bilinear(p, texture, 0, at)
    top = p.levels[texture] - 1
    level = wp.min(0.5 * wp.log2(wp.min(square, 1.0e12)), float(top))
    coarse = int(level)
    colour = bilinear(p, texture, coarse, at)
    if coarse < top:
        colour += (level - float(coarse)) * (bilinear(p, texture, coarse + 1, at) - colour)
    return colour


@wp.func
def lit(s: Lights, n: int, position: wp.vec3, normal: wp.vec3, cosine: float):
    """Share of the light that arrives: 3 x 3 texels under a tent. Outside the map all does.

    A surface must not shade itself: the map is asked a little off the surface, the more the light grazes it.
    """
    sine = wp.sqrt(wp.max(0.0, 1.0 - cosine * cosine))
    q = position + s.shadow_texel[n] * (NORMAL_BIAS * sine * normal + LIGHT_BIAS * s.direction[n])
    p = wp.vec4(q[0], q[1], q[2], 1.0)
    x = wp.dot(s.shadow_rows[n, 0], p) - 0.5
    y = wp.dot(s.shadow_rows[n, 1], p) - 0.5
    size = s.closeness.shape[1]
    # Written so that NaN fails; what is outside the map, the 3 x 3 texels included, is lit.
    if not (x >= 1.0 and y >= 1.0 and x < float(size) - 2.0 and y < float(size) - 2.0):
        return float(1.0)
    z = wp.dot(s.shadow_rows[n, 2], p)
    # Four bilinear lookups at half a texel around are these weights on the three nearest texels of each axis.
    x0 = int(x + 0.5) - 1
    y0 = int(y + 0.5) - 1
    fx = x + 0.5 - float(x0 + 1)
    fy = y + 0.5 - float(y0 + 1)
    wx = wp.vec3(0.5 * (1.0 - fx), 0.5, 0.5 * fx)
    wy = wp.vec3(0.5 * (1.0 - fy), 0.5, 0.5 * fy)
    total = float(0.0)
    for j in range(3):
        for i in range(3):
            if s.closeness[n, y0 + j, x0 + i] <= z:
                total += wy[j] * wx[i]
    return total


@wp.func
def texture_colour(m: Mesh, p: Pyramids, f: int, w: wp.vec3):
    """Texture at a point of a face, level by uv's change over a pixel; formulas in `reference._texels`."""
    i = m.faces[f]
    a = m.vertices[i[0]]
    b = m.vertices[i[1]]
    c = m.vertices[i[2]]
    uv_a = m.uv[i[0]]
    uv_b = m.uv[i[1]]
    uv_c = m.uv[i[2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    scale = (w[0] / a[2] + w[1] / b[2] + w[2] / c[2]) / area
    x0 = (b[1] - c[1]) * a[2]
    x1 = (c[1] - a[1]) * b[2]
    x2 = (a[1] - b[1]) * c[2]
    y0 = (c[0] - b[0]) * a[2]
    y1 = (a[0] - c[0]) * b[2]
    y2 = (b[0] - a[0]) * c[2]
    x_sum = x0 + x1 + x2
    y_sum = y0 + y1 + y2
    uv = w[0] * uv_a + w[1] * uv_b + w[2] * uv_c
    uv_x = (x0 - w[0] * x_sum) * uv_a + (x1 - w[1] * x_sum) * uv_b + (x2 - w[2] * x_sum) * uv_c
    uv_y = (y0 - w[0] * y_sum) * uv_a + (y1 - w[1] * y_sum) * uv_b + (y2 - w[2] * y_sum) * uv_c
    return trilinear(p, m.texture[f], uv, scale * uv_x, scale * uv_y)


@wp.func
def facing(m: Mesh, f: int):
    """-1 where the back of a mesh that is not closed is seen (positive area, as y runs down), else 1."""
    s = float(1.0)
    if not m.closed[f]:
        i = m.faces[f]
        a = m.vertices[i[0]]
        b = m.vertices[i[1]]
        c = m.vertices[i[2]]
        if (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0.0:
            s = float(-1.0)
    return s


@wp.func
def surface(m: Mesh, p: Pyramids, s: Lights, n: int, f: int, w: wp.vec3):
    """Linear colour of a point of a face."""
    i = m.faces[f]
    normal = wp.normalize(blend(m.normals[i[0]], m.normals[i[1]], m.normals[i[2]], w))
    albedo = blend(m.colours[i[0]], m.colours[i[1]], m.colours[i[2]], w)
    position = blend(m.positions[i[0]], m.positions[i[1]], m.positions[i[2]], w)
    normal = normal * facing(m, f)
    if m.texture[f] >= 0:
        albedo = wp.cw_mul(albedo, texture_colour(m, p, f, w))
    cosine = wp.dot(normal, s.direction[n])
    if cosine <= 0.0:
        return albedo * s.ambient[n]
    arriving = s.intensity[n]
    if s.shadows != 0:
        arriving = arriving * lit(s, n, position, normal, cosine)
    colour = albedo * (s.ambient[n] + arriving * cosine)
    if m.specular[f] > 0.0 and arriving > 0.0:
        half = wp.normalize(s.direction[n] + wp.normalize(s.eye[n] - position))
        mirror = wp.pow(wp.max(wp.dot(normal, half), 1.0e-6), m.shininess[f])
        highlight = m.specular[f] * arriving * mirror
        colour = colour + wp.vec3(highlight, highlight, highlight)
    return colour


@wp.kernel
def picture(
    # in
    mesh: Mesh,
    pyramids: Pyramids,
    lights: Lights,
    face: wp.array3d(dtype=int),
    barycentric: wp.array3d(dtype=wp.vec3),
    samples: int,
    first_image: int,
    span: int,
    # out
    rgb: wp.array3d(dtype=wp.vec3),
):
    """Draw sRGB pixels from samples x samples points each. One work item draws `span` pixels of a row."""
    item, y, chunk = wp.tid()
    n = first_image + item
    background = saturate(lights.background[n])
    share = 1.0 / float(samples * samples)
    for x in range(chunk * span, wp.min((chunk + 1) * span, rgb.shape[2])):
        total = wp.vec3()
        for j in range(samples):
            for i in range(samples):
                f = face[n, y * samples + j, x * samples + i]
                if f >= 0:
                    w = barycentric[n, y * samples + j, x * samples + i]
                    total += saturate(surface(mesh, pyramids, lights, n, f, w))
                else:
                    total += background
        total = total * share
        rgb[n, y, x] = saturate(wp.vec3(encode(total[0]), encode(total[1]), encode(total[2])))


@wp.kernel
def shade(
    # in
    mesh: Mesh,
    pyramids: Pyramids,
    lights: Lights,
    face: wp.array3d(dtype=int),
    barycentric: wp.array3d(dtype=wp.vec3),
    first_image: int,
    span: int,
    # out
    rgb: wp.array3d(dtype=wp.vec3),
):
    """Linear colours, not clamped. One work item shades `span` pixels of a row."""
    item, y, chunk = wp.tid()
    n = first_image + item
    for x in range(chunk * span, wp.min((chunk + 1) * span, rgb.shape[2])):
        f = face[n, y, x]
        if f >= 0:
            rgb[n, y, x] = surface(mesh, pyramids, lights, n, f, barycentric[n, y, x])
        else:
            rgb[n, y, x] = lights.background[n]


@wp.struct
class Gradients:
    """Cotangents of `Mesh` and `Lights`; those of vertices are written only where wanted."""

    want_colours: int
    want_normals: int
    want_positions: int
    colours: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    positions: wp.array(dtype=wp.vec3)
    direction: wp.array(dtype=wp.vec3)
    intensity: wp.array(dtype=float)
    ambient: wp.array(dtype=float)
    eye: wp.array(dtype=wp.vec3)
    background: wp.array(dtype=wp.vec3)


@wp.func
def unit_adjoint(unit: wp.vec3, length: float, grad: wp.vec3):
    """Cotangent of x from that of x / |x|: (grad - unit (unit . grad)) / |x|; 0 at x = 0."""
    r = wp.vec3()
    if length > 0.0:
        r = (grad - unit * wp.dot(unit, grad)) / length
    return r


@wp.func
def spread(to: wp.array(dtype=wp.vec3), i: wp.vec3i, w: wp.vec3, grad: wp.vec3):
    """Adjoint of `blend`."""
    wp.atomic_add(to, i[0], w[0] * grad)
    wp.atomic_add(to, i[1], w[1] * grad)
    wp.atomic_add(to, i[2], w[2] * grad)


@wp.kernel
def shade_backward(
    # in
    mesh: Mesh,
    pyramids: Pyramids,
    lights: Lights,
    face: wp.array3d(dtype=int),
    barycentric: wp.array3d(dtype=wp.vec3),
    grad_rgb: wp.array3d(dtype=wp.vec3),
    first_image: int,
    span: int,
    # out
    grads: Gradients,
):
    """Adjoint of `shade`, barycentrics and texture lookups held. Every image's vertices are its own."""
    item, y, chunk = wp.tid()
    n = first_image + item
    l = lights.direction[n]
    ambient = lights.ambient[n]
    intensity = lights.intensity[n]
    grad_l = wp.vec3()
    grad_eye = wp.vec3()
    grad_background = wp.vec3()
    grad_intensity = float(0.0)
    grad_ambient = float(0.0)
    for x in range(chunk * span, wp.min((chunk + 1) * span, grad_rgb.shape[2])):
        f = face[n, y, x]
        g = grad_rgb[n, y, x]
        if f < 0:
            grad_background += g
        elif g[0] != 0.0 or g[1] != 0.0 or g[2] != 0.0:
            i = mesh.faces[f]
            w = barycentric[n, y, x]
            raw = blend(mesh.normals[i[0]], mesh.normals[i[1]], mesh.normals[i[2]], w) * facing(mesh, f)
            length = wp.length(raw)
            normal = wp.normalize(raw)
            texture = wp.vec3(1.0, 1.0, 1.0)
            if mesh.texture[f] >= 0:
                texture = texture_colour(mesh, pyramids, f, w)
            colour = blend(mesh.colours[i[0]], mesh.colours[i[1]], mesh.colours[i[2]], w)
            cosine = wp.dot(normal, l)
            towards = wp.max(cosine, 0.0)
            grad_albedo = wp.cw_mul(g, texture)
            strength = wp.dot(grad_albedo, colour)  # g . a
            if grads.want_colours != 0:  # d/da = A + I max(0, c)
                spread(grads.colours, i, w, (ambient + intensity * towards) * grad_albedo)
            grad_ambient += strength
            if cosine > 0.0:
                grad_intensity += strength * cosine
                grad_normal = strength * intensity * l  # dc/dn = l
                grad_l += strength * intensity * normal  # dc/dl = n
                if mesh.specular[f] > 0.0:
                    position = blend(mesh.positions[i[0]], mesh.positions[i[1]], mesh.positions[i[2]], w)
                    e = lights.eye[n] - position
                    v = wp.normalize(e)
                    u = l + v
                    h = wp.normalize(u)
                    m = wp.dot(normal, h)
                    k = mesh.specular[f] * (g[0] + g[1] + g[2])
                    p = mesh.shininess[f]
                    grad_intensity += k * wp.pow(wp.max(m, 1.0e-6), p)
                    if m > 1.0e-6:
                        grad_m = k * intensity * p * wp.pow(m, p - 1.0)
                        grad_normal += grad_m * h
                        grad_u = unit_adjoint(h, wp.length(u), grad_m * normal)
                        grad_e = unit_adjoint(v, wp.length(e), grad_u)
                        grad_l += grad_u
                        grad_eye += grad_e
                        if grads.want_positions != 0:
                            spread(grads.positions, i, w, -grad_e)
                if grads.want_normals != 0:
                    spread(grads.normals, i, w, facing(mesh, f) * unit_adjoint(normal, length, grad_normal))
    wp.atomic_add(grads.direction, n, grad_l)
    wp.atomic_add(grads.intensity, n, grad_intensity)
    wp.atomic_add(grads.ambient, n, grad_ambient)
    wp.atomic_add(grads.eye, n, grad_eye)
    wp.atomic_add(grads.background, n, grad_background)
