"""World: everything known about a picture before looking at it, and the vector theta of what is not."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scenes.asset import Asset
from scenes.scene import Camera, Light, Scene


@dataclass(frozen=True)
class Interval:
    """What is known of a number: it lies in [low, high]. Equal ends: it is known."""

    low: float
    high: float

    @property
    def free(self) -> bool:
        """True where the number is unknown."""
        return self.high > self.low

    @property
    def middle(self) -> float:
        """The interval's middle."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class CameraPrior:
    """What is known of the camera: it circles `target`, upright, and looks at it.

    The eye lies at target + distance * (cos(elevation) sin(azimuth), sin(elevation),
    cos(elevation) cos(azimuth)). With distance, azimuth and elevation 0 the camera's frame is the world's.
    """

    width: int  # [px]
    height: int  # [px]
    focal: Interval  # fy [px]
    aspect: float  # fx / fy
    centre: tuple[float, float]  # (cx, cy) [px]
    target: tuple[float, float, float]  # [m]
    azimuth: Interval  # [rad]
    elevation: Interval  # [rad], within (-pi/2, pi/2)
    distance: Interval  # [m]


@dataclass(frozen=True)
class LightPrior:
    """What is known of the light: azimuth (from +z towards +x), elevation, strengths in linear light."""

    azimuth: Interval  # [rad]
    elevation: Interval  # [rad], within (-pi/2, pi/2)
    intensity: Interval
    ambient: Interval


@dataclass(frozen=True)
class _Column:
    """One entry of theta: which number of a scene it is."""

    name: str
    unit: str
    interval: Interval
    group: str  # position, rotation, scale, colour, light, camera, background
    slot: int  # -1: the whole scene's


@dataclass(frozen=True, eq=False)
class World:
    """Everything known before looking: which assets may be there, how many, where, the camera, the light.

    Attributes:
        name, description: For people.
        assets: What may be in a picture; a Scene's `asset` indexes this.
        scenery: Assets that are always there, already in world coordinates (a table, a road).
        count: Least and largest number of objects.
        placement: "upright": objects stand with their own y axis up and turn by yaw. "free": any rotation.
        position: Ranges of x, y, z [m] of an object's origin in the world.
        yaw: Range of the turn about +y [rad]; for "upright" only.
        scale: Range of the factor on an asset's size.
        colour: Ranges of the linear tint r, g, b of assets with `colour_free`.
        separate: True where sampled objects keep apart (their bounding circles on the ground do not touch).
        camera, light: Priors.
        background: Ranges of the linear colour r, g, b where nothing is.
    """

    name: str
    description: str
    assets: tuple[Asset, ...]
    scenery: tuple[Asset, ...]
    count: tuple[int, int]
    placement: Literal["upright", "free"]
    position: tuple[Interval, Interval, Interval]
    yaw: Interval
    scale: Interval
    colour: tuple[Interval, Interval, Interval]
    separate: bool
    camera: CameraPrior
    light: LightPrior
    background: tuple[Interval, Interval, Interval]
    source: str = field(default="", compare=False)  # file it was read from, for messages

    @staticmethod
    def load(source: str) -> "World":
        """The world called `source`: a bundled name, a folder with a world.toml, or a world.toml.

        Raises:
            WorldError: If there is none, or it does not say what a world must; the message names file, key
                and what is allowed.
        """
        from scenes.worldfile import load_world

        return load_world(source)

    def sample(self, batch: int = 1, *, generator: torch.Generator | None = None) -> Scene:
        """Draw `batch` random scenes: counts, assets and every free number uniform in its range."""
        from scenes.sampling import sample

        return sample(self, batch, generator)

    def index(self, name: str) -> int:
        """Index of the asset called `name`; ValueError if there is none."""
        names = [a.name for a in self.assets]
        if name not in names:
            raise ValueError(f"world {self.name} has no asset {name!r}; it has {', '.join(names)}")
        return names.index(name)

    @cached_property
    def _columns(self) -> tuple[_Column, ...]:
        return tuple(c for c in self._numbers() if c.interval.free)

    def _numbers(self) -> Iterator[_Column]:
        tinted = any(a.colour_free for a in self.assets)
        for s in range(self.count[1]):
            for axis, interval in zip("xyz", self.position, strict=True):
                yield _Column(f"object{s}.{axis}", "m", interval, "position", s)
            if self.placement == "upright":
                yield _Column(f"object{s}.yaw", "rad", self.yaw, "rotation", s)
            else:
                for axis in "xyz":
                    yield _Column(
                        f"object{s}.rotation_{axis}", "rad", Interval(-math.pi, math.pi), "rotation", s
                    )
            yield _Column(f"object{s}.scale", "1", self.scale, "scale", s)
            if tinted:
                for channel, interval in zip("rgb", self.colour, strict=True):
                    yield _Column(f"object{s}.{channel}", "linear", interval, "colour", s)
        for name in ("azimuth", "elevation", "intensity", "ambient"):
            unit = "rad" if name in ("azimuth", "elevation") else "linear"
            yield _Column(f"light.{name}", unit, getattr(self.light, name), "light", -1)
        for name, unit in (("azimuth", "rad"), ("elevation", "rad"), ("distance", "m"), ("focal", "px")):
            yield _Column(f"camera.{name}", unit, getattr(self.camera, name), "camera", -1)
        for channel, interval in zip("rgb", self.background, strict=True):
            yield _Column(f"background.{channel}", "linear", interval, "background", -1)

    @property
    def names(self) -> list[str]:
        """What each entry of theta is, P names such as "object0.yaw" or "light.azimuth"."""
        return [c.name for c in self._columns]

    @property
    def units(self) -> list[str]:
        """The unit of each entry of theta: "m", "rad", "px", "linear" (light) or "1" (a factor)."""
        return [c.unit for c in self._columns]

    @property
    def groups(self) -> list[str]:
        """The kind of each entry: position, rotation, scale, colour, light, camera or background."""
        return [c.group for c in self._columns]

    @property
    def slot_of(self) -> list[int]:
        """The slot each entry belongs to, -1 for what belongs to the whole scene."""
        return [c.slot for c in self._columns]

    @property
    def low(self) -> Float[Tensor, "parameter"]:
        """Lower end of each entry's range."""
        return torch.tensor([c.interval.low for c in self._columns])

    @property
    def high(self) -> Float[Tensor, "parameter"]:
        """Upper end of each entry's range."""
        return torch.tensor([c.interval.high for c in self._columns])

    @property
    def ends(self) -> Bool[Tensor, "parameter"]:
        """True where an entry's range has ends to keep within; the others are angles that may go round."""
        return torch.tensor([c.unit != "rad" or c.name.endswith("elevation") for c in self._columns])

    def pack(self, scene: Scene) -> Float[Tensor, "batch parameter"]:
        """The scene's free numbers, [B, P], in the order of `names`.

        Rotations of "free" worlds are rotation vectors [rad] of length at most pi. Empty slots give their
        stored values; `active` says which entries matter.
        """
        values = self._values(scene)
        return torch.stack([values[name] for name in self.names], dim=1)

    def unpack(self, theta: Float[Tensor, "batch parameter"], *, like: Scene) -> Scene:
        """The scene with the free numbers `theta`; the assets and everything known come from `like`.

        Differentiable in `theta`. The inverse of `pack`; entries that are not `active` have no effect.

        Args:
            theta: [B, P].
            like: B scenes, or one that stands for all.

        Raises:
            ValueError: If `theta` is not [B, P] or `like` holds neither B nor 1 scenes.
        """
        if theta.ndim != 2 or theta.shape[1] != len(self._columns):
            raise ValueError(f"theta must have shape [B, {len(self._columns)}], got {list(theta.shape)}")
        if len(like) not in (1, len(theta)):
            raise ValueError(f"like must hold 1 or {len(theta)} scenes, got {len(like)}")
        if len(like) != len(theta):
            like = like[torch.zeros(len(theta), dtype=torch.long)]
        values = {**self._values(like), **dict(zip(self.names, theta.unbind(1), strict=True))}
        return self._scene(values, like)

    def active(self, scene: Scene) -> Bool[Tensor, "batch parameter"]:
        """True where an entry of theta changes the picture: its slot is filled, its asset has it free."""
        free = torch.tensor([a.colour_free for a in self.assets] + [False])
        turns = torch.tensor([self.placement == "free" or not _revolves(a) for a in self.assets] + [False])
        filled, tinted, turning = scene.asset >= 0, free[scene.asset], turns[scene.asset]
        rows = []
        for c in self._columns:
            if c.slot < 0:
                rows.append(torch.ones(len(scene), dtype=torch.bool))
            else:
                which = {"colour": tinted, "rotation": turning & filled}.get(c.group, filled)
                rows.append(which[:, c.slot])
        return torch.stack(rows, dim=1)

    def empty(self, batch: int = 1) -> Scene:
        """Scenes without objects, every number at the middle of its range, S = count[1] slots."""
        slots = self.count[1]
        values = {c.name: torch.full((batch,), c.interval.middle) for c in self._numbers()}
        white = torch.ones(batch, slots, 3)
        half = torch.tensor(self.yaw.middle / 2 if self.placement == "upright" else 0.0)
        turn = torch.stack([half * 0, half.sin(), half * 0, half.cos()])
        blank = Scene(
            asset=torch.full((batch, slots), -1),
            rotation=turn.repeat(batch, slots, 1),
            translation=torch.zeros(batch, slots, 3),
            scale=torch.ones(batch, slots),
            colour=white,
            camera=self._camera(values),
            light=self._light(values),
            background=torch.stack([values[f"background.{c}"] for c in "rgb"], dim=-1),
        )
        return replace(self._scene(values, blank), colour=white)

    def _values(self, scene: Scene) -> dict[str, Tensor]:
        """Every number of the scene, free or not, by name."""
        values: dict[str, Tensor] = {}
        if self.placement == "upright":
            _, y, _, w = scene.rotation.unbind(-1)
            turns = (2.0 * torch.atan2(torch.copysign(y, y * w), w.abs()))[..., None]
        else:
            turns = roma.unitquat_to_rotvec(scene.rotation)
        turned = ["yaw"] if self.placement == "upright" else [f"rotation_{axis}" for axis in "xyz"]
        names = [*"xyz", *turned, "scale", *"rgb"]
        slots = torch.cat([scene.translation, turns, scene.scale[..., None], scene.colour], -1)
        for s, numbers in enumerate(slots.unbind(1)):
            values.update(zip([f"object{s}.{n}" for n in names], numbers.unbind(-1), strict=True))
        values["light.azimuth"], values["light.elevation"] = _angles(scene.light.direction)
        values["light.intensity"], values["light.ambient"] = scene.light.intensity, scene.light.ambient
        offset = scene.camera.translation - scene.camera.translation.new_tensor(self.camera.target)
        backward = roma.unitquat_to_rotmat(scene.camera.rotation)[..., 2]
        values["camera.azimuth"], values["camera.elevation"] = _angles(backward)
        values["camera.distance"] = (offset * backward).sum(-1)
        values["camera.focal"] = scene.camera.focal[:, 1]
        for k, channel in enumerate("rgb"):
            values[f"background.{channel}"] = scene.background[:, k]
        return values

    def _scene(self, values: dict[str, Tensor], like: Scene) -> Scene:
        """A scene of all its numbers; parts with nothing free are `like`'s own, bit for bit."""
        slots, free = range(self.count[1]), {c.group for c in self._columns}

        def rows(suffixes: list[str]) -> Tensor:
            columns = [values[f"object{s}.{x}"] for s in slots for x in suffixes]
            return torch.stack(columns, -1).unflatten(-1, (len(slots), len(suffixes)))

        change: dict[str, Any] = {"translation": rows(["x", "y", "z"]), "scale": rows(["scale"])[..., 0]}
        if "rotation" in free:
            if self.placement == "upright":
                half = rows(["yaw"]) / 2
                zero = torch.zeros_like(half)
                change["rotation"] = torch.cat([zero, half.sin(), zero, half.cos()], -1)
            else:
                change["rotation"] = roma.rotvec_to_unitquat(
                    rows(["rotation_x", "rotation_y", "rotation_z"]).reshape(-1, 3)
                ).reshape(len(like), len(slots), 4)
        if "colour" in free:
            tinted = torch.tensor([a.colour_free for a in self.assets] + [False])[like.asset]
            change["colour"] = torch.where(tinted[..., None], rows(["r", "g", "b"]), like.colour)
        if "light" in free:
            change["light"] = self._light(values)
        if "camera" in free:
            change["camera"] = self._camera(values)
        if "background" in free:
            change["background"] = torch.stack([values[f"background.{c}"] for c in "rgb"], -1)
        return replace(like, **change)

    def _light(self, values: dict[str, Tensor]) -> Light:
        return Light(
            direction=_direction(values["light.azimuth"], values["light.elevation"]),
            intensity=values["light.intensity"],
            ambient=values["light.ambient"],
        )

    def _camera(self, values: dict[str, Tensor]) -> Camera:
        azimuth, elevation = values["camera.azimuth"], values["camera.elevation"]
        prior, focal = self.camera, values["camera.focal"]
        backward = _direction(azimuth, elevation)
        zero = torch.zeros_like(azimuth)
        turn = torch.stack([zero, (azimuth / 2).sin(), zero, (azimuth / 2).cos()], -1)
        tilt = torch.stack([-(elevation / 2).sin(), zero, zero, (elevation / 2).cos()], -1)
        return Camera(
            rotation=roma.quat_product(turn, tilt),
            translation=focal.new_tensor(prior.target) + values["camera.distance"][:, None] * backward,
            focal=torch.stack([focal * prior.aspect, focal], -1),
            centre=focal.new_tensor(prior.centre).expand(len(focal), 2),
            width=prior.width,
            height=prior.height,
        )


def _revolves(asset: Asset) -> bool:
    """True where turning the asset about its own y axis changes nothing."""
    axis, centre = asset.symmetry.axis, asset.symmetry.centre
    on_axis = float(np.hypot(centre[0], centre[2])) <= 1e-3 * asset.radius
    return on_axis and (asset.symmetry.sphere or (axis is not None and bool(np.abs(axis[1]) > 0.999)))


def _direction(azimuth: Tensor, elevation: Tensor) -> Float[Tensor, "batch 3"]:
    return torch.stack(
        [elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos()], dim=-1
    )


def _angles(direction: Float[Tensor, "batch 3"]) -> tuple[Tensor, Tensor]:
    x, y, z = direction.unbind(-1)
    return torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
