"""Differences: slopes of the whole picture, made of parts of it."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from inverse.jacobian import Differences, Part, parts_of, together
from inverse.least_differences import Judge
from inverse.losses import Evidence
from scenes import World


@pytest.fixture(scope="module")
def judge(table, table_engine):
    return Judge(table_engine, table, Evidence(torch.zeros(64, 64, 3)))


@pytest.fixture(scope="module")
def fit(table, judge):
    """The mug and the book, which stand apart."""
    scene = table.sample(generator=torch.Generator().manual_seed(0))
    scene.asset[0] = torch.tensor([0, 3])
    scene.translation[0] = torch.tensor([[-0.15, 0.0, 0.05], [0.15, 0.0, -0.1]])
    return judge.fit(scene)


def active(table, fit):
    return table.active(fit.scene)[0].nonzero()[:, 0]


def test_parts_hold_what_an_object_changes(table, judge, fit):
    """Its shadow too; an object takes a part of the picture, the light all of it."""
    parts = parts_of(judge, fit, active(table, fit))
    assert [{table.slot_of[c] for c in p.columns.tolist()} for p in parts] == [{-1}, {0}, {1}]
    assert parts[0].window == judge.window
    for slot, part in enumerate(parts[1:]):
        changed = (judge.fit(fit.scene.without(slot)).image - fit.image).abs().amax(-1) > 0.03
        assert int(changed.sum()) > 1.1 * int((fit.instance_id == slot).sum())
        assert int(part.window.cut(changed).sum()) == int(changed.sum())
        assert part.window.size < judge.window.size


def test_slopes_are_those_of_whole_pictures(table, judge, fit):
    columns = active(table, fit)
    slopes = Differences(judge, parts_of(judge, fit, columns), 0.5).slopes(fit)
    assert sorted(slopes.columns.tolist()) == columns.tolist()
    whole = Differences(judge, [Part(c[None], judge.window) for c in slopes.columns], 0.5).slopes(fit)
    for c, part, all_of_it in zip(slopes.columns.tolist(), slopes.values, whole.values, strict=True):
        error = (part - all_of_it).norm() / all_of_it.norm()
        # the rest lies where the object's removal changes less than 0.03, and in other channels of a tint
        assert error < 0.1, table.names[c]


def test_slopes_by_hand(table, judge, fit):
    """Central differences of what moves outlines, one-sided ones of brightness, down where it ends above."""
    theta, steps = table.pack(fit.scene), judge.steps(fit.scene, 0.5)
    for name, sides in (("object1.x", (1, -1)), ("object0.r", (1, 0)), ("light.ambient", (1, 0))):
        c = table.names.index(name)
        h = torch.zeros_like(theta)
        h[0, c] = steps[c]
        ahead, behind = (judge.fit(table.unpack(theta + s * h, like=fit.scene)).image for s in sides)
        expected = (ahead - behind) / (sides[0] - sides[1])
        part = [Part(torch.tensor([c]), judge.window)]
        assert_close(Differences(judge, part, 0.5).slopes(fit).values[0], expected.flatten())
    theta[0, c] = table.high[c]
    end = judge.fit(table.unpack(theta, like=fit.scene))
    down = end.image - judge.fit(table.unpack(theta - h, like=fit.scene)).image
    slope = Differences(judge, part, 0.5).slopes(end).values[0]
    assert_close(slope, down.flatten(), rtol=1e-3, atol=1e-4)


def test_what_has_hardly_moved_keeps_its_slopes(table, judge, fit):
    """Only what has moved is drawn again, unless all is to be looked at anew."""
    columns = active(table, fit)
    parts = parts_of(judge, fit, columns)
    known = Differences(judge, parts, 0.5).slopes(fit)
    theta, steps = table.pack(fit.scene), judge.steps(fit.scene, 0.5)
    for name, share in (("object0.yaw", 0.1), ("object1.yaw", 2.0)):
        theta[0, table.names.index(name)] += share * steps[table.names.index(name)]
    moved = replace(judge.fit(table.unpack(theta, like=fit.scene)), slopes=known)
    drawn = judge.renders
    some = Differences(judge, parts, 0.5).slopes(moved)
    alone = judge.renders - drawn
    Differences(judge, parts[2:], 0.5).slopes(replace(moved, slopes=None))
    assert judge.renders - drawn == 2 * alone
    kept = torch.tensor([table.slot_of[c] != 1 for c in some.columns.tolist()])
    assert torch.equal(some.values[kept], known.values[kept])
    assert torch.equal(some.theta[kept][0], table.pack(fit.scene)[0])
    assert not torch.equal(some.values[~kept], known.values[~kept])
    assert torch.equal(some.theta[~kept][0], theta[0])
    anew = Differences(judge, parts, 0.5).slopes(moved, anew=True)
    assert not torch.equal(anew.values[kept], known.values[kept])


def test_tints_take_one_picture():
    world = World.load("tabletop")
    columns = [world.names.index(f"object2.{n}") for n in ("x", "r", "g", "b", "yaw")]
    assert together(world, columns) == [[0], [4], [1, 2, 3]]
    assert together(world, columns[:1]) == [[0]]
