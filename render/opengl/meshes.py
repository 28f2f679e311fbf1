"""The meshes and textures of a world on the graphics card, and the draws of many instances at once."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from render.layout import INSTANCE_FLOATS
from render.opengl.context import mipmapped, object_program
from render.shading import encode_srgb
from render.shading.textures import pyramid
from scenes.asset import Asset

if TYPE_CHECKING:
    import moderngl

_INSTANCE = (
    "4f 4f 4f 4f 4f 4f 4f 3f 2f /i",
    "clip_x",
    "clip_y",
    "clip_z",
    "clip_w",
    "world_x",
    "world_y",
    "world_z",
)
SHADOW_UNIT = 0  # the shader's default: moderngl cannot set a sampler2DArrayShadow
ALBEDO_UNIT = 1
SCENES = 128  # most scenes drawn at once: 12 KiB of the 16 KiB that OpenGL grants a uniform block
_NORMAL_BIAS, _LIGHT_BIAS = 1.5, 0.5  # [shadow texel] how far off a surface its shadow is looked up


class Programs:
    """The shader programs of one engine; those of shading by what an asset needs."""

    def __init__(self, context: "moderngl.Context", shadow_size: int) -> None:
        self._context = context
        self._shading: dict[tuple[bool, bool, bool], moderngl.Program] = {}
        self._defines = {
            "SCENES": SCENES,
            "SHADOW_TEXEL": repr(1.0 / shadow_size),
            "NORMAL_BIAS": _NORMAL_BIAS,
            "LIGHT_BIAS": _LIGHT_BIAS,
        }
        self.shadow = self._make("shadow")
        self.identify = self._make("identify")

    def shading(self, asset: Asset) -> "moderngl.Program":
        """The program that shades `asset`."""
        key = (textured(asset), not asset.closed, asset.specular > 0.0)
        if key not in self._shading:
            made = self._make("shade", SHADE=True, TEXTURED=key[0], TWO_SIDED=key[1], GLOSSY=key[2])
            if key[0]:
                made["albedo_map"] = ALBEDO_UNIT
            self._shading[key] = made
        return self._shading[key]

    def _make(self, name: str, **defines: bool) -> "moderngl.Program":
        return object_program(self._context, name, **self._defines, **defines)


def textured(asset: Asset) -> bool:
    """True where the asset has a texture that can be looked up."""
    return asset.texture is not None and asset.uv is not None


class Mesh:
    """One asset on the graphics card. Draws any number of its instances with one call."""

    def __init__(
        self, context: "moderngl.Context", programs: Programs, asset: Asset, anisotropy: float
    ) -> None:
        self.closed = asset.closed
        self._highlight = (asset.specular, asset.shininess) if asset.specular > 0.0 else None
        columns = [asset.vertices, asset.normals, asset.colours]
        names, form = ["position", "normal", "colour"], "3f 3f 3f"
        self._texture = None
        if textured(asset):
            columns.append(asset.uv)  # type: ignore[arg-type]  # textured() says it is there
            names, form = [*names, "uv"], form + " 2f"
            self._texture = _upload(context, asset.texture, anisotropy)  # type: ignore[arg-type]  # likewise
        vertices = context.buffer(np.concatenate(columns, 1).astype(np.float32).tobytes())
        faces = context.buffer(asset.faces.astype(np.int32).tobytes())
        self._instances = context.buffer(reserve=4 * INSTANCE_FLOATS)
        content = [(vertices, form, *names), (self._instances, *_INSTANCE, "tint", "tags")]
        self._shading = programs.shading(asset)
        self._shade, self._shadow, self._identify = (
            context.vertex_array(p, content, faces, skip_errors=True)
            for p in (self._shading, programs.shadow, programs.identify)
        )
        self.count = 0

    def place(self, instances: Float[np.ndarray, "instance 33"]) -> None:
        """Where the instances stand that the next draws show."""
        self.count = len(instances)
        if self.count:
            self._instances.orphan(max(self._instances.size, instances.nbytes))
            self._instances.write(np.ascontiguousarray(instances))

    def shade(self) -> None:
        """Draw them in colour."""
        if self._texture is not None:
            self._texture.use(ALBEDO_UNIT)
        if self._highlight is not None:
            self._shading["highlight"] = self._highlight
        self._shade.render(instances=self.count)

    def cast(self) -> None:
        """Draw them into the shadow map."""
        self._shadow.render(instances=self.count)

    def identify(self) -> None:
        """Draw their ids and depths."""
        self._identify.render(instances=self.count)


def _upload(context: "moderngl.Context", texels: np.ndarray, anisotropy: float) -> "moderngl.Texture":
    # Texture row 0 is v = 0, as in glTF: uploaded as it is, OpenGL's first row is v = 0 too.
    texture = mipmapped(context, [_encoded(level) for level in pyramid(torch.as_tensor(texels.copy()))])
    texture.anisotropy = min(anisotropy, context.max_anisotropy)
    return texture


def _encoded(level: Float[torch.Tensor, "row column 3"]) -> np.ndarray:
    """Linear texels as bytes, sRGB-encoded, opaque."""
    opaque = torch.cat([encode_srgb(level), torch.ones_like(level[..., :1])], -1)
    return (opaque * 255.0).round().to(torch.uint8).numpy()
