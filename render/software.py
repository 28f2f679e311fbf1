"""SoftwareEngine: the engine that needs no OpenGL, from our own rasterizer and shading kernel."""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from render.engine import EngineError, Frame, check_size
from render.layout import Arranger
from scenes.scene import Scene
from scenes.world import World

_POINTS = 1 << 21  # samples drawn at once: about 60 MB of buffers


class SoftwareEngine:
    """Draws what the OpenGL engine draws, on the CPU or a CUDA device, with Warp's kernels alone.

    Perspective with full intrinsics, textures with box-averaged mipmaps, one directional light with Lambert
    and Blinn-Phong, ambient, a shadow map, supersampling. The same scene gives the same bits on any number
    of threads.
    """

    name = "software"

    def __init__(
        self,
        world: World,
        *,
        size: tuple[int, int] = (128, 128),
        samples: int = 2,
        shadows: bool = True,
        shadow_size: int = 256,  # as the OpenGL engine: the same shadows
        device: torch.device | str = "cpu",
    ) -> None:
        """Open the engine.

        Args:
            world: Whose assets the scenes index.
            size: (H, W) of the pictures [px].
            samples: Supersampling per axis, 1 to 4.
            shadows: False lets the light reach everything, which is quicker.
            shadow_size: Width of the shadow map [texel].
            device: Where to draw. Pictures are returned on the CPU.

        Raises:
            ValueError: If an argument is out of range.
            EngineError: If the kernels cannot be compiled here.
        """
        if samples not in (1, 2, 3, 4):
            raise ValueError(f"samples must be 1, 2, 3 or 4, got {samples}")
        if not 16 <= shadow_size <= 8192:
            raise ValueError(f"shadow_size must lie in 16..8192, got {shadow_size}")
        check_size(size)
        # Warp and the kernels take a second to import: not before an engine is wanted.
        from render.compilation import KernelError

        try:
            from render import raster, shading
        except KernelError as e:
            raise EngineError(str(e)) from e

        self.world, self.size = world, size
        self._samples, self._shadows, self._shadow_size = samples, shadows, shadow_size
        self._device = torch.device(device)
        self._raster, self._shading, self._failure = raster, shading, KernelError
        self._arranger = Arranger(world, shadow_size)
        self._open = True

    def render(self, scene: Scene, *, size: tuple[int, int] | None = None) -> Frame:
        """Pictures of a batch of scenes, with ids and depth; see `render.engine.Engine.render`."""
        if not self._open:
            raise EngineError("the engine is closed; open another one")
        size = self.size if size is None else size
        check_size(size)
        shadow = self._arranger.arrange(scene).scenes[:, 11:]  # also refuses what cannot be drawn
        scene = scene.detach().to(self._device).unit()
        at_once = max(1, _POINTS // (size[0] * size[1] * self._samples**2 + self._shadow_size**2))
        frames = []
        for start in range(0, len(scene), at_once):
            some = slice(start, start + at_once)
            rows = torch.from_numpy(shadow[some]).to(self._device)
            try:
                frames.append(self._draw(scene[some], rows, size))
            except self._failure as e:
                raise EngineError(str(e)) from e
        if not frames:
            return Frame(
                torch.empty(0, *size, 3), torch.empty(0, *size, dtype=torch.int32), torch.empty(0, *size)
            )
        return Frame(*(torch.cat(parts).cpu() for parts in zip(*frames, strict=True)))

    def close(self) -> None:
        """Give back what the engine holds; a second call does nothing."""
        self._open = False

    def __enter__(self) -> "SoftwareEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _draw(self, scene: Scene, shadow: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        from render.geometry import assemble

        fine = (size[0] * self._samples, size[1] * self._samples)
        geometry = assemble(self.world, scene, fine)
        points = self._raster.rasterize(geometry.vertices, geometry.triangles, image_size=fine)
        rgb = self._shading.draw(
            geometry,
            points,
            scene,
            self.world,
            samples=self._samples,
            shadow=self._shadow(geometry, shadow) if self._shadows else None,
        )
        # Ids and depth are those of pixel centres, between the samples where their number is even.
        if self._samples % 2:
            middle = slice(self._samples // 2, None, self._samples)
            face, inverse_depth = points.face[:, middle, middle], points.inverse_depth[:, middle, middle]
        else:
            coarse = geometry.vertices * geometry.vertices.new_tensor(
                [1 / self._samples, 1 / self._samples, 1.0]
            )
            centres = self._raster.rasterize(coarse, geometry.triangles, image_size=size)
            face, inverse_depth = centres.face, centres.inverse_depth
        nothing = face < 0
        nobody = geometry.triangles.instance.new_tensor(
            [-1]
        )  # what face -1 shows, also where there are no faces at all
        instance = torch.cat([geometry.triangles.instance, nobody])[face.long()]
        depth = torch.where(nothing, torch.inf, 1.0 / inverse_depth.clamp_min(1e-30))
        return rgb, instance, depth

    def _shadow(self, geometry: Any, shadow: Tensor) -> Any:
        """The light's orthographic view; texel width and shadow_from_world as in `Layout.scenes`."""
        texel, rows = shadow[:, 0], shadow[:, 1:].reshape(-1, 3, 4)
        scale = rows.new_tensor([self._shadow_size, self._shadow_size, -1.0])
        # Depth in [0, 1] becomes closeness in [1, 2]: positive, growing towards the light.
        rows = rows * scale[:, None] + rows.new_tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2.0]])
        image = geometry.image_of_vertex
        turn = rows.index_select(0, image)
        seen = (turn[..., :3] * geometry.positions[:, None, :]).sum(-1) + turn[..., 3]
        closeness = self._raster.nearest(
            seen.float(), geometry.triangles, image_size=(self._shadow_size, self._shadow_size)
        )
        return self._shading.Shadow(closeness, rows, texel)
