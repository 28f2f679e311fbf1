"""Least differences on sketches: objects a few pixels off come back, many at once; gains are counted."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from inverse.candidates import Moves, Pinhole, candidates_of
from inverse.losses import resize
from inverse.metrics import rotation_error
from inverse.sketch import Lamp, Rest, Sketcher, Target
from inverse.sketch_refine import Level, refine
from scenes.world import Interval

SIZE = 128  # [px] of what is drawn; blocks of 2 x 2 are compared
TAU = 0.12


@pytest.fixture(scope="module")
def sketcher(table):
    return Sketcher(table)


def problem(table, engine, asset, seed=0):
    """A scene with one object, its candidate, and what `refine` compares it with."""
    scene = table.sample(generator=torch.Generator().manual_seed(seed)).without(1)
    kind, place, tint = scene.asset.clone(), scene.translation.clone(), scene.colour.clone()
    kind[0, 0], place[0, 0] = asset, torch.tensor([0.05, 0.0, 0.1])
    tint[0, 0] = torch.tensor([0.6, 0.3, 0.2]) if table.assets[asset].colour_free else torch.ones(3)
    scene = replace(scene, asset=kind, translation=place, colour=tint)
    image, empty = (engine.render(s, size=(SIZE, SIZE)).rgb for s in (scene, scene.without(0)))
    camera, light = Pinhole.of(scene.camera), scene.light
    lamp = Lamp(camera.rotation @ light.direction[0], float(light.intensity), float(light.ambient))
    target = Target(image[0].contiguous(), torch.zeros(SIZE, SIZE), 0.0, TAU)
    rest = Rest(empty.contiguous(), torch.zeros(1, SIZE, SIZE))
    return scene, camera, lamp, Level(camera.view(SIZE, SIZE), target, 2, False), rest


def away(moves, truth, camera, level, pixels, count, seed=0):
    """The candidate moved at random by steps of `pixels`, `count` times."""
    many = truth.repeat(count)
    steps = moves.steps(many, camera, level.view, pixels)
    sign = torch.randint(0, 2, steps.shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    return moves.apply(many, steps * sign)


@pytest.mark.parametrize("asset", range(4))
def test_objects_come_back(table, table_engine, sketcher, asset):
    """From 32 mm, and 2 px off in every other way: to 7 mm, 4 degrees and 3 %.

    The mug's highlight is not in a sketch: it is found to 12 mm, its turn not in all cases.
    """
    scene, camera, lamp, level, rest = problem(table, table_engine, asset)
    moves, truth = Moves(table), candidates_of(scene, [0])
    start = away(moves, truth, camera, level, 2.0, 8)
    zero = torch.zeros(8, dtype=torch.int32)
    end, _, change = refine(sketcher, moves, camera, level, lamp, start, zero, rest, iterations=14)
    assert (start.translation - truth.translation).norm(dim=1).min() > 0.03
    off = (end.translation - truth.translation).norm(dim=1)
    turn = rotation_error(table.assets[asset], end.rotation, truth.rotation.expand(8, 3, 3)).rad2deg()
    assert off.max() < (0.012 if asset == 0 else 0.007)
    assert turn.min() < 4 if asset == 0 else turn.max() < 4
    assert (end.scale / truth.scale).log().abs().max() < (0.1 if asset == 0 else 0.03)
    assert change.max() < -20


def test_the_gain_is_what_the_pictures_say(table, table_engine, sketcher):
    """Wrong blocks without the object less those with it, and no more; the tint is the block's."""
    scene, camera, lamp, level, rest = problem(table, table_engine, 2)
    truth, zero = candidates_of(scene, [0]), torch.zeros(1, dtype=torch.int32)
    _, tint, change = refine(sketcher, Moves(table), camera, level, lamp, truth, zero, rest, iterations=0)
    blocks = [resize(image, (SIZE // 2, SIZE // 2))[0] for image in (level.target.image[None], rest.image)]
    square = (blocks[0] - blocks[1]).square().sum(-1)
    seen = table_engine.render(scene, size=(SIZE // 2, SIZE // 2)).instance_id[0] == 0  # and not its shadow
    wrong = float((square / (square + TAU**2))[seen].sum())
    assert float(change[0]) == pytest.approx(-wrong, rel=0.1)
    assert_close(tint[0], scene.colour[0, 0] ** (1 / 2.2), rtol=0, atol=0.06)


def test_each_over_its_own_rest(table, table_engine, sketcher):
    """Of two equal objects one lies over a rest that has it already: only the other gains."""
    scene, camera, lamp, level, rest = problem(table, table_engine, 3)
    both = Rest(torch.cat([rest.image, level.target.image[None]]), torch.zeros(2, SIZE, SIZE))
    truth, index = candidates_of(scene, [0]).repeat(2), torch.tensor([0, 1], dtype=torch.int32)
    *_, change = refine(sketcher, Moves(table), camera, level, lamp, truth, index, both, iterations=0)
    assert change[0] < -20
    assert change[1] > -1


def test_it_is_never_worse(table, table_engine, sketcher):
    """More iterations, lower cost; the first is that of the start itself."""
    scene, camera, lamp, level, rest = problem(table, table_engine, 2)
    moves = Moves(table)
    start = away(moves, candidates_of(scene, [0]), camera, level, 4.0, 6)
    zero = torch.zeros(6, dtype=torch.int32)
    changes = [
        refine(sketcher, moves, camera, level, lamp, start, zero, rest, iterations=n)[2] for n in (0, 2, 6)
    ]
    assert (changes[1] <= changes[0] + 1e-3).all()
    assert (changes[2] <= changes[1] + 1e-3).all()
    assert (changes[2] < changes[0] - 5).all()


def test_ranges_are_kept(table, table_engine, sketcher):
    """An object at the end of its world, with the picture's farther on, stays at the end."""
    scene, camera, lamp, level, rest = problem(table, table_engine, 3)
    narrow = replace(table, position=(table.position[0], table.position[1], Interval(-0.36, 0.08)))
    start = candidates_of(replace(scene, translation=scene.translation - torch.tensor([0.0, 0.0, 0.04])), [0])
    zero = torch.zeros(1, dtype=torch.int32)
    end, *_ = refine(sketcher, Moves(narrow), camera, level, lamp, start, zero, rest, iterations=12)
    assert float(end.translation[0, 2]) == pytest.approx(0.08, abs=0.004)
    assert float(end.translation[0, 2]) <= 0.08 + 1e-6
