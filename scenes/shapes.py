"""Meshes made by code: the bundled worlds' assets are built from these.

Every shape is in metres, y up, stands on the plane y = 0 about the y axis, and winds counter-clockwise
seen from outside. Texture coordinates follow glTF: (0, 0) is the top-left corner of the picture.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

# Cells of a box's texture, three columns by two rows: which face shows which part of the picture.
BOX_FACES = ("+x", "-x", "+y", "-y", "+z", "-z")


@dataclass(frozen=True, eq=False)
class Mesh:
    """A mesh whose vertices are split where normal, colour or uv differ between faces.

    Attributes:
        vertices: Positions [m], float32 [V, 3]; copies of one position are bit-equal.
        faces: int32 [F, 3].
        normals: Unit normals, float32 [V, 3].
        colours: Linear albedo, float32 [V, 3].
        uv: Texture coordinates, float32 [V, 2].
    """

    vertices: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]
    normals: Float[np.ndarray, "vertex 3"]
    colours: Float[np.ndarray, "vertex 3"]
    uv: Float[np.ndarray, "vertex 2"]

    @property
    def closed(self) -> bool:
        """True where every edge joins exactly two faces that wind alike: the mesh has an inside."""
        return is_closed(self.vertices, self.faces)


def split_at_creases(
    vertices: Float[np.ndarray, "position 3"],
    faces: Int[np.ndarray, "face 3"],
    *,
    uv: Float[np.ndarray, "face 3 2"] | None = None,
    colours: Float[np.ndarray, "face 3 3"] | None = None,
    crease_degrees: float = 40.0,
) -> Mesh:
    """A mesh with a normal at each face's corner, smooth where faces meet below the crease angle.

    The normal of a corner is the mean, weighted by the faces' angles at the vertex, over the faces around
    that vertex whose own normal is within `crease_degrees` of the corner's face. Faces without area go.

    Args:
        vertices: Positions [m], one per point of the surface (welded), [P, 3].
        faces: Indices into `vertices`, [F, 3].
        uv: Texture coordinates of each face's corners, [F, 3, 2]; zero when left out.
        colours: Linear albedo of each face's corners, [F, 3, 3]; white when left out.
        crease_degrees: Largest angle [degrees] between neighbours that still look smooth.
    """
    vertices = np.asarray(vertices, np.float32)
    faces = np.asarray(faces, np.int64)
    corners = vertices[faces].astype(np.float64)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(flat, axis=1)
    keep = area > 1e-12 * max(area.max(initial=0.0), 1e-30)
    faces, corners, flat = faces[keep], corners[keep], flat[keep] / area[keep, None]
    uv = np.zeros((len(faces), 3, 2)) if uv is None else np.asarray(uv)[keep]
    colours = np.ones((len(faces), 3, 3)) if colours is None else np.asarray(colours)[keep]

    normals = _corner_normals(vertices, faces, corners, flat, math.cos(math.radians(crease_degrees)))
    rows = np.concatenate(
        [faces.reshape(-1, 1), normals.round(4), uv.reshape(-1, 2).round(6), colours.reshape(-1, 3).round(5)],
        1,
    )
    _, first, index = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return Mesh(
        vertices=vertices[faces.reshape(-1)[first]],
        faces=index.reshape(-1, 3).astype(np.int32),
        normals=normals[first].astype(np.float32),
        colours=colours.reshape(-1, 3)[first].astype(np.float32),
        uv=uv.reshape(-1, 2)[first].astype(np.float32),
    )


def _corner_normals(
    vertices: np.ndarray, faces: np.ndarray, corners: np.ndarray, flat: np.ndarray, threshold: float
) -> np.ndarray:
    """Unit normals [3 F, 3] of all corners; see `split_at_creases`."""
    ahead, behind = np.roll(corners, -1, 1) - corners, np.roll(corners, 1, 1) - corners
    cosine = (ahead * behind).sum(-1) / (np.linalg.norm(ahead, axis=-1) * np.linalg.norm(behind, axis=-1))
    angle = np.arccos(cosine.clip(-1, 1)).reshape(-1)
    vertex = faces.reshape(-1)
    order = np.argsort(vertex, kind="stable")
    count = np.bincount(vertex, minlength=len(vertices))
    # All pairs of corners at one vertex: corner `a` takes what its neighbour `b` gives.
    # At a vertex of very many faces the pairs would not fit into memory: each corner keeps its face's normal.
    crowded = count[vertex[order]] > 256
    partners = np.where(crowded, 1, count[vertex[order]])
    a = np.repeat(order, partners)
    first = np.repeat((np.cumsum(count) - count)[vertex[order]], partners)
    b = order[first + np.arange(len(a)) - np.repeat(np.cumsum(partners) - partners, partners)]
    b = np.where(np.repeat(crowded, partners), a, b)
    smooth = (flat[a // 3] * flat[b // 3]).sum(1) >= threshold
    a, b = a[smooth], b[smooth]
    total = np.stack([np.bincount(a, angle[b] * flat[b // 3, k], len(vertex)) for k in range(3)], 1)
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True))


def is_closed(vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"]) -> bool:
    """True where, positions welded, every edge is used once in each direction."""
    _, weld = np.unique(vertices, axis=0, return_inverse=True)
    f = weld.reshape(-1)[faces].astype(np.int64)
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    size = len(vertices)
    there, back = edges[:, 0] * size + edges[:, 1], edges[:, 1] * size + edges[:, 0]
    return len(np.unique(there)) == len(there) and bool(np.array_equal(np.sort(there), np.sort(back)))


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    start = np.cumsum([0] + [len(m.vertices) for m in meshes])
    return Mesh(
        vertices=np.concatenate([m.vertices for m in meshes]),
        faces=np.concatenate([m.faces + np.int32(s) for m, s in zip(meshes, start, strict=False)]),
        normals=np.concatenate([m.normals for m in meshes]),
        colours=np.concatenate([m.colours for m in meshes]),
        uv=np.concatenate([m.uv for m in meshes]),
    )


def box(
    size: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    face_colours: Sequence[Sequence[float]] | None = None,
    centred: bool = False,
) -> Mesh:
    """A box of the given width (x), height (y) and depth (z) [m].

    Args:
        size: Three lengths [m].
        face_colours: Linear albedo of the faces in the order of `BOX_FACES`; white when left out.
        centred: True puts its middle at the origin instead of its base on y = 0.

    Each face shows one cell of the texture, three columns by two rows in the order of `BOX_FACES`.
    """
    half = np.asarray(size, np.float64) / 2
    vertices, uv, inset = [], [], 0.004  # keeps the neighbouring cell out of the filter's reach
    for k, face in enumerate(BOX_FACES):
        axis, sign = "xyz".index(face[1]), 1.0 if face[0] == "+" else -1.0
        outward = np.eye(3)[axis] * sign
        up = np.array([0.0, 1.0, 0.0]) if axis != 1 else np.array([0.0, 0.0, -sign])
        right = np.cross(up, outward)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            vertices.append((outward + a * right + b * up) * half)
            u, v = ((1 + a) / 2, (1 - b) / 2)
            uv.append(((k % 3 + inset + u * (1 - 2 * inset)) / 3, (k // 3 + inset + v * (1 - 2 * inset)) / 2))
    points, weld = np.unique(np.array(vertices), axis=0, return_inverse=True)
    quads = np.arange(24).reshape(6, 4)
    index = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    colours = np.ones((6, 3)) if face_colours is None else np.asarray(face_colours, np.float64)
    if colours.shape != (6, 3):
        raise ValueError(f"face_colours must be six linear colours, got shape {list(colours.shape)}")
    if not centred:
        points = points + np.array([0.0, half[1], 0.0])
    return split_at_creases(
        points,
        weld.reshape(-1)[index],
        uv=np.array(uv)[index],
        colours=np.tile(colours, (2, 1))[:, None].repeat(3, 1),
    )


def lathe(
    profile: Sequence[Sequence[float]], *, segments: int = 28, smooth: int = 1, crease_degrees: float = 40.0
) -> Mesh:
    """The surface swept by turning a profile about the y axis.

    Args:
        profile: Points (radius, height) [m] from the bottom to the top along the outside; closed where it
            begins and ends on the axis (radius 0), or returns to its first point.
        segments: Number of steps around, at least 3.
        smooth: Steps per piece of the profile; above 1 a curve through the points replaces straight lines.
        crease_degrees: See `split_at_creases`.

    The texture runs once around, from +z towards +x, and from the profile's end (its top row) to the start.
    """
    outline = np.asarray(profile, np.float64)
    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 2:
        raise ValueError(
            f"profile must be at least two points (radius, height), got shape {list(outline.shape)}"
        )
    if (outline[:, 0] < 0).any():
        raise ValueError(f"profile has a negative radius: {outline[:, 0].min():g}")
    if smooth > 1:
        low, high = outline[:, 1].min(), outline[:, 1].max()
        # The curve may swing past its points.
        outline = _curve(outline, smooth).clip([0.0, low], [np.inf, high])
    loop = bool(np.allclose(outline[0], outline[-1], atol=1e-9))
    angle = 2 * math.pi * np.arange(segments) / segments
    around = np.stack([np.sin(angle), np.zeros(segments), np.cos(angle)], 1)
    rings = outline[:, :1, None] * around + outline[:, 1, None, None] * [0.0, 1.0, 0.0]
    index = np.arange(len(outline) * segments).reshape(len(outline), segments)
    index = np.concatenate([index, index[:, :1]], 1)
    index[outline[:, 0] == 0] = index[outline[:, 0] == 0][:, :1]  # a point on the axis is one point
    if loop:
        index[-1] = index[0]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    v = 1 - length / length[-1]
    u = np.arange(segments + 1) / segments
    uv = np.stack(np.broadcast_arrays(u[None], v[:, None]), -1)
    faces, uv = _grid(index), _grid(uv)
    # Both corners of a pole's triangle share one point: its uv lies between the two.
    for k in range(3):
        pole = np.isin(faces[:, k], index[outline[:, 0] == 0])
        others = uv[pole][:, [(k + 1) % 3, (k + 2) % 3], 0]
        uv[pole, k, 0] = others.mean(1)
    return split_at_creases(rings.reshape(-1, 3), faces, uv=uv, crease_degrees=crease_degrees)


def sphere(radius: float = 0.5, *, segments: int = 24, rings: int = 14) -> Mesh:
    """A sphere [m] whose poles lie on the y axis, resting on y = 0."""
    angle = np.linspace(0, math.pi, rings + 1)
    profile = np.stack([radius * np.sin(angle), radius * (1 - np.cos(angle))], 1)
    profile[[0, -1], 0] = 0.0
    return lathe(profile.tolist(), segments=segments, crease_degrees=80.0)


def torus(radius: float = 0.08, thickness: float = 0.03, *, segments: int = 28, sides: int = 12) -> Mesh:
    """A lying ring: `radius` [m] from the middle to the tube's middle, `thickness` [m] the tube's radius."""
    angle = np.linspace(0, 2 * math.pi, sides + 1) - math.pi / 2
    profile = np.stack([radius + thickness * np.cos(angle), thickness * (1 + np.sin(angle))], 1)
    profile[-1] = profile[0]
    return lathe(profile.tolist(), segments=segments, crease_degrees=80.0)


def tube(
    path: Sequence[Sequence[float]], radius: float | Sequence[float], *, sides: int = 8, smooth: int = 1
) -> Mesh:
    """A round bar with flat ends along a path that lies in the plane z = 0: handles and spouts.

    Args:
        path: Points (x, y) [m].
        radius: The bar's radius [m], or one per point.
        sides: Corners of its section.
        smooth: Points per piece of the path, as in `lathe`.
    """
    points = np.asarray(path, np.float64)
    rows = np.concatenate([points, np.broadcast_to(np.asarray(radius, np.float64), len(points))[:, None]], 1)
    rows = _curve(rows, smooth) if smooth > 1 else rows
    along = np.gradient(rows[:, :2], axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normal = np.stack([-along[:, 1], along[:, 0], np.zeros(len(rows))], 1)
    turn = 2 * math.pi * np.arange(sides) / sides
    section = np.cos(turn)[None, :, None] * normal[:, None] + np.sin(turn)[None, :, None] * [0.0, 0.0, 1.0]
    middle = np.concatenate([rows[:, :2], np.zeros((len(rows), 1))], 1)
    surface = (middle[:, None] + section * rows[:, 2, None, None]).reshape(-1, 3)
    index = np.arange(len(surface)).reshape(len(rows), sides)
    faces = _grid(np.concatenate([index, index[:, :1]], 1))
    ends = len(surface) + np.arange(2)
    following = np.roll(np.arange(sides), -1)
    caps = [
        np.stack([np.full(sides, ends[0]), index[0][following], index[0]], 1),
        np.stack([np.full(sides, ends[1]), index[-1], index[-1][following]], 1),
    ]
    return split_at_creases(np.concatenate([surface, middle[[0, -1]]]), np.concatenate([faces, *caps]))


def loft(
    rings: Sequence[Sequence[Sequence[float]]],
    *,
    colours: Float[np.ndarray, "zone point 3"] | None = None,
    crease_degrees: float = 40.0,
) -> Mesh:
    """The closed skin through rings of equally many points, with a fan over the first and the last one.

    Args:
        rings: Points [m], [R, N, 3], R at least 2; seen from the last ring they run counter-clockwise. The
            first and the last must be seen whole from the mean of their points.
        colours: Linear albedo, [R + 1, N, 3]: the first fan, the bands between the rings, the last fan; in
            each, of the piece that begins at a point. White when left out.
        crease_degrees: See `split_at_creases`.

    The texture is projected along z: it fills the bounding box of x and y.
    """
    points = np.asarray(rings, np.float64)
    if points.ndim != 3 or points.shape[2] != 3 or points.shape[0] < 2 or points.shape[1] < 3:
        raise ValueError(f"rings must be two or more of three or more points, got {list(points.shape)}")
    count, corners = points.shape[:2]
    index = np.arange(count * corners).reshape(count, corners)
    ends = count * corners + np.arange(2)
    index, following = np.concatenate([index, index[:, :1]], 1), np.roll(index, -1, 1)
    fans = [
        np.stack([np.full(corners, ends[0]), following[0], index[0, :-1]], 1),
        np.stack([np.full(corners, ends[1]), index[-1, :-1], following[-1]], 1),
    ]
    faces = np.concatenate([fans[0], _grid(index), fans[1]])
    vertices = np.concatenate([points.reshape(-1, 3), points[[0, -1]].mean(1)])
    low, size = vertices[:, :2].min(0), np.ptp(vertices[:, :2], axis=0).clip(1e-12)
    uv = (vertices[:, :2] - low) / size * [1.0, -1.0] + [0.0, 1.0]
    if colours is not None:
        bands = colours[1:-1].reshape(-1, 3).repeat(2, 0)
        colours = np.concatenate([colours[0], bands, colours[-1]])[:, None].repeat(3, 1)
    return split_at_creases(vertices, faces, uv=uv[faces], colours=colours, crease_degrees=crease_degrees)


def extrusion(
    outline: Sequence[Sequence[float]],
    thickness: float,
    *,
    bevel: float = 0.0,
    edge_colours: Sequence[Sequence[float]] | None = None,
) -> Mesh:
    """A flat outline given thickness along z, half of it to either side: signs, barriers, bodies of cars.

    Args:
        outline: Points (x, y) [m], counter-clockwise, all seen from their mean (star-shaped).
        thickness: Along z [m].
        bevel: Width [m] of the slanted border of both flat sides; less than half of `thickness`.
        edge_colours: Linear albedo of the surface along each edge, from its point to the next; white when
            left out, as the flat sides are.
    """
    points = np.asarray(outline, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"outline must be at least three points (x, y), got shape {list(points.shape)}")
    spokes = points - points.mean(0)
    after = np.roll(spokes, -1, 0)
    if not (spokes[:, 0] * after[:, 1] - spokes[:, 1] * after[:, 0] > 0).all():
        raise ValueError("outline must run counter-clockwise, every point in sight of their mean")
    if not 0.0 <= bevel < thickness / 2:
        raise ValueError(f"bevel must lie in [0, thickness / 2 = {thickness / 2:g}), got {bevel:g}")
    half, inner = thickness / 2, _narrowed(points, bevel)
    levels = [(points, -half), (points, half)]
    if bevel > 0.0:
        levels = [(inner, -half), (points, bevel - half), (points, half - bevel), (inner, half)]
    rings = np.stack([np.column_stack([p, np.full(len(p), z)]) for p, z in levels])
    colours = np.ones((len(rings) + 1, len(points), 3))
    if edge_colours is not None:
        if np.shape(edge_colours) != (len(points), 3):
            raise ValueError(
                f"edge_colours must be {len(points)} linear colours, got shape {list(np.shape(edge_colours))}"
            )
        colours[1:-1] = edge_colours
    return loft(rings, colours=colours)  # type: ignore[arg-type]  # an array serves as a sequence


def _narrowed(outline: Float[np.ndarray, "point 2"], by: float) -> Float[np.ndarray, "point 2"]:
    """The counter-clockwise outline with every edge moved inwards."""
    along = np.roll(outline, -1, 0) - outline
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    inwards = np.stack([-along[:, 1], along[:, 0]], 1)
    before = np.roll(inwards, 1, 0)
    return outline + by * (inwards + before) / (1.0 + (inwards * before).sum(1, keepdims=True))


def pyramid(side: float = 0.2, height: float = 0.17) -> Mesh:
    """A pyramid on a square of `side` [m]."""
    a = side / 2
    vertices = [[-a, 0, -a], [a, 0, -a], [a, 0, a], [-a, 0, a], [0, height, 0]]
    faces = [[0, 1, 2], [0, 2, 3], [0, 4, 1], [1, 4, 2], [2, 4, 3], [3, 4, 0]]
    return split_at_creases(np.array(vertices), np.array(faces))


def plane(width: float = 2.0, depth: float = 2.0, *, divisions: int = 4, tiles: float = 1.0) -> Mesh:
    """A level rectangle [m] facing up, centred on the origin; its texture repeats `tiles` times a side."""
    step = np.linspace(0, 1, divisions + 1)
    v, u = np.meshgrid(step, step, indexing="ij")
    vertices = np.stack([(u - 0.5) * width, np.zeros_like(u), (v - 0.5) * depth], -1).reshape(-1, 3)
    index = np.arange(len(vertices)).reshape(divisions + 1, divisions + 1)
    faces, uv = _grid(index)[:, ::-1], _grid(np.stack([u, v], -1) * tiles)[:, ::-1]
    return split_at_creases(vertices, faces, uv=uv)


def mug(radius: float = 0.055, height: float = 0.13, *, segments: int = 28) -> Mesh:
    """A mug [m] with its handle towards +x."""
    r, h, wall = radius, height, 0.006
    cup = [
        (0, 0), (0.92 * r, 0), (r, 0.06 * h), (r, h), (r - wall, h), (r - wall, 0.1 * h), (0, 0.1 * h),
    ]  # fmt: skip
    x = r - wall / 2
    handle = [
        (x, 0.82 * h),
        (x + 0.5 * r, 0.84 * h),
        (x + 0.8 * r, 0.55 * h),
        (x + 0.5 * r, 0.24 * h),
        (x, 0.2 * h),
    ]
    return merge([lathe(cup, segments=segments), tube(handle, 0.16 * r, smooth=4)])


def _curve(points: Float[np.ndarray, "point d"], pieces: int) -> Float[np.ndarray, "more d"]:
    """A Catmull-Rom curve through the points, `pieces` steps between neighbours; ends stay on the axis."""
    before = np.concatenate([2 * points[:1] - points[1:2], points[:-1]])[:-1]
    after = np.concatenate([points[1:], 2 * points[-1:] - points[-2:-1]])[1:]
    a, b = points[:-1], points[1:]
    t = np.arange(pieces)[None, :, None] / pieces
    a, b, before, after = (x[:, None] for x in (a, b, before, after))
    curve = 0.5 * (
        2 * a
        + (b - before) * t
        + (2 * before - 5 * a + 4 * b - after) * t**2
        + (3 * a - before - 3 * b + after) * t**3
    )
    curve = np.concatenate([curve.reshape(-1, points.shape[1]), points[-1:]])
    curve[:, 0] = np.where(np.abs(curve[:, 0]) < 1e-9, 0.0, curve[:, 0])
    return curve


def _grid(values: np.ndarray) -> np.ndarray:
    """Two triangles for every cell of a grid [rows, columns, ...]: rows go up, columns to the right."""
    a, b, c, d = values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]
    quads = np.stack([np.stack([a, b, c], 2), np.stack([a, c, d], 2)], 2)
    return quads.reshape(-1, 3, *values.shape[2:])


SHAPES: dict[str, Callable[..., Mesh]] = {
    f.__name__: f for f in (box, sphere, lathe, torus, tube, extrusion, pyramid, plane, mug)
}
