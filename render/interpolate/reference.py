"""The interpolation of attributes in plain PyTorch: slow, short, differentiated by autograd. For tests."""

from jaxtyping import Float, Int
from torch import Tensor

from render.attributes import Attributes, carried
from render.raster import Raster
from render.triangles import Triangles, packed


def interpolate_reference(
    attributes: Attributes,
    vertices: Float[Tensor, "*copy vertex 3"],
    faces: Int[Tensor, "face 3"] | Triangles,
    raster: Raster,
) -> Float[Tensor, "batch height width channel"]:
    """Same arguments and result as :func:`render.interpolate.interpolate`."""
    _, triangles, copies = packed(vertices, faces)
    given = carried(attributes, vertices, triangles, copies)
    seen = raster.face >= 0
    image, row, column = seen.nonzero(as_tuple=True)
    first = image // max(1, triangles.image_count) * given.stride
    corners = given.values[first[:, None] + given.index[raster.face[seen].long()]]  # [P, 3, C]
    colour = (raster.barycentric[seen].to(corners.dtype)[..., None] * corners).sum(1)
    picture = colour.new_zeros(*raster.face.shape, colour.shape[-1])
    return picture.index_put((image, row, column), colour)
