"""Throughput of an engine: scenes a second and milliseconds a call, by batch and size.

    python benchmarks/engine.py [--engine opengl|software] [--world tabletop] [--seconds 3]

The median of repeated calls; the processor time shows what other programs took from it.
"""

import platform
import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro

from render import open_engine
from scenes import World


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    engine: str = "opengl"
    world: str = "tabletop"
    seconds: float = 3.0  # per line
    samples: int = 2  # supersampling per axis


def main(settings: Settings) -> None:
    """Print one line per batch and size."""
    world = World.load(settings.world)
    with open_engine(settings.engine, world, samples=settings.samples) as engine:
        print(f"{engine.name}, {settings.world}, {platform.processor() or platform.machine()}")
        print("  size  batch   scenes/s   ms/call   processor ms/scene")
        for pixels in (64, 128):
            for batch in (1, 16, 64):
                scene = world.sample(batch, generator=torch.Generator().manual_seed(0))
                size = (pixels, pixels)
                engine.render(scene, size=size)
                calls, busy, end = [], time.process_time(), time.perf_counter() + settings.seconds
                while time.perf_counter() < end:
                    start = time.perf_counter()
                    engine.render(scene, size=size)
                    calls.append(time.perf_counter() - start)
                busy = (time.process_time() - busy) / (len(calls) * batch)
                call = float(np.median(calls))
                print(f"{pixels:6d} {batch:6d} {batch / call:10.0f} {call * 1e3:9.2f} {busy * 1e3:20.2f}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
