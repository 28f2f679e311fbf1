"""OpenGLEngine: settings, checks, and batches cut into what the graphics card takes at once."""

import os
import threading
from types import TracebackType

import torch

from render.engine import EngineError, Frame
from render.layout import Arranger
from render.opengl.painter import Painter
from scenes.scene import Scene
from scenes.world import World


class OpenGLEngine:
    """The bundled game engine, on any OpenGL 3.3.

    Perspective with full intrinsics, textures with mipmaps, one directional light with Lambert, Blinn-Phong
    and shadows, ambient light, supersampling. A scene's picture does not depend, bit for bit, on the scenes
    drawn beside it.

    One thread and one process own an engine: the one that opened it.
    """

    name = "opengl"
    _painter: Painter | None = None

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
            shadow_size: Width of the shadow map [texel], 16 to 8192.
            anisotropy: Most texture samples along the direction of foreshortening, at least 1, as far as the
                driver goes. 1 is quickest, and what the software engine does.

        Raises:
            ValueError: If an argument is out of range.
            EngineError: If there is no OpenGL, or the size is beyond its limits.
        """
        if samples not in (1, 2, 3, 4):
            raise ValueError(f"samples must be 1, 2, 3 or 4, got {samples}")
        if not 16 <= shadow_size <= 8192:
            raise ValueError(f"shadow_size must lie in 16..8192, got {shadow_size}")
        if not anisotropy >= 1.0:
            raise ValueError(f"anisotropy must be at least 1, got {anisotropy}")
        self.world, self.size = world, size
        self._owner, self._process = threading.get_ident(), os.getpid()
        self._arranger = Arranger(world, shadow_size)
        self._painter = Painter(world, samples=samples, shadow_size=shadow_size, anisotropy=anisotropy)
        try:
            self._painter.check_size(size)
        except (EngineError, ValueError):
            self.close()
            raise

    def render(self, scene: Scene, *, size: tuple[int, int] | None = None) -> Frame:
        """Pictures of a batch of scenes, with ids and depth; see `render.engine.Engine.render`."""
        painter = self._usable()
        size = self.size if size is None else size
        painter.check_size(size)
        layout = self._arranger.arrange(scene)
        shape, start = (len(scene), *size), 0
        rgb, depth, instance_id = (
            torch.empty(*shape, 3),
            torch.empty(shape),
            torch.empty(shape, dtype=torch.int32),
        )
        with painter.context:
            while start < len(scene):
                some = slice(start, start + painter.most_at_once(len(scene) - start, size))
                picture, instance_id[some] = painter.paint(layout.part(some), size)
                rgb[some], depth[some] = picture[..., :3], picture[..., 3]
                start = some.stop
        return Frame(rgb, instance_id, depth)

    def close(self) -> None:
        """Give the context back with all it holds; a second call does nothing."""
        painter, self._painter = self._painter, None
        if painter is not None:
            # Elsewhere OpenGL would free what bears the same names in another context, or hang.
            painter.close(free=os.getpid() == self._process and threading.get_ident() == self._owner)

    def __enter__(self) -> "OpenGLEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _usable(self) -> Painter:
        if self._painter is None:
            raise EngineError("the engine is closed; open another one")
        if os.getpid() != self._process:
            raise EngineError(
                "this process was forked from the one that opened the engine; open one in each process, "
                'and start processes with multiprocessing.get_context("spawn")'
            )
        if threading.get_ident() != self._owner:
            raise EngineError(
                "an engine draws only in the thread that opened it; open one engine in each thread"
            )
        return self._painter
