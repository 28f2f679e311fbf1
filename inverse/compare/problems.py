"""The problems on which strategies are compared: pictures, their scenes, and starts that are off."""

import math
from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from inverse.losses import resize
from render.engine import Engine
from scenes import Scene, World
from scenes.scene import stack
from scenes.world import CameraPrior, Interval, LightPrior

KINDS = ("position", "rotation", "scale", "colour", "light", "camera")

_ROOM = 0.25  # of the scene's distance: how far an opened position reaches
_TURN = math.radians(20.0)


@dataclass(frozen=True)
class Off:
    """How far a start is off its truth; each object and each number in a random direction."""

    turn_degrees: float = 15.0
    shift: float = 0.02  # of the distance from the eye
    others: float = 0.05  # of the range: sizes, colours, light, camera


@dataclass(frozen=True, eq=False)
class Problems:
    """B problems.

    Attributes:
        world: Says what is free.
        truth: The scenes behind the pictures.
        start: The same assets, off.
        picture: What is to be explained, sRGB-encoded [B, H, W, 3].
    """

    world: World
    truth: Scene
    start: Scene
    picture: Float[Tensor, "batch row column 3"]

    def __len__(self) -> int:
        """Number of problems B."""
        return len(self.truth)

    def __getitem__(self, index: slice) -> "Problems":
        """The problems at `index`."""
        return replace(self, truth=self.truth[index], start=self.start[index], picture=self.picture[index])


def opened(world: World) -> World:
    """The world with every kind of parameter free: what it keeps fixed may vary a little about its value.

    Gradients of all kinds can so be compared, in a world that is only about rotation too. Assets keep their
    index.
    """
    free, camera, light = set(world.groups), world.camera, world.light
    room = _ROOM * camera.distance.middle
    changes: dict[str, object] = {}
    if "position" not in free:
        changes["position"] = tuple(_about(i, room) for i in world.position)
    if "scale" not in free:
        changes["scale"] = _about(world.scale, 0.2 * world.scale.middle)
    if "colour" not in free:
        changes["assets"] = tuple(replace(a, colour_free=True) for a in world.assets)
        changes["colour"] = (Interval(0.3, 1.0),) * 3
    if "light" not in free:
        changes["light"] = _opened_light(light)
    if "camera" not in free:
        changes["camera"] = _opened_camera(camera)
    return replace(world, **changes)  # type: ignore[arg-type]  # each field has a type of its own


def draw(
    world: World, engine: Engine, count: int, *, off: Off, seed: int, size: tuple[int, int] | None = None
) -> Problems:
    """Random problems of a world, their pictures drawn by the engine; the same whatever `count` is.

    Args:
        world: Whose free numbers are drawn and moved; its assets are the engine's.
        engine: Draws the pictures.
        count: B.
        off: How far starts are off.
        seed: Of all that is random.
        size: (H, W) of the pictures [px]; None: the engine's.
    """
    pairs = []
    for number in range(count):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        truth = world.sample(1, generator=generator)
        pairs.append((truth, start_near(world, truth, off, generator)))
    truth, start = (stack(list(scenes)) for scenes in zip(*pairs, strict=True))
    picture = torch.cat([engine.render(truth[i : i + 16], size=size).rgb for i in range(0, count, 16)])
    return Problems(world, truth, start, picture)


def around(
    world: World,
    truth: Scene,
    image: Float[Tensor, "row column 3"],
    count: int,
    *,
    off: Off,
    seed: int,
    size: tuple[int, int],
) -> Problems:
    """Problems that differ in their start only: one picture, and the scene that was recovered from it.

    Args:
        world: Whose free numbers are moved.
        truth: One scene that explains the picture.
        image: The picture.
        count: B.
        off: How far starts are off.
        seed: Of all that is random.
        size: (H, W) of the pictures [px].
    """
    starts = [
        start_near(world, truth, off, torch.Generator().manual_seed(seed * 1_000_003 + number))
        for number in range(count)
    ]
    every = torch.zeros(count, dtype=torch.long)
    return Problems(world, truth[every], stack(starts), resize(image[None], size)[every])


def start_near(world: World, truth: Scene, off: Off, generator: torch.Generator) -> Scene:
    """One scene, off by that much in everything that the world has free, and within its ranges."""
    slots, free = truth.slots, set(world.groups)
    change = {}
    if "rotation" in free:
        axis = normalize(torch.randn(slots, 3, generator=generator), dim=-1)
        if world.placement == "upright":
            axis = torch.tensor([0.0, 1.0, 0.0]) * torch.sign(axis[:, :1])
        turn = roma.rotvec_to_unitquat(axis * math.radians(off.turn_degrees))
        change["rotation"] = roma.quat_product(turn, truth.rotation[0])[None]
    if "position" in free:
        moves = torch.tensor([i.free for i in world.position])
        direction = normalize(torch.randn(slots, 3, generator=generator) * moves, dim=-1)
        distance = (truth.translation - truth.camera.translation[:, None]).norm(dim=-1, keepdim=True)
        change["translation"] = truth.translation + off.shift * distance * direction
    scene = replace(truth, **change)
    theta = world.pack(scene)
    others = torch.tensor([g not in ("position", "rotation") for g in world.groups])
    spread = torch.sign(torch.randn(theta.shape, generator=generator))
    theta = theta + others * off.others * (world.high - world.low) * spread
    kept = torch.maximum(torch.minimum(theta, world.high), world.low)
    return world.unpack(torch.where(world.ends, kept, theta), like=scene)


def _about(interval: Interval, room: float) -> Interval:
    return Interval(interval.middle - room, interval.middle + room)


def _opened_light(light: LightPrior) -> LightPrior:
    return LightPrior(
        azimuth=_about(light.azimuth, _TURN),
        elevation=_about(light.elevation, _TURN),
        intensity=_about(light.intensity, 0.3 * light.intensity.middle),
        ambient=_about(light.ambient, 0.3 * light.ambient.middle),
    )


def _opened_camera(camera: CameraPrior) -> CameraPrior:
    return replace(
        camera,
        azimuth=_about(camera.azimuth, _TURN / 4),
        elevation=_about(camera.elevation, _TURN / 4),
        distance=_about(camera.distance, 0.1 * camera.distance.middle),
        focal=_about(camera.focal, 0.1 * camera.focal.middle),
    )
