"""Painter: everything one engine owns in OpenGL, and the four passes that make pictures."""

from collections import OrderedDict

import numpy as np
import torch

from render.engine import EngineError
from render.layout import SCENE_FLOATS, Layout
from render.opengl.context import DepthArrays, open_context, resolve_program
from render.opengl.meshes import SCENES, SHADOW_UNIT, Mesh, Programs
from render.opengl.targets import PictureTarget, ShadowTarget
from scenes.world import World

_MEMORY = 192 * 2**20  # bytes of targets that one call may use, unless a single scene needs more
_KEPT = 16  # sets of targets kept for the sizes drawn last
_FULL = 0.75  # share of the layers that must be used to take a set of targets with some to spare


class Painter:
    """Draws scenes as layers of one target. Used by one thread, inside `with painter.context`."""

    def __init__(self, world: World, *, samples: int, shadow_size: int, anisotropy: float) -> None:
        self._samples, self._shadow_size = samples, shadow_size
        self.context = context = open_context()
        with context:
            self._limit = int(context.info["GL_MAX_TEXTURE_SIZE"])
            self._layers = min(SCENES, int(context.info["GL_MAX_ARRAY_TEXTURE_LAYERS"]))
            self._arrays = DepthArrays(context)
            programs = Programs(context, shadow_size)
            self._meshes = [Mesh(context, programs, a, anisotropy) for a in (*world.assets, *world.scenery)]
            self._resolve = resolve_program(context, SCENES=SCENES, SAMPLES=samples)
            self._whole = context.vertex_array(self._resolve, [])
            self._scenes = context.buffer(reserve=SCENES * 4 * SCENE_FLOATS)
            self._shadow_sampler = context.sampler(
                filter=(context.LINEAR, context.LINEAR), compare_func="<=", repeat_x=False, repeat_y=False
            )
            self._shadows: OrderedDict[int, ShadowTarget] = OrderedDict()
            self._pictures: OrderedDict[tuple[int, int, int], PictureTarget] = OrderedDict()

    def close(self, *, free: bool) -> None:
        """Give everything back; `free=False` where no OpenGL call may be made."""
        context = self.context
        if free:
            with context:
                self.__dict__.clear()
        # moderngl frees what is in a reference cycle later, in whichever context is current then.
        context.gc_mode = None  # type: ignore[assignment]  # its own default, which it declares a str
        if free:
            context.release()

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ValueError for a size below 1 px, EngineError for one beyond what this OpenGL draws."""
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size must be (H, W), at least 1 px each, got {size}")
        if max(size) * self._samples > self._limit:
            raise EngineError(
                f"{size[0]} x {size[1]} px with {self._samples} x {self._samples} samples are too large: "
                f"this OpenGL draws at most {self._limit // self._samples} px a side; lower size or samples"
            )

    def most_at_once(self, remaining: int, size: tuple[int, int]) -> int:
        """How many scenes to draw next."""
        return min(remaining, self._room(remaining, size))

    def _room(self, remaining: int, size: tuple[int, int]) -> int:
        """Layers for the scenes drawn next: a power of two, so that few sets of targets serve every batch."""
        height, width = size
        one = height * width * (20 * self._samples**2 + 32) + 5 * self._shadow_size**2
        most = max(1, min(self._layers, self._limit // height, _MEMORY // one))
        above = 1 << (remaining - 1).bit_length()
        if above <= most and remaining > _FULL * above:
            return above
        return 1 << (min(most, remaining).bit_length() - 1)

    def paint(self, layout: Layout, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours with depth, float32 [B, H, W, 4], and ids, int32 [B, H, W]."""
        context, count = self.context, len(layout.asset)
        shadow, target = self._targets(self._room(count, size), size)
        layout.instances[..., -2] = np.arange(count)[:, None]
        for index, mesh in enumerate(self._meshes):
            mesh.place(layout.instances[layout.asset == index])
        meshes = [m for m in self._meshes if m.count]
        self._scenes.write(np.ascontiguousarray(layout.scenes))
        self._scenes.bind_to_uniform_block(0)
        context.front_face = "cw"  # y runs down in the pictures, which turns every winding round

        context.enable_only(context.DEPTH_TEST)
        shadow.framebuffer.use()
        shadow.framebuffer.clear(depth=1.0)
        context.cull_face = "front"  # rows of the map run up: what is left faces the light
        for mesh in meshes:
            self._cull(mesh)
            mesh.cast()
        context.cull_face = "back"

        shadow.depth.use(SHADOW_UNIT)
        self._shadow_sampler.use(SHADOW_UNIT)
        target.shaded.use()
        target.shaded.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        for mesh in meshes:
            self._cull(mesh)
            mesh.shade()
        self._shadow_sampler.clear(SHADOW_UNIT)

        # Ids and depths are of the pixels' centres, where an even number of samples has none.
        target.identified.use()
        target.identified.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        for mesh in meshes:
            self._cull(mesh)
            mesh.identify()

        context.enable_only(context.NOTHING)
        target.colours.use(0)
        target.seen.use(1)
        self._resolve["height"] = size[0]
        target.pictures.viewport = 0, 0, size[1], size[0] * count
        target.pictures.use()
        self._whole.render(vertices=3)
        result = target.read(count)
        if (problem := context.error) != "GL_NO_ERROR":
            raise EngineError(
                f"OpenGL could not draw {count} pictures of {size[0]} x {size[1]} px: {problem}"
            )
        return result

    def _cull(self, mesh: Mesh) -> None:
        flags = self.context.DEPTH_TEST | (self.context.CULL_FACE if mesh.closed else 0)
        self.context.enable_only(flags)

    def _targets(self, layers: int, size: tuple[int, int]) -> tuple[ShadowTarget, PictureTarget]:
        context, key = self.context, (*size, layers)
        if layers not in self._shadows:
            self._shadows[layers] = ShadowTarget(context, self._arrays, self._shadow_size, layers)
        if key not in self._pictures:
            while len(self._pictures) >= _KEPT:
                self._pictures.popitem(last=False)
            try:
                self._pictures[key] = PictureTarget(context, self._arrays, size, self._samples, layers)
            except Exception as error:  # moderngl's own, raised where memory is short
                raise EngineError(
                    f"OpenGL cannot make room for pictures of {size[0]} x {size[1]} px: {error}"
                ) from None
        self._pictures.move_to_end(key)
        return self._shadows[layers], self._pictures[key]
