"""OpenGLEngine: batches of scenes drawn as layers of one target, with shadows, textures and highlights."""

import os
import threading
from collections import OrderedDict
from types import TracebackType
from typing import Self

import numpy as np
import torch

from render.engine import EngineError, Frame
from render.opengl.context import DepthArrays, open_context, program
from render.opengl.layout import Arranger, Layout
from render.opengl.meshes import SHADOW_UNIT, Mesh, Programs
from render.opengl.targets import PictureTarget, ShadowTarget
from scenes.scene import Scene
from scenes.world import World

_CAPACITY = 128  # scenes in one uniform block: 12 KiB of the 16 KiB that OpenGL grants
_MEMORY = 192 * 2**20  # bytes of targets that one pass may use
_KEPT = 4  # sets of targets kept for the sizes drawn last


class OpenGLEngine:
    """The bundled game engine, on any OpenGL 3.3.

    Perspective with full intrinsics, textures with mipmaps, one directional light with Lambert and Blinn-Phong, ambient,
    a shadow map, supersampling. A scene's picture does not depend on the scenes drawn beside it, bit for bit.

    One thread and one process own an engine: the one that opened it.
    """

    name = "opengl"

    def __init__(
        self,
        world: World,
        *,
        size: tuple[int, int] = (128, 128),
        samples: int = 2,
        shadow_size: int = 256,
        anisotropy: float = 1.0,
    ) -> None:
        """Open the engine.

        Args:
            world: Whose assets the scenes index.
            size: (H, W) of the pictures [px].
            samples: Supersampling per axis, 1 to 4.
            shadow_size: Width of the shadow map [texel].
            anisotropy: Most texture samples along the line of steepest foreshortening, 1 to 16, as far as the driver goes.

        Raises:
            ValueError: If an argument is out of range.
            EngineError: If there is no OpenGL, or the size is beyond its limits.
        """
        if samples not in (1, 2, 3, 4):
            raise ValueError(f"samples must be 1, 2, 3 or 4, got {samples}")
        if not 16 <= shadow_size <= 8192:
            raise ValueError(f"shadow_size must lie in 16..8192, got {shadow_size}")
        self.world, self.size = world, size
        self._samples, self._shadow_size = samples, shadow_size
        self._owner, self._process = threading.get_ident(), os.getpid()
        self._context = None
        context = open_context()
        self._context = context
        with context:
            self._limit = int(context.info["GL_MAX_TEXTURE_SIZE"])
            self._layers = min(_CAPACITY, int(context.info["GL_MAX_ARRAY_TEXTURE_LAYERS"]))
            self._check_size(size)
            self._arrays = DepthArrays(context)
            self._arranger = Arranger(world, shadow_size)
            programs = Programs(context, _CAPACITY, shadow_size, (1.5, 0.5))
            self._meshes = [Mesh(context, programs, a, anisotropy) for a in (*world.assets, *world.scenery)]
            self._resolve = program(context, "resolve", "scenes", SCENES=_CAPACITY, SAMPLES=samples)
            self._resolve["Scenes"].binding = 0
            self._resolve["colours"], self._resolve["seen"] = 0, 1
            self._whole = context.vertex_array(self._resolve, [])
            self._scenes = context.buffer(reserve=_CAPACITY * 96)
            self._shadow_sampler = context.sampler(
                filter=(context.LINEAR, context.LINEAR), compare_func="<=", repeat_x=False, repeat_y=False
            )
            self._shadows: OrderedDict[int, ShadowTarget] = OrderedDict()
            self._pictures: OrderedDict[tuple[int, int, int], PictureTarget] = OrderedDict()

    def render(self, scene: Scene, *, size: tuple[int, int] | None = None) -> Frame:
        """Pictures of a batch of scenes, with ids and depth; see `render.engine.Engine.render`."""
        self._check_use()
        size = self.size if size is None else size
        self._check_size(size)
        layout = self._arranger.arrange(scene, size)
        batch = len(scene)
        parts = []
        with self._context:  # type: ignore[attr-defined]
            start = 0
            while start < batch:
                count = self._chunk(batch - start, size)
                parts.append(self._draw(layout, slice(start, start + count), size))
                start += count
        if not parts:
            parts.append((torch.empty(0, *size, 4), torch.empty(0, *size, dtype=torch.int32)))
        picture = torch.cat([p for p, _ in parts]) if len(parts) > 1 else parts[0][0]
        instance = torch.cat([i for _, i in parts]) if len(parts) > 1 else parts[0][1]
        return Frame(picture[..., :3].contiguous(), instance, picture[..., 3].contiguous())

    def close(self) -> None:
        """Give the context back with all it holds; a second call does nothing."""
        context, self._context = self._context, None
        if context is not None and os.getpid() == self._process:
            with context:
                self.__dict__ = {
                    k: v for k, v in self.__dict__.items() if k in ("world", "size", "_context", "_process")
                }
            context.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _draw(self, layout: Layout, part: slice, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours with depth, and ids, of some of the scenes."""
        context, count = self._context, part.stop - part.start
        shadow, target = self._targets(count, size)
        asset, instances = layout.asset[part], layout.instances[part]
        instances[..., -2] = np.arange(count)[:, None]
        for index, mesh in enumerate(self._meshes):
            mesh.place(instances[asset == index])
        meshes = [m for m in self._meshes if m.count]
        self._scenes.write(np.ascontiguousarray(layout.scenes[part]))
        self._scenes.bind_to_uniform_block(0)
        context.front_face = "cw"  # the pictures are drawn with y down

        context.enable_only(context.DEPTH_TEST)
        shadow.framebuffer.use()
        shadow.framebuffer.clear(depth=1.0)
        for mesh in meshes:
            mesh.cast()

        shadow.depth.use(SHADOW_UNIT)
        self._shadow_sampler.use(SHADOW_UNIT)
        target.shaded.use()
        target.shaded.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        for mesh in meshes:
            context.enable_only(context.DEPTH_TEST | (context.CULL_FACE if mesh.closed else 0))
            mesh.shade()
        self._shadow_sampler.clear(SHADOW_UNIT)

        target.identified.use()
        target.identified.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        for mesh in meshes:
            context.enable_only(context.DEPTH_TEST | (context.CULL_FACE if mesh.closed else 0))
            mesh.identify()

        context.enable_only(context.NOTHING)
        target.colours.use(0)
        target.seen.use(1)
        self._resolve["height"] = size[0]
        target.pictures.use()
        self._whole.render(vertices=3)
        return target.read()

    def _chunk(self, remaining: int, size: tuple[int, int]) -> int:
        """How many scenes to draw at once: a power of two, so that few sets of targets serve every batch."""
        height, width = size
        scene_bytes = height * width * (20 * self._samples**2 + 32) + 4 * self._shadow_size**2
        most = max(1, min(self._layers, self._limit // height, _MEMORY // scene_bytes, remaining))
        return 1 << (most.bit_length() - 1)

    def _targets(self, count: int, size: tuple[int, int]) -> tuple[ShadowTarget, PictureTarget]:
        context = self._context
        if count not in self._shadows:
            self._shadows[count] = ShadowTarget(context, self._arrays, self._shadow_size, count)
        key = (*size, count)
        if key not in self._pictures:
            self._pictures[key] = PictureTarget(context, self._arrays, size, self._samples, count)
        self._shadows.move_to_end(count)
        self._pictures.move_to_end(key)
        while len(self._pictures) > _KEPT:
            self._pictures.popitem(last=False)
        return self._shadows[count], self._pictures[key]

    def _check_use(self) -> None:
        if os.getpid() != self._process:
            raise EngineError(
                "this process was forked from the one that opened the engine; open one here, or spawn"
            )
        if self._context is None:
            raise EngineError("the engine is closed; open another one")
        if threading.get_ident() != self._owner:
            raise EngineError(
                "an engine draws only in the thread that opened it; open one engine in each thread"
            )

    def _check_size(self, size: tuple[int, int]) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size must be (H, W), at least 1 px each, got {size}")
        if max(size) * self._samples > self._limit:
            raise EngineError(
                f"pictures of {size[0]} x {size[1]} with {self._samples} x {self._samples} samples are too large: this "
                f"OpenGL draws at most {self._limit // self._samples} px a side; lower size or samples"
            )
