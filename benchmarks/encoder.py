"""The encoder alone, at a glance: what it finds in pictures it was not trained on, of this engine and others.

    python benchmarks/encoder.py tabletop --count 500
    python benchmarks/encoder.py tabletop --count 100 --kinds clean mitsuba "noise 0.03" "jpeg 50"
    python benchmarks/encoder.py tabletop --weights out/by-pictures/encoder.safetensors

Counted are objects of which at least 40 pixels of a picture of 128 x 128 are seen; an object is found if the
encoder tells one within 8 % of the distance. The threshold of heat is the weights' own, chosen when they were
trained. Errors are medians; rotations without turns that change nothing.
"""

import argparse
import time
from pathlib import Path

import torch
from otherpictures import KINDS, variants

from inverse.encoder.figures import COUNTED_PIXELS, Figures
from inverse.encoder.sighting import look, scene_of
from inverse.encoder.stored import load_encoder
from inverse.training.pictures import Pictures
from render.engine import open_engine
from scenes import World, bundled_worlds

_BATCH = 25
_FIRST_SEED = 50_000_000  # no seed of training's comes near: those have 63 random bits


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", choices=bundled_worlds())
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--weights", type=Path, help="the world's own when left out")
    parser.add_argument("--kinds", nargs="+", default=["clean"], choices=list(KINDS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = World.load(options.world)
    encoder = load_encoder(world, options.weights)
    if encoder is None:
        parser.error(f"the world {world.name} has no encoder: unrender train encoder {world.name}")
    height, width = world.camera.height, world.camera.width
    counted = COUNTED_PIXELS * height * width / 128**2
    figures = {kind: Figures() for kind in options.kinds}
    used = 0.0
    with open_engine("auto", world, size=(height, width)) as engine:
        for first in range(0, options.count, _BATCH):
            generator = torch.Generator().manual_seed(_FIRST_SEED + first)
            scene = world.sample(min(_BATCH, options.count - first), generator=generator)
            frame = engine.render(scene)
            assert frame.instance_id is not None
            visible = Pictures(scene, frame.rgb, frame.instance_id).visible
            for kind, rgb in variants(world, scene, first, kinds=options.kinds).items():
                began = time.process_time()
                seen = look(encoder, rgb, least=float(encoder.threshold))
                guesses = [scene_of(encoder, s[: scene.slots]) for s in seen]
                used += time.process_time() - began
                for k, guess in enumerate(guesses):
                    figures[kind].add(world, scene[[k]], visible[k], guess, counted=counted)
    names = list(figures[options.kinds[0]].summary())
    print(f"| pictures ({options.count} each) | " + " | ".join(n.replace("_", " ") for n in names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for kind, gathered in figures.items():
        print(f"| {kind} | " + " | ".join(f"{v:.3g}" for v in gathered.summary().values()) + " |")
    print(f"{1e3 * used / options.count / len(figures):.1f} ms of processor time a picture")


if __name__ == "__main__":
    main()
