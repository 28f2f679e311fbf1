"""MitsubaEngine: our scenes, drawn by the path tracer Mitsuba 3."""

import math
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.engine import EngineError, Frame, check_size
from render.layout import Arranger
from render.mitsuba.content import scene_of, sensor_of, world_from_sensor
from render.mitsuba.surfaces import Surfaces
from render.mitsuba.variant import load, variant
from render.pinhole import skewed_pixels, zoomed
from scenes.scene import Camera, Scene
from scenes.world import World

_BLOCK = 16  # [px] Mitsuba's own choice, and with it the noise, would depend on the number of cores


class MitsubaEngine:
    """Path tracing: soft shadows, light from other surfaces, and corners that the sky does not reach.

    A surface that nothing shades, and nothing but the light lights, has the colour of the other engines:
    albedo * (ambient + intensity * max(0, n . direction)). The light is a distant disk, ambient light a sky
    on all sides. Neither is seen: where nothing is, the background is. A highlight is that of a rough mirror,
    as strong as the asset's where light, eye and normal are in line; elsewhere it is not quite Blinn-Phong's.

    The same scene and settings give the same picture. The noise is part of it, and much the same in the next
    scene, so that differences of pictures have less of it.

    Mitsuba's variant is global to the process. While it draws, the engine sets "scalar_rgb", and then puts
    back what was set before; no other thread must use Mitsuba meanwhile. Pixels must be square.
    """

    name = "mitsuba"
    _surfaces: Surfaces | None = None

    def __init__(
        self,
        world: World,
        *,
        size: tuple[int, int] = (128, 128),
        samples: int = 16,
        bounces: int = 2,
        light_angle_degrees: float = 4.0,
        seed: int = 0,
    ) -> None:
        """Open the engine.

        Args:
            world: Whose assets the scenes index.
            size: (H, W) of the pictures [px].
            samples: Paths per pixel, at least 1; Mitsuba rounds some numbers up. Noise falls a little
                quicker than with the square root of their number.
            bounces: How often light is scattered on its way to the eye, at least 1; with 1, surfaces do not
                light each other.
            light_angle_degrees: Width of the light's disk as surfaces see it, 0 to 90. The sun's is 0.5; with
                0 shadows are sharp.
            seed: Of the noise, at least 0.

        Raises:
            ValueError: If an argument is out of range.
            EngineError: If the package is missing, or an asset cannot be given to Mitsuba.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        if bounces < 1:
            raise ValueError(f"bounces must be at least 1, got {bounces}")
        if not 0.0 <= light_angle_degrees <= 90.0:
            raise ValueError(f"light_angle_degrees must lie in 0..90, got {light_angle_degrees}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        check_size(size)
        self.world, self.size = world, size
        self._seed = seed
        self._light_angle = math.radians(light_angle_degrees)
        self._arranger = Arranger(world, shadow_size=16)
        with variant():
            self._path, self._look = _integrators(bounces)
            self._samples = _sample_count(samples)
            self._surfaces = Surfaces(world)

    def render(self, scene: Scene, *, size: tuple[int, int] | None = None) -> Frame:
        """Pictures of a batch of scenes, with ids and depth; see `render.engine.Engine.render`.

        Raises:
            ValueError: If a scene is not drawable, or the camera's pixels are not square at this size.
            EngineError: If the engine is closed.
        """
        if self._surfaces is None:
            raise EngineError("the engine is closed; open another one")
        size = self.size if size is None else size
        check_size(size)
        scene = scene.detach().to("cpu")
        layout = self._arranger.arrange(scene)
        camera = zoomed(scene.camera, size)
        if problem := skewed_pixels(camera):
            raise ValueError(f"mitsuba draws square pixels only: {problem}")
        rgb, instance = torch.empty(len(scene), *size, 3), torch.empty(len(scene), *size, dtype=torch.int32)
        depth = torch.empty(len(scene), *size)
        with variant():
            for k in range(len(scene)):
                content, owner = scene_of(layout.part(slice(k, k + 1)), self._surfaces, self._light_angle)
                rgb[k] = self._picture(content, camera, k, scene.background[k])
                instance[k], depth[k] = self._seen(content, camera, k, owner)
        return Frame(rgb, instance, depth)

    def close(self) -> None:
        """Give back what the engine holds; a second call does nothing."""
        self._surfaces = None

    def __enter__(self) -> "MitsubaEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _picture(
        self, content: Any, camera: Camera, which: int, background: Float[Tensor, "3"]
    ) -> Float[Tensor, "row column 3"]:
        from render.shading import encode_srgb

        sampler = {"type": "multijitter", "sample_count": self._samples}
        sensor = sensor_of(camera, which, sampler)
        drawn = self._path.render(content, sensor, seed=self._seed, spp=self._samples)
        linear = torch.from_numpy(np.array(drawn))  # colours are multiplied by alpha
        colour = linear[..., :3] + (1.0 - linear[..., 3:]) * background.clamp(0.0, 1.0)
        return encode_srgb(colour.clamp(0.0, 1.0))

    def _seen(
        self, content: Any, camera: Camera, which: int, owner: list[int]
    ) -> tuple[Int[Tensor, "row column"], Float[Tensor, "row column"]]:
        """Ids and depth of what the pixels' centres see: one sample each, without jitter."""
        sampler = {"type": "stratified", "sample_count": 1, "jitter": False}
        sensor = sensor_of(camera, which, sampler)
        values = torch.from_numpy(np.array(self._look.render(content, sensor, seed=0, spp=1)))
        shape = values[..., 3].long()  # counts from 1; 0: nothing
        instance = torch.tensor([-1, *owner], dtype=torch.int32)[shape]
        pose = world_from_sensor(camera, which)
        depth = (values[..., :3].double() - pose[:3, 3]) @ pose[:3, 2]
        return instance, torch.where(instance < 0, torch.inf, depth)


def _integrators(bounces: int) -> tuple[Any, Any]:
    """Those of the picture, and of what the pixels' centres see."""
    path = {"type": "path", "max_depth": bounces + 1, "hide_emitters": True, "block_size": _BLOCK}
    look = {"type": "aov", "aovs": "at:position,shape:shape_index"}
    return load(path), load(look)


def _sample_count(samples: int) -> int:
    """As many samples, or a few more, of which Mitsuba can make an even grid."""
    return int(load({"type": "multijitter", "sample_count": samples}).sample_count())
