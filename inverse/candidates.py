"""Candidates: single objects that might be in the picture, and how one may move."""

import math
from dataclasses import dataclass

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse.sketch import View
from scenes import Asset, Camera, Scene, World
from scenes.sampling import footprints
from scenes.scene import matrix

_CLEAR = 0.5  # of the bounding circles' radii: middles nearer than that are of objects in one another


@dataclass(frozen=True, eq=False)
class Candidates:
    """N objects, each on its own.

    Attributes:
        asset: Index into the world's assets, int64 [N].
        rotation: world_from_object, [N, 3, 3].
        translation: Origin in the world [m], [N, 3].
        scale: [N].
    """

    asset: Int[Tensor, "candidate"]
    rotation: Float[Tensor, "candidate 3 3"]
    translation: Float[Tensor, "candidate 3"]
    scale: Float[Tensor, "candidate"]

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.asset)

    def __getitem__(self, index: Tensor | list[int] | slice) -> "Candidates":
        """The candidates at `index`."""
        return Candidates(self.asset[index], self.rotation[index], self.translation[index], self.scale[index])

    def repeat(self, times: int) -> "Candidates":
        """Each candidate `times` times in a row."""
        return self[torch.arange(len(self)).repeat_interleave(times)]


def join(parts: list[Candidates]) -> Candidates:
    """One list of several."""
    return Candidates(
        torch.cat([p.asset for p in parts]),
        torch.cat([p.rotation for p in parts]),
        torch.cat([p.translation for p in parts]),
        torch.cat([p.scale for p in parts]),
    )


def candidates_of(scene: Scene, slots: list[int]) -> Candidates:
    """The objects in `slots` of a batch of one scene."""
    return Candidates(
        scene.asset[0, slots],
        matrix(scene.rotation[0, slots]),
        scene.translation[0, slots],
        scene.scale[0, slots],
    )


def clear(world: World, scene: Scene, c: Candidates) -> Bool[Tensor, "candidate"]:
    """Which candidates keep clear of a scene's objects, where the world keeps its objects apart.

    Bounding circles may overlap by half: places are not exact yet. Two objects in one another are refused.
    """
    filled = scene.asset[0] >= 0
    if not world.separate or not bool(filled.any()):
        return torch.ones(len(c), dtype=torch.bool)
    radius = footprints(world)
    reach = (radius[c.asset] * c.scale)[:, None] + radius[scene.asset[0]] * scene.scale[0]
    return (torch.cdist(c.translation, scene.translation[0]) >= _CLEAR * reach)[:, filled].all(1)


@dataclass(frozen=True, eq=False)
class Pinhole:
    """One camera as search uses it: camera_from_world and intrinsics for any size of picture."""

    rotation: Float[Tensor, "3 3"]
    eye: Float[Tensor, "3"]
    focal: tuple[float, float]  # [px], for width x height
    centre: tuple[float, float]
    height: int
    width: int

    @staticmethod
    def of(camera: Camera) -> "Pinhole":
        """The first camera of a batch."""
        return Pinhole(
            matrix(camera.rotation[0]).T,
            camera.translation[0],
            (float(camera.focal[0, 0]), float(camera.focal[0, 1])),
            (float(camera.centre[0, 0]), float(camera.centre[0, 1])),
            camera.height,
            camera.width,
        )

    def at(self, size: tuple[int, int]) -> "Pinhole":
        """The same camera with its intrinsics in pixels of a picture of another size (H, W)."""
        v = self.view(*size)
        return Pinhole(self.rotation, self.eye, v.focal, v.centre, v.height, v.width)

    def view(self, height: int, width: int) -> View:
        """The whole picture, drawn height x width pixels large."""
        sx, sy = width / self.width, height / self.height
        return View(
            (self.focal[0] * sx, self.focal[1] * sy),
            (self.centre[0] * sx, self.centre[1] * sy),
            height,
            width,
        )

    def crop(self, left: float, top: float, side: float, pixels: int) -> View:
        """A square part of the picture, `side` of its pixels long, drawn `pixels` large."""
        s = pixels / side
        return View(
            (self.focal[0] * s, self.focal[1] * s),
            ((self.centre[0] - left) * s, (self.centre[1] - top) * s),
            pixels,
            pixels,
        )

    def place(self, c: Candidates) -> tuple[Float[Tensor, "candidate 3 3"], Float[Tensor, "candidate 3"]]:
        """camera_from_object as a linear part, scale included, and a translation."""
        return self.rotation @ c.rotation * c.scale[:, None, None], (
            c.translation - self.eye
        ) @ self.rotation.T


class Moves:
    """The ways a candidate of a world may move: free axes of its position, its turns, its size.

    A move is a vector of P numbers: metres along the free world axes, radians about +y ("upright") or a
    rotation vector in world axes, and the logarithm of a factor on the size. Objects of "free" worlds whose
    position is free turn about the middle of their bounding box, so that turning does not also shift them.
    """

    def __init__(self, world: World) -> None:
        self.upright = world.placement == "upright"
        self.axes = [k for k, interval in enumerate(world.position) if interval.free]
        self.turns = 1 if self.upright else 3
        self.sized = world.scale.free
        self.count = len(self.axes) + self.turns + int(self.sized)
        self.low = torch.tensor([i.low for i in world.position])
        self.high = torch.tensor([i.high for i in world.position])
        self.scale_low, self.scale_high = world.scale.low, world.scale.high
        self.centre = torch.tensor(np.stack([a.centre for a in world.assets]))
        self.radius = torch.tensor([a.radius for a in world.assets])
        self.pivot = not self.upright and len(self.axes) == 3
        self.period = torch.tensor([yaw_period(a) for a in world.assets])
        # a sphere beside its origin that cannot be shifted back shows its turns
        self.spheres = torch.tensor([a.symmetry.sphere and (self.pivot or _central(a)) for a in world.assets])

    def apply(self, c: Candidates, move: Float[Tensor, "candidate move"]) -> Candidates:
        """The candidates after their moves, kept within the world's ranges."""
        k = len(self.axes)
        translation = c.translation.clone()
        translation[:, self.axes] += move[:, :k]
        vector = torch.zeros(len(c), 3)
        vector[:, 1:2] = move[:, k : k + 1] if self.upright else vector[:, 1:2]
        if not self.upright:
            vector = move[:, k : k + 3]
        rotation = roma.rotvec_to_rotmat(vector) @ c.rotation
        scale = c.scale
        if self.sized:
            scale = (c.scale * move[:, -1].exp()).clamp(self.scale_low, self.scale_high)
        if self.pivot:
            centre = self.centre[c.asset][..., None]
            before, after = c.rotation * c.scale[:, None, None], rotation * scale[:, None, None]
            translation = translation + ((before - after) @ centre)[..., 0]
        translation = torch.maximum(torch.minimum(translation, self.high), self.low)
        return Candidates(c.asset, rotation, translation, scale)

    def middles(
        self,
        asset: Int[Tensor, "candidate"],
        linear: Float[Tensor, "candidate 3 3"],
        translation: Float[Tensor, "candidate 3"],
    ) -> Float[Tensor, "candidate 3"]:
        """Middles of objects' bounding boxes in camera axes [m], [N, 3].

        Args:
            asset: Index into the world's assets, int64 [N].
            linear: camera_from_object, scale included, [N, 3, 3]; see `Pinhole.place`.
            translation: Object's origin in camera axes [m], [N, 3].
        """
        return (linear @ self.centre[asset][..., None])[..., 0] + translation

    def steps(
        self, c: Candidates, pinhole: Pinhole, view: View, pixels: float
    ) -> Float[Tensor, "candidate move"]:
        """Moves that shift an object's outline by about `pixels` of the view; 0 where one changes nothing."""
        middle = self.middles(c.asset, *pinhole.place(c))
        depth = (-middle[:, 2]).clamp_min(1e-3)
        per_metre = view.focal[1] / depth
        radius = (per_metre * self.radius[c.asset] * c.scale).clamp_min(1.0)
        columns = []
        for axis in self.axes:
            along = pinhole.rotation[:, axis]
            across, inward = float(along[:2].norm()), abs(float(along[2]))
            columns.append(pixels / (across * per_metre + inward * radius / depth))
        turn = (pixels / radius).clamp_max(0.3)
        if self.upright:
            columns.append(torch.where(self.period[c.asset] > 0, turn, 0.0))
        else:
            columns += [torch.where(self.spheres[c.asset], 0.0, turn)] * 3
        if self.sized:
            columns.append((pixels / radius).clamp_max(0.1))
        return torch.stack(columns, -1)


def yaw_period(asset: Asset) -> float:
    """The least turn about the frame's own +y [rad] that leaves the asset as it is; 0 where all do."""
    symmetry = asset.symmetry
    if not _central(asset, upright=True):
        return 2.0 * math.pi
    if symmetry.sphere or (symmetry.axis is not None and abs(float(symmetry.axis[1])) > 0.999):
        return 0.0
    turns = symmetry.rotations
    about_y = turns[np.abs(turns[:, 1, 1] - 1.0) < 1e-4]
    angles = np.abs(np.arctan2(about_y[:, 0, 2], about_y[:, 0, 0]))
    angles = angles[angles > 1e-3]
    return float(angles.min()) if len(angles) else 2.0 * math.pi


def _central(asset: Asset, *, upright: bool = False) -> bool:
    """True where the symmetry's turns leave the origin in place; `upright`: those about +y do."""
    centre = asset.symmetry.centre[[0, 2]] if upright else asset.symmetry.centre
    return float(np.linalg.norm(centre)) <= 1e-3 * asset.radius
