"""Scene: what is in a batch of pictures, as tensors."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True, eq=False)
class Camera:
    """A batch of pinhole cameras without distortion, looking along -z with y up (OpenGL).

    Attributes:
        rotation: world_from_camera as unit quaternions xyzw, [B, 4].
        translation: Position of the eye in the world [m], [B, 3].
        focal: (fx, fy) [px], [B, 2].
        centre: Principal point (cx, cy) [px], [B, 2]; the picture covers [0, width] x [0, height].
        width, height: Size [px] of the picture to which `focal` and `centre` refer. A renderer that draws
            another size scales both.
    """

    rotation: Float[Tensor, "batch 4"]
    translation: Float[Tensor, "batch 3"]
    focal: Float[Tensor, "batch 2"]
    centre: Float[Tensor, "batch 2"]
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Light:
    """A batch of one directional light with ambient light, grey, in linear light.

    A surface of albedo a with unit normal n has colour a * (ambient + intensity * max(0, n . direction)).

    Attributes:
        direction: Unit vector towards the light, in the world, [B, 3].
        intensity: [B], at least 0.
        ambient: [B], at least 0.
    """

    direction: Float[Tensor, "batch 3"]
    intensity: Float[Tensor, "batch"]
    ambient: Float[Tensor, "batch"]


@dataclass(frozen=True, eq=False)
class Scene:
    """A batch of B scenes with S slots each; a slot holds one object or is empty.

    Attributes:
        asset: Index into the world's assets, -1 for an empty slot, int64 [B, S].
        rotation: world_from_object as unit quaternions xyzw, [B, S, 4].
        translation: Position of the object's origin in the world [m], [B, S, 3].
        scale: Factor on the asset's size, positive, [B, S].
        colour: Linear tint that multiplies the asset's albedo, in [0, 1], [B, S, 3].
        camera, light: One per scene.
        background: Linear colour where nothing is, [B, 3].
    """

    asset: Int[Tensor, "batch slot"]
    rotation: Float[Tensor, "batch slot 4"]
    translation: Float[Tensor, "batch slot 3"]
    scale: Float[Tensor, "batch slot"]
    colour: Float[Tensor, "batch slot 3"]
    camera: Camera
    light: Light
    background: Float[Tensor, "batch 3"]

    def __len__(self) -> int:
        """Number of scenes B."""
        return int(self.asset.shape[0])

    @property
    def slots(self) -> int:
        """Number of slots S."""
        return int(self.asset.shape[1])

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> "Scene":
        """The scenes at `index` along the batch axis; an int keeps that axis with length 1."""
        if isinstance(index, int):
            index = [index]
        return self._map(lambda t: t[index])

    def to(self, device: torch.device | str) -> "Scene":
        """The same scenes on another device."""
        return self._map(lambda t: t.to(device))

    def detach(self) -> "Scene":
        """The same scenes without gradients."""
        return self._map(Tensor.detach)

    def without(self, slot: int) -> "Scene":
        """The scenes with `slot` emptied."""
        asset = self.asset.clone()
        asset[:, slot] = -1
        return replace(self, asset=asset)

    def unit(self) -> "Scene":
        """The same scenes with quaternions and the light's direction of length 1, as engines see them."""
        camera = replace(self.camera, rotation=normalize(self.camera.rotation, dim=-1))
        light = replace(self.light, direction=normalize(self.light.direction, dim=-1))
        return replace(self, rotation=normalize(self.rotation, dim=-1), camera=camera, light=light)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Scene":
        mapped: Scene = _map(self, change)
        return mapped


def stack(scenes: list[Scene]) -> Scene:
    """One batch of several batches with the same number of slots and the same picture size."""
    joined: Scene = _zip(scenes, lambda tensors: torch.cat(tensors))
    return joined


def matrix(rotation: Float[Tensor, "... 4"]) -> Float[Tensor, "... 3 3"]:
    """Rotation matrices of unit quaternions xyzw."""
    turned: Tensor = roma.unitquat_to_rotmat(rotation)
    return turned


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Scene | Camera | Light):
        return replace(value, **{f.name: _map(getattr(value, f.name), change) for f in fields(value)})
    return value


def _zip(values: list[Any], join: Callable[[list[Tensor]], Tensor]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return join(values)
    if isinstance(first, Scene | Camera | Light):
        return replace(
            first, **{f.name: _zip([getattr(v, f.name) for v in values], join) for f in fields(first)}
        )
    return first
