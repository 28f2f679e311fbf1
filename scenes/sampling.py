"""Draw random scenes from a world: every count, asset and free number uniform in its range."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from scenes.scene import Scene
from scenes.world import World

TRIES = 200  # positions tried for one object
RESTARTS = 100  # whole scenes tried anew


def sample(world: World, batch: int = 1, generator: torch.Generator | None = None) -> Scene:
    """Draw `batch` random scenes; the same generator state gives the same scenes.

    Counts and assets are drawn uniformly, and so is every free number; "free" rotations are uniform over
    all rotations. Objects fill the first slots. Where `world.separate` is set, the bounding circles of
    the objects on the ground do not touch.

    Raises:
        ValueError: If `batch` is below 1, or the objects do not fit beside one another.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    blank = world.empty(batch)
    spread = world.high - world.low
    theta = world.low + spread * torch.rand(batch, len(world.names), generator=generator)
    scene = world.unpack(theta, like=_with_assets(world, blank, generator))
    if world.placement == "free":
        scene = replace(scene, rotation=_random_rotations(scene, generator))
    if world.separate:
        scene = replace(scene, translation=_separated(world, scene, generator))
    return scene


def footprints(world: World) -> Float[Tensor, "asset"]:
    """Radius [m] of each asset's bounding circle about its origin on the ground, at scale 1.

    In "free" worlds the object may turn any way: the radius of its bounding sphere about its origin.
    """
    return _footprints(world)


@lru_cache(maxsize=8)
def _footprints(world: World) -> Float[Tensor, "asset"]:
    axes = [0, 2] if world.placement == "upright" else [0, 1, 2]
    return torch.tensor([float(np.linalg.norm(a.vertices[:, axes], axis=1).max()) for a in world.assets])


def _with_assets(world: World, blank: Scene, generator: torch.Generator | None) -> Scene:
    """The blank scenes with random assets in a random number of slots."""
    least, most = world.count
    count = torch.randint(least, most + 1, (len(blank), 1), generator=generator)
    asset = torch.randint(len(world.assets), (len(blank), blank.slots), generator=generator)
    empty = torch.arange(blank.slots)[None] >= count
    return replace(blank, asset=asset.masked_fill(empty, -1))


def _random_rotations(scene: Scene, generator: torch.Generator | None) -> Float[Tensor, "batch slot 4"]:
    """Rotations uniform over all rotations: a normal 4-vector, normalised."""
    turns = torch.nn.functional.normalize(
        torch.randn(len(scene), scene.slots, 4, generator=generator), dim=-1
    )
    # Through the rotation vector and back, so that packing and unpacking a sample gives the same numbers.
    vector = roma.unitquat_to_rotvec(turns.reshape(-1, 4))
    rotation: Tensor = roma.rotvec_to_unitquat(vector).reshape(len(scene), scene.slots, 4)
    return rotation


def _separated(
    world: World, scene: Scene, generator: torch.Generator | None
) -> Float[Tensor, "batch slot 3"]:
    """Positions at which the objects' footprints do not touch, by rejection."""
    low = torch.tensor([p.low for p in world.position])
    high = torch.tensor([p.high for p in world.position])
    radius = footprints(world)[scene.asset.clamp(min=0)] * scene.scale
    place = scene.translation.clone()
    for b in range(len(scene)):
        filled = [s for s in range(scene.slots) if scene.asset[b, s] >= 0]
        for _ in range(RESTARTS):
            spots = _place(place[b, filled], radius[b, filled], low, high, generator)
            if spots is not None:
                place[b, filled] = spots
                break
        else:
            names = ", ".join(world.assets[int(scene.asset[b, s])].name for s in filled)
            raise ValueError(
                f"world {world.name}: no room for {len(filled)} objects ({names}) beside one another; "
                "widen [objects] x and z, lower count or scale, or set separate = false"
            )
    return place


def _place(
    start: Tensor, radius: Tensor, low: Tensor, high: Tensor, generator: torch.Generator | None
) -> Tensor | None:
    """Positions [n, 3], each the first try that touches none before it; None where one finds no room."""
    axes = [0, 2]
    spots = torch.empty_like(start)
    for i in range(len(start)):
        tries = torch.cat([start[i : i + 1], low + (high - low) * torch.rand(TRIES, 3, generator=generator)])
        gap = (tries[:, None, axes] - spots[None, :i, axes]).norm(dim=-1) - radius[i] - radius[:i]
        good = (gap > 0).all(1).nonzero()
        if not len(good):
            return None
        spots[i] = tries[good[0, 0]]
    return spots
