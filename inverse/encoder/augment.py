"""Augmentation: other backgrounds, shadows, colours, blur, noise and JPEG for the same objects."""

import io
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from inverse.picture import levels
from inverse.training.pictures import Pictures
from render.blur import gaussian_blur


def augmented(pictures: Pictures, share: float = 0.5) -> Pictures:
    """The pictures, a `share` of them changed; what is random comes from torch's own generator."""
    count = len(pictures)
    chosen = torch.rand(count, device=pictures.rgb.device) < share
    if not bool(chosen.any()):
        return pictures
    rgb = pictures.rgb.clone()
    objects = (pictures.instance_id >= 0) & (pictures.instance_id < pictures.scene.slots)
    rgb[chosen] = _changed(rgb[chosen], objects[chosen])
    return replace(pictures, rgb=rgb)


def _changed(
    rgb: Float[Tensor, "batch row column 3"], objects: Bool[Tensor, "batch row column"]
) -> Float[Tensor, "batch row column 3"]:
    count = len(rgb)
    rgb = torch.where((_some(rgb, 0.5) & ~objects[..., None]), _background(rgb), rgb)
    rgb = torch.where(_some(rgb, 0.3), _shaded(rgb, objects), rgb)
    rgb = rgb.clamp(1e-3, 1.0) ** ((_uniform(rgb, 1) - 0.5) * 0.8).exp()
    rgb = rgb * (1.0 + (_uniform(rgb, 3) - 0.5) * 0.35)
    rgb = 0.5 + (rgb - 0.5) * (0.6 + 0.7 * _uniform(rgb, 1))
    rgb = torch.where(_some(rgb, 0.3), _blurred(rgb, 0.3 + float(torch.rand(1))), rgb)
    noise = torch.randn_like(rgb) * 0.07 * torch.rand(count, 1, 1, 1, device=rgb.device)
    rgb = (rgb + noise).clamp(0.0, 1.0)
    return torch.stack([_compressed(p) if float(torch.rand(1)) < 0.2 else p for p in rgb])


def _some(rgb: Tensor, share: float) -> Bool[Tensor, "batch 1 1 1"]:
    return torch.rand(len(rgb), 1, 1, 1, device=rgb.device) < share


def _uniform(rgb: Tensor, channels: int) -> Float[Tensor, "batch 1 1 channel"]:
    return torch.rand(len(rgb), 1, 1, channels, device=rgb.device)


def _background(rgb: Tensor) -> Float[Tensor, "batch row column 3"]:
    """A flat colour, or smooth ones, or patches of several sizes."""
    count, height, width, _ = rgb.shape
    flat = torch.rand(count, 3, 1, 1, device=rgb.device)
    cells = 2 ** int(torch.randint(1, 6, (1,)))
    mode = "bilinear" if float(torch.rand(1)) < 0.7 else "nearest"
    varied = F.interpolate(
        torch.rand(count, 3, cells, cells, device=rgb.device), size=(height, width), mode=mode
    )
    weight = torch.rand(count, 1, 1, 1, device=rgb.device) * _some(rgb, 0.6)
    return (flat + weight * (varied - flat)).permute(0, 2, 3, 1)


def _blurred(rgb: Tensor, sigma: float) -> Float[Tensor, "batch row column 3"]:
    """A Gaussian blur of `sigma` px that does not darken the border."""
    rgb = rgb.contiguous()
    return gaussian_blur(rgb, sigma) / gaussian_blur(torch.ones_like(rgb[:1]), sigma)


def _compressed(rgb: Float[Tensor, "row column 3"]) -> Float[Tensor, "row column 3"]:
    """Through a JPEG file of any quality from 25 to 95."""
    quality = int(torch.randint(25, 96, (1,)))
    file = io.BytesIO()
    Image.fromarray(levels(rgb.cpu())).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).to(rgb) / 255.0


def _shaded(rgb: Tensor, objects: Tensor) -> Float[Tensor, "batch row column 3"]:
    """Darker ground beside the objects, as a soft light's shadow."""
    mask = objects[..., None].float()
    reach = max(2, rgb.shape[1] // 16)
    shift = [int(s) for s in torch.randint(-reach, reach + 1, (2,))]
    shadow = gaussian_blur(torch.roll(mask, shift, (1, 2)), sigma=reach / 3.0)
    dark = torch.rand(len(rgb), 1, 1, 1, device=rgb.device) * 0.6
    return torch.where(objects[..., None], rgb, rgb * (1.0 - dark * shadow))
