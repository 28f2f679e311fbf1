"""What the edge operator's kernels share: types, triangles on the screen, which pixels show one surface."""

import functools
from types import SimpleNamespace
from typing import Any

import warp as wp


@functools.cache
def common(real: Any, channels: int) -> SimpleNamespace:
    """Build the types and functions for a scalar type and a channel count."""
    vec2 = wp.types.vector(length=2, dtype=real)
    vec3 = wp.types.vector(length=3, dtype=real)
    colour = wp.types.vector(length=channels, dtype=real)
    # ends u and v; apexes; faces (the second -1 at a border); 1 for a crease; image
    edge = wp.types.vector(length=8, dtype=wp.int32)

    HUGE = wp.constant(1.0e9)  # [px] a coordinate beyond says nothing, and int() of it would be garbage
    TINY = wp.constant(1.0e-9)  # [1/m] of inverse depth, which is divided by
    SAME_SURFACE = wp.constant(0.1)  # relative change of depth from pixel to pixel within one smooth surface

    @wp.struct
    class Picture:
        """The picture and what it shows, by pixel number, and its cotangent."""

        height: wp.int32
        width: wp.int32
        face_id: wp.array[wp.int32]
        inverse_depth: wp.array[real]
        image: wp.array[colour]
        grad_image: wp.array[colour]
        antialiased: wp.bool

    @wp.struct
    class Mesh:
        """The triangles of one copy; face f of copy c has vertices[c * vertices_per_copy + faces[f]]."""

        faces: wp.array[wp.vec3i]
        neighbours: wp.array[wp.vec3i]
        instance: wp.array[wp.int32]
        group: wp.array[wp.int32]
        edges: wp.array[edge]
        images_per_copy: wp.int32

    @wp.func
    def picture_of(
        height: wp.int32,
        width: wp.int32,
        face_id: wp.array[wp.int32],
        inverse_depth: wp.array[real],
        image: wp.array[colour],
        grad_image: wp.array[colour],
        antialiased: wp.bool,
    ) -> Picture:
        """A struct of a kernel's arguments: made by the host, it would take five times as long as they do."""
        p = Picture()
        p.height = height
        p.width = width
        p.face_id = face_id
        p.inverse_depth = inverse_depth
        p.image = image
        p.grad_image = grad_image
        p.antialiased = antialiased
        return p

    @wp.func
    def usable(v: vec3) -> wp.bool:
        """False for vertices that are not finite, far off, or behind the camera."""
        near = wp.abs(v[0]) < real(HUGE) and wp.abs(v[1]) < real(HUGE)  # written so that NaN fails
        return near and v[2] > real(TINY) and v[2] < real(HUGE)

    @wp.func
    def turn(a: vec3, b: vec3, c: vec3) -> real:
        """Twice the signed area of the triangle abc on the screen: which side of ab the point c lies on."""
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    @wp.func
    def same_surface(mesh: Mesh, p: Picture, f: wp.int32, z: real, j: wp.int32) -> wp.bool:
        """True where pixel j shows the smooth surface of face f near depth 1/z."""
        other = p.face_id[j]
        if other == f:
            return True
        if other < 0 or f < 0:
            return False
        if mesh.group[other] != mesh.group[f]:
            return False
        return wp.abs(p.inverse_depth[j] - z) < real(SAME_SURFACE) * z

    @wp.func
    def beyond(mesh: Mesh, p: Picture, i: wp.int32, j: wp.int32, there: wp.bool) -> colour:
        """Colour of the surface seen at pixel i, from pixel j if that is `there` and shows it too."""
        if there:
            if same_surface(mesh, p, p.face_id[i], p.inverse_depth[i], j):
                return p.image[j]
        return p.image[i]

    return SimpleNamespace(
        real=real,
        channels=channels,
        vec2=vec2,
        vec3=vec3,
        colour=colour,
        edge=edge,
        Picture=Picture,
        Mesh=Mesh,
        picture_of=picture_of,
        usable=usable,
        turn=turn,
        SAME_SURFACE=SAME_SURFACE,
        same_surface=same_surface,
        beyond=beyond,
    )
