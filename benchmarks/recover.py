"""Recovery from random pictures with known truth: what is found, how exactly, in what time.

    python benchmarks/recover.py cube --count 100
    python benchmarks/recover.py tabletop --count 100 [--noise 0.03] [--engine software --drawn-by opengl]
    python benchmarks/recover.py tabletop --count 100 --search-alone

Pictures are drawn by one engine, rounded to 8 bits, and recovered with another or the same; nothing but the
picture and the world is given. Counted are objects of which at least a tenth and at least 20 pixels are seen.
An object is right if its asset is right and its position within 5 % of the distance; "presence" is counted as
for an encoder alone (`inverse.encoder.figures`): within 8 %, whatever the asset. Cube pictures that do
not determine the pose (another pose gives the engine's same picture) are counted apart. One line per picture,
then a summary; --out keeps both as JSON.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from inverse import recover
from inverse.encoder.figures import COUNTED_PIXELS, Figures
from inverse.least_differences import Judge
from inverse.losses import Evidence
from inverse.metrics import rotation_error
from inverse.recovery import Recovery
from inverse.verdict import same_picture
from inverse.visibility import visible_fractions
from render.engine import Engine, open_engine
from scenes import Scene, World, bundled_worlds
from scenes.scene import matrix

_LEAST_FRACTION, _LEAST_PIXELS = 0.1, 20
_RIGHT = 0.05  # of the distance


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", choices=bundled_worlds())
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first picture")
    parser.add_argument("--engine", default="opengl", help="that recovers")
    parser.add_argument("--drawn-by", default="opengl", help="engine that draws the pictures")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="standard deviation added to encoded colours"
    )
    parser.add_argument("--search-alone", action="store_true", help="without the world's encoder")
    parser.add_argument("--out", type=Path, help="JSON lines")
    options = parser.parse_args()
    world = World.load(options.world)
    rows, presence = [], Figures()
    with open_engine(options.drawn_by, world, size=(world.camera.height, world.camera.width)) as engine:
        for number in tqdm(range(options.first, options.first + options.count), unit="picture"):
            row = _one(world, engine, number, options, presence)
            rows.append(row)
            tqdm.write(json.dumps(row))
    summary = _cube_summary(rows) if options.world == "cube" else _summary(rows, presence)
    print("\n".join(f"{k}: {v}" for k, v in summary.items()))
    if options.out:
        options.out.write_text("\n".join(json.dumps(r) for r in [*rows, summary]) + "\n")


def _one(
    world: World, engine: Engine, number: int, options: argparse.Namespace, presence: Figures
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(90_000 + number)
    truth = world.sample(1, generator=generator)
    frame = engine.render(truth)
    image = frame.rgb[0]
    image = image + options.noise * torch.randn(image.shape, generator=generator)
    image = (image.clamp(0.0, 1.0) * 255.0).round() / 255.0
    began, used = time.perf_counter(), time.process_time()
    recovery = recover(image, world, engine=options.engine, encoder=None if options.search_alone else "auto")
    seconds, used = time.perf_counter() - began, time.process_time() - used
    row = {
        "picture": number,
        "seconds": round(seconds, 2),
        "processor_seconds": round(used, 2),
        "renders": recovery.renders,
        "loss": recovery.loss,
    }
    if world.name == "cube":
        error = rotation_error(
            world.assets[0], matrix(recovery.scene.rotation[0, :1]), matrix(truth.rotation[0, :1])
        )
        judge = Judge(engine, world, Evidence(image))
        _, hypotheses, _ = same_picture(judge, judge.fit(truth))
        best = min(
            float(
                rotation_error(
                    world.assets[0], matrix(h.scene.rotation[0, :1]), matrix(truth.rotation[0, :1])
                )[0]
            )
            for h in recovery.hypotheses
        )
        return row | {
            "degrees": math.degrees(float(error[0])),
            "undetermined": bool(hypotheses),
            "called_ambiguous": recovery.ambiguous,
            "best_hypothesis_degrees": math.degrees(best),
        }
    fractions = visible_fractions(engine, truth, size=engine.size)
    assert fractions is not None
    assert frame.instance_id is not None
    pixels = [int((frame.instance_id[0] == s).sum()) for s in range(truth.slots)]
    counted = COUNTED_PIXELS * image[..., 0].numel() / 128**2
    presence.add(world, truth, torch.tensor(pixels), recovery.scene, counted=counted)
    return row | _matched(world, truth, recovery, fractions[0].tolist(), pixels)


def _matched(
    world: World, truth: Scene, recovery: Recovery, fractions: list[float], pixels: list[int]
) -> dict[str, Any]:
    """Pairs of true and found objects by least distance, right assets first."""
    eye, found = truth.camera.translation[0], recovery.scene
    true = [s for s in range(truth.slots) if truth.asset[0, s] >= 0]
    wanted = {s: fractions[s] >= _LEAST_FRACTION and pixels[s] >= _LEAST_PIXELS for s in true}
    est = [s for s in range(found.slots) if found.asset[0, s] >= 0]
    cost = np.full((len(true), len(est)), 1e3)
    for i, t in enumerate(true):
        distance = float((truth.translation[0, t] - eye).norm())
        for j, e in enumerate(est):
            error = float((truth.translation[0, t] - found.translation[0, e]).norm()) / distance
            if truth.asset[0, t] == found.asset[0, e] and error < _RIGHT:
                cost[i, j] = error
    objects, used = [], 0
    pairs = (
        {int(i): int(j) for i, j in zip(*linear_sum_assignment(cost), strict=True) if cost[i, j] < 1e3}
        if est and true
        else {}
    )
    for i, t in enumerate(true):
        asset = world.assets[int(truth.asset[0, t])]
        one = {"asset": asset.name, "wanted": wanted[t], "seen": round(fractions[t], 3), "right": i in pairs}
        if i in pairs:
            e = est[pairs[i]]
            used += 1
            angle = rotation_error(asset, matrix(found.rotation[0, [e]]), matrix(truth.rotation[0, [t]]))
            one |= {
                "position": cost[i, pairs[i]],
                "degrees": math.degrees(float(angle[0])),
                "scale": abs(float(found.scale[0, e] / truth.scale[0, t]) - 1.0),
                "colour": float((found.colour[0, e] - truth.colour[0, t]).abs().mean()),
            }
        objects.append(one)
    ignored = sum(1 for i in pairs if not wanted[true[i]])
    names = [world.assets[int(found.asset[0, e])].name for j, e in enumerate(est) if j not in pairs.values()]
    verdicts = [o.verdict for o in recovery.objects]
    return {"objects": objects, "found": len(est) - ignored, "wrong": names, "verdicts": verdicts}


def _cube_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    determined = [r for r in rows if not r["undetermined"]]
    open_ = [r for r in rows if r["undetermined"]]
    degrees = np.array([r["degrees"] for r in determined])
    return {
        "pictures": len(rows),
        "pose determined": len(determined),
        "within 10 degrees": f"{(degrees < 10).mean():.3f}",
        "median degrees": f"{np.median(degrees):.4f}",
        "undetermined": len(open_),
        "undetermined, called ambiguous": sum(r["called_ambiguous"] for r in open_),
        "undetermined, truth among the hypotheses": sum(r["best_hypothesis_degrees"] < 10 for r in open_),
        "determined, called ambiguous": sum(r["called_ambiguous"] for r in determined),
        **_times(rows),
    }


def _summary(rows: list[dict[str, Any]], presence: Figures) -> dict[str, Any]:
    objects = [o for r in rows for o in r["objects"] if o["wanted"]]
    right = [o for o in objects if o["right"]]
    found = sum(r["found"] for r in rows)
    position = np.array([o["position"] for o in right])
    return {
        "pictures": len(rows),
        "objects": len(objects),
        "recall": f"{len(right) / len(objects):.3f}",
        "precision": f"{len(right) / max(1, found):.3f}",
        "pictures entirely right": sum(
            all(o["right"] for o in r["objects"] if o["wanted"]) and not r["wrong"] for r in rows
        ),
        "median position error [% of distance]": f"{100 * np.median(position):.4f}",
        "95th percentile": f"{100 * np.quantile(position, 0.95):.4f}",
        "median rotation error [degrees]": f"{np.median([o['degrees'] for o in right]):.3f}",
        "rotations off by more than 10 degrees": sum(o["degrees"] > 10 for o in right),
        "median size error [%]": f"{100 * np.median([o['scale'] for o in right]):.3f}",
        "missed": [(o["asset"], o["seen"]) for o in objects if not o["right"]],
        "invented": [n for r in rows for n in r["wrong"]],
        "presence": {name: round(value, 4) for name, value in presence.summary().items()},
        **_times(rows),
    }


def _times(rows: list[dict[str, Any]]) -> dict[str, str]:
    seconds = np.array([r["seconds"] for r in rows])
    return {
        "seconds, median": f"{np.median(seconds):.2f}",
        "95th": f"{np.quantile(seconds, 0.95):.1f}",
        "most": f"{seconds.max():.1f}",
    }


if __name__ == "__main__":
    main()
