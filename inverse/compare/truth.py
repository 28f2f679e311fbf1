"""How far scenes are from the truth, in what the picture shows."""

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.metrics import position_error, rotation_error
from inverse.visibility import visible_fractions
from render.engine import Engine
from scenes import Scene, World
from scenes.scene import matrix

RIGHT_DEGREES, RIGHT_SHARE = 2.0, 0.01  # turn, and offset as share of the distance, of a right object
LEAST_FRACTION, LEAST_PIXELS = 0.1, 5  # of an object that counts; pixels of a picture 64 pixels high


class Truth:
    """B scenes, and which of their objects count: those of which a tenth and a few pixels are seen.

    Args:
        engine: Tells what is seen; one without instance ids lets every object count.
        world: Its assets.
        scenes: The truth.
        size: (H, W) of the pictures [px].
    """

    def __init__(self, engine: Engine, world: World, scenes: Scene, size: tuple[int, int]) -> None:
        self.world, self.scenes = world, scenes
        self.counts = scenes.asset >= 0
        fractions, ids = visible_fractions(engine, scenes, size=size), None
        if fractions is not None:
            ids = engine.render(scenes, size=size).instance_id
            assert ids is not None
            pixels = torch.stack([(ids == s).sum((1, 2)) for s in range(scenes.slots)], 1)
            enough = pixels >= LEAST_PIXELS * (size[0] / 64) ** 2
            self.counts &= (fractions >= LEAST_FRACTION) & enough

    def errors(self, found: Scene) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Largest error of what counts: of rotation [degrees], and of position as share of the distance."""
        true = self.scenes
        degrees = torch.zeros(true.asset.shape)
        share = torch.zeros(true.asset.shape)
        distance = (true.translation - true.camera.translation[:, None]).norm(dim=-1)
        for index, asset in enumerate(self.world.assets):
            these = self.counts & (true.asset == index)
            angle = rotation_error(asset, matrix(found.rotation[these]), matrix(true.rotation[these]))
            offset = position_error(asset, _places(found, these), _places(true, these))
            degrees[these], share[these] = angle.rad2deg(), offset / distance[these]
        return degrees.amax(1), share.amax(1)

    def right(self, found: Scene) -> Tensor:
        """True where every object that counts is right, [B]."""
        degrees, share = self.errors(found)
        return (degrees < RIGHT_DEGREES) & (share < RIGHT_SHARE)


def _places(scene: Scene, these: Tensor) -> Float[Tensor, "object 4 4"]:
    """world_from_object, scale included."""
    places = torch.eye(4).repeat(int(these.sum()), 1, 1)
    places[:, :3, :3] = matrix(scene.rotation[these]) * scene.scale[these][:, None, None]
    places[:, :3, 3] = scene.translation[these]
    return places
