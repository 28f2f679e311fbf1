"""A network that imitates a simulator over its whole range, fitted to the simulator's own answers."""

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from render.blackbox import Simulator
from scenes.files import atomic

WIDTH = 128  # of the hidden layers
BATCH = 256  # questions per step
CHECKS = 50  # times that the held-out error is looked at


class FunctionSurrogate(torch.nn.Module):
    """A perceptron from theta [B, P] to a simulator's answer [B, ...], differentiable.

    float32 inside; the answer is of theta's type. Made by `fit_surrogate`; its gradient is worth what `r2`
    says, and nothing outside the simulator's ranges.

    Attributes:
        r2: Share of the observation's variance that it explains, of questions it was neither fitted nor
            chosen on; 1 is perfect.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, names: list[str], low: Tensor, high: Tensor, observation: tuple[int, ...]) -> None:
        super().__init__()
        self.names = list(names)
        self.r2 = math.nan
        self.register_buffer("low", low.double())
        self.register_buffer("high", high.double())
        self.register_buffer("mean", torch.zeros(observation))
        self.register_buffer("deviation", torch.ones(observation))
        widths = (len(low), WIDTH, WIDTH, WIDTH)
        layers: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.SiLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, math.prod(observation)))

    def forward(self, theta: Float[Tensor, "batch parameter"]) -> Float[Tensor, "batch *observation"]:
        """The imitated answers, of theta's type.

        Raises:
            ValueError: If theta is not [B, P].
        """
        if theta.ndim != 2 or theta.shape[1] != len(self.names):
            raise ValueError(f"theta must have shape [B, {len(self.names)}], got {list(theta.shape)}")
        return (self.standardised(theta) * self.deviation + self.mean).to(theta.dtype)

    def standardised(self, theta: Float[Tensor, "batch parameter"]) -> Float[Tensor, "batch *observation"]:
        """The answers with mean 0 and deviation 1 over the range, float32."""
        inputs = 2.0 * (theta - self.low) / (self.high - self.low) - 1.0
        return self.layers(inputs.float()).view(len(theta), *self.mean.shape)

    def check(self, source: object) -> None:
        """Refuse a source that this surrogate was not fitted to.

        Raises:
            ValueError: If the source is no simulator, or its names or ranges are others.
        """
        if not isinstance(source, Simulator):
            raise ValueError(f"this surrogate imitates a simulator of {self.names}, not an engine")
        if source.names != self.names:
            raise ValueError(f"the surrogate was fitted to {self.names}, the simulator has {source.names}")
        mine, theirs = (torch.stack(ends) for ends in ((self.low, self.high), (source.low, source.high)))
        if not torch.equal(mine.cpu(), theirs):
            raise ValueError(
                f"the surrogate was fitted for ranges {mine.T.tolist()}, the simulator has "
                f"{theirs.T.tolist()}: fit it again"
            )

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors; the file appears whole or not at all.

        Raises:
            OutputError: If the file cannot be written.
        """
        from safetensors.torch import save

        about = {"format": "unrender-function/1", "names": json.dumps(self.names), "r2": repr(self.r2)}
        with atomic(Path(path)) as temporary:
            # not by `save_file`, whose errors are no OSErrors
            temporary.write_bytes(save(self.state_dict(), about))

    @staticmethod
    def load(path: str | Path, simulator: Simulator) -> "FunctionSurrogate":
        """Read what `save` wrote.

        Raises:
            ValueError: If the file holds no such network, or one that was fitted to another simulator.
            FileNotFoundError: If there is no such file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(Path(path), framework="pt") as file:
                about = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        if about.get("format") != "unrender-function/1":
            raise ValueError(f"{path} holds no surrogate of a simulator")
        surrogate = FunctionSurrogate(
            json.loads(about["names"]), state["low"], state["high"], tuple(state["mean"].shape)
        )
        surrogate.load_state_dict(state)
        surrogate.r2 = float(about["r2"])
        surrogate.check(simulator)
        return surrogate.eval()


def fit_surrogate(
    simulator: Simulator,
    *,
    questions: int = 4096,
    held_out: int = 256,
    steps: int = 4000,
    seed: int = 0,
    progress: bool = False,
) -> FunctionSurrogate:
    """A network that imitates the simulator over its whole range.

    The simulator is asked at scrambled Sobol points; AdamW (Loshchilov and Hutter 2019) fits standardised
    answers while its rate falls along a cosine; of the networks met on the way the one is kept that errs
    least on held-out questions. The reported `r2` is of as many others again.

    Args:
        simulator: Asked `questions + 2 * held_out` times.
        questions: Points to fit.
        held_out: Points to choose by, drawn evenly at random, and as many more to report.
        steps: Of the optimiser, 256 questions each.
        seed: Of points, weights and batches: the same seed, the same network on the same machine.
        progress: Show a bar for the questions and one for the steps.

    Raises:
        ValueError: If a count is below 1, or an answer is not finite.
    """
    if min(questions, held_out, steps) < 1:
        raise ValueError(
            f"questions, held_out and steps must be at least 1, got {questions}, {held_out}, {steps}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sobol = torch.quasirandom.SobolEngine(len(simulator.low), scramble=True, seed=seed)
        points = torch.cat([sobol.draw(questions), torch.rand(2 * held_out, len(simulator.low))])
        theta = simulator.low + points.double() * (simulator.high - simulator.low)
        answers = _answers(simulator, theta, progress=progress)
        surrogate = FunctionSurrogate(
            simulator.names, simulator.low, simulator.high, tuple(answers.shape[1:])
        )
        known = answers[:questions]
        surrogate.mean.copy_(known.mean(0))
        # What never changes is imitated by its mean
        deviation = known.std(0, correction=0)
        surrogate.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))
        wanted = (answers.float() - surrogate.mean) / surrogate.deviation
        choose, report = (slice(questions + k * held_out, questions + (k + 1) * held_out) for k in (0, 1))
        batches = _batches(theta[:questions], wanted[:questions], steps, progress=progress)
        _train(surrogate, batches, (theta[choose], wanted[choose]), steps)
    surrogate.eval()
    surrogate.r2 = _r2(surrogate, theta[report], answers[report])
    return surrogate


def _answers(simulator: Simulator, theta: Tensor, *, progress: bool) -> Tensor:
    parts = tqdm(theta.split(16), desc="asking", unit_scale=16, unit="question", disable=not progress)
    answers = torch.cat([simulator(part) for part in parts])
    finite = answers.flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        where = theta[~finite][0].tolist()
        raise ValueError(
            f"{int((~finite).sum())} of {len(theta)} answers are not finite, for example at {where}: "
            "let the function answer with finite numbers within its ranges, or narrow these"
        )
    return answers


def _batches(theta: Tensor, wanted: Tensor, steps: int, *, progress: bool) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in tqdm(range(steps), desc="fitting", disable=not progress):
        rows = torch.randint(len(theta), (min(BATCH, len(theta)),))
        yield theta[rows], wanted[rows]


def _train(
    surrogate: FunctionSurrogate,
    batches: Iterator[tuple[Tensor, Tensor]],
    held_out: tuple[Tensor, Tensor],
    steps: int,
) -> None:
    optimiser = torch.optim.AdamW(surrogate.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, least = surrogate.state_dict(), math.inf
    for step, (theta, wanted) in enumerate(batches, start=1):
        optimiser.zero_grad()
        mse_loss(surrogate.standardised(theta), wanted).backward()
        optimiser.step()
        schedule.step()
        if step % max(1, steps // CHECKS) == 0 or step == steps:
            with torch.no_grad():
                error = float(mse_loss(surrogate.standardised(held_out[0]), held_out[1]))
            if error < least:
                best, least = {k: v.clone() for k, v in surrogate.state_dict().items()}, error
    surrogate.load_state_dict(best)


@torch.no_grad()
def _r2(surrogate: FunctionSurrogate, theta: Tensor, answers: Tensor) -> float:
    error = (surrogate(theta) - answers).square().sum()
    variance = (answers - answers.mean(0)).square().sum()
    return float(1.0 - error / variance)
