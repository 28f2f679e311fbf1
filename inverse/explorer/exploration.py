"""Exploration: a scene that is moved about, and which way each strategy would go from where it is."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.compare.agreement import loss_gradient, pixel_steps
from inverse.compare.methods import Method, methods
from inverse.compare.problems import Off, Problems, start_near
from inverse.losses import resize
from inverse.refine import Descent, RefineSettings
from render.engine import open_engine
from scenes.scene import Scene
from scenes.world import World

OFF = Off(turn_degrees=25.0, shift=0.04, others=0.1)  # of a start beside a random target


@dataclass(frozen=True, eq=False)
class Asked:
    """What a strategy answered.

    Attributes:
        gradient: Of the loss, to theta, [P].
        milliseconds: How long it took.
    """

    gradient: Float[Tensor, "parameter"]
    milliseconds: float

    @property
    def finite(self) -> bool:
        """Whether all entries are finite."""
        return bool(self.gradient.isfinite().all())


class Exploration:
    """One scene of a world, the picture it ought to give, and the strategies' gradients in between.

    The loss is the squared difference of both pictures, blurred by `blur`, as in refinement.

    Args:
        world: Says what is free.
        target: The picture to explain, sRGB-encoded [H, W, 3], or None: that of a random scene.
        scene: Where to begin (B = 1); None: near the random scene.
        engine: Whose pictures are compared.
        height: Of the pictures [px].
        blur: Standard deviation of the loss's blur [px].
        seed: Of the random scene.

    Raises:
        ValueError: If a target comes without a scene, or the scene does not hold one.
        EngineError: If the engine cannot be opened.
    """

    def __init__(
        self,
        world: World,
        target: Float[Tensor, "row column 3"] | None = None,
        scene: Scene | None = None,
        *,
        engine: str = "auto",
        height: int = 128,
        blur: float = 2.0,
        seed: int = 0,
    ) -> None:
        if target is not None and scene is None:
            raise ValueError(
                "a picture alone does not say which objects are there: give a scene to begin with, "
                "for example inverse.recover(picture, world).scene"
            )
        if scene is not None and len(scene) != 1:
            raise ValueError(f"the scene to begin with must be one, got {len(scene)}")
        camera = world.camera
        self.world, self.blur = world, blur
        self.size = (height, max(1, round(height * camera.width / camera.height)))
        self.engine = open_engine(engine, world, size=self.size)
        self.truth: Scene | None = None
        if target is None:
            generator = torch.Generator().manual_seed(seed)
            self.truth = world.sample(1, generator=generator)
            if scene is None:
                scene = start_near(world, self.truth, OFF, generator)
            target = self.engine.render(self.truth).rgb[0]
        assert scene is not None
        self.target = resize(target[None], self.size)[0]
        self.like = scene.detach()
        self.start = world.pack(self.like)[0]
        self.theta = self.start.clone()
        self._modules: dict[str, torch.nn.Module] = {}

    @cached_property
    def methods(self) -> dict[str, Method]:
        """Those of `unrender compare` that give gradients, by name."""
        return {method.name: method for method in methods() if method.make}

    @property
    def scene(self) -> Scene:
        """The scene as it is now."""
        return self.world.unpack(self.theta[None], like=self.like)

    @property
    def active(self) -> list[int]:
        """The entries of theta that matter."""
        return self.world.active(self.like)[0].nonzero()[:, 0].tolist()

    @property
    def steps(self) -> Float[Tensor, "parameter"]:
        """For each entry of theta a step that moves outlines by a pixel, or changes colours a little."""
        return pixel_steps(self.engine, self._problem)[0]

    def picture(self) -> Float[Tensor, "row column 3"]:
        """What the engine draws of the scene now."""
        return self.engine.render(self.scene).rgb[0]

    def loss(self, picture: Float[Tensor, "row column 3"]) -> float:
        """Mean squared difference between a picture and the target, both blurred."""
        from render.blur import blurred_squared_error

        return float(blurred_squared_error(picture[None], self.target[None], self.blur).mean())

    def ask(self, name: str) -> Asked:
        """The gradient of the loss, as the strategy gives it."""
        module, began = self._module(name), time.perf_counter()
        gradient = loss_gradient(module, self._problem, self.blur)[0]
        gradient = torch.where(self.world.active(self.like)[0], gradient, 0.0)
        return Asked(gradient, 1000.0 * (time.perf_counter() - began))

    def descent(self, name: str) -> Descent:
        """Refinement down a strategy's gradient from where the scene is now, with the blur as it is."""
        longer = max(self.size)
        settings = RefineSettings(coarse=self.blur / longer, fine=self.blur / longer, stride=1.0 / longer)
        return Descent(
            self._module(name), self.world, self.scene.detach(), self.steps[None] * longer, settings
        )

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    @property
    def _problem(self) -> Problems:
        scene = self.scene.detach()
        return Problems(self.world, self.truth or scene, scene, self.target[None])

    def _module(self, name: str) -> torch.nn.Module:
        if name not in self._modules:
            make: Any = self.methods[name].make
            self._modules[name] = make(self.engine)
        return self._modules[name]
