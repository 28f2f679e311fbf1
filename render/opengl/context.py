"""A headless OpenGL context, and the shader programs read from the .glsl files beside this one."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from render.engine import EngineError

if TYPE_CHECKING:
    import moderngl

_INSTALL = (
    "on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri; elsewhere: a graphics driver with OpenGL 3.3"
)

# What lets the vertex stage choose the layer; drivers with neither take a geometry stage for it.
_VERTEX_LAYER = ("GL_ARB_shader_viewport_layer_array", "GL_AMD_vertex_shader_layer")


def open_context() -> "moderngl.Context":
    """A standalone OpenGL 3.3 context, made current; without a display on Linux (EGL).

    Raises:
        EngineError: If there is no OpenGL; the message says what to install.
    """
    try:
        import moderngl
    except ImportError as error:
        raise EngineError(
            f"the opengl engine needs the package moderngl: pip install moderngl ({error})"
        ) from None
    # glcontext looks for libGL too, which only displays need: EGL hands out the same functions.
    attempts: list[dict[str, Any]] = [{}]
    if sys.platform.startswith("linux"):
        egl = "libEGL.so.1"
        attempts = [{"backend": "egl", "libgl": egl, "libegl": egl}, {"backend": "egl"}, {}]
    problems = []
    for settings in attempts:
        try:
            context = moderngl.create_context(standalone=True, require=330, **settings)
        except (
            Exception
        ) as error:  # moderngl and glcontext raise bare Exception, ValueError, ImportError, OSError
            problems.append(str(error).strip().replace("\n", " "))
            continue
        context.gc_mode = "auto"
        return context
    raise EngineError(f"no OpenGL 3.3 context could be made ({problems[0]}); {_INSTALL}")


def object_program(context: "moderngl.Context", name: str, **defines: Any) -> "moderngl.Program":
    """The program of `name`_vertex.glsl and `name`_fragment.glsl, which draws each scene to its own layer.

    Args:
        context: Where it is made.
        name: Stem of the two files.
        defines: Macros; True defines an empty one, False none.
    """
    enable = [f"#extension {e} : enable" for e in _VERTEX_LAYER if e in context.extensions]
    head = _head(enable, {**defines, "GEOMETRY_STAGE": not enable})
    geometry = None if enable else head + _source("scenes") + _source("layer_geometry")
    made = context.program(
        vertex_shader=head + _source("scenes") + _source("object") + _source(f"{name}_vertex"),
        geometry_shader=geometry,
        fragment_shader=head + _source("scenes") + _source(f"{name}_fragment"),
    )
    return _with_scenes(made)


def resolve_program(context: "moderngl.Context", **defines: Any) -> "moderngl.Program":
    """The program that makes pictures of samples, by resolve_vertex.glsl and resolve_fragment.glsl."""
    head = _head([], defines)
    made = context.program(
        vertex_shader=head + _source("resolve_vertex"),
        fragment_shader=head + _source("scenes") + _source("resolve_fragment"),
    )
    made["colours"], made["seen"] = 0, 1
    return _with_scenes(made)


def _with_scenes(made: Any) -> "moderngl.Program":
    """The program, told where to find the scenes, if it reads them."""
    if "Scenes" in made:
        made["Scenes"].binding = 0
    return made


def _head(extensions: list[str], defines: dict[str, Any]) -> str:
    macros = [f"#define {k} {'' if v is True else v}" for k, v in defines.items() if v is not False]
    return "\n".join(["#version 330", *extensions, *macros, ""])


@cache
def _source(stem: str) -> str:
    return (Path(__file__).parent / f"{stem}.glsl").read_text(encoding="utf-8")


_ENUM, _SIZE, _POINTER = ctypes.c_uint, ctypes.c_int, ctypes.c_void_p


def _function(context: "moderngl.Context", name: str, *arguments: Any) -> Callable[..., None]:
    """One of OpenGL's own functions."""
    kind = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)  # OpenGL's calling convention on Windows
    return kind(None, *arguments)(context.mglo._context.load(name))


def mipmapped(context: "moderngl.Context", levels: list[np.ndarray]) -> "moderngl.Texture":
    """A texture with its levels, sRGB-encoded uint8 [h, w, 4], the largest first.

    The driver could average them itself, but to learn how it compiles for a third of a second (llvmpipe).
    """
    texture_2d, srgb8_alpha8, rgba, unsigned_byte = 0x0DE1, 0x8C43, 0x1908, 0x1401
    bind = _function(context, "glBindTexture", _ENUM, _ENUM)
    image = _function(context, "glTexImage2D", _ENUM, *[_SIZE] * 5, _ENUM, _ENUM, _POINTER)
    texture = context.texture(levels[0].shape[1::-1], 4, internal_format=srgb8_alpha8)
    bind(texture_2d, texture.glo)
    for number, level in enumerate(levels):
        height, width = level.shape[:2]
        texels = np.ascontiguousarray(level).ctypes.data
        image(texture_2d, number, srgb8_alpha8, width, height, 0, rgba, unsigned_byte, texels)
    texture.filter = (context.LINEAR_MIPMAP_LINEAR, context.LINEAR)
    return texture


class DepthArrays:
    """Depth textures with layers, which moderngl cannot make: five calls straight to OpenGL.

    moderngl creates and owns every object; this changes what a texture array holds and where it is attached.
    """

    _TEXTURE_2D_ARRAY, _DEPTH_COMPONENT, _DEPTH32F = 0x8C1A, 0x1902, 0x8CAC
    _FLOAT, _FRAMEBUFFER, _DEPTH_ATTACHMENT, _COLOUR_0, _NONE = 0x1406, 0x8D40, 0x8D00, 0x8CE0, 0

    def __init__(self, context: "moderngl.Context") -> None:
        self._context = context
        self._bind_texture = _function(context, "glBindTexture", _ENUM, _ENUM)
        self._image = _function(context, "glTexImage3D", _ENUM, *[_SIZE] * 6, _ENUM, _ENUM, _POINTER)
        self._bind_framebuffer = _function(context, "glBindFramebuffer", _ENUM, _ENUM)
        self._attach = _function(context, "glFramebufferTexture", _ENUM, _ENUM, _ENUM, _SIZE)
        self._draw_buffer = _function(context, "glDrawBuffer", _ENUM)

    def texture(self, size: tuple[int, int, int]) -> "moderngl.TextureArray":
        """A 32-bit float depth texture of (width, height, layers)."""
        array = self._context.texture_array((1, 1, size[2]), 1, dtype="f1")
        self._bind_texture(self._TEXTURE_2D_ARRAY, array.glo)
        self._image(
            self._TEXTURE_2D_ARRAY, 0, self._DEPTH32F, *size, 0, self._DEPTH_COMPONENT, self._FLOAT, None
        )
        return array

    def framebuffer(
        self, colour: "moderngl.TextureArray", depth: "moderngl.TextureArray", *, only_depth: bool = False
    ) -> "moderngl.Framebuffer":
        """A framebuffer whose every layer draws to the same layer of `colour` and `depth`.

        Args:
            colour: Colour texture.
            depth: Depth texture of the same size; the caller keeps it alive.
            only_depth: True to leave `colour` out again (moderngl wants one, to make the framebuffer).
        """
        target = self._context.framebuffer(color_attachments=[colour])
        self._bind_framebuffer(self._FRAMEBUFFER, target.glo)
        self._attach(self._FRAMEBUFFER, self._DEPTH_ATTACHMENT, depth.glo, 0)
        if only_depth:
            self._attach(self._FRAMEBUFFER, self._COLOUR_0, 0, 0)
            self._draw_buffer(self._NONE)
        target.depth_mask = True  # moderngl saw no depth and would leave it untouched
        target.use()
        return target
