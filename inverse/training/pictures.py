"""Pictures: a batch of sampled scenes and what the engine drew of them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.engine import Engine
from scenes import Scene, World

_TRIES = 5  # batches of scenes drawn before a world is said to have no room
UNKNOWN = -2  # instance id of every pixel where an engine tells none


@dataclass(frozen=True, eq=False)
class Pictures:
    """A batch of B scenes with their pictures.

    Attributes:
        scene: What was drawn, without gradients.
        rgb: sRGB-encoded in [0, 1], float32 [B, H, W, 3].
        instance_id: As `render.Frame.instance_id`, int64 [B, H, W]: -1 nothing, 0..S-1 the slot, S + i the
            scenery. -2 everywhere where the engine tells none.
    """

    scene: Scene
    rgb: Float[Tensor, "batch row column 3"]
    instance_id: Int[Tensor, "batch row column"]

    def __len__(self) -> int:
        """Number of pictures B."""
        return len(self.rgb)

    def __getitem__(self, index: Tensor | slice) -> "Pictures":
        """The pictures at `index` along the batch axis."""
        return Pictures(self.scene[index], self.rgb[index], self.instance_id[index])

    def to(self, device: torch.device | str) -> "Pictures":
        """The same pictures on another device."""
        return Pictures(self.scene.to(device), self.rgb.to(device), self.instance_id.to(device))

    @property
    def visible(self) -> Int[Tensor, "batch slot"]:
        """Number of pixels in which each slot is seen."""
        slots = torch.arange(self.scene.slots, device=self.rgb.device)
        return (self.instance_id[:, None] == slots[None, :, None, None]).sum((2, 3))


@dataclass(frozen=True, eq=False)
class Packed:
    """Pictures as little memory: 8-bit colours, 8-bit ids, the scenes as assets and theta."""

    asset: Int[np.ndarray, "batch slot"]
    theta: Float[np.ndarray, "batch parameter"]
    rgb: Int[np.ndarray, "batch row column 3"]
    instance_id: Int[np.ndarray, "batch row column"]

    def unpacked(self, world: World, device: torch.device | str = "cpu") -> Pictures:
        """The pictures, colours rounded to 8 bits."""
        asset = torch.from_numpy(self.asset).long()
        like = replace(world.empty(len(asset)), asset=asset)
        scene = world.unpack(torch.from_numpy(self.theta), like=like)
        rgb = torch.from_numpy(self.rgb).float() / 255.0
        return Pictures(scene, rgb, torch.from_numpy(self.instance_id).long()).to(device)


def draw(engine: Engine, count: int, size: tuple[int, int], seed: int) -> Packed:
    """`count` random pictures of the engine's world, H x W [px]; the same seed gives the same pictures."""
    world = engine.world
    scene = _sampled(world, count, torch.Generator().manual_seed(seed))
    frame = engine.render(scene, size=size)
    ids = frame.instance_id
    return Packed(
        asset=scene.asset.to(torch.int16).numpy(),
        theta=world.pack(scene).numpy(),
        rgb=(frame.rgb * 255.0 + 0.5).to(torch.uint8).numpy(),
        instance_id=(torch.full(frame.rgb.shape[:3], UNKNOWN) if ids is None else ids).to(torch.int8).numpy(),
    )


def _sampled(world: World, count: int, generator: torch.Generator) -> Scene:
    """Random scenes; once in 100,000 their objects find no room beside one another: then others."""
    for _ in range(_TRIES - 1):
        try:
            return world.sample(count, generator=generator)
        except ValueError:
            continue
    return world.sample(count, generator=generator)
