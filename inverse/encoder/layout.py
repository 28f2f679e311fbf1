"""Layout: what the encoder's channels mean for a world, how truth becomes numbers and numbers a scene."""

import math
from dataclasses import dataclass
from functools import cached_property

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse.candidates import yaw_period
from inverse.encoder.rays import Rays
from scenes import Scene, World
from scenes.scene import matrix

_FINEST = 8  # largest n of a pair (cos n yaw, sin n yaw) that is not an asset's own order
_SURE = 0.5  # length of a pair above which it is trusted: it shrinks where the network is in doubt


@dataclass(frozen=True, eq=False)
class Layout:
    """Numbers that describe each object where it is found, and numbers of the whole scene.

    Of an object: where its handle is seen within its cell (2 numbers, in cells), the logarithm of its depth
    over a typical one, of its scale, its rotation as seen along its own ray, and its linear tint. Rotations
    about +y are pairs (cos n yaw, sin n yaw): n is an asset's order of symmetry, and its doubles, which tell
    more exactly what the pair before them tells roughly; free ones are the first two columns of the matrix
    (Zhou et al. 2019).

    Of the scene: each free number of light, camera and background, as a share of its range, or as (cos, sin)
    where it is an angle that goes round.
    """

    world: World

    @cached_property
    def upright(self) -> bool:
        """True where objects turn about +y only."""
        return self.world.placement == "upright"

    @cached_property
    def orders(self) -> list[int]:
        """The n of all pairs for yaw."""
        return sorted({n for harmonics in self._harmonics for n in harmonics})

    @cached_property
    def _harmonics(self) -> list[list[int]]:
        """The n of each asset's pairs; none where it is round."""
        if not self.upright:
            return [[] for _ in self.world.assets]
        periods = [yaw_period(a) for a in self.world.assets]
        counts = [round(2.0 * math.pi / p) if p else 0 for p in periods]
        return [[n * k for k in (1, 2, 4) if k == 1 or n * k <= _FINEST] if n else [] for n in counts]

    @cached_property
    def pairs(self) -> Bool[Tensor, "asset order"]:
        """Which pairs tell an asset's yaw."""
        return torch.tensor([[n in harmonics for n in self.orders] for harmonics in self._harmonics])

    @cached_property
    def parts(self) -> dict[str, slice]:
        """Which channels hold "offset", "depth", "scale", "rotation" and "colour"."""
        widths = {"offset": 2, "depth": 1, "scale": int(self.world.scale.free)}
        widths["rotation"] = 2 * len(self.orders) if self.upright else 6
        widths["colour"] = 3 * int(any(n.endswith(".r") and n != "background.r" for n in self.world.names))
        parts, first = {}, 0
        for name, width in widths.items():
            parts[name] = slice(first, first + width)
            first += width
        return parts

    @cached_property
    def channels(self) -> int:
        """Numbers of each object."""
        return self.parts["colour"].stop

    @cached_property
    def columns(self) -> list[int]:
        """The entries of theta that are the whole scene's."""
        return [k for k, slot in enumerate(self.world.slot_of) if slot < 0]

    @cached_property
    def scene_channels(self) -> int:
        """Numbers of the whole scene."""
        ends = self.world.ends
        return sum(1 if ends[k] else 2 for k in self.columns)

    @cached_property
    def typical_depth(self) -> float:
        """A depth [m] of the middle of what the camera looks at."""
        empty = self.world.empty()
        middle = torch.tensor([[i.middle for i in self.world.position]])
        return max(
            1e-3, float(Rays.of(empty.camera, (empty.camera.height, empty.camera.width)).pixels(middle)[1])
        )

    # ---- of the scene

    def of_scene(self, theta: Float[Tensor, "batch parameter"]) -> Float[Tensor, "batch number"]:
        """The numbers of the whole scene that theta holds."""
        low, high, ends = (v.to(theta.device) for v in (self.world.low, self.world.high, self.world.ends))
        rows = []
        for k in self.columns:
            value = theta[:, k]
            rows += (
                [2.0 * (value - low[k]) / (high[k] - low[k]) - 1.0] if ends[k] else [value.cos(), value.sin()]
            )
        return torch.stack(rows, -1) if rows else theta[:, :0]

    def to_theta(self, numbers: Float[Tensor, "batch number"]) -> dict[int, Float[Tensor, "batch"]]:
        """The inverse of `of_scene`: entries of theta by their column, kept within their ranges."""
        low, high, ends = self.world.low.tolist(), self.world.high.tolist(), self.world.ends
        values, first = {}, 0
        for k in self.columns:
            if ends[k]:
                share = (numbers[:, first].clamp(-1.0, 1.0) + 1.0) / 2.0
                values[k] = low[k] + (high[k] - low[k]) * share
                first += 1
            else:
                values[k] = torch.atan2(numbers[:, first + 1], numbers[:, first])
                first += 2
        return values

    # ---- of an object

    def view_from_object(
        self, scene: Scene, batch: Tensor, slot: Tensor, rays: Rays, pixels: Float[Tensor, "object 2"]
    ) -> Float[Tensor, "object 3 3"]:
        """Rotations of objects as seen along the rays of their handles: what a picture's cut-out tells."""
        facing = self._facing(rays, pixels)
        return facing.transpose(-1, -2) @ matrix(scene.rotation[batch, slot])

    def world_from_object(
        self, numbers: Float[Tensor, "object channel"], asset: Tensor, rays: Rays, pixels: Tensor
    ) -> Float[Tensor, "object 4"]:
        """Rotations, unit quaternions xyzw, that the numbers of objects tell."""
        told = numbers[:, self.parts["rotation"]]
        if self.upright:
            turn = self._yaw(told.reshape(len(told), -1, 2), asset)
            turn = turn + self._heading(rays, pixels) * self.pairs.to(asset.device)[asset].any(1)
            zero = torch.zeros_like(turn)
            return torch.stack([zero, (turn / 2).sin(), zero, (turn / 2).cos()], -1)
        turned = self._facing(rays, pixels) @ roma.special_gramschmidt(told.reshape(-1, 3, 2))
        return roma.rotmat_to_unitquat(turned)

    def _yaw(self, told: Float[Tensor, "object order 2"], asset: Tensor) -> Float[Tensor, "object"]:
        """The yaw that pairs tell: a sure one takes the turn nearest to what the coarser ones said."""
        yaw = told.new_zeros(len(told))
        known = torch.zeros_like(yaw, dtype=torch.bool)
        tells = self.pairs.to(asset.device)[asset]
        for k, n in enumerate(self.orders):
            fine = torch.atan2(told[:, k, 1], told[:, k, 0]) / n
            period = 2.0 * math.pi / n
            nearest = fine + period * ((yaw - fine) / period).detach().round()
            sure = told[:, k].detach().norm(dim=-1) > _SURE
            yaw = torch.where(tells[:, k] & (~known | sure), torch.where(known, nearest, fine), yaw)
            known = known | tells[:, k]
        return yaw

    def yaw_pairs(
        self, scene: Scene, batch: Tensor, slot: Tensor, rays: Rays, pixels: Tensor
    ) -> Float[Tensor, "object order 2"]:
        """The pairs (cos n yaw, sin n yaw) of objects, yaw counted from the direction of their rays."""
        _, y, _, w = scene.rotation[batch, slot].unbind(-1)
        yaw = 2.0 * torch.atan2(y, w) - self._heading(rays, pixels)
        angles = yaw[:, None] * yaw.new_tensor(self.orders)
        return torch.stack([angles.cos(), angles.sin()], -1)

    def _facing(self, rays: Rays, pixels: Tensor) -> Float[Tensor, "object 3 3"]:
        return rays.facing(rays.directions(pixels))

    def _heading(self, rays: Rays, pixels: Tensor) -> Float[Tensor, "object"]:
        """Azimuth of the rays [rad], from +z towards +x, as yaw turns."""
        ray = rays.directions(pixels)
        return torch.atan2(ray[:, 0], ray[:, 2])
