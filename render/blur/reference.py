"""The exact Gaussian blur in plain PyTorch: one dense matrix per axis. Slow, short. For tests."""

import torch
from jaxtyping import Float
from torch import Tensor


def gaussian_blur_reference(
    image: Float[Tensor, "batch height width channel"], sigma: float
) -> Float[Tensor, "batch height width channel"]:
    """Same arguments as :func:`render.blur.gaussian_blur`; sampled Gaussians of sum 1, zero outside."""
    if sigma == 0.0:
        return image
    rows, columns = _matrix(image.shape[1], sigma, image), _matrix(image.shape[2], sigma, image)
    return torch.einsum("ij,bjkc,lk->bilc", rows, image, columns)


def _matrix(size: int, sigma: float, like: Tensor) -> Float[Tensor, "size size"]:
    distance = torch.arange(size, dtype=like.dtype, device=like.device)
    far = torch.arange(-int(10 * sigma) - 1, int(10 * sigma) + 2, dtype=like.dtype, device=like.device)
    total = torch.exp(-0.5 * (far / sigma) ** 2).sum()
    return torch.exp(-0.5 * ((distance[:, None] - distance) / sigma) ** 2) / total
