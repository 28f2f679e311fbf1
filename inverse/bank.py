"""Bank: sketches of every asset all over the world's ranges, scored against a picture in one pass."""

import math

import numpy as np
import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse.candidates import Candidates, Moves, Pinhole, join
from inverse.sketch import Footprints, Lamp, Rest, Sketcher, Target, View
from scenes import World, WorldError

_SPACING = 1.5  # [px] of the bank's pictures between neighbouring positions
_MOST = 120_000  # candidates of one bank


class Bank:
    """All candidates of a world on a grid of its free moves, sketched at most once for a camera."""

    def __init__(
        self, sketcher: Sketcher, world: World, moves: Moves, pinhole: Pinhole, view: View, *, seed: int = 0
    ) -> None:
        grid = _grid(world, moves, pinhole, view, seed)
        centre = moves.middles(grid.asset, *pinhole.place(grid))
        depth = (-centre[:, 2]).clamp_min(1e-6)
        x = view.centre[0] + view.focal[0] * centre[:, 0] / depth
        y = view.centre[1] - view.focal[1] * centre[:, 1] / depth
        seen = (centre[:, 2] < 0) & (x > 0) & (x < view.width) & (y > 0) & (y < view.height)
        if not bool(seen.any()):
            raise WorldError(
                f"world {world.name}: the camera sees none of the places where objects may be; "
                "its [objects] x, y, z and its [camera] do not fit together"
            )
        grid, depth = grid[seen], depth[seen]
        radius = view.focal[1] * moves.radius[grid.asset] * grid.scale / depth
        window = max(1, min(int(2.0 * float(radius.max())) + 3, max(view.height, view.width)))
        self.candidates = grid
        self.middle = torch.stack([x[seen], y[seen]], -1)  # of each candidate, in the view [px]
        self.radius = radius  # of the sphere round each of them [px]
        twice = pinhole.view(2 * view.height, 2 * view.width)
        self._small = _Sketches(sketcher, pinhole, grid, view, window)
        self._large = _Sketches(sketcher, pinhole, grid, twice, min(2 * window, twice.height, twice.width))

    def score_larger(
        self, lamp: Lamp, target: Target, rest: Rest, chosen: Tensor
    ) -> Float[Tensor, "candidate"]:
        """The same as `score` for `chosen` candidates, drawn twice as large as the bank's own sketches."""
        return self._large.score(lamp, target, rest, chosen)

    def score(
        self, lamp: Lamp, target: Target, rest: Rest, chosen: Tensor | None = None
    ) -> Float[Tensor, "candidate"]:
        """Change of the number of wrong pixels that each (or each `chosen`) candidate brings."""
        chosen = torch.arange(len(self.candidates)) if chosen is None else chosen
        return self._small.score(lamp, target, rest, chosen)


class _Sketches:
    """A bank's candidates at one size, each drawn when it is first scored and kept: all take seconds."""

    def __init__(
        self, sketcher: Sketcher, pinhole: Pinhole, candidates: Candidates, view: View, window: int
    ) -> None:
        self._sketcher, self._pinhole, self._candidates = sketcher, pinhole, candidates
        self._view, self._window = view, window
        self._place = torch.full((len(candidates),), -1)  # of each candidate among those kept
        self._kept: Footprints | None = None
        self._shaded: tuple[tuple[float, ...], Tensor] = ((), torch.empty(0))

    def score(
        self, lamp: Lamp, target: Target, rest: Rest, chosen: Int[Tensor, "chosen"]
    ) -> Float[Tensor, "chosen"]:
        """Change of the number of wrong pixels that each chosen candidate brings."""
        kept = self._with(chosen)
        key = (len(kept), *[float(v) for v in lamp.direction], lamp.intensity, lamp.ambient)
        if self._shaded[0] != key:
            self._shaded = (key, self._sketcher.shade(kept, lamp))
        return self._sketcher.score(kept, self._shaded[1], self._place[chosen], target, rest)

    def _with(self, chosen: Int[Tensor, "chosen"]) -> Footprints:
        """All that are kept, the chosen ones among them."""
        new = chosen[self._place[chosen] < 0]
        if len(new) or self._kept is None:
            before = [] if self._kept is None else [self._kept]
            self._place[new] = torch.arange(len(new)) + sum(map(len, before))
            made = drawn(self._sketcher, self._pinhole, self._candidates[new], self._view, self._window)
            self._kept = _joined([*before, made])
        return self._kept


def drawn(sketcher: Sketcher, pinhole: Pinhole, c: Candidates, view: View, window: int) -> Footprints:
    """Footprints of candidates, each sketched alone into a window of that side [px]."""
    linear, translation = pinhole.place(c)
    parts = []
    for i in range(0, len(c), 4096):
        j = slice(i, i + 4096)
        sketch = sketcher.draw(c.asset[j], linear[j], translation[j], view, window=window, coarse=True)
        parts.append(sketcher.footprints(sketch, view))
    return _joined(parts)


def spread(
    c: Candidates,
    score: Float[Tensor, "candidate"],
    most: int,
    *,
    distance: float,
    turn: float,
    per_asset: int,
) -> Tensor:
    """Indices of the best candidates, none close to a better one of the same asset (non-maximum suppression).

    Args:
        c: The candidates.
        score: Smaller is better; candidates with a score of 0 or more are left out.
        most: How many to take at the most.
        distance: Of two with the same asset nearer than this [m] ...
        turn: ... and turned by less than this [rad], the better one stays.
        per_asset: Most candidates of one asset.
    """
    order = score.argsort()[: 60 * most]
    order = order[score[order] < 0]
    asset, position = c.asset[order].numpy(), c.translation[order].numpy()
    rotation = c.rotation[order].reshape(-1, 9).numpy()
    alike = 1.0 + 2.0 * math.cos(min(turn, math.pi))
    alive, kept = np.ones(len(order), bool), []
    counts: dict[int, int] = {}
    for i in range(len(order)):
        if not alive[i] or counts.get(asset[i], 0) >= per_asset:
            continue
        kept.append(i)
        counts[asset[i]] = counts.get(asset[i], 0) + 1
        if len(kept) == most:
            break
        near = (asset == asset[i]) & (np.abs(position - position[i]).max(1) < distance)
        if turn < math.pi:
            near &= rotation @ rotation[i] > alike  # trace of R^T R' = 1 + 2 cos(angle)
        alive &= ~near
    return order[kept]


def rotations(count: int, seed: int = 0) -> Float[Tensor, "rotation 3 3"]:
    """Well-spread rotations: super-Fibonacci spirals (Alexa 2022), all turned by one that `seed` draws."""
    phi, psi = math.sqrt(2.0), 1.533751168755204288118041
    s = torch.arange(count, dtype=torch.float64) + 0.5
    r, big = torch.sqrt(s / count), torch.sqrt(1.0 - s / count)
    alpha, beta = 2.0 * math.pi * s / phi, 2.0 * math.pi * s / psi
    x, y, z, w = r * alpha.sin(), r * alpha.cos(), big * beta.sin(), big * beta.cos()
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    drawn = torch.randn(4, generator=torch.Generator().manual_seed(seed))
    return torch.stack(rows, -1).reshape(-1, 3, 3).float() @ roma.unitquat_to_rotmat(drawn / drawn.norm())


def yaws(angles: Tensor) -> Float[Tensor, "angle 3 3"]:
    """Rotations about +y."""
    c, s, zero, one = angles.cos(), angles.sin(), torch.zeros_like(angles), torch.ones_like(angles)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).reshape(-1, 3, 3)


def _grid(world: World, moves: Moves, pinhole: Pinhole, view: View, seed: int) -> Candidates:
    middle = torch.tensor([i.middle for i in world.position])
    depth = float((pinhole.rotation @ (middle - pinhole.eye))[2].abs().clamp_min(1e-3))
    step = _SPACING * depth / view.focal[1]
    places = torch.cartesian_prod(*[_ticks(i.low, i.high, step) for i in world.position]).reshape(-1, 3)
    sizes, turns_of = _sizes(world), []
    for a in range(len(world.assets)):
        if moves.upright:
            degrees = 40.0 if world.assets[a].texture is None else 20.0  # a texture tells turns apart better
            turns_of.append(yaws(_yaw_ticks(world, float(moves.period[a]), degrees)))
        else:
            turns_of.append(rotations(1 if moves.spheres[a] else 2000, seed))
    share = _MOST / (len(places) * len(sizes) * sum(map(len, turns_of)))
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for a, turns in enumerate(turns_of):
        count = len(places) * len(turns) * len(sizes)
        index = torch.arange(count)
        if share < 1.0:  # drawn at random: equal strides would pick the same turns and sizes everywhere
            index = torch.randperm(count, generator=generator)[: math.ceil(share * count)].sort().values
        i, j, k = index // (len(turns) * len(sizes)), index // len(sizes) % len(turns), index % len(sizes)
        parts.append(Candidates(torch.full_like(i, a), turns[j], places[i], sizes[k]))
    return join(parts)


def _ticks(low: float, high: float, step: float) -> Tensor:
    count = max(1, round((high - low) / step) + 1) if high > low else 1
    return torch.linspace(low, high, count) if count > 1 else torch.tensor([(low + high) / 2])


def _sizes(world: World) -> Tensor:
    low, high = math.log(world.scale.low), math.log(world.scale.high)
    count = math.ceil((high - low) / 0.15 - 1e-6)
    if count < 1:
        return torch.tensor([world.scale.low])
    width = (high - low) / count
    return torch.exp(low + width * (torch.arange(count) + 0.5))


def _yaw_ticks(world: World, period: float, degrees: float) -> Tensor:
    if period == 0.0 or not world.yaw.free:
        return torch.tensor([world.yaw.middle])
    width = min(period, world.yaw.high - world.yaw.low)
    count = max(3, math.ceil(width / math.radians(degrees)))
    return world.yaw.low + width * (torch.arange(count) + 0.5) / count


def _joined(parts: list[Footprints]) -> Footprints:
    starts, total = [torch.zeros(1, dtype=torch.int32)], 0
    for p in parts:
        starts.append(p.starts[1:] + total)
        total += int(p.starts[-1])
    return Footprints(
        torch.cat(starts).int(),
        *[
            torch.cat([getattr(p, name) for p in parts])
            for name in ("pixel", "inverse_depth", "normal", "albedo", "tinted")
        ],
    )
