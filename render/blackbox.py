"""Black boxes: parameters in, an observation out, and nothing known of what lies between.

Strategies that only ask and compare (score functions, surrogates) are written once, against `BlackBox`. A
scene's engine is one (`SceneBox`); a plain function of a vector, a `Simulator`, is another (`SimulatorBox`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from render.engine import Engine
from scenes.scene import Scene

_LEAST = 0.1  # of the lower end of what must be positive
_USUAL = 0.05  # `width` of what nothing more is known of
_WIDTHS = {"position": 0.025, "rotation": 0.03, "scale": 0.2, "colour": 0.1, "camera": 0.01}


@dataclass(frozen=True, eq=False)
class Observation:
    """What a black box answered to N questions about each of B things.

    Attributes:
        value: Pictures [B, N, H, W, 3], or whatever the simulator returns, [B, N, ...]; without gradients.
        owner: The slot that the centre of each pixel sees, [B, N, H, W] as `Frame.instance_id`; None where
            that is not known.
    """

    value: Float[Tensor, "batch question *observation"]
    owner: Int[Tensor, "batch question row column"] | None = None


class BlackBox(Protocol):
    """Something that answers questions theta about each of B things.

    Attributes:
        low, high: Range of each entry of theta, [P].
        width: Share of its range by which each entry changes the answer clearly, yet not beyond recognition;
            where searches may begin, [P].
        ends: True where the range has ends to keep within; other entries are angles that may go round, [P].
        slot_of: The slot each entry belongs to, -1 for what belongs to all, [P].
        active: True where an entry has an effect, [B, P].
    """

    low: Float[Tensor, "parameter"]
    high: Float[Tensor, "parameter"]
    width: Float[Tensor, "parameter"]
    ends: Bool[Tensor, "parameter"]
    slot_of: Int[Tensor, "parameter"]
    active: Bool[Tensor, "batch parameter"]

    def unperturbed(self) -> Observation:
        """The answers about the B things as they are: one question each, N = 1."""
        ...

    def observe(self, theta: Float[Tensor, "batch question parameter"]) -> Observation:
        """The answers to N questions about each of B things; theta may lie outside its range."""
        ...


PullBack = Callable[[BlackBox, Tensor, Observation, Tensor], Tensor]


class SceneBox:
    """An engine's pictures as a function of a world's theta, around B scenes.

    Args:
        engine: Draws the pictures.
        scenes: B scenes, which give the assets and everything that the world keeps fixed.
        size: (H, W) of the pictures [px]; None: the engine's.
    """

    def __init__(self, engine: Engine, scenes: Scene, size: tuple[int, int] | None = None) -> None:
        world = engine.world
        self.engine = engine
        self.scenes = scenes.detach().to("cpu")
        self.size = size
        self.low, self.high = world.low, world.high
        self.width = torch.tensor([_WIDTHS.get(group, _USUAL) for group in world.groups])
        self.ends = world.ends
        self.slot_of = torch.tensor(world.slot_of)
        self.active = world.active(self.scenes)
        positive = [name == "camera.focal" or name.endswith(".scale") for name in world.names]
        self._least = torch.where(torch.tensor(positive), _LEAST * world.low, -torch.inf)

    def unperturbed(self) -> Observation:
        """The engine's pictures of the scenes, bit for bit; packing and unpacking would round."""
        return self._draw(self.scenes, 1)

    def observe(self, theta: Float[Tensor, "batch question parameter"]) -> Observation:
        """Pictures [B, N, H, W, 3] and, where the engine has them, what each pixel sees.

        Engines refuse sizes and focal lengths that are not positive: below a tenth of the range's lower end
        they are drawn as that.
        """
        batch, count = theta.shape[:2]
        which = torch.arange(batch).repeat_interleave(count)
        theta = torch.maximum(theta.detach().flatten(0, 1), self._least)
        return self._draw(self.engine.world.unpack(theta, like=self.scenes[which]), count)

    def _draw(self, scenes: Scene, count: int) -> Observation:
        frame = self.engine.render(scenes, size=self.size)
        owner = None if frame.instance_id is None else frame.instance_id.unflatten(0, (-1, count))
        return Observation(frame.rgb.unflatten(0, (-1, count)), owner)


class Simulator:
    """A plain function of a vector, with what is known of the vector.

    Args:
        function: theta [P] float64 in, an array of any shape out, always the same one; numpy both.
        low, high: Range of each entry, [P], low < high. Steps and searches are scaled to it; the function may
            be asked a little outside.
        names: What each entry is; "theta0", "theta1", ... when left out.

    Raises:
        ValueError: If the ranges are not finite or empty, or lengths differ.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
        *,
        names: Sequence[str] | None = None,
    ) -> None:
        self.function = function
        self.low = torch.as_tensor(np.asarray(low, dtype=np.float64))
        self.high = torch.as_tensor(np.asarray(high, dtype=np.float64))
        if self.low.ndim != 1 or self.low.shape != self.high.shape:
            raise ValueError(
                f"low and high must be [P] each, got {list(self.low.shape)}, {list(self.high.shape)}"
            )
        # Not "low >= high": a NaN must not pass
        if not bool((self.low < self.high).all() and (self.high - self.low).isfinite().all()):
            raise ValueError("low must be below high in every entry, and both finite")
        self.names = [f"theta{i}" for i in range(len(self.low))] if names is None else list(names)
        if len(self.names) != len(self.low):
            raise ValueError(f"there must be {len(self.low)} names, got {len(self.names)}")

    def __call__(self, theta: Float[Tensor, "question parameter"]) -> Float[Tensor, "question *observation"]:
        """The function's answers to N questions, one after the other, of theta's type; no gradient flows.

        Raises:
            ValueError: If theta is not [N, P], or the function's answers differ in shape.
        """
        if theta.ndim != 2 or theta.shape[1] != len(self.low):
            raise ValueError(f"theta must have shape [N, {len(self.low)}], got {list(theta.shape)}")
        questions = theta.detach().cpu().double().numpy()
        answers = [np.asarray(self.function(question), dtype=np.float64) for question in questions]
        shapes = {answer.shape for answer in answers}
        if len(shapes) > 1:
            raise ValueError(f"the function must always return one shape, got {sorted(shapes)}")
        return torch.from_numpy(np.stack(answers)).to(theta)


class SimulatorBox:
    """A simulator that is asked about B vectors theta, [B, P], and others near them."""

    def __init__(self, simulator: Simulator, theta: Float[Tensor, "batch parameter"]) -> None:
        self.simulator = simulator
        self.theta = theta.detach().cpu()
        self.low, self.high = simulator.low, simulator.high
        self.width = torch.full_like(simulator.low, _USUAL)
        self.ends = torch.ones_like(simulator.low, dtype=torch.bool)
        self.slot_of = torch.full_like(simulator.low, -1, dtype=torch.long)
        self.active = torch.ones(theta.shape, dtype=torch.bool)

    def unperturbed(self) -> Observation:
        """The function's answers about the vectors themselves, [B, 1, ...]."""
        return self.observe(self.theta[:, None])

    def observe(self, theta: Float[Tensor, "batch question parameter"]) -> Observation:
        """The function's answers, [B, N, ...]."""
        return Observation(self.simulator(theta.flatten(0, 1)).unflatten(0, theta.shape[:2]))


def asked(
    source: Engine | Simulator, subject: Scene | Tensor, size: tuple[int, int] | None = None
) -> tuple[Float[Tensor, "batch parameter"], BlackBox]:
    """What a strategy asks about: theta, with gradients to `subject`, and the black box around it.

    Args:
        source: An engine, or a simulator.
        subject: B scenes for an engine, [B, P] vectors for a simulator.
        size: (H, W) of an engine's pictures [px]; None: the engine's.

    Raises:
        ValueError: If a part of a scene requires a gradient of which the world has nothing free, since asking
            cannot give it one; or if the subject does not suit the source.
    """
    if isinstance(source, Simulator):
        if not isinstance(subject, Tensor) or size is not None:
            raise ValueError("a simulator is asked about vectors [B, P], without a size")
        return subject, SimulatorBox(source, subject)
    if not isinstance(subject, Scene):
        raise ValueError(f"an engine is asked about a Scene, got {type(subject).__name__}")
    _all_free(source, subject)
    return source.world.pack(subject), SceneBox(source, subject, size)


def answered(
    theta: Float[Tensor, "batch parameter"], box: BlackBox, pull_back: PullBack
) -> Float[Tensor, "batch *observation"]:
    """The unperturbed answer, with a gradient to theta that is made when it is asked for.

    Args:
        theta: As `asked` gives it.
        box: Answers.
        pull_back: Makes theta's gradient [B, P] of box, theta, the unperturbed observation and the cotangent
            of its value [B, ...].
    """
    answer: Tensor = _Answer.apply(theta.cpu(), box, pull_back)
    return answer.to(theta.device)


class _Answer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, theta: Tensor, box: BlackBox, pull_back: PullBack) -> Tensor:
        base = box.unperturbed()
        ctx.save_for_backward(theta)
        ctx.box, ctx.base, ctx.pull_back = box, base, pull_back
        return base.value[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        (theta,) = ctx.saved_tensors
        return (
            ctx.pull_back(ctx.box, theta, ctx.base, cotangent),
            None,  # box
            None,  # pull_back
        )


def _all_free(engine: Engine, scene: Scene) -> None:
    camera, light, free = scene.camera, scene.light, set(engine.world.groups)
    parts = {
        "position": (scene.translation,),
        "rotation": (scene.rotation,),
        "scale": (scene.scale,),
        "colour": (scene.colour,),
        "camera": (camera.rotation, camera.translation, camera.focal, camera.centre),
        "light": (light.direction, light.intensity, light.ambient),
        "background": (scene.background,),
    }
    for group, tensors in parts.items():
        if group not in free and any(t.requires_grad for t in tensors):
            raise ValueError(
                f"the {group} requires a gradient, but the world {engine.world.name} keeps it fixed: "
                "strategies that perturb theta reach what is free only; give it a range in the world"
            )
