"""A small network fitted to a black box around one point, for its slope there; nothing is trained before."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from render.blackbox import BlackBox, Observation, Simulator, answered, asked
from render.engine import Engine
from scenes.scene import Scene

AT_ONCE = 64  # answers held in memory together
HIDDEN = 32  # of the network
STEPS = 50  # of its fit
RATE = 0.05  # of its fit
DECAY = 1.0  # of its weights, in units of the rate: curvature has to earn its place
SPREAD = 0.3  # of its first weights


class LocalSurrogate(torch.nn.Module):
    """A source's answers; backward, the slope of a network that is fitted around them anew.

    What comes back in the backward pass is a cotangent g, and <g, f(theta)> is a number: the loss, but for
    terms of second order. The source is asked around theta, a small network is fitted to these numbers, and
    its slope at theta is the gradient. No pretraining.

    This is ZeroGrads (Fischer and Ritschel 2024) with the loss taken through its cotangent, so that a module
    is called like every other strategy's, in front of any loss. It differs in two ways: the network does not
    outlive a step (it would remember another cotangent's loss), for which a linear path from input to output
    learns the slope in a few steps; and their inner blur, a tenth of the width, is left to the fit.

    Args:
        source: An engine or a simulator.
        samples: Questions asked for each gradient, for each of B subjects; even, and better more than theta
            has active entries.
        width: Standard deviation of the questions around theta, in shares of each entry's range. Wider sees
            further over flat stretches and blurs what is finer.
        narrow: Factor on the width at progress 1; it falls geometrically from 1 at progress 0.
        seed: Of questions and networks.

    Attributes:
        progress: 0 at the beginning of a descent, 1 at its end; set it: the width narrows with it.

    Raises:
        ValueError: If samples are not even or below 2, the width is not positive and finite, or narrow is not
            in (0, 1].

    Reference: M. Fischer and T. Ritschel, ZeroGrads: Learning Local Surrogate Losses for Non-Differentiable
    Graphics, ACM Transactions on Graphics 43(4), 2024.
    """

    def __init__(
        self,
        source: Engine | Simulator,
        *,
        samples: int = 64,
        width: float = 0.03,
        narrow: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if samples < 2 or samples % 2:
            raise ValueError(f"samples must be even and at least 2, got {samples}")
        if not 0.0 < width < math.inf:
            raise ValueError(f"width must be positive and finite, got {width}")
        if not 0.0 < narrow <= 1.0:
            raise ValueError(f"narrow must lie in (0, 1], got {narrow}")
        self.source = source
        self.samples = samples
        self.width = width
        self.narrow = narrow
        self.progress = 0.0
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def questions(self) -> int:
        """How many a backward pass asks, for each subject."""
        return self.samples

    def forward(
        self, subject: Scene | Tensor, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch *observation"]:
        """The source's own answers to B scenes or vectors; see `SurrogateGradients.forward`.

        Raises:
            ValueError, EngineError: As the source does; a ValueError too if a part of a scene requires a
                gradient that is not free in its world.
        """
        return answered(*asked(self.source, subject, size), self._pull_back)

    def _pull_back(
        self, box: BlackBox, theta: Tensor, base: Observation, cotangent: Tensor
    ) -> Float[Tensor, "batch parameter"]:
        """The gradient of <cotangent, f(theta)> that the local network has."""
        width = self.width * self.narrow**self.progress * (box.high - box.low).to(theta)
        offset = torch.randn(len(theta), self.samples // 2, theta.shape[1], generator=self._generator)
        offset = torch.cat([offset, -offset], dim=1) * box.active[:, None]  # pairs: what is even cancels
        questions = theta[:, None] + offset.to(theta) * width
        changes = []
        for part in questions.split(max(1, AT_ONCE // len(theta)), dim=1):
            change = (box.observe(part).value - base.value).double()
            changes.append((change * cotangent[:, None]).flatten(2).sum(2))
        slope = fitted_slope(offset, torch.cat(changes, dim=1), generator=self._generator)
        return slope.to(theta) / width * box.active


def fitted_slope(
    offset: Float[Tensor, "batch question parameter"],
    value: Float[Tensor, "batch question"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch parameter"]:
    """Slopes at the origin of B small networks, each fitted to N values at offsets of about unit size.

    Each is a linear map beside one hidden layer. All are fitted side by side, to standardised values, by
    AdamW (Loshchilov and Hutter 2019) with a rate that falls to 0.

    Args:
        offset: Where the values are.
        value: The values; any scale.
        generator: Of the first weights.
    """
    batch, _, count = offset.shape
    deviation = value.std(1, keepdim=True, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    wanted = ((value - value.mean(1, keepdim=True)) / scale)[..., None].float()
    weights = [
        torch.randn(batch, inputs, outputs, generator=generator) * SPREAD / inputs**0.5
        for inputs, outputs in ((count, HIDDEN), (HIDDEN, 1))
    ]
    weights += [torch.zeros(batch, 1, HIDDEN), torch.zeros(batch, 1, 1), torch.zeros(batch, count, 1)]
    with torch.enable_grad():
        weights = [w.requires_grad_() for w in weights]
        optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY)
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = RATE * (1.0 - step / STEPS)
            error = (_network(offset, *weights) - wanted).square().mean((1, 2)).sum()
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        origin = torch.zeros(batch, 1, count, requires_grad=True)
        (slope,) = torch.autograd.grad(_network(origin, *weights).sum(), origin)
    return slope[:, 0] * deviation


def _network(
    offset: Tensor, into: Tensor, out: Tensor, bias: Tensor, shift: Tensor, linear: Tensor
) -> Float[Tensor, "batch question 1"]:
    hidden = torch.baddbmm(bias, offset, into).tanh()
    return torch.baddbmm(shift, hidden, out) + torch.bmm(offset, linear)
