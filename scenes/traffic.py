"""Shapes of the street, made by code: vehicles, signs, the road. Conventions as in `shapes`.

Vehicles look along +z. What a tint must leave dark, such as glass and tyres, is dark in the vertices'
colours; the tint multiplies them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from scenes.shapes import Mesh, box, extrusion, loft, merge, split_at_creases, tube

PAINT, GLASS, TYRE, TRIM = (1.0, 1.0, 1.0), (0.035, 0.045, 0.06), (0.02, 0.02, 0.02), (0.05, 0.05, 0.05)
HUB, REAR_LAMP, POLE = (0.3, 0.3, 0.3), (0.5, 0.01, 0.01), (0.3, 0.3, 0.32)

ASPHALT, LINE, KERB = (0.13, 0.13, 0.135), (0.75, 0.75, 0.72), (0.42, 0.42, 0.4)
PAVEMENT, GRASS = (0.27, 0.26, 0.245), (0.09, 0.17, 0.04)

_PILLAR = 0.05  # [m] half of a pillar's width
_SUNK = 0.12  # [m] how far the cabin reaches down into the body
_SILL, _HEAD = 0.05, 0.09  # [m] heights of what frames the windows below and above


def vehicle(
    width: float,
    body: Sequence[Sequence[float]],
    *,
    belt: float,
    roof: float,
    pillars: Sequence[Sequence[float]],
    glazed: int | None = None,
    axles: Sequence[float],
    wheel: float = 0.32,
    trim: Sequence[int] = (),
    lamps: Sequence[float] = (),
) -> Mesh:
    """A car, van or pickup: a body, a cabin with windows, four wheels, and rear lamps.

    Args:
        width: Of the body [m]; the wheels stand out by 2 cm.
        body: The body's outline from the side, points (forwards, up) [m], counter-clockwise with the front
            to the right; see `extrusion`.
        belt: Height [m] where the cabin leaves the body.
        roof: Height [m] of the roof.
        pillars: From the front to the rear, where each one's foot and head are [m forwards].
        glazed: How many of the bays between pillars, from the front, have side windows; all when left out.
            The rear has a window where all have.
        axles: Where the wheels are [m forwards].
        wheel: Radius [m] of the wheels.
        trim: Which of the outline's edges are dark: bumpers, a grille, a load bed.
        lamps: Rear end and height [m] of the rear lamps; none when left out.
    """
    if not all(edge in range(len(body)) for edge in trim):
        raise ValueError(f"trim must name edges of the body, 0 to {len(body) - 1}, got {list(trim)}")
    if len(pillars) < 2 or not 0 <= (glazed or 0) < len(pillars):
        raise ValueError(
            f"{len(pillars)} pillars have {len(pillars) - 1} bays between them, glazed is {glazed}"
        )
    colours = np.tile(PAINT, (len(body), 1))
    colours[list(trim)] = TRIM
    parts = [
        extrusion(body, width, bevel=0.07, edge_colours=colours.tolist()),
        _cabin(width - 0.1, belt, roof, np.asarray(pillars, np.float64), glazed),
    ]
    for along in axles:
        for side in (-1.0, 1.0):
            disc = _disc(14, wheel, 0.22, [(0.62, HUB), (1.0, TYRE)])
            parts.append(_moved(disc, [along, -disc.vertices[:, 1].min(), side * (width / 2 - 0.09)]))
    if lamps:
        rear, height = lamps
        for side in (-1.0, 1.0):
            lamp = box((0.06, 0.16, 0.3), face_colours=[REAR_LAMP] * 6)
            parts.append(_moved(lamp, [rear, height, side * (width / 2 - 0.25)]))
    return _facing_forwards(merge(parts))


def sign(
    corners: int,
    radius: float,
    height: float,
    *,
    bands: Sequence[float],
    colours: Sequence[Sequence[float]],
) -> Mesh:
    """A traffic sign on a pole, the same on both sides, facing +z and -z.

    Args:
        corners: Of the plate: 3 stands on an edge, 8 has a level top, many make it round.
        radius: From the plate's middle to its corners [m].
        height: Of the plate's middle above the ground [m].
        bands: Where each colour ends, as a share of the radius, increasing; the last is 1.
        colours: Linear albedo of each band, from the middle outwards.
    """
    if len(bands) != len(colours) or not (np.diff([0.0, *bands]) > 0.0).all() or bands[-1] != 1.0:
        raise ValueError(
            f"bands must increase from above 0 to 1, one for each of {len(colours)} colours, got {bands}"
        )
    plate = _disc(corners, radius, 0.05, list(zip(bands, colours, strict=True)))
    low = float(plate.vertices[:, 1].min())
    pole = tube([(0.0, 0.0), (0.0, height + low + 0.02)], 0.045)
    pole = replace(pole, colours=np.tile(np.array(POLE, np.float32), (len(pole.vertices), 1)))
    return merge([_moved(plate, [0.0, height, 0.0]), pole])


def road(
    lanes: int = 3,
    lane_width: float = 4.0,
    length: float = 100.0,
    *,
    verge: float = 60.0,
    pavement: float = 2.2,
    dash: Sequence[float] = (3.0, 6.0),
    tile: float = 6.0,
) -> Mesh:
    """A level street along z: lanes between dashed lines, kerbs, pavements and grass.

    It is flat and of strips that do not overlap: lines a few centimetres wide stay sharp without a texture.

    Args:
        lanes: How many, side by side.
        lane_width: Of each [m].
        length: Along z [m].
        verge: Width of the grass on either side [m].
        pavement: Width of the pavements [m].
        dash: Lengths of a dash and of the gap behind it [m].
        tile: Side [m] of the square that the texture covers.
    """
    line, gutter = 0.15, 0.3
    side = [(verge, GRASS), (pavement, PAVEMENT), (0.2, KERB), (gutter, ASPHALT), (line, LINE)]
    widths = np.full(lanes, lane_width - line)
    widths[0] -= gutter + line / 2
    widths[-1] -= gutter + line / 2
    middle = [(float(widths[0]), ASPHALT)]
    for width in widths[1:]:
        middle += [(line, LINE), (float(width), ASPHALT)]
    of_dash = [*side, *middle, *side[::-1]]
    of_gap = [*side, *[(width, ASPHALT) for width, _ in middle], *side[::-1]]
    ends = np.cumsum([0.0, *[width for width, _ in of_dash]])
    return _strips(
        ends - ends[-1] / 2,
        np.array([colour for _, colour in of_dash]),
        np.array([colour for _, colour in of_gap]),
        length,
        dash,
        tile,
    )


def _strips(
    edges: Float[np.ndarray, "edge"],
    of_dash: Float[np.ndarray, "strip 3"],
    of_gap: Float[np.ndarray, "strip 3"],
    length: float,
    dash: Sequence[float],
    tile: float,
) -> Mesh:
    """Level strips along z between `edges` [m across]; along them two sets of colours take turns."""
    starts = np.arange(0.0, length, sum(dash))
    along = np.unique(np.concatenate([starts, starts + dash[0], [length]]).clip(0.0, length))
    z, x = np.meshgrid(along - length / 2, edges, indexing="ij")
    vertices = np.stack([x, np.zeros_like(x), z], -1).reshape(-1, 3)
    index = np.arange(len(vertices)).reshape(x.shape)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    dashed = (along[:-1] + along[1:]) / 2 % sum(dash) < dash[0]
    colours = np.where(dashed[:, None, None], of_dash, of_gap).reshape(-1, 3).repeat(2, 0)
    uv = vertices[:, [0, 2]] / tile
    return split_at_creases(vertices, faces, uv=uv[faces], colours=colours[:, None].repeat(3, 1))


def _cabin(width: float, belt: float, roof: float, pillars: np.ndarray, glazed: int | None) -> Mesh:
    """What stands on the body of a vehicle that looks along +x: windows between pillars, under a roof."""
    bays = len(pillars) - 1
    glazed = bays if glazed is None else glazed
    heights = np.array([belt - _SUNK, belt + _SILL, roof - _HEAD, roof])
    share = (heights - belt) / (roof - belt)
    middle = pillars[:, :1] + share * (pillars[:, 1:] - pillars[:, :1])  # [pillar, ring]
    edge = np.full(len(pillars), _PILLAR)
    # The outermost pillars have their width inside the cabin, the others half to either side.
    ahead, behind = edge.copy(), edge.copy()
    ahead[0], behind[0], ahead[-1], behind[-1] = 0.0, 2 * _PILLAR, 2 * _PILLAR, 0.0
    x = np.stack([middle + ahead[:, None], middle - behind[:, None]], 1).reshape(-1, 4)
    side = width / 2 - 0.22 * (heights - belt).clip(0.0)  # leaning inwards
    right = np.stack([x, np.broadcast_to(heights, x.shape), np.broadcast_to(-side, x.shape)], -1)
    left = right[::-1] * [1.0, 1.0, -1.0]
    rings = np.concatenate([right, left]).transpose(1, 0, 2)
    colours = np.tile(PAINT, (len(rings) + 1, rings.shape[1], 1))
    windows = [2 * k + 1 for k in range(glazed)]
    last = rings.shape[1] - 1
    colours[2, [*windows, *[last - 1 - w for w in windows], last]] = GLASS
    if glazed == bays:
        colours[2, 2 * bays + 1] = GLASS
    return loft(rings, colours=colours)  # type: ignore[arg-type]  # an array serves as a sequence


def _disc(
    corners: int, radius: float, thickness: float, bands: Sequence[tuple[float, Sequence[float]]]
) -> Mesh:
    """A regular plate across z, centred; `bands`: end (share of the radius) and colour, from the middle."""
    start = np.pi / 2 + (np.pi / corners if corners % 2 == 0 else 0.0)
    angle = start + 2 * np.pi * np.arange(corners) / corners
    shares, paints = [s for s, _ in bands], [p for _, p in bands]
    levels = [(s, -thickness / 2) for s in shares] + [(s, thickness / 2) for s in shares[::-1]]
    rings = np.stack(
        [
            np.stack([s * radius * np.cos(angle), s * radius * np.sin(angle), np.full(corners, z)], 1)
            for s, z in levels
        ]
    )
    zones = [*paints, paints[-1], *paints[::-1]]
    colours = np.array(zones, np.float64)[:, None].repeat(corners, 1)
    return loft(rings, colours=colours)  # type: ignore[arg-type]  # an array serves as a sequence


def _moved(mesh: Mesh, offset: Sequence[float]) -> Mesh:
    return replace(mesh, vertices=mesh.vertices + np.array(offset, np.float32))


def _facing_forwards(mesh: Mesh) -> Mesh:
    """The mesh that looks along +x, turned to look along +z."""
    turn = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], np.float32)
    return replace(mesh, vertices=mesh.vertices @ turn.T, normals=mesh.normals @ turn.T)


SHAPES: dict[str, Callable[..., Mesh]] = {f.__name__: f for f in (vehicle, sign, road)}
