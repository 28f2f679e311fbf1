"""The blurred layers in plain PyTorch: slow, short, differentiated by autograd. For tests."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.attributes import Attributes
from render.blur import gaussian_blur_reference
from render.interpolate import interpolate_reference
from render.raster import rasterize_reference
from render.triangles import Triangles, packed


def soft_layers_reference(
    vertices: Float[Tensor, "*batch vertex 3"],
    faces: "Int[Tensor, 'face 3'] | Triangles",
    attributes: Attributes,
    *,
    image_size: tuple[int, int],
    sigma: float = 2.0,
    gamma: float = 0.05,
    background: Float[Tensor, "*batch channel"] | None = None,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width"]]:
    """Same arguments and pictures as :func:`render.layers.soft_layers`; no gradient of coverage."""
    _, top, _ = packed(vertices, faces)
    layers = []
    for instance in top.instance.unique():
        # what is not of this object loses its area: all of its corners are one vertex
        other = (top.instance != instance)[:, None]
        alone = torch.where(other, top.faces[:, :1], top.faces)
        alone_top = Triangles(alone, image=top.image, image_count=top.image_count, culled=top.culled)
        raster = rasterize_reference(vertices, alone_top, image_size=image_size)
        colour = interpolate_reference(attributes, vertices, alone_top, raster)
        seen = (raster.face >= 0).to(colour.dtype)[..., None]
        layers.append(torch.cat([colour, seen, raster.inverse_depth[..., None].to(colour.dtype)], -1))
    blurred = torch.stack([gaussian_blur_reference(layer, sigma) for layer in layers], 1)
    if background is None:
        background = blurred.new_zeros(blurred.shape[-1] - 2)
    return soft_over_reference(blurred, background, gamma)


def soft_over_reference(
    layers: Float[Tensor, "batch layer height width value"],
    background: Float[Tensor, "*batch channel"],
    gamma: float,
) -> tuple[Float[Tensor, "batch height width channel"], Float[Tensor, "batch height width"]]:
    """Same arguments and result as :func:`render.layers.soft_over`; memory grows with K^2."""
    colour, coverage = layers[..., :-2], layers[..., -2].clamp(0, 1)
    score = layers[..., -1] / layers[..., -2].clamp_min(1e-3)
    hides = torch.sigmoid((score[:, None] - score[:, :, None]) / gamma)  # [B, l, m, H, W]
    passes = 1 - coverage[:, None] * hides
    own = torch.eye(layers.shape[1], dtype=torch.bool, device=layers.device)[:, :, None, None]
    transmission = torch.where(own, 1.0, passes).prod(2)
    clear = (1 - coverage).prod(1)[..., None]
    behind = background.reshape(-1, 1, 1, colour.shape[-1])
    image = (transmission[..., None] * colour).sum(1) + clear * behind
    return image, 1 - clear[..., 0]
