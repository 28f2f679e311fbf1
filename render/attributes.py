"""What surfaces carry: values per vertex, per corner of a face, or textures. Shared by the operators."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.triangles import Triangles


@dataclass(frozen=True, eq=False)
class PerCorner:
    """Values that a vertex may have several of, one per face: face colours, hard normals, seams.

    Attributes:
        values: [F, 3, C], or [B, F, 3, C] where copies differ.
    """

    values: Float[Tensor, "*batch face 3 channel"]


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture that is wrapped round the mesh.

    Looked up bilinearly, without mipmaps; it repeats. uv = (0, 0) is the texture's top-left corner, (1, 1)
    its bottom-right one (glTF), the centre of texel (row i, column j) is ((j + 0.5) / W, (i + 0.5) / H).

    Attributes:
        texels: [H, W, C], or [B, H, W, C] where copies differ.
        uv: Texture coordinates, per vertex [V, 2] or [B, V, 2], or per corner.
    """

    texels: Float[Tensor, "*batch row column channel"]
    uv: "Float[Tensor, '*batch vertex 2'] | PerCorner"


Attributes = Tensor | PerCorner | Texture  # a tensor is per vertex: [V, C] or [B, V, C]


@dataclass(frozen=True, eq=False)
class Carried:
    """Attributes as kernels read them: corner k of face f in copy c has values[c * stride + index[f, k]].

    Attributes:
        values: All rows, contiguous, [N, C]; texture coordinates where there are texels. Differentiable.
        index: Row of each corner, int32 [F, 3].
        stride: Rows per copy, 0 where all copies share them.
        texels: [1 or copies, H, W, C], contiguous, differentiable; None without a texture.
    """

    values: Float[Tensor, "row channel"]
    index: Int[Tensor, "face 3"]
    stride: int
    texels: Float[Tensor, "copy row column channel"] | None

    @property
    def channels(self) -> int:
        """Numbers per pixel."""
        return self.values.shape[1] if self.texels is None else self.texels.shape[3]


def carried(attributes: Attributes, vertices: Tensor, triangles: Triangles, copies: int) -> Carried:
    """Bring attributes into the kernels' form.

    Args:
        attributes: Per vertex, per corner, or a texture, of the vertices' type and device.
        vertices: As the caller gave them, [B, V, 3] or [V, 3].
        triangles: Whose corners they belong to.
        copies: B, or 1.

    Raises:
        ValueError: If a shape, dtype or device does not fit.
    """
    texels = None
    if isinstance(attributes, Texture):
        texels = _checked("texels", attributes.texels, vertices)
        shapes = {3: 1, 4: copies}
        if texels.ndim not in shapes or (texels.ndim == 4 and len(texels) != copies) or 0 in texels.shape:
            raise ValueError(
                f"texels must have shape [H, W, C] or [{copies}, H, W, C], H and W at least 1, "
                f"got {list(texels.shape)}"
            )
        texels = texels.reshape(-1, *texels.shape[-3:]).contiguous()
    given = attributes.uv if isinstance(attributes, Texture) else attributes
    name = "attributes" if texels is None else "uv"
    if isinstance(given, PerCorner):
        values = _checked(name, given.values, vertices)
        wanted: tuple[int, ...] = (len(triangles), 3)
        index = triangles.keep("corners", lambda: _numbered(triangles))
    else:
        values = _checked(name, given, vertices)
        wanted = (vertices.shape[-2],)
        index = triangles.faces
    batched = values.ndim == len(wanted) + 2
    fits = values.shape[-1 - len(wanted) : -1] == wanted and values.ndim in (len(wanted) + 1, len(wanted) + 2)
    if not fits or (batched and len(values) != copies):
        shape = ", ".join(str(n) for n in (*wanted, "C"))
        raise ValueError(f"{name} must have shape [{shape}] or [{copies}, {shape}], got {list(values.shape)}")
    if values.shape[-1] == 0 or (texels is not None and texels.shape[-1] == 0):
        raise ValueError(f"{name} must have at least 1 channel")
    if texels is not None and values.shape[-1] != 2:
        raise ValueError(f"uv must have 2 channels, got {values.shape[-1]}")
    rows = values.reshape(-1, values.shape[-1]).contiguous()
    return Carried(rows, index, len(rows) // max(1, copies) if batched else 0, texels)


def background_rows(
    background: Float[Tensor, "*picture channel"] | None, like: Tensor, pictures: int, channels: int
) -> Float[Tensor, "row channel"]:
    """The colours behind a batch of pictures: one row, [1, C], or [B, C] where pictures differ.

    Args:
        background: [C], [1, C] or [B, C], of the type and device of `like`; None: 0. Carries a gradient.
        like: The vertices, or whatever else it stands behind.
        pictures: B.
        channels: C.

    Raises:
        ValueError: If its shape, dtype or device does not fit.
    """
    if background is None:
        return like.new_zeros(1, channels)
    if background.shape not in ((channels,), (1, channels), (pictures, channels)):
        raise ValueError(
            f"background must have shape [{channels}] or [{pictures}, {channels}], "
            f"got {list(background.shape)}"
        )
    if background.dtype != like.dtype or background.device != like.device:
        raise ValueError(
            f"background must be {like.dtype} on {like.device} as the vertices are, "
            f"got {background.dtype} on {background.device}"
        )
    return background.reshape(-1, channels)


def _numbered(triangles: Triangles) -> Tensor:
    """A row of its own for each corner, int32 [F, 3]."""
    count = 3 * len(triangles)
    return torch.arange(count, dtype=torch.int32, device=triangles.device).view(-1, 3)


def _checked(name: str, tensor: Tensor, vertices: Tensor) -> Tensor:
    if tensor.dtype != vertices.dtype or tensor.device != vertices.device:
        raise ValueError(
            f"{name} must be {vertices.dtype} on {vertices.device} as the vertices are, "
            f"got {tensor.dtype} on {tensor.device}"
        )
    return tensor
