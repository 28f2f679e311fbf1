"""Shadows that objects throw on sketches, against the software engine's pictures."""

import math
from dataclasses import replace

import pytest
import torch

from inverse.candidates import Moves, Pinhole, candidates_of
from inverse.least_differences import Judge
from inverse.losses import Evidence
from inverse.proposals import Proposals
from inverse.shadows import thrown
from inverse.sketch import Lamp, Rest, Shadow, Sketcher, Target
from render.engine import open_engine
from render.software import SoftwareEngine
from scenes import Light, Scene, World

SIZE = 128
BLOCK, BOOK = 2, 3


def two(table: World, away: float, azimuth: float) -> tuple[Scene, Lamp]:
    """A book in the middle of the table, a block `away` [m] towards +x, and a lamp; azimuth 0 is +x."""
    elevation = 0.6
    flat = math.cos(elevation) * torch.tensor([math.cos(azimuth), 0.0, math.sin(azimuth)])
    direction = flat + torch.tensor([0.0, math.sin(elevation), 0.0])
    scene = table.sample(generator=torch.Generator().manual_seed(0))
    light = Light(direction[None], torch.tensor([0.8]), torch.tensor([0.2]))
    scene = replace(
        scene,
        asset=torch.tensor([[BOOK, BLOCK]]),
        translation=torch.tensor([[[0.0, 0.0, 0.0], [away, 0.0, 0.0]]]),
        rotation=torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(1, 2, 4),
        scale=torch.ones(1, 2),
        colour=torch.ones(1, 2, 3),
        light=light,
    )
    return scene, Lamp(Pinhole.of(scene.camera).rotation @ direction, 0.8, 0.2)


def pictures(table: World, scene: Scene) -> list[torch.Tensor]:
    """The engine's pixels of the book, [P, 3], without and with shadows; then where they are, [H, W]."""
    found = []
    for shadows in (False, True):
        with SoftwareEngine(replace(table, scenery=()), size=(SIZE, SIZE), samples=1, shadows=shadows) as e:
            found.append(e.render(scene))
    ids = found[0].instance_id
    assert ids is not None
    seen = ids[0] == 0
    return [f.rgb[0][seen] for f in found] + [seen]


def sketched(table: World, scene: Scene, lamp: Lamp, seen: torch.Tensor) -> list[torch.Tensor]:
    """The same of sketches, without and with the block's shadow."""
    sketcher, camera, found = Sketcher(table), Pinhole.of(scene.camera), []
    book, origin = candidates_of(scene, [0]), torch.zeros(1, 2, dtype=torch.int32)
    view = camera.view(SIZE, SIZE)
    sketch = sketcher.draw(book.asset, *camera.place(book), view, window=SIZE, origin=origin)
    target = Target(torch.zeros(SIZE, SIZE, 3), torch.zeros(SIZE, SIZE), 0.0, 0.12)
    shadow = thrown(sketcher, Moves(table), scene.without(0), lamp, (SIZE, SIZE))
    for some in (Shadow.none(), shadow):
        rest = Rest(torch.zeros(1, SIZE, SIZE, 3), torch.zeros(1, SIZE, SIZE), some)
        out, _ = sketcher.residual(sketch, torch.zeros(1, dtype=torch.int32), lamp, target, rest, block=1)
        found.append(out[0][seen][:, :3])
    return found


def test_a_sketch_in_shadow_is_the_engines_picture(table: World) -> None:
    """What lies in the block's shadow is as dark as there, but for a rim; encoding errs by less than 0.03."""
    scene, lamp = two(table, 0.16, 0.0)
    lit, shaded, seen = pictures(table, scene)
    plain, dark = sketched(table, scene, lamp, seen)
    is_dark, drawn_dark = (lit - shaded).amax(-1) > 0.05, (plain - dark).amax(-1) > 0.05
    assert 0.25 < is_dark.float().mean() < 0.9
    assert (is_dark != drawn_dark).float().mean() < 0.05
    assert (dark - shaded)[is_dark].abs().median() < 0.03 < 0.1 < (plain - shaded)[is_dark].abs().median()


@pytest.mark.parametrize("azimuth", [0.5 * math.pi, math.pi])
def test_nothing_is_dark_that_has_nothing_before_it(table: World, azimuth: float) -> None:
    """Beside the shadow, and between the lamp and what throws it, a sketch is as without it, bit for bit."""
    scene, lamp = two(table, 0.3, azimuth)
    plain, dark = sketched(table, scene, lamp, pictures(table, scene)[2])
    assert torch.equal(plain, dark)


def test_no_objects_throw_none(table: World) -> None:
    scene, lamp = two(table, 0.16, 0.0)
    empty = scene.without(0).without(1)
    assert not thrown(Sketcher(table), Moves(table), empty, lamp, (SIZE, SIZE)).inverse_depth.any()


@pytest.mark.parametrize(("seed", "name"), [(95_190, "can"), (97_203, "book")])
def test_what_stands_in_shadow_is_proposed(seed: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has its own colours is like nothing that a lamp would shine on."""
    world = World.load("tabletop")
    truth = world.sample(1, generator=torch.Generator().manual_seed(seed))
    index = world.index(name)
    slot = truth.asset[0].tolist().index(index)

    def nearest() -> float:
        with open_engine("software", world, size=(SIZE, SIZE)) as engine:
            judge = Judge(engine, world, Evidence(engine.render(truth).rgb[0]))
            rest = judge.fit(truth.without(slot))
            c, _, change = Proposals(judge, Sketcher(world)).propose(rest, wrong=rest.cost)
        first = c[change.argsort()[:4]]
        apart = (first.translation - truth.translation[0, slot]).norm(dim=-1)[first.asset == index]
        return float(apart.min()) if len(apart) else math.inf

    assert nearest() < 0.02
    monkeypatch.setattr("inverse.proposals.thrown", lambda *_: Shadow.none())
    assert nearest() > 0.02
