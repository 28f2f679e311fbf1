"""Warp kernels of soft rasterization. One source, compiled for CPU and for CUDA.

Screen vertices are (x px, y px, 1/depth), origin at the top-left corner of the picture, x right, y down; the
centre of pixel (row i, column j) is (j + 0.5, i + 0.5). 1/depth, s below, is affine over a triangle.

A face i at a pixel p, d its distance to the face's border [px], w its barycentric weights, the negative ones
set to 0 and all normalised:
    x_i = +-d^2/sigma^2   D_i = sigmoid(x_i)   s_i = sum w_k s_k   c_i = sum w_k s_k c_k / s_i
A pixel:
    T = prod (1 - D_i)   P_i = D_i exp(s_i/gamma - m)/S   C = sum P_i c_i   image = (1 - T) C + T background
where m = max s_i/gamma and S makes the P_i sum to 1. With cotangents g of the image and h of 1 - T:
    dL/dc_i = (1 - T) P_i g              dL/dlog(D_i exp(s_i/gamma)) = (1 - T) P_i g.(c_i - C) =: l
    dL/ds_i = l/gamma (and c_i's part)   dL/dx_i = l (1 - D_i) + D_i T [h + g.(C - background)]
    dx/du = -+2 (1 - t) q/sigma^2        dx/dv = -+2 t q/sigma^2
                                         (q = p - nearest point of edge uv, t its parameter, which may be held
                                         fixed: Danskin's theorem)
    dw_k/dv_j = -w_j grad w_k      (before that; through it only where w_k > 0)

Faces are the outer loop, pixels the inner one: a face's constants and the sums of its gradients stay in
registers. On a CPU a launch runs its faces one after another and `blend` can carry a running maximum; on a
GPU they run side by side, and `score` finds maxima before `gather` uses them.
"""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp

from render.soft.surfaces import surfaces


@functools.cache
def kernels(real: Any, channels: int, textured: bool) -> SimpleNamespace:
    """Build the kernels for a scalar type, float32 to run or float64 to check, and what surfaces carry."""
    functions = surfaces(real, channels, textured)
    vec2, vec3, colour, carried = functions.vec2, functions.vec3, functions.colour, functions.carried
    vec4 = wp.types.vector(length=4, dtype=real)
    Scene, Softness, Work = functions.Scene, functions.Softness, functions.Work
    face_of, columns, hit_of, point_of = (
        functions.face_of,
        functions.columns,
        functions.hit_of,
        functions.point_of,
    )
    grad_weights, shares = functions.grad_weights, functions.shares
    colour_at, grad_value = functions.colour_at, functions.grad_value
    seen_by, add_texels = functions.seen_by, functions.add_texels

    SURE = wp.constant(40.0)  # sigmoid(40) is 1 in float64
    NOTHING = wp.constant(1.0e-30)  # transparency below is 0: denormal numbers are slow
    HUGE = wp.constant(1.0e30)

    @wp.kernel(module="unique", enable_backward=False)  # the adjoint is written by hand
    def blend(
        # in
        scene: Scene,
        soft: Softness,
        work: Work,
        # in and out
        state: wp.array3d(dtype=vec3),  # m, S, T
        image: wp.array3d(dtype=colour),  # S C
    ):
        """On a CPU: all faces of a share, one after another."""
        ci, fi, chunk = wp.tid()
        copy = work.first_copy + ci
        f = work.first_face + fi
        height = image.shape[1]
        width = image.shape[2]
        face = face_of(scene, soft, work, copy, f, chunk, height, width)
        if face.y0 >= face.y1:
            return
        i = scene.rows[f]
        va = scene.values[copy * scene.stride + i[0]]
        vb = scene.values[copy * scene.stride + i[1]]
        vc = scene.values[copy * scene.stride + i[2]]
        for y in range(face.y0, face.y1, work.chunks):
            py = real(y) + real(0.5)
            span = columns(face, py, width)
            for x in range(span[0], span[1]):
                now = state[face.n, y, x]
                if now[2] < soft.negligible and face.best - now[0] < -soft.faint:
                    continue
                hit = hit_of(face, vec2(real(x) + real(0.5), py), soft.inverse_sigma2)
                if hit.x < -soft.cut:
                    continue
                coverage = real(1.0)
                transparency = real(0.0)
                if hit.x < real(SURE):
                    e = wp.exp(-hit.x)
                    coverage = real(1.0) / (real(1.0) + e)
                    transparency = now[2] * wp.min(e * coverage, real(1.0))
                    if transparency < real(NOTHING):
                        transparency = real(0.0)
                point = point_of(face, hit.w)
                score = point.s * soft.inverse_gamma
                seen = colour_at(scene, copy, point.b[0] * va + point.b[1] * vb + point.b[2] * vc)
                if score > now[0]:
                    r = wp.exp(now[0] - score)
                    state[face.n, y, x] = vec3(score, r * now[1] + coverage, transparency)
                    image[face.n, y, x] = r * image[face.n, y, x] + coverage * seen
                else:
                    weight = coverage * wp.exp(score - now[0])
                    state[face.n, y, x] = vec3(now[0], now[1] + weight, transparency)
                    image[face.n, y, x] += weight * seen

    @wp.kernel(module="unique", enable_backward=False)  # the adjoint is written by hand
    def score(
        # in
        scene: Scene,
        soft: Softness,
        work: Work,
        # in and out
        state: wp.array4d(dtype=real),  # m, S, log T
    ):
        """On a GPU, first: the greatest s/gamma and the transparency of each pixel."""
        ci, fi, chunk = wp.tid()
        copy = work.first_copy + ci
        width = state.shape[2]
        face = face_of(scene, soft, work, copy, work.first_face + fi, chunk, state.shape[1], width)
        for y in range(face.y0, face.y1, work.chunks):
            py = real(y) + real(0.5)
            span = columns(face, py, width)
            for x in range(span[0], span[1]):
                hit = hit_of(face, vec2(real(x) + real(0.5), py), soft.inverse_sigma2)
                if hit.x >= -soft.cut:
                    point = point_of(face, hit.w)
                    wp.atomic_max(state, face.n, y, x, 0, point.s * soft.inverse_gamma)
                    # log(1 - sigmoid(x)) = -softplus(x), in the form that does not overflow
                    softplus = wp.max(hit.x, real(0.0)) + wp.log(real(1.0) + wp.exp(-wp.abs(hit.x)))
                    wp.atomic_add(state, face.n, y, x, 2, -softplus)

    @wp.kernel(module="unique", enable_backward=False)  # the adjoint is written by hand
    def gather(
        # in
        scene: Scene,
        soft: Softness,
        work: Work,
        # in and out
        state: wp.array4d(dtype=real),
        image: wp.array3d(dtype=colour),
    ):
        """On a GPU, second: the weights of the faces and their colours."""
        ci, fi, chunk = wp.tid()
        copy = work.first_copy + ci
        f = work.first_face + fi
        width = image.shape[2]
        face = face_of(scene, soft, work, copy, f, chunk, image.shape[1], width)
        if face.y0 >= face.y1:
            return
        i = scene.rows[f]
        va = scene.values[copy * scene.stride + i[0]]
        vb = scene.values[copy * scene.stride + i[1]]
        vc = scene.values[copy * scene.stride + i[2]]
        for y in range(face.y0, face.y1, work.chunks):
            py = real(y) + real(0.5)
            span = columns(face, py, width)
            for x in range(span[0], span[1]):
                best = state[face.n, y, x, 0]
                if face.best - best < -soft.faint:
                    continue
                hit = hit_of(face, vec2(real(x) + real(0.5), py), soft.inverse_sigma2)
                if hit.x < -soft.cut:
                    continue
                point = point_of(face, hit.w)
                # two kernels may round s/gamma differently
                e = wp.exp(wp.min(point.s * soft.inverse_gamma - best, real(0.0)))
                weight = e / (real(1.0) + wp.exp(-hit.x))
                seen = colour_at(scene, copy, point.b[0] * va + point.b[1] * vb + point.b[2] * vc)
                wp.atomic_add(state, face.n, y, x, 1, weight)
                wp.atomic_add(image, face.n, y, x, weight * seen)

    @wp.kernel(module="unique", enable_backward=False)  # the adjoint is written by hand
    def finish(
        # in
        background: wp.array(dtype=colour),  # one, or one per picture
        logarithmic: wp.bool,  # True where the state holds log T
        first_line: wp.int32,
        span: wp.int32,  # pixels per work item: the width on a CPU, 1 on a GPU
        # in and out
        state: wp.array3d(dtype=vec3),
        image: wp.array3d(dtype=colour),
        # out
        alpha: wp.array3d(dtype=real),
    ):
        item, block = wp.tid()
        line = first_line + item
        n = line / image.shape[1]
        y = line % image.shape[1]
        behind = background[wp.min(n, background.shape[0] - 1)]
        for x in range(block * span, wp.min(block * span + span, image.shape[2])):
            now = state[n, y, x]
            if logarithmic:
                now[2] = wp.exp(now[2])
                state[n, y, x] = now
            alpha[n, y, x] = real(1.0) - now[2]
            if now[1] > real(0.0):
                image[n, y, x] = ((real(1.0) - now[2]) / now[1]) * image[n, y, x] + now[2] * behind
            else:
                image[n, y, x] = behind

    @wp.kernel(module="unique", enable_backward=False)  # this is a part of the adjoint
    def prepare(
        # in
        background: wp.array(dtype=colour),
        state: wp.array3d(dtype=vec3),
        image: wp.array3d(dtype=colour),
        grad_image: wp.array3d(dtype=colour),
        grad_alpha: wp.array3d(dtype=real),
        negligible: real,
        first_line: wp.int32,
        span: wp.int32,
        # out
        pixels: wp.array3d(dtype=vec4),  # m, (1 - T)/S, g.C, T [h + g.(C - background)]
    ):
        """What faces need to know of a pixel in the backward pass."""
        item, block = wp.tid()
        line = first_line + item
        n = line / image.shape[1]
        y = line % image.shape[1]
        behind = background[wp.min(n, background.shape[0] - 1)]
        for x in range(block * span, wp.min(block * span + span, image.shape[2])):
            now = state[n, y, x]
            g = grad_image[n, y, x]
            h = grad_alpha[n, y, x]
            alpha = real(1.0) - now[2]
            contrast = real(0.0)  # g.(C - background)
            weight = real(0.0)
            if alpha > real(0.0) and now[1] > real(0.0):
                contrast = wp.dot(g, image[n, y, x] - behind) / alpha
                weight = alpha / now[1]
            through = now[2] * (h + contrast)
            if now[2] < negligible:
                through = real(0.0)
            best = now[0]
            if g == colour():
                weight = real(0.0)  # a silhouette's loss: colours need not be looked at,
                if h == real(0.0):
                    best = real(HUGE)  # nor faces: none is near enough
            pixels[n, y, x] = vec4(best, weight, contrast + wp.dot(g, behind), through)

    @wp.kernel(module="unique", enable_backward=False)  # this is the adjoint
    def spread(
        # in
        scene: Scene,
        soft: Softness,
        work: Work,
        pixels: wp.array3d(dtype=vec4),
        grad_image: wp.array3d(dtype=colour),
        wanted: wp.vec3i,  # gradients of the vertices, of the values, of the texels: 1 or 0
        part: wp.vec3i,  # buffers to add them to: threads have their own, atomics are none on a CPU
        # out
        grad_vertices: wp.array2d(dtype=vec3),
        grad_values: wp.array2d(dtype=carried),
        grad_texels: wp.array4d(dtype=colour),
    ):
        """Gradients of a face: sums over its pixels, then one addition per corner."""
        ci, fi, chunk = wp.tid()
        copy = work.first_copy + ci
        f = work.first_face + fi
        width = pixels.shape[2]
        face = face_of(scene, soft, work, copy, f, chunk, pixels.shape[1], width)
        if face.y0 >= face.y1:
            return
        i = copy * scene.stride * wp.vec3i(1, 1, 1) + scene.rows[f]
        va = scene.values[i[0]]
        vb = scene.values[i[1]]
        vc = scene.values[i[2]]
        grad_a = vec2()
        grad_b = vec2()
        grad_c = vec2()
        grad_s = vec3()
        grad_va = carried()
        grad_vb = carried()
        grad_vc = carried()
        for y in range(face.y0, face.y1, work.chunks):
            py = real(y) + real(0.5)
            span = columns(face, py, width)
            for x in range(span[0], span[1]):
                pixel = pixels[face.n, y, x]
                if pixel[3] == real(0.0) and face.best - pixel[0] < -soft.faint:
                    continue
                hit = hit_of(face, vec2(real(x) + real(0.5), py), soft.inverse_sigma2)
                if hit.x < -soft.cut:
                    continue
                coverage = real(1.0) / (real(1.0) + wp.exp(-wp.min(hit.x, real(SURE))))
                point = point_of(face, hit.w)
                # two kernels may round s/gamma differently
                nearness = wp.exp(wp.min(point.s * soft.inverse_gamma - pixel[0], real(0.0)))
                weight = coverage * nearness * pixel[1]  # (1 - T) P_i
                slope = vec2()
                grad_x = coverage * pixel[3]
                if weight > soft.negligible:
                    value = point.b[0] * va + point.b[1] * vb + point.b[2] * vc
                    g = grad_image[face.n, y, x]
                    unit = grad_value(scene, copy, value, g)
                    pull = vec3(wp.dot(unit, va), wp.dot(unit, vb), wp.dot(unit, vc))
                    mean = wp.dot(point.b, pull)
                    l = weight * (seen_by(scene, copy, value, g, mean) - pixel[2])
                    grad_x += l * (real(1.0) - coverage)
                    if wanted[2] != 0:
                        add_texels(grad_texels, part[2], copy, value, weight * g)
                    if wanted[1] != 0:
                        grad_va += (weight * point.b[0]) * unit
                        grad_vb += (weight * point.b[1]) * unit
                        grad_vc += (weight * point.b[2]) * unit
                    if wanted[0] != 0:
                        # of w_k s_k, whose sum is s and whose shares are b
                        scale = weight * point.inverse_s
                        still = l * soft.inverse_gamma - scale * mean
                        u = scale * pull + vec3(still, still, still)
                        grad_s += wp.cw_mul(point.w, u)
                        slope = grad_weights(face, hit, point, wp.cw_mul(u, face.s))
                if wanted[0] != 0:
                    force = (real(-2.0) * grad_x * hit.side * soft.inverse_sigma2) * hit.q
                    share = shares(hit)
                    grad_a += share[0] * force - hit.w[0] * slope
                    grad_b += share[1] * force - hit.w[1] * slope
                    grad_c += share[2] * force - hit.w[2] * slope
        if wanted[0] != 0:
            j = copy * scene.vertex_count * wp.vec3i(1, 1, 1) + scene.faces[f]
            wp.atomic_add(grad_vertices, part[0], j[0], vec3(grad_a[0], grad_a[1], grad_s[0]))
            wp.atomic_add(grad_vertices, part[0], j[1], vec3(grad_b[0], grad_b[1], grad_s[1]))
            wp.atomic_add(grad_vertices, part[0], j[2], vec3(grad_c[0], grad_c[1], grad_s[2]))
        if wanted[1] != 0:
            wp.atomic_add(grad_values, part[1], i[0], grad_va)
            wp.atomic_add(grad_values, part[1], i[1], grad_vb)
            wp.atomic_add(grad_values, part[1], i[2], grad_vc)

    return SimpleNamespace(
        blend=blend,
        score=score,
        gather=gather,
        finish=finish,
        prepare=prepare,
        spread=spread,
        Scene=Scene,
        Softness=Softness,
        Work=Work,
        vec3=vec3,
        vec4=vec4,
        colour=colour,
        carried=carried,
    )
