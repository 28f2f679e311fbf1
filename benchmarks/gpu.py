"""The operators on a GPU: milliseconds a step, alone and in a CUDA graph, launches, and the floor.

    python benchmarks/gpu.py [--quick] [--device cpu]

A step draws a batch, compares it with a target, goes back and lets Adam move what is drawn (`steps.py`). The
floor is the least time by bytes and operations (`floors.py`), the share what part of the time it makes.

Of nvdiffrast, PyTorch3D and SoftRas, those that are installed run on the same scene afterwards, each in a
process of its own: where one breaks the device, only its own rows are lost. None of them can be captured in a
graph. On a CPU the table has small sizes and no graphs, and is there to test this script.

Not called cuda.py: PyTorch imports a package of that name.
"""

import cProfile
import gc
import itertools
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import peers_cuda
import torch
import tyro
import warp as wp
from floors import Machine, machine, work
from steps import OPERATORS, Step, ball, captured

from render.launch import launch

HEADER = (
    f"{'':12s}{'px':>6s}{'faces':>9s}{'batch':>7s}{'ms':>10s}{'graph':>10s}{'launches':>10s}{'floor':>10s}"
)


@dataclass(frozen=True)
class Settings:
    """What to measure; by default all, on a GPU some ten minutes."""

    device: str = "cuda"
    operators: tuple[str, ...] = tuple(OPERATORS)
    peers: bool = True  # afterwards
    only: str | None = None  # one peer instead of the operators
    pixels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    subdivisions: tuple[int, ...] = (2, 4, 5, 7)  # 320, 5,120, 20,480, 327,680 faces
    batches: tuple[int, ...] = (1, 16, 64, 256)
    seconds: float = 0.2  # of repeats for each time
    longest: float = 0.5  # [s] where a step takes longer, larger batches are left out
    quick: bool = False  # a few small sizes instead


def main(settings: Settings) -> None:
    """Print the table, row by row."""
    device = torch.device(settings.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no CUDA device here; --device cpu tests this script without one")
    small = settings.quick or device.type == "cpu"
    pixels = (32, 64) if small else settings.pixels
    subdivisions = (2, 3) if small else settings.subdivisions
    batches = (1, 4) if small else settings.batches
    able = machine(device)
    if settings.only is None:
        _introduce(able, device, small)
    for operator in settings.operators:
        for size in pixels:
            for faces in subdivisions[:1] if operator == "blur" else subdivisions:
                _rows(operator, size, faces, batches, able, settings)
    if settings.peers and settings.only is None and device.type == "cuda":
        _peers(settings)


def _peers(settings: Settings) -> None:
    """Their rows."""
    for name in (n for o in settings.operators for n in peers_cuda.PEERS.get(o, {})):
        if peers_cuda.why_not(name) is None:
            ended = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name]).returncode
            if ended != 0:
                print(f"{name} ended with {ended}: its larger scenes are missing", flush=True)


def _introduce(able: Machine, device: torch.device, small: bool) -> None:
    name = able.name if device.type == "cuda" else platform.processor() or platform.machine()
    print(
        f"{name}, {device}: {able.bandwidth / 1e12:.3g} TB/s, {able.operations / 1e12:.3g} Tflop/s", end=" "
    )
    print(f"({able.source}); PyTorch {torch.__version__}, Warp {wp.__version__}")
    if device.type == "cpu":
        print("On a CPU: small sizes, no graphs, no peers, launches of Warp only. It says nothing of a GPU.")
    elif small:
        print("Quick: small sizes.")
    for name in {n for found in peers_cuda.PEERS.values() for n in found}:
        reason = peers_cuda.why_not(name)
        if reason is not None and device.type == "cuda":
            print(f"without {name}: {reason}")
    print(f"\n{HEADER}{'share':>8s}", flush=True)


def _rows(
    operator: str, pixels: int, subdivisions: int, batches: tuple[int, ...], able: Machine, settings: Settings
) -> None:
    """One row per batch, of the operator or of the only peer, if it is one of the operator's."""
    device = torch.device(settings.device)
    name = settings.only or operator
    others = peers_cuda.PEERS.get(operator, {})
    if settings.only is not None and settings.only not in others:
        return
    make = OPERATORS[operator] if settings.only is None else others[settings.only]
    slow = 0.0
    for batch in batches:
        scene = ball(subdivisions, pixels, batch, device)
        least = work(operator, scene)
        label = f"{name:12s}{pixels:6d}{len(scene.triangles):9d}{batch:7d}"
        if slow > settings.longest or peers_cuda.too_long(name, scene):
            print(f"{label}  left out: it would take seconds", flush=True)
        elif least.memory > _free(device):
            print(f"{label}  left out: it would need {least.memory / 2**30:.0f} GiB", flush=True)
        else:
            floor = able.seconds(least) if settings.only is None else None
            slow = _row(label, lambda scene=scene: Step(scene, make(scene)), floor, settings)
        del scene
        _collect(device)


def _row(label: str, make: Callable[[], Step], floor: float | None, settings: Settings) -> float:
    """Measure one step, print it; return its seconds, infinitely many where it failed."""
    device = torch.device(settings.device)
    try:
        step = make()
        alone = seconds(step, device, settings.seconds)
        count = launches(step, device)
        graph = _in_graph(step, settings.seconds) if device.type == "cuda" and settings.only is None else None
    except Exception as e:  # peers raise what they like; the other rows must not be lost
        print(f"{label}  failed: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}", flush=True)
        return np.inf
    print(f"{label}{alone * 1e3:10.3f}{_ms(graph)}{count:10d}{_ms(floor)}", end="")
    print("" if floor is None else f"{floor / (graph or alone):8.1%}", flush=True)
    return alone


def _ms(seconds: float | None) -> str:
    return f"{'-':>10s}" if seconds is None else f"{seconds * 1e3:10.4f}"


def _in_graph(step: Step, budget: float) -> float | None:
    """Seconds of the captured step; None where it cannot be captured."""
    try:
        graph = captured(step)
    except RuntimeError as e:
        print(f"  no graph: {str(e).splitlines()[0]}", flush=True)
        return None
    return seconds(graph.replay, step.scene.vertices.device, budget)


def seconds(run: Callable[[], object], device: torch.device, budget: float) -> float:
    """Median time of a call, after two that compile and warm up; by CUDA events on a GPU."""
    run()
    first = _timed(run, device, 1)[0]
    return float(np.median(_timed(run, device, min(200, max(3, int(budget / max(first, 1e-6)))))))


def _timed(run: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    times = []
    if device.type != "cuda":
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return times
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize(device)
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize(device)
    return [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(events)]


def launches(step: Callable[[], None], device: torch.device) -> int:
    """Kernels that one step launches: all of them on a GPU, Warp's on a CPU."""
    if device.type == "cuda":
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            step()
            torch.cuda.synchronize(device)
        kernels = [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        return sum(not n.startswith(("Memcpy", "Memset")) for n in kernels)
    profile = cProfile.Profile()
    profile.runcall(step)
    return sum(entry.callcount for entry in profile.getstats() if entry.code is launch.__code__)


def _free(device: torch.device) -> float:
    """Bytes that PyTorch may still use."""
    if device.type != "cuda":
        return np.inf
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return 0.9 * (torch.cuda.mem_get_info(device)[0] + kept)


def _collect(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
