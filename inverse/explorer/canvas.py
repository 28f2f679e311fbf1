"""Canvas: a picture enlarged, with arrows over it, as a PNG. Pillow draws it in a few milliseconds."""

import io

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from inverse.explorer.arrows import Line
from inverse.picture import levels

_SMOOTH = 2  # lines are drawn this many times larger, then averaged
_HEAD = 3.5  # length of an arrow's head, in widths of its shaft
_BORDER = 2.0  # [px] dark around a line, so that it is seen on any ground


class Canvas:
    """One picture, `height` px high.

    Args:
        rgb: sRGB-encoded colours, [H, W, 3].
        height: Of the canvas [px].
    """

    def __init__(self, rgb: Float[Tensor, "row column 3"], height: int) -> None:
        self.zoom = height / rgb.shape[0]
        self.size = (round(rgb.shape[1] * self.zoom), height)
        large = (self.size[0] * _SMOOTH, self.size[1] * _SMOOTH)
        self.image = Image.fromarray(levels(rgb)).resize(large, Image.Resampling.NEAREST)
        self.draw = ImageDraw.Draw(self.image)

    def arrow(self, line: Line, colour: str, width: float = 3.0) -> None:
        """Draw a line with a head at its end; points in pixels of the picture."""
        points = np.asarray(line, np.float64) * self.zoom * _SMOOTH
        if not np.isfinite(points).all() or np.ptp(points, axis=0).max() < _SMOOTH:
            return
        head, shaft = _head(points, _HEAD * width * _SMOOTH)
        for extra, ink in ((_BORDER, "#202020"), (0.0, colour)):
            wide = round((width + extra) * _SMOOTH)
            self.draw.line([tuple(p) for p in shaft], fill=ink, width=wide, joint="curve")
            self.draw.polygon(
                [tuple(p) for p in head], fill=ink, outline=ink, width=max(1, round(extra * _SMOOTH))
            )

    def png(self) -> bytes:
        """The picture with everything drawn."""
        data = io.BytesIO()
        self.image.reduce(_SMOOTH).save(data, "PNG", compress_level=1)
        return data.getvalue()


def difference(
    one: Float[Tensor, "row column 3"], other: Float[Tensor, "row column 3"]
) -> Float[Tensor, "row column 3"]:
    """Grey where two pictures agree, lighter where the first is brighter."""
    return ((one - other).mean(-1, keepdim=True) / 2.0 + 0.5).expand(-1, -1, 3)


def _head(points: Line, length: float) -> tuple[Line, Line]:
    """The triangle at the end of a line, and the line without what it covers."""
    tip = points[-1]
    distance = np.linalg.norm(points - tip, axis=1)
    length = min(length, 0.6 * float(distance.max()))
    kept = points[distance > length]
    back = tip - kept[-1]
    back = back / np.linalg.norm(back)
    base, across = tip - length * back, 0.55 * length * np.array([-back[1], back[0]])
    return np.stack([tip, base + across, base - across]), np.concatenate([kept, base[None]])
