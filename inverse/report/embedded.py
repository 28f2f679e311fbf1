"""Pictures as data URIs: a page that holds them needs no other file."""

import base64
import io
from typing import TYPE_CHECKING

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from inverse.picture import levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def data_uri(data: bytes, kind: str) -> str:
    """The bytes of a picture file of the type image/`kind`, as a URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def picture_uri(rgb: Float[Tensor, "row column 3"]) -> str:
    """A picture, pixel by pixel."""
    written = io.BytesIO()
    Image.fromarray(levels(rgb)).save(written, "png", optimize=True)
    return data_uri(written.getvalue(), "png")


def figure_uri(figure: "Figure") -> str:
    """A figure, at its own resolution."""
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return data_uri(written.getvalue(), "png")
