"""train: a network, a loss, the engine's pictures, a budget; what can be interrupted goes on."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as distributed
from torch import Tensor
from tqdm.auto import tqdm

from inverse.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    read_facts,
    save_checkpoint,
)
from inverse.training.pictures import Pictures
from inverse.training.pool import Pool, PoolSettings, held_out
from scenes import World
from scenes.files import output_folder
from scenes.signature import differences, signature


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def network(self) -> torch.nn.Module:
        """Its state is kept in checkpoints."""
        ...

    def loss(self, pictures: Pictures, progress: float) -> Tensor:
        """What a step makes smaller. `progress` in [0, 1]: the share of the budget that is spent."""
        ...

    def measure(self, held: Pictures) -> dict[str, float]:
        """Figures of pictures that training does not see, to be shown meanwhile."""
        ...


@dataclass(frozen=True)
class TrainingSettings:
    """Budget and optimiser: AdamW, a warm-up, then a cosine to a fiftieth of the rate."""

    pictures: int  # that are seen in all
    batch: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of a gradient
    warmup: int = 100  # steps
    held: int = 256  # pictures for `measure`
    save_seconds: float = 30.0
    measure_seconds: float = 120.0
    seed: int = 0
    pool: PoolSettings = field(default_factory=PoolSettings)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return -(-self.pictures // self.batch)


@dataclass(frozen=True)
class Training:
    """What came of it.

    Attributes:
        figures: Of `Task.measure` at the end.
        seconds: Of all runs together that led here.
        pictures: That were seen.
    """

    figures: dict[str, float]
    seconds: float
    pictures: int


def train(
    world: World,
    task: Task,
    folder: Path,
    settings: TrainingSettings,
    *,
    device: str = "cpu",
    progress: bool = False,
) -> Training:
    """Train a task's network in place on random pictures of a world; interrupted, the same call goes on.

    Started by `torchrun`, each process draws and sees its own pictures, and gradients are averaged. The same
    arguments give the same weights on the same machine, killed in between or not; on a GPU, atomics may
    change last bits.

    Args:
        world: Whose scenes are drawn.
        task: Network and loss.
        folder: For the checkpoint; made where it is missing.
        settings: Budget, optimiser, pool. With several processes `batch` is each one's.
        device: Where the network is trained.
        progress: Show a progress bar on stderr.

    Raises:
        CheckpointError: If the folder holds another training's checkpoint.
        OutputError: If the folder cannot be written.
        EngineError: If the engine cannot be opened.
        RuntimeError: If the pictures cannot be drawn, or the loss is not finite.
    """
    path = output_folder(folder) / CHECKPOINT
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    with _together(device) as share:
        return _Run(world, task, path, settings, device, share).run(progress)


class _Run:
    """One process's part of a training."""

    def __init__(
        self,
        world: World,
        task: Task,
        path: Path,
        settings: TrainingSettings,
        device: str,
        share: tuple[int, int],
    ) -> None:
        self.world, self.task, self.path, self.settings = world, task, path, settings
        self.device, self.share = device, share
        self.network = task.network.to(device)
        if share[1] > 1:
            for tensor in self.network.state_dict().values():
                distributed.broadcast(tensor, 0)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
        )
        self.step, self.earlier = self._resumed()
        self.began = self.saved = self.measured = time.perf_counter()
        self.figures: dict[str, float] = {}

    def run(self, progress: bool) -> Training:
        settings = self.settings
        held = held_out(
            self.world, settings.held, settings.pool.size, engine=settings.pool.engine, seed=settings.seed
        ).to(self.device)
        first = self.share[0] == 0
        each = settings.batch * self.share[1]
        with (
            Pool(self.world, settings.pool, step=self.step, batch=settings.batch, share=self.share) as pool,
            tqdm(
                total=settings.steps * each,
                initial=self.step * each,
                disable=not (progress and first),
                unit=" pictures",
                smoothing=0.05,
            ) as bar,
        ):
            while self.step < settings.steps:
                loss = self._step(pool)
                bar.update(each)
                if first:
                    self._look(held, loss, bar)
        self.figures = self._measure(held)
        if first:
            self._save()
        return Training(self.figures, self._seconds(), self.step * each)

    def _step(self, pool: Pool) -> float:
        settings = self.settings
        pictures = pool.pictures(self.step, self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate * rate_factor(self.step, settings)
        with torch.random.fork_rng():
            torch.manual_seed(hash((settings.seed, self.share[0], self.step)))
            loss = self.task.loss(pictures, self.step / settings.steps)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._average()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RuntimeError(f"the loss of step {self.step} is {value}; the last checkpoint is {self.path}")
        self.optimiser.step()
        self.step += 1
        return value

    def _average(self) -> None:
        """Each gradient becomes its mean over all processes."""
        if self.share[1] > 1:
            for parameter in self.network.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.share[1]

    def _look(self, held: Pictures, loss: float, bar: "tqdm[None]") -> None:
        """Measure and save where it is time."""
        now = time.perf_counter()
        if now - self.measured > self.settings.measure_seconds or not self.figures:
            self.figures = self._measure(held)
            self.measured = time.perf_counter()
        if now - self.saved > self.settings.save_seconds:
            self._save()
            self.saved = now
        figures = ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        bar.set_description(f"loss {loss:.3g}, held out: {figures}", refresh=False)

    def _measure(self, held: Pictures) -> dict[str, float]:
        self.network.eval()
        with torch.no_grad():
            figures = self.task.measure(held)
        self.network.train()
        return figures

    def _seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.began

    def _save(self) -> None:
        facts = {"step": self.step, "seconds": self._seconds(), "settings": _told(self.settings)}
        facts |= {"world": signature(self.world), "processes": self.share[1]}
        save_checkpoint(self.path, self.network, self.optimiser, facts)

    def _resumed(self) -> tuple[int, float]:
        """Step to go on from and seconds spent before: (0, 0) where there is no checkpoint."""
        if not self.path.exists():
            return 0, 0.0
        facts = read_facts(self.path)
        told, now = facts["settings"], _told(self.settings)
        other = [f"{k} was {told.get(k)}, is {v}" for k, v in now.items() if told.get(k) != v]
        other += differences(self.world, facts["world"])
        if facts["processes"] != self.share[1]:
            other.append(f"processes were {facts['processes']}, are {self.share[1]}")
        if other:
            raise CheckpointError(
                f"{self.path} is of another training ({'; '.join(other[:3])}): "
                "delete it or choose another folder"
            )
        load_checkpoint(self.path, self.network, self.optimiser)
        return int(facts["step"]), float(facts["seconds"])


def facts_of(training: Training, settings: TrainingSettings, command: str) -> dict[str, Any]:
    """What is noted beside the weights: how they were made and how good they are."""
    facts = {"command": command, "engine": settings.pool.engine, "seed": settings.seed}
    facts |= {"pictures": training.pictures, "seconds": round(training.seconds), "held out": settings.held}
    figures = {
        n: round(v, 4) for n, v in training.figures.items() if math.isfinite(v)
    }  # of what the world has
    return facts | {"figures": figures}


def rate_factor(step: int, settings: TrainingSettings) -> float:
    """The learning rate of a step, as a share of the largest."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
    return min(1.0, (step + 1) / settings.warmup) * (0.02 + 0.98 * cosine)


def _told(settings: TrainingSettings) -> dict[str, Any]:
    """What another run must have in common to go on with this one's checkpoint."""
    told: dict[str, Any] = asdict(settings)
    for name in ("save_seconds", "measure_seconds", "held"):
        del told[name]
    told["pool"] = {
        k: list(v) if isinstance(v, tuple) else v for k, v in told["pool"].items() if k != "workers"
    }
    return told


@contextmanager
def _together(device: str) -> Iterator[tuple[int, int]]:
    """Which of how many processes this is, as `torchrun` says; joined to the others meanwhile."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield 0, 1
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield distributed.get_rank(), count
    finally:
        distributed.destroy_process_group()
