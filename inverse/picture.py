"""Pictures and masks: read from any format that Pillow knows, written as PNG or JPEG."""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from inverse.files import atomic

LEAST_SIDE = 16  # [px]; fewer say nothing about a pose
LARGEST_SIDE = 8192  # [px]; a picture of that size takes 0.8 GB as float32

_GREY_16 = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


class PictureError(ValueError):
    """A picture cannot be used; the message names the file, what is wrong and what would be right."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as it was seen, turned upright.

    Attributes:
        rgb: sRGB-encoded colours in [0, 1], row 0 at the top, float32 [H, W, 3]. Grey pictures have three
            equal channels. Where there is alpha the colours are as stored, not mixed with any background.
        alpha: Opacity in [0, 1], float32 [H, W], or None where the picture is opaque everywhere.
    """

    rgb: Float[Tensor, "row column 3"]
    alpha: Float[Tensor, "row column"] | None = None


def read_picture(path: Path | str) -> Picture:
    """The picture in a file: 8 or 16 bits, grey, palette, with or without alpha, turned as its EXIF data say.

    Of an animation the first frame; colour profiles are not applied; RGB of 16 bits a channel is read with 8.

    Raises:
        PictureError: If there is no such file, it is no picture or a damaged one, or a side is shorter than
            `LEAST_SIDE` or longer than `LARGEST_SIDE`.
    """
    image = _load(Path(path))
    if image.mode in _GREY_16:
        grey = np.asarray(image).astype(np.float32) / 65535.0
        return Picture(torch.from_numpy(grey.clip(0.0, 1.0))[..., None].repeat(1, 1, 3))
    if image.mode == "F":
        raise PictureError(f"{path}: floating-point pictures are not supported; save it with 8 or 16 bits")
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return Picture(_unit(image.convert("RGB")))
    rgba = _unit(image.convert("RGBA"))
    alpha = rgba[..., 3].contiguous()
    return Picture(rgba[..., :3].contiguous(), None if bool((alpha == 1.0).all()) else alpha)


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
    levels = (rgb.detach().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy()
    with atomic(path) as temporary:
        Image.fromarray(levels).save(temporary)


def writable_suffix(path: Path) -> None:
    """Check that the suffix names a format for writing.

    Raises:
        PictureError: If it does not.
    """
    Image.init()
    if Image.EXTENSION.get(path.suffix.lower()) not in Image.SAVE:
        raise PictureError(f"{path}: no picture can be written with the suffix {path.suffix!r}; use .png")


def _load(path: Path) -> Image.Image:
    """The decoded image, upright; its size is checked before its pixels are read."""
    if not path.exists():
        raise PictureError(f"{path}: there is no such file")
    if path.is_dir():
        raise PictureError(f"{path}: is a folder, not a picture")
    try:
        # Pillow warns of large pictures and odd metadata; sizes are checked here, odd metadata are harmless.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                _check_size(path, *image.size)
                image.load()
                return ImageOps.exif_transpose(image)
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(f"{path}: is too large; at most {LARGEST_SIDE} pixels a side") from None
    except UnidentifiedImageError:
        raise PictureError(f"{path}: is not a picture in a known format (PNG, JPEG, ...)") from None
    except PermissionError:
        raise PictureError(f"{path}: may not be read") from None
    # What Pillow raises on damaged files: SyntaxError for a broken PNG, struct.error for short headers.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise PictureError(f"{path}: the picture is damaged or incomplete ({error})") from None


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < LEAST_SIDE:
        raise PictureError(f"{path}: {width}x{height} pixels are too few; at least {LEAST_SIDE} a side")
    if max(width, height) > LARGEST_SIDE:
        raise PictureError(f"{path}: {width}x{height} pixels are too many; at most {LARGEST_SIDE} a side")


def _shrunk(values: Float[Tensor, "row column"], width: int, height: int) -> Float[Tensor, "row column"]:
    """Means over the area of each new pixel."""
    image = Image.fromarray(values.numpy()).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(image))


def _unit(image: Image.Image) -> Float[Tensor, "row column channel"]:
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255.0)
