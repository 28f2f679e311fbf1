"""Picture files: read from any format that Pillow knows."""

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

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


def load_picture(path: Path | str, *, least_side: int = 1) -> Picture:
    """The picture in a file: 8 or 16 bits, grey, palette, with or without alpha, turned as its EXIF data say.

    Of an animation the first frame; colour profiles are not applied; RGB of 16 bits a channel is read with 8.

    Args:
        path: The file.
        least_side: Shortest side [px] that is accepted.

    Raises:
        PictureError: If there is no such file, it is no picture or a damaged one, or a side is shorter than
            `least_side` or longer than `LARGEST_SIDE`.
    """
    image = _decoded(Path(path), least_side)
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


def _decoded(path: Path, least_side: int) -> Image.Image:
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
                _check_size(path, *image.size, least_side)
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


def _check_size(path: Path, width: int, height: int, least_side: int) -> None:
    if min(width, height) < least_side:
        raise PictureError(f"{path}: {width}x{height} pixels are too few; at least {least_side} a side")
    if max(width, height) > LARGEST_SIDE:
        raise PictureError(f"{path}: {width}x{height} pixels are too many; at most {LARGEST_SIDE} a side")


def _unit(image: Image.Image) -> Float[Tensor, "row column channel"]:
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255.0)
