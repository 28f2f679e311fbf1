"""Find which turns leave a mesh as it is."""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from scenes.asset import Symmetry

ROUND = 0.005  # share of the diameter: a lathe's flat facets may lie this far inside the round shape
EXACT = 0.002  # share of the diameter: discrete turns must repeat the surface this well
POINTS = 600  # places on the surface that are turned and compared
ORDERS = (2, 3, 4, 5, 6, 8)  # equal turns about one axis that are tried
GROUP = 60  # the largest finite group of turns, the icosahedron's


def find_symmetry(vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"]) -> Symmetry:
    """The turns that leave a mesh's shape as it is: a sphere's, an axis of revolution, discrete turns.

    Every such turn leaves the surface's centre of gravity where it is. Axes tried are the principal axes of
    the surface, the frame's own axes, and the line from the origin to the centre of gravity; others, such as
    those of a cube that stands askew, are not found.

    Args:
        vertices: Positions [m], [V, 3].
        faces: [F, 3].
    """
    corners = vertices[faces].astype(np.float64)
    diameter = float(np.linalg.norm(np.ptp(corners.reshape(-1, 3), axis=0)))
    centre, axes = _principal_axes(corners)
    surface = Surface(corners - centre)
    places = np.concatenate([surface.corners.mean(1), surface.corners.reshape(-1, 3)])
    points = places[:: max(1, len(places) // POINTS)]
    candidates = _distinct([*np.eye(3), *axes, centre] if np.linalg.norm(centre) > 0 else [*np.eye(3), *axes])
    round_axes = [a for a in candidates if _revolves(surface, points, a, ROUND * diameter)]
    if len(round_axes) > 1:  # only a sphere is round about two axes
        return Symmetry(sphere=True, centre=_at_origin(centre, float(np.linalg.norm(centre)), diameter))
    round_axis = round_axes[0] if round_axes else None
    turns = [np.eye(3)]
    if round_axis is not None:
        flip = _turn(_across(round_axis), math.pi)
        if surface.distance(points @ flip.T) < EXACT * diameter:
            turns.append(flip)
    else:
        for axis in candidates:
            turns += [
                t
                for order in ORDERS
                if surface.distance(points @ (t := _turn(axis, 2 * math.pi / order)).T) < EXACT * diameter
            ]
        turns = _group(turns)
    moved = max(float(np.linalg.norm(t @ centre - centre)) for t in turns)
    if round_axis is not None:
        moved = max(moved, float(np.linalg.norm(centre - round_axis * (round_axis @ centre))))
    return Symmetry(
        rotations=np.stack(turns).astype(np.float32),
        axis=None if round_axis is None else round_axis.astype(np.float32),
        centre=_at_origin(centre, moved, diameter),
    )


class Surface:
    """A surface, cut into small triangles, that knows the distance of points from it."""

    def __init__(self, corners: Float[np.ndarray, "face 3 3"]) -> None:
        from scipy.spatial import KDTree

        diameter = float(np.linalg.norm(np.ptp(corners.reshape(-1, 3), axis=0)))
        self.corners = _small_triangles(corners, 0.06 * diameter)
        self.tree = KDTree(self.corners.mean(1))

    def distance(self, points: Float[np.ndarray, "point 3"]) -> float:
        """Largest distance of the points from the surface [m]; of a few alone where those are far already.

        Of the triangles, only those with the nearest middles are looked at.
        """
        few = self._distances(points[:: max(1, len(points) // 40)])
        if few.max() > 0.02 * float(np.ptp(self.corners)):
            return float(few.max())
        return float(self._distances(points).max())

    def _distances(self, points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point"]:
        _, near = self.tree.query(points, k=min(12, len(self.corners)))
        near = near.reshape(len(points), -1)
        a, b, c = (self.corners[near, k] for k in range(3))
        return np.asarray(_point_triangle(points[:, None], a, b, c).min(1))


def _point_triangle(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Distance of points from triangles: from the plane above the inside, else from the nearest edge."""
    normal = np.cross(b - a, c - a)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-300)
    inside = np.ones(normal.shape[:-1], bool)
    distance = np.full(inside.shape, np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge = end - start
        inside &= (np.cross(edge, p - start) * normal).sum(-1) >= 0
        along = ((p - start) * edge).sum(-1) / np.maximum((edge * edge).sum(-1), 1e-300)
        distance = np.minimum(
            distance, np.linalg.norm(p - start - along.clip(0, 1)[..., None] * edge, axis=-1)
        )
    return np.where(inside, np.abs(((p - a) * normal).sum(-1)), distance)


def _principal_axes(corners: Float[np.ndarray, "face 3 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Centre of gravity [3] of the surface and its principal axes, one per row [3, 3]."""
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    weight = area / area.sum()
    centre = weight @ corners.mean(1)
    # The second moment of a triangle is that of its edges' middles with a third of the area each.
    middles = (corners + np.roll(corners, 1, 1)) / 2 - centre
    moment = np.einsum("f,fki,fkj->ij", weight / 3, middles, middles)
    return centre, np.linalg.eigh(moment)[1].T


def _small_triangles(corners: Float[np.ndarray, "face 3 3"], longest: float) -> Float[np.ndarray, "more 3 3"]:
    """The same surface, triangles halved across their longest edge until all are below `longest` [m]."""
    done: list[np.ndarray] = []
    for _ in range(24):
        edges = np.linalg.norm(np.roll(corners, -1, 1) - corners, axis=2)
        long = edges.max(1) > longest
        done.append(corners[~long])
        if not long.any() or sum(map(len, done)) > 60_000:
            done.append(corners[long])
            break
        corners, edges = corners[long], edges[long]
        order = (edges.argmax(1)[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(corners, order[..., None], 1).transpose(1, 0, 2)
        middle = (a + b) / 2
        corners = np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)])
    return np.concatenate(done)


def _revolves(surface: Surface, points: np.ndarray, axis: np.ndarray, tolerance: float) -> bool:
    return all(surface.distance(points @ _turn(axis, angle).T) < tolerance for angle in (0.37, 1.0, 2.6))


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _across(axis: np.ndarray) -> np.ndarray:
    """A unit vector at right angles to `axis`."""
    other = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    return np.asarray(other / np.linalg.norm(other))


def _distinct(axes: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Unit axes, each direction once."""
    kept: list[np.ndarray] = []
    for axis in axes:
        unit = axis / np.linalg.norm(axis)
        if all(abs(unit @ k) < 1 - 1e-6 for k in kept):
            kept.append(unit)
    return kept


def _group(turns: list[np.ndarray]) -> list[np.ndarray]:
    """All products of the turns, the identity first; it alone where they are too many to be a group."""
    found: list[np.ndarray] = []
    waiting = list(turns)
    while waiting:
        turn = waiting.pop(0)
        if any(np.abs(turn - f).max() < 1e-3 for f in found):
            continue
        found.append(turn)
        if len(found) > GROUP:
            return [np.eye(3)]
        waiting += [turn @ t for t in turns]
    return found


def _at_origin(centre: np.ndarray, moved: float, diameter: float) -> np.ndarray:
    """Zero where the turns about `centre` are, within tolerance, turns about the origin too."""
    there = moved > EXACT * diameter
    return np.where(there & (np.abs(centre) > 1e-6 * diameter), centre, 0.0).astype(np.float32)
