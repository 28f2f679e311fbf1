"""One encoder trained three ways on the same budget: by labels, and by pictures alone through two gradients.

    python benchmarks/teachers.py tabletop --pictures 24000 --out out/teachers

"labels": the scenes that were sampled. "surrogate", "manual": no picture of the engine is labelled; see
`inverse.training.encoder.PictureTask`. "drawings": as "manual", without the engine's pictures. All at half of
the encoder's size, measured on the same held-out pictures of the engine; the threshold of heat is chosen on
others. Interrupted, the same command goes on.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from inverse.encoder.network import encoder_size
from inverse.training.encoder import LabelTask, PictureTask, evaluated, half, resized
from inverse.training.pool import PoolSettings, held_out
from inverse.training.trainer import TrainingSettings, train
from scenes import World, bundled_worlds

WAYS = ("labels", "surrogate", "manual", "drawings")


def main() -> None:
    """Train and measure as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", choices=bundled_worlds())
    parser.add_argument("--pictures", type=int, default=24_000)
    parser.add_argument("--count", type=int, default=500, help="of held-out pictures")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--out", type=Path, default=Path("out/teachers"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = World.load(options.world)
    size = half(encoder_size(world))
    settings = TrainingSettings(
        options.pictures, weight_decay=1e-3, clip=5.0, measure_seconds=300.0, pool=PoolSettings(size=size)
    )
    held = held_out(world, options.count, size, seed=1)
    for k, way in enumerate(options.ways):
        with ExitStack() as opened:
            if way == "labels":
                task = LabelTask(world)
                task.halved = 1.0
                task.network.size = size
            else:
                task = PictureTask(world, "manual" if way == "drawings" else way)
                task.alone = 1.0 if way == "drawings" else task.alone
                opened.enter_context(task)
            began = time.process_time()
            train(world, task, options.out / f"{world.name}-{way}", settings, progress=True)
            used = time.process_time() - began
            threshold = float(task.network.threshold)
            (figures,) = evaluated(task.network, resized(held, size), (threshold,))
        if k == 0:
            print("| by | " + " | ".join(n.replace("_", " ") for n in figures) + " | processor time [s] |")
            print("|---" * (len(figures) + 2) + "|")
        print(
            f"| {way} | " + " | ".join(f"{v:.3g}" for v in figures.values()) + f" | {used:.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
