"""What gradients are worth: refinement of starts near the truth, with gradients and without.

    python benchmarks/refinement.py [--worlds floating-cube tabletop cube] [--cubes 50] [--tables 24]

Random pictures, rounded to 8 bits, and for each a start that is off by a stated turn (about a random axis; on
the table about +y) and a stated shift of each object in a random direction, kept within the world's ranges.
Sizes, colours and light that are free are off by up to a twentieth of their range. Each start is refined once
as `recover(start=...)` begins, gradients and then least differences, and once by least differences alone; no
search follows. In turns, from the same start. In the world `cube` only the rotation is unknown, in
`floating-cube` the position too.

true: all objects of which a tenth and 20 pixels are seen end within 1 degree and 0.5 % of the distance.
explained: `recover` would be content and not search. Either: one of the two ways is true. Pictures that do
not determine the pose are left out. Seconds, of the clock and of all processors, and pictures are medians.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import roma
import torch
import tyro
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from inverse.least_differences import Judge
from inverse.losses import Evidence
from inverse.metrics import position_error, rotation_error
from inverse.recover import _refined  # what recover itself does with a start
from inverse.refine import RefineSettings
from inverse.search import Search
from inverse.sketch import Sketcher
from inverse.verdict import same_picture
from inverse.view_search import ViewSearch
from inverse.views import background_of, foreground
from inverse.visibility import visible_fractions
from render import differentiable, open_engine
from render.engine import Engine
from scenes import Scene, World
from scenes.scene import matrix
from scenes.world import Interval

WAYS = {"gradients": RefineSettings(), "differences alone": RefineSettings(steps=0)}
OFF = ((5.0, 0.0), (20.0, 0.02), (40.0, 0.05), (80.0, 0.1))  # turn [degrees], shift [share of the distance]
_OTHERS = 0.05  # of the range: how far sizes, colours and light are off
_RIGHT_DEGREES, _RIGHT_SHARE = 1.0, 0.005
_LEAST_FRACTION, _LEAST_PIXELS = 0.1, 20


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    worlds: tuple[Literal["cube", "floating-cube", "tabletop"], ...] = ("floating-cube", "tabletop", "cube")
    cubes: int = 50  # pictures of a cube, for each of its worlds
    tables: int = 24  # pictures of one to three things on the table
    engine: str = "opengl"
    out: Path | None = None  # JSON lines, one per start, appended as they come


def main(settings: Settings) -> None:
    """Print one table per world."""
    torch.set_num_threads(1)  # two stall at barriers when the second core is busy
    for name in settings.worlds:
        world, rows = _load(name), []
        count = settings.tables if name == "tabletop" else settings.cubes
        with open_engine(settings.engine, world, size=(world.camera.height, world.camera.width)) as engine:
            for row in _rows(name, world, engine, count):
                rows.append(row)
                if settings.out:
                    with settings.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
        _report(name, rows)


def _load(name: str) -> World:
    if name == "tabletop":
        return replace(World.load(name), count=(1, 3))
    cube = World.load("cube")
    return cube if name == "cube" else replace(cube, position=(Interval(-1.0, 1.0),) * 3)


def _rows(name: str, world: World, engine: Engine, count: int) -> Iterator[dict[str, Any]]:
    bench = Bench(world, engine)
    for seed in tqdm(range(count), unit="picture", desc=name):
        generator = torch.Generator().manual_seed(70_000 + seed)
        truth, evidence = bench.picture(generator)
        if seed == 0:  # compiles kernels and fills caches
            for refinement in WAYS.values():
                bench.refine(truth, evidence, truth, refinement)
        for number, (degrees, shift) in enumerate(OFF):
            start = bench.start(truth, degrees, shift, generator)
            row = {"world": name, "seed": seed, "degrees": degrees, "shift": shift}
            ways = list(WAYS.items())
            for way, refinement in ways if (seed + number) % 2 else ways[::-1]:
                row[way] = bench.refine(truth, evidence, start, refinement)
            yield row


class Bench:
    """Problems in one world, and what refinement makes of them."""

    def __init__(self, world: World, engine: Engine) -> None:
        self.world, self.engine = world, engine
        self.floats = world.placement == "free" and all(i.free for i in world.position)
        self.sketcher = Sketcher(world, exposed=not self.floats)
        self.render = differentiable(engine)

    def picture(self, generator: torch.Generator) -> tuple[Scene, Evidence]:
        """A random scene and its picture, that determines the pose."""
        while True:
            truth = self.world.sample(1, generator=generator)
            if self.floats:  # so that all of it is seen, and a start has room to be off
                truth = replace(truth, translation=truth.translation / 2)
            image = (self.engine.render(truth).rgb[0] * 255.0).round() / 255.0
            background = background_of(image) if self.floats else None
            mask = None if background is None else foreground(image, background).float()
            evidence = Evidence(image, mask)
            judge = Judge(self.engine, self.world, evidence)
            if not same_picture(judge, judge.fit(truth))[1]:
                return truth, evidence

    def start(self, truth: Scene, degrees: float, shift: float, generator: torch.Generator) -> Scene:
        """The truth, off by that much."""
        world, slots = self.world, truth.slots
        axis = normalize(torch.randn(slots, 3, generator=generator), dim=-1)
        if world.placement == "upright":
            axis = torch.tensor([0.0, 1.0, 0.0]) * torch.sign(axis[:, :1])
        turn = roma.rotvec_to_unitquat(axis * math.radians(degrees))
        free = torch.tensor([i.free for i in world.position])
        direction = normalize(torch.randn(slots, 3, generator=generator) * free, dim=-1)
        scene = replace(
            truth,
            rotation=roma.quat_product(turn, truth.rotation[0])[None],
            translation=truth.translation + shift * self._distance(truth)[..., None] * direction,
        )
        theta = world.pack(scene)
        others = torch.tensor([g in ("scale", "colour", "light") for g in world.groups])
        spread = 2.0 * torch.rand(theta.shape, generator=generator) - 1.0
        theta = theta + others * _OTHERS * (world.high - world.low) * spread
        ends = torch.tensor([u != "rad" for u in world.units])
        theta = torch.where(ends, torch.maximum(torch.minimum(theta, world.high), world.low), theta)
        return world.unpack(theta, like=scene)

    def refine(
        self, truth: Scene, evidence: Evidence, start: Scene, refinement: RefineSettings
    ) -> dict[str, Any]:
        """Where a start ends, and after how long."""
        judge = Judge(self.engine, self.world, evidence)
        search = (ViewSearch if self.floats else Search)(judge, self.sketcher)
        began, busy = time.perf_counter(), time.process_time()
        fit = _refined(judge, search, judge.fit(start), self.render, refinement, "cpu")
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        degrees, share = self._errors(truth, fit.scene)
        return {
            "true": degrees < _RIGHT_DEGREES and share < _RIGHT_SHARE,
            "explained": search.content(fit),
            "degrees": degrees,
            "share": share,
            "pictures": judge.renders,
            "seconds": seconds,
            "busy": busy,
        }

    def _errors(self, truth: Scene, found: Scene) -> tuple[float, float]:
        """Largest error of rotation [degrees] and of position [of the distance] of what is seen."""
        size = self.engine.size
        ids, fractions = (
            self.engine.render(truth).instance_id,
            visible_fractions(self.engine, truth, size=size),
        )
        assert ids is not None
        assert fractions is not None
        degrees, share, distance = 0.0, 0.0, self._distance(truth)
        for slot in range(truth.slots):
            if not (fractions[0, slot] >= _LEAST_FRACTION and int((ids == slot).sum()) >= _LEAST_PIXELS):
                continue
            asset = self.world.assets[int(truth.asset[0, slot])]
            angle = rotation_error(asset, matrix(found.rotation[0, slot]), matrix(truth.rotation[0, slot]))
            offset = position_error(asset, _place(found, slot), _place(truth, slot))
            degrees = max(degrees, math.degrees(float(angle)))
            share = max(share, float(offset / distance[0, slot]))
        return degrees, share

    def _distance(self, scene: Scene) -> Tensor:
        """From the eye to each slot's object [m], [1, S]."""
        return (scene.translation - scene.camera.translation[:, None]).norm(dim=-1)


def _place(scene: Scene, slot: int) -> Tensor:
    """world_from_object of a slot, scale included, [4, 4]."""
    place = torch.eye(4)
    place[:3, :3] = matrix(scene.rotation[0, slot]) * scene.scale[0, slot]
    place[:3, 3] = scene.translation[0, slot]
    return place


def _report(name: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{name}: true, explained, seconds, processor seconds, pictures drawn")
    print(f"{'off by':>11s} {'starts':>7s}" + "".join(f"{way:>34s}" for way in WAYS) + "   either true")
    for degrees, shift in OFF:
        these = [r for r in rows if (r["degrees"], r["shift"]) == (degrees, shift)]
        line = f"{degrees:3.0f}°, {100 * shift:2.0f} % {len(these):7d}"
        for way in WAYS:
            found = {k: np.array([r[way][k] for r in these]) for k in these[0][way]}
            line += f"{100 * found['true'].mean():9.0f} % {100 * found['explained'].mean():3.0f} %"
            line += "".join(f" {np.median(found[k]):5.2f}" for k in ("seconds", "busy"))
            line += f" {np.median(found['pictures']):5.0f}"
        either = np.mean([any(r[way]["true"] for way in WAYS) for r in these])
        print(f"{line} {100 * either:11.0f} %", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
