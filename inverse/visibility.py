"""How much of each object a picture shows."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from render.engine import Engine
from scenes.scene import Scene


def visible_fractions(
    engine: Engine, scene: Scene, *, size: tuple[int, int]
) -> Float[Tensor, "batch slot"] | None:
    """Seen part of each object's whole silhouette, in [0, 1]; NaN for empty slots.

    The whole silhouette is drawn alone, on a canvas of twice the size, so that what lies outside the picture
    counts as hidden (as far as half a picture beyond its border).

    Args:
        engine: Draws the scenes; its ids are counted.
        scene: Any number of scenes.
        size: (H, W) [px] of the picture.

    Returns:
        [B, S], or None where the engine has no ids.
    """
    seen = engine.render(scene, size=size).instance_id
    if seen is None:
        return None
    height, width = size
    camera = scene.camera
    margin = camera.centre.new_tensor([camera.width / 2, camera.height / 2])
    # Drawn at twice the size with twice the width, pixels stay as large as they were.
    wide = replace(camera, centre=camera.centre + margin, width=2 * camera.width, height=2 * camera.height)
    fractions = torch.full(scene.asset.shape, torch.nan)
    for slot in range(scene.slots):
        filled = (scene.asset[:, slot] >= 0).nonzero()[:, 0]
        if len(filled) == 0:
            continue
        only = torch.full_like(scene.asset, -1)
        only[:, slot] = scene.asset[:, slot]
        alone = replace(scene, asset=only, camera=wide)[filled]
        whole = engine.render(alone, size=(2 * height, 2 * width)).instance_id
        assert whole is not None
        count = (seen[filled] == slot).sum((1, 2)) / (whole == slot).sum((1, 2)).clamp_min(1)
        fractions[filled, slot] = count.clamp(max=1.0)
    return fractions
