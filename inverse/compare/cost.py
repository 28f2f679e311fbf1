"""What a gradient costs: pictures of the engine, seconds, memory."""

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType

from render.engine import Engine, Frame
from scenes import Scene

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_REPEATS = 5


class Counted:
    """An engine whose pictures are counted, whatever their size."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.world, self.size = engine.name, engine.world, engine.size
        self.renders = 0

    def render(self, scene: Scene, *, size: tuple[int, int] | None = None) -> Frame:
        """The engine's pictures."""
        self.renders += len(scene)
        return self.engine.render(scene, size=size)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> "Counted":
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the engine."""
        self.close()


@dataclass(frozen=True)
class Cost:
    """What one call costs.

    Attributes:
        renders: Pictures of the engine.
        seconds: Of the clock, median.
        megabytes: How far the memory in use rises above what it was before; None where the system does not
            tell (Linux does).
    """

    renders: int
    seconds: float
    megabytes: float | None


def cost(engine: Counted, job: Callable[[], object]) -> Cost:
    """What `job` costs once it has run before, on the CPU."""
    job()
    before = engine.renders
    megabytes = _peak(job)
    renders, seconds = engine.renders - before, []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return Cost(renders, median(seconds), megabytes)


def _peak(job: Callable[[], object]) -> float | None:
    if not _CLEAR.exists():
        job()
        return None
    gc.collect()
    _give_back()
    _CLEAR.write_text("5")  # the peak becomes what is in use
    before = _status("VmRSS")
    job()
    return max(0.0, _status("VmHWM") - before) / 1e6


def _give_back() -> None:
    """Free memory that the allocator holds goes back to the system, so that using it again shows."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def _status(name: str) -> float:
    """Bytes, by the system's account of this process."""
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith(name))
    return float(line.split()[1]) * 1024
