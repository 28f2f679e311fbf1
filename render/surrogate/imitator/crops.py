"""Which pixels each object may touch: lists of samples, as long as the objects are large."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Crops:
    """N samples: pairs of an object and a pixel in the rectangle around it.

    Attributes:
        owner: The object, [N]; samples of one object lie side by side.
        pixel: Index into the batch's pixels, row by row, [N].
        at: The pixel's centre (x, y) in the units of the rectangles, [N, 2].
        window: 1 well within the rectangle, falling to 0 at its border: what is drawn does not jump where the
            border passes a pixel. Carries gradients to the rectangle, [N].
    """

    owner: Int[Tensor, "sample"]
    pixel: Int[Tensor, "sample"]
    at: Float[Tensor, "sample 2"]
    window: Float[Tensor, "sample"]


def crop(
    low: Float[Tensor, "object 2"],
    high: Float[Tensor, "object 2"],
    scene: Int[Tensor, "object"],
    *,
    margin: float,
    unit: tuple[int, int],
    size: tuple[int, int],
    among: Bool[Tensor, "pixel"] | None = None,
) -> Crops:
    """The pixels within `margin` of each rectangle.

    Args:
        low: Corners of the rectangles (x, y) at the top left, in pixels of a picture of `unit` (H, W).
        high: Corners at the bottom right.
        scene: Which picture of the batch each belongs to.
        margin: In the same pixels.
        unit: See `low`.
        size: (H, W) of the pictures whose pixels are listed.
        among: False for pixels that are not wanted; None: all are.
    """
    height, width = size
    pitch = low.new_tensor([unit[1] / width, unit[0] / height])  # of their pixels, in units
    last = torch.tensor([width - 1, height - 1], device=low.device)
    first = ((low.detach() - margin) / pitch - 0.5).ceil().long().clamp_min(0)
    count = (
        torch.minimum(((high.detach() + margin) / pitch - 0.5).floor().long(), last) - first + 1
    ).clamp_min(0)
    total = count.prod(1)
    owner = torch.repeat_interleave(torch.arange(len(total), device=low.device), total)
    number = torch.arange(len(owner), device=low.device) - (total.cumsum(0) - total)[owner]
    across = count[:, 0].clamp_min(1)[owner]
    place = first[owner] + torch.stack([number % across, number // across], 1)
    pixel = (scene[owner] * height + place[:, 1]) * width + place[:, 0]
    if among is not None:
        kept = among[pixel].nonzero()[:, 0]
        owner, place, pixel = owner[kept], place[kept], pixel[kept]
    at = (place + 0.5) * pitch
    inside = torch.minimum(at - low[owner], high[owner] - at) + margin
    return Crops(
        owner=owner,
        pixel=pixel,
        at=at,
        window=inside.clamp(0.0, 1.0).prod(1),
    )
