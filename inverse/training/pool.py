"""Pool: pictures that worker processes draw while a network is trained on them.

Which pictures a step may see depends on its number alone and not on how quick anybody was: the same seed
gives the same training, and one that was interrupted goes on as if it had not been.
"""

import contextlib
import multiprocessing
import queue
import signal
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
import torch

from inverse.training.pictures import Packed, Pictures, draw
from render.engine import open_engine
from scenes import World

CHUNK = 64  # pictures drawn at a time
_AHEAD = 4  # chunks that a worker draws before anybody wants them
_PATIENCE = 5.0  # [s] after which a silent worker is looked at


@dataclass(frozen=True)
class PoolSettings:
    """How pictures are drawn and kept."""

    size: tuple[int, int] = (64, 64)  # H, W [px]
    kept: int = 8192  # pictures; the oldest make room for new ones
    reuse: int = 4  # how often a picture is used before it goes, on average
    first: int = 1024  # pictures that are there before the first step
    workers: int = 1
    engine: str = "auto"
    seed: int = 0


class Pool:
    """Pictures of a world, drawn for ever by spawned processes; a context manager that ends them.

    Args:
        world: Whose scenes are sampled. It is read from its file again in each worker.
        settings: Sizes and numbers.
        step: The step that training begins with: the pictures that it would see are drawn.
        batch: Pictures of a step.
        share: Of several trainers, which one this is and how many there are: each draws its own pictures.
    """

    def __init__(
        self,
        world: World,
        settings: PoolSettings,
        *,
        step: int = 0,
        batch: int = 32,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.world, self.settings, self.batch, self.share = world, settings, batch, share
        self._chunks: dict[int, Packed] = {}
        self._newest = max(0, self._due(step) - settings.kept // CHUNK)  # number of the next chunk to come
        context = multiprocessing.get_context("spawn")
        self._queues: list[Any] = [context.Queue(_AHEAD) for _ in range(settings.workers)]
        self._workers: list[SpawnProcess] = []
        for k, answers in enumerate(self._queues):
            first = self._newest + (k - self._newest) % settings.workers
            arguments = (world.source, settings, first, share, answers)
            worker = context.Process(target=_draw_for_ever, args=arguments, daemon=True)
            worker.start()
            self._workers.append(worker)

    def pictures(self, step: int, device: torch.device | str = "cpu") -> Pictures:
        """The pictures of a step; steps are asked for in order.

        Raises:
            RuntimeError: If a worker has ended; the message says what it said.
        """
        while self._newest < self._due(step):
            self._receive()
        generator = np.random.default_rng((self.settings.seed, self.share[0], step))
        return _gathered(self._chunks, generator, self.batch).unpacked(self.world, device)

    def _due(self, step: int) -> int:
        """How many chunks have come by the time of a step."""
        first = -(-self.settings.first // CHUNK)
        return first + step * self.batch // (self.settings.reuse * CHUNK)

    def _receive(self) -> None:
        number = self._newest
        worker = number % self.settings.workers
        while True:
            with contextlib.suppress(queue.Empty):
                answer = self._queues[worker].get(timeout=_PATIENCE)
                break
            if not self._workers[worker].is_alive():
                raise RuntimeError("a process that draws pictures has ended without a word")
        if isinstance(answer, str):
            raise RuntimeError(f"pictures cannot be drawn: {answer}")
        self._chunks[number] = answer
        self._chunks.pop(number - self.settings.kept // CHUNK, None)
        self._newest += 1

    def close(self) -> None:
        """End the workers; a second call does nothing."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()
        for answers in self._queues:
            answers.close()
            answers.cancel_join_thread()
        self._workers, self._queues = [], []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def held_out(
    world: World, count: int, size: tuple[int, int], *, engine: str = "auto", seed: int = 0
) -> Pictures:
    """Pictures that no training sees: `count` of them, H x W [px], drawn here and now."""
    with open_engine(engine, world, size=size) as opened:
        seeds = [_seed((seed, "held out", k)) for k in range(-(-count // CHUNK))]
        parts = [draw(opened, min(CHUNK, count - k * CHUNK), size, s) for k, s in enumerate(seeds)]
    return _joined(parts).unpacked(world)


def _draw_for_ever(
    source: str, settings: PoolSettings, number: int, share: tuple[int, int], answers: Any
) -> None:
    """A worker's life: chunk after chunk into the queue, until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's business: it ends the workers
    torch.set_num_threads(1)
    try:
        world = World.load(source)
        with open_engine(settings.engine, world, size=settings.size) as engine:
            while _offered(
                answers, draw(engine, CHUNK, settings.size, _seed((settings.seed, share[0], number)))
            ):
                number += settings.workers
    except Exception as error:  # whatever it is, the trainer has to hear of it
        answers.put(f"{type(error).__name__}: {error}")


def _offered(answers: Any, chunk: Packed) -> bool:
    """Whether the chunk is in the queue; if not, the trainer was killed, and the worker is to end too."""
    trainer = multiprocessing.parent_process()
    while trainer is None or trainer.is_alive():
        with contextlib.suppress(queue.Full):
            answers.put(chunk, timeout=_PATIENCE)
            return True
    answers.cancel_join_thread()  # nobody reads what is in the pipe
    return False


def _seed(key: tuple[Any, ...]) -> int:
    """A seed of 63 bits for a key of numbers and words."""
    numbers = [k if isinstance(k, int) else int.from_bytes(k.encode(), "little") for k in key]
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _gathered(chunks: dict[int, Packed], generator: np.random.Generator, count: int) -> Packed:
    """`count` pictures at random, one at a time from all chunks."""
    numbers = sorted(chunks)
    which = [numbers[i] for i in generator.integers(len(numbers), size=count)]
    rows = generator.integers(CHUNK, size=count)
    return Packed(
        *(
            np.stack([getattr(chunks[c], name)[r] for c, r in zip(which, rows, strict=True)])
            for name in ("asset", "theta", "rgb", "instance_id")
        )
    )


def _joined(parts: list[Packed]) -> Packed:
    return Packed(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in ("asset", "theta", "rgb", "instance_id"))
    )
