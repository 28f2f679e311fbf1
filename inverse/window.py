"""Windows: parts of a picture that are drawn alone, by the camera that sees no more."""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from scenes import Camera

_SIDES = 8  # windows are squares of one to eight eighths of the picture: few sizes serve all


@dataclass(frozen=True)
class Window:
    """A part of a picture of whole pixels.

    Attributes:
        top, left: First row and column [px].
        height, width: [px].
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) [px]."""
        return self.height, self.width

    @staticmethod
    def around(touched: Bool[Tensor, "height width"], rim: int) -> "Window":
        """A window, as small as may be, that holds all pixels touched and a rim."""
        near = grown(touched, rim)
        rows, columns = (near.any(k).nonzero()[:, 0].tolist() or [0] for k in (1, 0))
        longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        unit = -(-max(touched.shape) // _SIDES)
        side = -(-longest // unit) * unit
        height, width = (min(side, whole) for whole in touched.shape)
        top = _placed(rows[0], rows[-1], height, touched.shape[0])
        left = _placed(columns[0], columns[-1], width, touched.shape[1])
        return Window(top, left, height, width)

    @property
    def rows(self) -> slice:
        """Its rows in the picture."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Its columns in the picture."""
        return slice(self.left, self.left + self.width)

    def cut(self, picture: Tensor) -> Tensor:
        """The part of a picture [H, W, ...]."""
        return picture[self.rows, self.columns]

    def within(self, other: "Window") -> "Window":
        """The same part, counted from another's first row and column."""
        return Window(self.top - other.top, self.left - other.left, self.height, self.width)

    def camera(self, camera: Camera, size: tuple[int, int]) -> Camera:
        """The camera that sees this part of pictures of `size` (H, W) and draws it in the same pixels."""
        scale = camera.centre.new_tensor([size[1] / camera.width, size[0] / camera.height])
        corner = camera.centre.new_tensor([self.left, self.top])
        return replace(
            camera,
            focal=camera.focal * scale,
            centre=camera.centre * scale - corner,
            width=self.width,
            height=self.height,
        )


def grown(seen: Bool[Tensor, "height width"], rim: int) -> Bool[Tensor, "height width"]:
    """Pixels that are seen, and those not farther than a rim [px] from one, up, down or aside."""
    side = 2 * rim + 1
    rows = F.max_pool2d(seen[None].float(), (side, 1), stride=1, padding=(rim, 0))
    return F.max_pool2d(rows, (1, side), stride=1, padding=(0, rim))[0] > 0


def _placed(first: int, last: int, length: int, whole: int) -> int:
    """Where a window of a length begins that has `first` to `last` in its middle."""
    return min(max(0, (first + last + 1 - length) // 2), whole - length)
