"""Warp kernels of the hard rasterizer. One source, compiled for CPU and for CUDA.

Screen vertices are (x px, y px, 1/depth), origin at the top-left corner of the image, x right, y down; the
centre of pixel (row i, column j) is (j + 0.5, i + 0.5). Inverse depth is affine in x and y over a triangle.

A CPU draws faces in their order into the pixels' faces and inverse depths: at equal depth the first stays. A
GPU, in any order, into keys, bits(inverse depth) << 32 | (2^31 - 1 - face): positive floats sort as integers
do, so that an atomic maximum finds the nearest surface and, at equal depth, the lower face.

A triangle's edge is evaluated from its end of lower weld index in both triangles that share it. Both then
round alike, one gets e and the other -e, and no pixel between them is lost.
"""

import warp as wp

from render.compilation import OPTIONS
from render.reading import reader, writer

wp.set_module_options(OPTIONS)

HUGE = wp.constant(1.0e30)
TINY = wp.constant(1.0e-30)

read_bool, read_int = reader(wp.bool), reader(wp.int32)
read_vertex = reader(wp.vec3)
read_corners = reader(wp.vec3i)
write_weights = writer(wp.vec3)


@wp.func_native("""
#if defined(__CUDA_ARCH__)
    const wp::int64 key = wp::int64(__float_as_int(z)) << 32 | (0x7FFFFFFF - f);
    if (seen)
        wp::atomic_max(keys.data + i, key);
#else
    const float depth = depths.data[i];
    const int face = faces.data[i];
    const bool nearer = seen & ((z > depth) | (face < 0));
    const unsigned bits = __builtin_bit_cast(unsigned, depth);
    const unsigned rise = __builtin_bit_cast(unsigned, z) - bits;
    depths.data[i] = __builtin_bit_cast(float, bits + (nearer ? rise : 0));
    faces.data[i] = face + (nearer ? f - face : 0);
#endif
""")
def show(
    keys: wp.array(dtype=wp.int64),
    faces: wp.array(dtype=wp.int32),
    depths: wp.array(dtype=wp.float32),
    i: int,
    f: int,
    z: float,
    seen: wp.bool,
):
    """Let pixel i of a row show face f, of inverse depth z, where that is `seen` and nearest.

    On a CPU without a branch, nor by one of two values: compilers make that a masked store, which takes some
    CPUs 20 cycles.
    """


@wp.func_native("""
#if defined(__CUDA_ARCH__)
    const wp::int64 key = keys.data[i];
    faces.data[i] = key > 0 ? 0x7FFFFFFF - wp::int32(key & 0x7FFFFFFF) : -1;
    depths.data[i] = __int_as_float(wp::int32(key >> 32));
#endif
    return faces.data[i];
""")
def shown(
    keys: wp.array(dtype=wp.int64),
    faces: wp.array(dtype=wp.int32),
    depths: wp.array(dtype=wp.float32),
    i: int,
) -> int:
    """Return pixel i's face; on a GPU, write it and its inverse depth, which a key holds, first."""


@wp.struct
class Edge:
    """Line from an edge's end of lower weld index along the edge; sign makes its value positive inside."""

    x: float
    y: float
    dx: float
    dy: float
    sign: float


@wp.func
def edge(a: wp.vec3, b: wp.vec3, weld_a: int, weld_b: int, sign: float):
    """Edge ab of a triangle whose area has the given sign."""
    e = Edge()
    if weld_a <= weld_b:
        e.x = a[0]
        e.y = a[1]
        e.dx = b[0] - a[0]
        e.dy = b[1] - a[1]
        e.sign = sign
    else:
        e.x = b[0]
        e.y = b[1]
        e.dx = a[0] - b[0]
        e.dy = a[1] - b[1]
        e.sign = -sign
    return e


@wp.func
def inside(e: Edge, px: float, rise: float):
    """Twice the area of the edge and a point of the row with this `rise`: positive inside, 0 on the edge."""
    return e.sign * (rise - e.dy * (px - e.x))


@wp.func
def twice_area(a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Twice the signed area, positive where a, b, c turn clockwise as seen (y runs down)."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@wp.func
def first_pixel(low: float):
    """First pixel whose centre is not before `low`, which is at least 0."""
    return int(wp.ceil(low - 0.5))


@wp.func
def last_pixel(high: float):
    """Last pixel whose centre is not after `high`, which is at least 0 (so the result is at least -1)."""
    return int(wp.floor(high - 0.5))


@wp.struct
class Side:
    """Line of an edge, x by y, and how far from it, to the left and right, its triangle may have pixels."""

    x: float
    y: float
    slope: float
    low: float
    high: float


@wp.func
def side(a: wp.vec3, b: wp.vec3, sign: float):
    """Side ab of a triangle whose area has the given sign, one pixel generous; a level one bounds nothing."""
    s = Side()
    s.x = a[0] - 0.5
    s.y = a[1]
    s.low = -HUGE
    s.high = HUGE
    rise = (b[1] - a[1]) * sign
    if wp.abs(rise) > 1.0e-3:
        s.slope = (b[0] - a[0]) / (b[1] - a[1])
        slack = 1.0 + 1.0e-6 * wp.abs(b[0] - a[0])
        if rise < 0.0:
            s.low = -slack
        else:
            s.high = slack
    return s


@wp.func
def crossing(s: Side, py: float):
    """Find the pixel where a side crosses the height py."""
    return s.x + (py - s.y) * s.slope


@wp.kernel
def cover(
    # in
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    weld: wp.array(dtype=wp.vec3i),
    image: wp.array(dtype=int),
    culled: wp.array(dtype=wp.bool),
    images_per_copy: int,
    vertices_per_copy: int,
    first_copy: int,
    first_face: int,
    row_begin: int,
    row_end: int,
    chunks: int,
    # out
    key: wp.array3d(dtype=wp.int64),
    face: wp.array3d(dtype=int),
    inverse_depth: wp.array3d(dtype=float),
):
    """Draw a face. Its rows are dealt to `chunks` work items: one on the CPU, more on a GPU."""
    copy, item, chunk = wp.tid()
    copy += first_copy
    f = first_face + item
    height = inverse_depth.shape[1]
    width = inverse_depth.shape[2]
    n = copy * images_per_copy + read_int(image, f)
    i = read_corners(faces, f)
    a = read_vertex(vertices, copy * vertices_per_copy + i[0])
    b = read_vertex(vertices, copy * vertices_per_copy + i[1])
    c = read_vertex(vertices, copy * vertices_per_copy + i[2])
    # Comparisons are written so that NaN fails them. The area is NaN or infinite if any coordinate is.
    if not (a[2] > 0.0 and b[2] > 0.0 and c[2] > 0.0 and a[2] < HUGE and b[2] < HUGE and c[2] < HUGE):
        return
    area = twice_area(a, b, c)
    if not (wp.abs(area) > 0.0 and wp.abs(area) < HUGE):
        return
    if read_bool(culled, f) and area > 0.0:  # y runs down: counter-clockwise as seen has negative area
        return
    y_low = wp.min(a[1], wp.min(b[1], c[1]))
    y_high = wp.max(a[1], wp.max(b[1], c[1]))
    x_low = wp.min(a[0], wp.min(b[0], c[0]))
    x_high = wp.max(a[0], wp.max(b[0], c[0]))
    if y_high < float(row_begin) or y_low > float(row_end) or x_high < 0.0 or x_low > float(width):
        return
    # Only floats clamped to the image become integers: int() of a huge float is garbage.
    y0 = wp.max(row_begin, first_pixel(wp.max(y_low, 0.0))) + chunk
    y1 = wp.min(row_end - 1, last_pixel(wp.min(y_high, float(height))))
    x0 = first_pixel(wp.max(x_low, 0.0))
    x1 = wp.min(width - 1, last_pixel(wp.min(x_high, float(width))))
    sign = wp.sign(area)
    w = read_corners(weld, f)
    ea = edge(b, c, w[1], w[2], sign)
    eb = edge(c, a, w[2], w[0], sign)
    ec = edge(a, b, w[0], w[1], sign)
    wide = x1 - x0 > 12  # else four pixels at a time cost less than the row's ends
    side_a = Side()
    side_b = Side()
    side_c = Side()
    if wide:
        side_a = side(b, c, sign)
        side_b = side(c, a, sign)
        side_c = side(a, b, sign)
    y = int(y0)
    while y <= y1:
        py = float(y) + 0.5
        left = int(x0)
        right = int(x1)
        if wide:  # narrow the row to what may be inside
            at_a = crossing(side_a, py)
            at_b = crossing(side_b, py)
            at_c = crossing(side_c, py)
            low = wp.max(at_a + side_a.low, wp.max(at_b + side_b.low, at_c + side_c.low))
            high = wp.min(at_a + side_a.high, wp.min(at_b + side_b.high, at_c + side_c.high))
            left = int(wp.floor(wp.clamp(low, float(x0), float(width))))
            right = int(wp.ceil(wp.clamp(high, -1.0, float(x1))))
        if chunks == 1:  # on a CPU, pixels that fill no group of four are taken one by one, so: none
            right = wp.min(left + ((right - left) | 3), width - 1)
        keys = key[n, y]
        face_row = face[n, y]
        depth_row = inverse_depth[n, y]
        rise_a = ea.dx * (py - ea.y)
        rise_b = eb.dx * (py - eb.y)
        rise_c = ec.dx * (py - ec.y)
        x = int(left)
        while x <= right:
            px = float(x) + 0.5
            wa = inside(ea, px, rise_a)
            wb = inside(eb, px, rise_b)
            wc = inside(ec, px, rise_c)
            # Not by the plane's slopes: of a triangle that reaches the near plane, thousands of pixels
            # away, they are too coarse in float32. The weights are not, where it is seen.
            z = (wa * a[2] + wb * b[2] + wc * c[2]) / (wa + wb + wc)
            seen = wa >= 0.0 and wb >= 0.0 and wc >= 0.0 and z < HUGE
            show(keys, face_row, depth_row, x, f, z, seen)
            x += 1
        y += chunks


@wp.func
def normalised(w: wp.vec3):
    """Weights of sum 1: equal ones where all are 0, as of a sliver seen at its corner, or beyond float32.

    Bounded, not asked about: a comparison would cost as much as all the rest.
    """
    w = wp.vec3(
        wp.min(wp.max(w[0], TINY), HUGE), wp.min(wp.max(w[1], TINY), HUGE), wp.min(wp.max(w[2], TINY), HUGE)
    )
    return w * (1.0 / (w[0] + w[1] + w[2]))


@wp.kernel
def resolve(
    # in
    vertices: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.vec3i),
    images_per_copy: int,
    vertices_per_copy: int,
    first_image: int,
    first_row: int,
    span: int,
    # out
    key: wp.array3d(dtype=wp.int64),
    face: wp.array3d(dtype=int),
    inverse_depth: wp.array3d(dtype=float),
    barycentric: wp.array3d(dtype=wp.vec3),
):
    """Find the weights. One work item reads `span` pixels of a row: the whole row on the CPU, one on a GPU.

    Perspective-correct barycentrics are edge values times inverse depth, normalised: e_k z_k / sum.
    """
    item, line, chunk = wp.tid()
    n = first_image + item
    y = first_row + line
    py = float(y) + 0.5
    first = n / images_per_copy * vertices_per_copy
    last = int(-1)
    origin = float(0.0)
    slope = wp.vec3()
    start = wp.vec3()
    keys = key[n, y]
    face_row = face[n, y]
    depth_row = inverse_depth[n, y]
    weights_row = barycentric[n, y]
    x = chunk * span
    end = wp.min(x + span, face.shape[2])
    while x < end:
        f = shown(keys, face_row, depth_row, x)
        weights = wp.vec3()
        if f >= 0:
            if f != last:  # a face's constants serve all pixels of its run: affine along the row
                last = f
                i = read_corners(faces, f)
                a = read_vertex(vertices, first + i[0])
                b = read_vertex(vertices, first + i[1])
                c = read_vertex(vertices, first + i[2])
                sign = wp.sign(twice_area(a, b, c))
                origin = c[0]
                rise = (py - c[1]) * sign
                slope = sign * wp.vec3((b[1] - c[1]) * a[2], (c[1] - a[1]) * b[2], (a[1] - b[1]) * c[2])
                # corner c's weight is the edge ab's value: from b, whose distance to c is at hand
                rest = sign * ((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]))
                start = wp.vec3(
                    (c[0] - b[0]) * rise * a[2],
                    (a[0] - c[0]) * rise * b[2],
                    ((b[0] - a[0]) * rise + rest) * c[2],
                )
            weights = normalised(slope * (float(x) + 0.5 - origin) + start)
        write_weights(weights_row, x, weights)
        x += 1


@wp.kernel
def resolve_depth(
    # in
    key: wp.array3d(dtype=wp.int64),
    first_image: int,
    first_row: int,
    span: int,
    # out
    inverse_depth: wp.array3d(dtype=float),
):
    """Read only the inverse depths out of keys."""
    item, line, chunk = wp.tid()
    n = first_image + item
    y = first_row + line
    for x in range(chunk * span, wp.min((chunk + 1) * span, key.shape[2])):
        inverse_depth[n, y, x] = wp.cast(wp.int32(key[n, y, x] >> wp.int64(32)), wp.float32)
