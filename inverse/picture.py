"""Pictures and masks: read from any format that Pillow knows, written as PNG or JPEG."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from render.picture import Picture, PictureError, load_picture
from scenes.files import atomic

__all__ = [
    "LEAST_SIDE",
    "Picture",
    "PictureError",
    "fitted",
    "read_mask",
    "read_picture",
    "writable_suffix",
    "write_picture",
]

LEAST_SIDE = 16  # [px]; fewer say nothing about a pose


def read_picture(path: Path | str) -> Picture:
    """The picture in a file, as `render.picture.load_picture` reads it.

    Raises:
        PictureError: As there, and if a side is shorter than `LEAST_SIDE`.
    """
    return load_picture(path, least_side=LEAST_SIDE)


def read_mask(path: Path | str, size: tuple[int, int]) -> Bool[Tensor, "row column"]:
    """The mask in a picture file: True where it is brighter than middle grey, or opaque if it has alpha.

    Args:
        path: A picture as in `read_picture`.
        size: (H, W) [px] that it must have.

    Raises:
        PictureError: If it cannot be read, has another size, or is True nowhere.
    """
    picture = read_picture(path)
    mask = picture.rgb.mean(-1) > 0.5 if picture.alpha is None else picture.alpha > 0.5
    if tuple(mask.shape) != size:
        raise PictureError(
            f"{path}: the mask has {mask.shape[1]}x{mask.shape[0]} pixels, the picture {size[1]}x{size[0]}; "
            "they must be equal"
        )
    if not bool(mask.any()):
        raise PictureError(f"{path}: the mask is black everywhere; white must mark where the objects are")
    return mask


def fitted(
    picture: Picture, width: int, height: int, *, mask: Bool[Tensor, "row column"] | None = None
) -> tuple[Picture, Bool[Tensor, "row column"] | None]:
    """The picture and its mask shrunk to at most width x height pixels; unchanged where they are no larger.

    Pixels are averaged in linear light, as the engines average their samples.

    Args:
        picture: Of the same proportions as width x height, to 1 %.
        width: Width [px] that the world's camera draws.
        height: Its height [px].
        mask: Of the picture's size.

    Raises:
        PictureError: If the proportions differ.
    """
    rows, columns = picture.rgb.shape[:2]
    if abs(columns * height / (rows * width) - 1.0) > 0.01:
        raise PictureError(
            f"the picture is {columns}x{rows}, the world's camera draws {width}x{height}: crop the picture "
            "to those proportions, or give the world the picture's camera"
        )
    if rows <= height and columns <= width:
        return picture, mask
    from render.shading import decode_srgb, encode_srgb

    linear = decode_srgb(picture.rgb)
    rgb = encode_srgb(torch.stack([_shrunk(c, width, height) for c in linear.unbind(-1)], -1)).clamp(0.0, 1.0)
    alpha = None if picture.alpha is None else _shrunk(picture.alpha, width, height)
    return Picture(rgb, alpha), None if mask is None else _shrunk(mask.float(), width, height) > 0.5


def write_picture(path: Path | str, rgb: Float[Tensor, "row column 3"]) -> None:
    """Write sRGB-encoded colours, clamped to [0, 1] and rounded to 8 bits, in the format of the suffix.

    Raises:
        PictureError: If the suffix names no format that Pillow writes.
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    writable_suffix(path)
    with atomic(path) as temporary:
        Image.fromarray(levels(rgb)).save(temporary)


def writable_suffix(path: Path) -> None:
    """Check that the suffix names a format for writing.

    Raises:
        PictureError: If it does not.
    """
    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise PictureError(f"{path}: no picture can be written with the suffix {path.suffix!r}; use .png")


def _shrunk(values: Float[Tensor, "row column"], width: int, height: int) -> Float[Tensor, "row column"]:
    """Means over the area of each new pixel."""
    image = Image.fromarray(values.numpy()).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(image))


def levels(rgb: Float[Tensor, "*batch 3"]) -> UInt8[np.ndarray, "*batch 3"]:
    """Colours in [0, 1], those beyond cut off, as 8 bits a channel."""
    rounded: np.ndarray = (rgb.detach().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy()
    return rounded
