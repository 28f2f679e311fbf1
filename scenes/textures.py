"""Pictures made by code for the bundled assets: labels, covers, wood.

The same arguments give the same texels. Every function returns sRGB-encoded texels, uint8 [h, w, 3]; colours
are sRGB triples in [0, 1].
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

Texture = UInt8[np.ndarray, "row column 3"]
Colour = Sequence[float]

WHITE, BLACK = (0.95, 0.95, 0.93), (0.1, 0.1, 0.12)


def checker(cells: int = 8, colours: Sequence[Colour] = (WHITE, BLACK), *, size: int = 128) -> Texture:
    """A chessboard of `cells` by `cells` squares in two colours."""
    index = np.arange(size) * cells // size
    return _texels(np.asarray(colours)[(index[:, None] + index[None]) % 2])


def rings(colours: Sequence[Colour], edges: Sequence[float] | None = None, *, size: int = 256) -> Texture:
    """Level stripes from the top of the picture to its bottom: on a lathe they run around and keep it round.

    Args:
        colours: One per stripe, from the top.
        edges: Where each stripe ends, as a share of the height, increasing; equal stripes when left out.
        size: Height [texels].
    """
    ends = np.linspace(0, 1, len(colours) + 1)[1:] if edges is None else np.asarray(edges)
    row = np.searchsorted(ends, (np.arange(size) + 0.5) / size).clip(0, len(colours) - 1)
    return _texels(np.asarray(colours)[row][:, None].repeat(16, 1))


def wedges(colours: Sequence[Colour], cap: Colour | None = None, *, size: int = 128) -> Texture:
    """Upright stripes, one per colour, as on a beach ball; `cap` paints both poles."""
    picture = np.asarray(colours)[np.arange(2 * size) * len(colours) // (2 * size)][None].repeat(size, 0)
    if cap is not None:
        picture[: size // 12] = picture[-size // 12 :] = cap
    return _texels(picture)


def wood(
    light: Colour = (0.72, 0.53, 0.36), dark: Colour = (0.55, 0.37, 0.23), *, size: int = 256, seed: int = 0
) -> Texture:
    """Boards with grain along the picture's rows; the picture repeats without a seam."""
    generator = np.random.default_rng(seed)
    y, x = np.meshgrid(np.arange(size) / size, np.arange(size) / size, indexing="ij")
    board = (y * 4).astype(int)
    waves = np.zeros((size, size))
    for k in range(1, 9):
        across, along = int(generator.integers(4, 13)) * k, int(generator.integers(0, 3))
        phase = generator.uniform(0, 2 * math.pi, 4)[board]
        bend = 0.6 * np.sin(2 * math.pi * (x * (1 + k % 2) + generator.random()) + phase)
        waves += np.sin(2 * math.pi * (across * y + along * x) + bend + phase) / (1 + 0.5 * k)
    grain = 0.5 + 0.16 * waves + generator.uniform(-0.12, 0.12, 4)[board]
    grain[(y * 4) % 1 < 0.03] = 1.2
    return _texels(np.asarray(light) + (np.asarray(dark) - light) * grain[..., None].clip(0, 1.3))


def grain(strength: float = 0.12, *, size: int = 128, seed: int = 0) -> Texture:
    """Near-white speckles, coarse and fine, that roughen the colours of what they lie on; without a seam."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((size, size))
    for cells in (8, 32, size):
        noise = generator.uniform(-1.0, 0.0, (cells, cells))
        picture += np.kron(noise, np.ones((size // cells, size // cells)))
    return _texels((1.0 + strength * picture)[..., None].repeat(3, 2))


def can_label(colour: Colour = (0.78, 0.1, 0.12), band: Colour = WHITE, *, size: int = 256) -> Texture:
    """A tin's wrapper: a name and a picture on one side, small print on the other, bare metal at both ends.

    Drawn for a lathe whose side takes the middle 60 % of the profile's length.
    """
    height, width = size, 2 * size
    picture = np.empty((height, width, 3))
    picture[:] = (0.7, 0.71, 0.73)
    top, bottom = int(0.2 * height), int(0.8 * height)
    label = picture[top:bottom]
    label[:] = colour
    label[: (bottom - top) // 7] = band
    rows, columns = len(label), width
    _disc(label, 0.55 * rows, 0.25 * columns, 0.3 * rows, (0.96, 0.76, 0.15))
    _disc(label, 0.55 * rows, 0.25 * columns, 0.17 * rows, (0.2, 0.5, 0.2))
    label[int(0.3 * rows) : int(0.85 * rows), int(0.45 * columns) : int(0.6 * columns)] = band
    label[int(0.22 * rows) : int(0.95 * rows), int(0.68 * columns) : int(0.94 * columns)] = (0.1, 0.2, 0.45)
    _lines(label, (0.32, 0.9), (0.71, 0.91), band, count=6, seed=1)
    _lines(label, (0.4, 0.8), (0.47, 0.58), colour, count=3, seed=2)
    return _texels(picture)


def book_cover(
    colour: Colour = (0.12, 0.25, 0.5), accent: Colour = (0.93, 0.78, 0.3), *, size: int = 128
) -> Texture:
    """A lying book on a box's six cells: title above, blurb below, spine at -x, pages on the other sides."""
    pages = np.empty((size, size, 3))
    pages[:] = (0.9, 0.87, 0.78)
    pages[:: max(size // 16, 2)] = (0.72, 0.69, 0.6)
    spine, front, back = (_blank(size, colour) for _ in range(3))
    spine[int(0.35 * size) : int(0.7 * size), int(0.15 * size) : int(0.6 * size)] = accent
    front[int(0.12 * size) : int(0.3 * size), int(0.15 * size) : int(0.85 * size)] = accent
    _disc(front, 0.62 * size, 0.5 * size, 0.22 * size, (0.8, 0.3, 0.2))
    _lines(front, (0.36, 0.42), (0.2, 0.8), WHITE, count=1, seed=3)
    _lines(back, (0.15, 0.85), (0.15, 0.85), WHITE, count=8, seed=4)
    return box_atlas([pages, spine, front, back, pages, pages])


def carton(
    colour: Colour = (0.95, 0.62, 0.1), accent: Colour = (0.75, 0.1, 0.15), *, size: int = 128
) -> Texture:
    """A cereal carton on a box's six cells: a bowl and a name in front, a table of print at the back."""
    front, back, left, right, top = (_blank(size, colour) for _ in range(5))
    front[int(0.08 * size) : int(0.34 * size), int(0.08 * size) : int(0.92 * size)] = accent
    _lines(front, (0.14, 0.29), (0.15, 0.85), WHITE, count=1, seed=5)
    _disc(front, 0.68 * size, 0.5 * size, 0.27 * size, WHITE)
    _disc(front, 0.66 * size, 0.5 * size, 0.17 * size, (0.6, 0.35, 0.12))
    back[int(0.1 * size) : int(0.9 * size), int(0.1 * size) : int(0.9 * size)] = WHITE
    _lines(back, (0.18, 0.85), (0.18, 0.82), BLACK, count=9, seed=6)
    left[:] = accent
    _lines(right, (0.1, 0.9), (0.2, 0.8), WHITE, count=7, seed=7)
    top[int(0.42 * size) : int(0.58 * size)] = accent
    return box_atlas([right, left, top, top, front, back])


def box_atlas(cells: Sequence[np.ndarray]) -> Texture:
    """Six pictures of one size as a box's texture, in the order of `shapes.BOX_FACES`."""
    return _texels(np.concatenate([np.concatenate(list(cells[:3]), 1), np.concatenate(list(cells[3:]), 1)]))


def _texels(picture: np.ndarray) -> Texture:
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def _blank(size: int, colour: Colour) -> np.ndarray:
    return np.full((size, size, 3), colour, dtype=np.float64)


def _disc(picture: np.ndarray, row: float, column: float, radius: float, colour: Colour) -> None:
    i, j = np.ogrid[: picture.shape[0], : picture.shape[1]]
    picture[(i + 0.5 - row) ** 2 + (j + 0.5 - column) ** 2 < radius**2] = colour


def _lines(
    picture: np.ndarray,
    rows: tuple[float, float],
    columns: tuple[float, float],
    colour: Colour,
    *,
    count: int,
    seed: int,
) -> None:
    """Blocks that read as lines of print, inside the given shares of the picture."""
    generator = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    for k in range(count):
        top = rows[0] + (rows[1] - rows[0]) * (k + 0.2) / count
        end = rows[0] + (rows[1] - rows[0]) * (k + 0.75) / count
        at = columns[0]
        while at < columns[1] - 0.02:
            word = min(at + generator.uniform(0.06, 0.2), columns[1])
            picture[int(top * height) : int(end * height), int(at * width) : int(word * width)] = colour
            at = word + 0.03


TEXTURES: dict[str, Callable[..., Texture]] = {
    f.__name__: f for f in (checker, rings, wedges, wood, grain, can_label, book_cover, carton)
}
