"""How wrong a picture is: robust cost per pixel, its noise floor, and PSNR."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

TAU = 0.12
"""Length of an encoded rgb difference that counts as half a wrong pixel."""
_CHI2_3_MEDIAN = 2.366
_MOST_NOISE = 0.1  # standard deviation; what differs by more everywhere is not noise but wrong


@dataclass(frozen=True, eq=False)
class Evidence:
    """The picture as recovery compares with it.

    Attributes:
        image: sRGB-encoded [H, W, 3].
        mask: Share of each pixel covered by objects, [H, W], or None where it is not known.
        mask_weight: Weight of the mask's squared error against `rho`.
        tau: See `TAU`.
    """

    image: Float[Tensor, "height width 3"]
    mask: Float[Tensor, "height width"] | None = None
    mask_weight: float = 1.0
    tau: float = TAU

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.image.shape[0], self.image.shape[1]

    def resized(self, size: tuple[int, int]) -> "Evidence":
        """The same picture at another size: averaged where it becomes smaller."""
        if size == self.size:
            return self
        image = resize(self.image[None], size)[0]
        mask = None if self.mask is None else resize(self.mask[None, :, :, None], size)[0, :, :, 0]
        return replace(self, image=image, mask=mask)

    def cost(
        self,
        image: Float[Tensor, "batch height width 3"],
        covered: Float[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch height width"]:
        """Wrong pixels: rho of the colour difference plus the weighted squared error of the coverage."""
        square = squared(image - self.image)
        cost = square / (square + self.tau**2)
        if self.mask is not None and covered is not None:
            cost = cost + self.mask_weight * (covered - self.mask).square()
        return cost


def resize(
    image: Float[Tensor, "batch height width channel"], size: tuple[int, int]
) -> Float[Tensor, "batch h w channel"]:
    """Resample with an antialiasing filter; exact block means where the size divides."""
    height, width = image.shape[1:3]
    x = image.permute(0, 3, 1, 2)
    if height % size[0] == 0 and width % size[1] == 0:
        x = F.avg_pool2d(x, (height // size[0], width // size[1]))
    else:
        x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    return x.permute(0, 2, 3, 1).contiguous()


def squared(difference: Float[Tensor, "*pixel channel"]) -> Float[Tensor, "*pixel"]:
    """|r|^2 of the first three channels. PyTorch's sum over so few takes several times as long."""
    squares = difference.square()
    return squares[..., 0] + squares[..., 1] + squares[..., 2]


def noise_floor(difference: Float[Tensor, "height width 3"], tau: float = TAU) -> float:
    """Expected rho of a pixel that is right, given the picture's noise.

    The noise's standard deviation comes from the median of the squared difference, of which more than half
    must be explained already; the difference is taken as Gaussian.
    """
    variance = min(float(squared(difference).median()) / _CHI2_3_MEDIAN, _MOST_NOISE**2)
    if variance <= 0.0:
        return 0.0
    # E[q / (q + tau^2)] for q = variance * chi2 with 3 degrees, integrated over the density of chi
    x = torch.linspace(1e-3, 8.0, 400, dtype=torch.float64)
    density = math.sqrt(2.0 / math.pi) * x.square() * torch.exp(-x.square() / 2)
    q = variance * x.square()
    return float(torch.trapezoid(density * q / (q + tau**2), x))


def psnr(image: Float[Tensor, "height width 3"], target: Float[Tensor, "height width 3"]) -> float:
    """Peak signal-to-noise ratio [dB] of encoded pictures; at most 100."""
    return float(-10.0 * torch.log10((image - target).square().mean().clamp_min(1e-10)))


def covered(instance_id: Tensor, slots: int) -> Bool[Tensor, "..."]:
    """Where a slot's object is seen."""
    return (instance_id >= 0) & (instance_id < slots)
