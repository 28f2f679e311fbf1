"""A trained network's gradients, behind the answers of what it imitates or behind its own."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from render.blackbox import Simulator, asked
from render.engine import Engine
from render.surrogate.function import FunctionSurrogate
from scenes.scene import Scene


class SurrogateGradients(torch.nn.Module):
    """An engine's or a simulator's answers with the gradients of a network that imitates it.

    The network is copied and frozen: nothing that is trained through this module moves its weights or its
    buffers, and training the original goes on without touching the copy.

    Args:
        source: What the network imitates.
        surrogate: For an engine: `surrogate(scene, size)` draws pictures [B, H, W, 3], sRGB-encoded, with
            gradients to the scene. For a simulator: `surrogate(theta)` answers [B, ...] to theta [B, P], as a
            `FunctionSurrogate` does.
        picture: "engine": the source's own answer forward, the network's gradient backward (straight-through,
            Bengio et al. 2013): the network's errors bend the way to the answer, not the answer's judgement.
            "operator": the network's answer and its gradient; the source is not asked.

    Raises:
        ValueError: If there is no surrogate, or it was fitted to another simulator.
    """

    def __init__(
        self, source: Engine | Simulator, surrogate: torch.nn.Module | None, *, picture: str = "engine"
    ) -> None:
        super().__init__()
        if surrogate is None:
            raise ValueError(_without(source))
        if isinstance(surrogate, FunctionSurrogate):
            surrogate.check(source)
        self.source = source
        self.surrogate = copy.deepcopy(surrogate).requires_grad_(False)
        self.picture = picture
        self.train(False)

    def train(self, mode: bool = True) -> "SurrogateGradients":
        """As every module's; the network stays as it is used, in `eval`, whatever the mode."""
        super().train(mode)
        self.surrogate.eval()
        return self

    def forward(
        self, subject: Scene | Tensor, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch *observation"]:
        """The answers to B scenes or vectors.

        Args:
            subject: B scenes for an engine, theta [B, P] for a simulator.
            size: (H, W) of the pictures [px]; None: the engine's.

        Returns:
            Pictures [B, H, W, 3], or a simulator's answers [B, ...], with gradients to the subject.

        Raises:
            ValueError, EngineError: As the source does; a ValueError too if the surrogate's answer has
                another shape than the source's.
        """
        if self.picture == "operator":
            return self._imitated(subject, size)
        theta, box = asked(self.source, subject.detach(), size)
        answer = box.unperturbed().value[:, 0].to(theta.device)
        if not torch.is_grad_enabled():
            return answer
        imitated = self._imitated(subject, size)
        if imitated.shape != answer.shape:
            raise ValueError(
                f"the surrogate must answer as its source does, {list(answer.shape)}, "
                f"got {list(imitated.shape)}"
            )
        imitated = imitated.to(answer.dtype)
        return answer + (imitated - imitated.detach())  # the network's slopes, the source's values

    def _imitated(self, subject: Scene | Tensor, size: tuple[int, int] | None) -> Tensor:
        if isinstance(self.source, Simulator):
            return self.surrogate(subject)
        size = self.source.size if size is None else size
        picture: Tensor = self.surrogate(subject, size)
        wanted = (len(subject), *size, 3)
        if picture.shape != wanted:
            raise ValueError(f"the surrogate must draw pictures {list(wanted)}, got {list(picture.shape)}")
        return picture


def _without(source: Engine | Simulator) -> str:
    if isinstance(source, Simulator):
        return (
            "the strategy 'surrogate' needs a network that imitates the simulator: "
            "fit one with render.surrogate.fit_surrogate(simulator)"
        )
    return (
        "the strategy 'surrogate' needs a network that imitates the engine, and the world "
        f"{source.world.name} has none: train one with `unrender train surrogate WORLD` and pass its file as "
        "weights=, or a module (scene, size) -> pictures of your own as surrogate=; kind='local' needs none"
    )
