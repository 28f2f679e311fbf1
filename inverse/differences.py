"""Central differences of a loss of an engine's supersampled pictures: what gradients are compared with."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.losses import resize
from render.blackbox import SceneBox
from render.engine import Engine
from scenes import Scene


def central_differences(
    engine: Engine,
    scenes: Scene,
    loss: Callable[[Tensor], Tensor],
    steps: Float[Tensor, "*batch parameter"],
    *,
    samples: int = 4,
    size: tuple[int, int] | None = None,
) -> Float[Tensor, "batch parameter"]:
    """Derivatives of a loss by each active entry of theta, 2 P pictures for each scene.

    The engine answers in float32, and an edge within a pixel moves in as many jumps as the pixel has samples:
    steps must move outlines by a good part of a pixel, half of one or one. Pictures are drawn `samples` times
    larger and averaged in linear light, so that a step is many jumps.

    Args:
        engine: Any engine.
        scenes: Where, B scenes.
        loss: Pictures of the B scenes [B, H, W, 3], float64, sRGB-encoded -> losses [B].
        steps: Of each entry, in its unit, [P] or [B, P], positive; `least_differences.Judge.steps` has some.
        samples: Per axis, on top of the engine's own.
        size: (H, W) of the averaged pictures [px]; None: the engine's.

    Returns:
        [B, P], float64; 0 where an entry is not active.

    Raises:
        ValueError, EngineError: As the engine does.
    """
    height, width = engine.size if size is None else size
    box = SceneBox(engine, scenes, (height * samples, width * samples))
    theta = engine.world.pack(box.scenes)
    steps = steps.expand_as(theta)
    slopes = torch.zeros(theta.shape, dtype=torch.float64)
    for entry in box.active.any(0).nonzero()[:, 0].tolist():
        step = torch.zeros_like(theta)
        step[:, entry] = steps[:, entry]
        ahead, behind = theta + step, theta - step
        rise = _loss(box, ahead, loss, (height, width)) - _loss(box, behind, loss, (height, width))
        slopes[:, entry] = rise / (ahead - behind)[:, entry]  # not 2 steps: float32 rounds theta
    return torch.where(box.active, slopes, 0.0)


def _loss(
    box: SceneBox, theta: Tensor, loss: Callable[[Tensor], Tensor], size: tuple[int, int]
) -> Float[Tensor, "batch"]:
    return loss(averaged(box.observe(theta[:, None]).value[:, 0].double(), size))


def averaged(
    image: Float[Tensor, "batch H W 3"], size: tuple[int, int]
) -> Float[Tensor, "batch height width 3"]:
    """A picture drawn larger, averaged in linear light as engines average their own samples."""
    from render.shading import decode_srgb, encode_srgb

    return encode_srgb(resize(decode_srgb(image), size))
