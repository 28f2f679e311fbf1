"""Verdicts: what is said of objects that agree with the picture, that do not, and that are hardly seen."""

import math
from dataclasses import replace

import pytest
import torch

from inverse.least_differences import Judge
from inverse.losses import Evidence
from inverse.turns import turn_between
from inverse.verdict import filled_slots, found_objects, same_picture


def table_scene(table, assets=(0, 3)):
    scene = table.sample(generator=torch.Generator().manual_seed(0))
    place = torch.tensor([[[-0.12, 0.0, 0.1], [0.13, 0.0, -0.05]]])
    asset = torch.tensor([list(assets)])
    tints = torch.tensor(
        [[0.6, 0.3, 0.2] if table.assets[a].colour_free else [1.0, 1.0, 1.0] for a in assets]
    )
    return replace(scene, asset=asset, translation=place, colour=tints[None])


def judged(engine, scene, image, mask=None):
    judge = Judge(engine, engine.world, Evidence(image, mask))
    return judge, judge.fit(scene)


def verdicts(engine, scene, image, mask=None):
    judge, fit = judged(engine, scene, image, mask)
    return {o.slot: o for o in found_objects(judge, fit, 0.0, {})}


def test_what_agrees_is_explained(table, table_engine):
    scene = table_scene(table)
    found = verdicts(table_engine, scene, table_engine.render(scene).rgb[0])
    for slot, name in ((0, "mug"), (1, "book")):
        o = found[slot]
        assert (o.asset, o.verdict, o.reason) == (name, "explained", "")
        assert o.presence > 0.9
        assert o.visible_fraction == pytest.approx(1.0, abs=0.02)
    assert set(found[0].uncertainty) == {"x", "z", "yaw", "scale", "r", "g", "b"}
    assert set(found[1].uncertainty) == {"x", "z", "yaw", "scale"}
    assert all(v >= 0 for o in found.values() for v in o.uncertainty.values())


def test_what_is_not_there_is_unexplained(table, table_engine):
    """A book that the picture has not: it does without. The mug beside it is explained."""
    scene = table_scene(table)
    found = verdicts(table_engine, scene, table_engine.render(scene.without(1)).rgb[0])
    assert (found[1].verdict, found[1].reason) == (
        "unexplained",
        "the picture is as well explained without it",
    )
    assert found[1].presence < 0.1
    assert found[0].verdict == "explained"


def test_wrong_colours_are_unexplained(table, table_engine):
    """A mug of quite another tint; where a mask says that its outline is right, that much is said."""
    scene = table_scene(table)
    frame = table_engine.render(scene)
    tints = scene.colour.clone()
    tints[0, 0] = torch.tensor([0.05, 0.9, 0.9])
    wrong = replace(scene, colour=tints)
    plain = verdicts(table_engine, wrong, frame.rgb[0])[0]
    assert plain.verdict == "unexplained"
    mask = (frame.instance_id[0] < 2).float()
    masked = verdicts(table_engine, wrong, frame.rgb[0], mask)[0]
    assert (masked.verdict, masked.reason) == ("doubtful", "its outline agrees, its colours do not")


def test_a_speck_is_doubtful(table, table_engine):
    """What shows a few pixels agrees with much."""
    scene = table_scene(table)
    scene.translation[0, 1] = torch.tensor([-0.12, 0.0, -0.1])
    scene.scale[0] = torch.tensor([1.25, 0.8])
    frame = table_engine.render(scene)
    seen = int((frame.instance_id == 1).sum())
    assert 4 < seen < 30
    found = verdicts(table_engine, scene, frame.rgb[0])
    assert (found[1].verdict, found[1].reason) == ("doubtful", f"only {seen} pixels of it are seen")
    assert found[1].visible_fraction < 0.6


def test_other_poses_make_it_doubtful(table, table_engine):
    scene = table_scene(table)
    judge, fit = judged(table_engine, scene, table_engine.render(scene).rgb[0])
    first, second = found_objects(judge, fit, 0.0, {0: 1, 1: 3})
    assert first.reason == "ambiguous: 1 other pose gives the same picture"
    assert second.reason == "ambiguous: 3 other poses give the same picture"


def turned_mug(table, degrees):
    scene, half = table_scene(table), torch.tensor(degrees / 2).deg2rad()
    scene.rotation[0, 0] = torch.stack([half * 0, half.sin(), half * 0, half.cos()])
    return scene


@pytest.mark.parametrize(("degrees", "alike"), [(90.0, True), (0.0, False)], ids=["behind", "beside"])
def test_a_mug_with_its_handle(table, table_engine, degrees, alike):
    """Behind the mug it shows little: the mug may be turned. Beside it, or for a book, one turn is right."""
    scene = turned_mug(table, degrees)
    judge, fit = judged(table_engine, scene, table_engine.render(scene, size=(128, 128)).rgb[0])
    best, hypotheses, counts = same_picture(judge, fit)
    assert best is fit
    assert (0 in counts) == alike
    assert 1 not in counts
    assert len(hypotheses) == sum(counts.values())
    for other in hypotheses:
        assert other.note.startswith("mug turned by")
        assert other.loss * fit.cost.numel() < fit.total + 8.0


def test_the_best_of_turns_that_look_alike(table, table_engine):
    """A handle behind its mug shows little, but something: where it is turned a little, it is turned back."""
    right = turned_mug(table, 90.0)
    image = table_engine.render(right, size=(128, 128)).rgb[0]
    judge, wrong = judged(table_engine, turned_mug(table, 106.0), image)
    best, hypotheses, counts = same_picture(judge, wrong)
    assert wrong.total > 2.0
    assert best.total < 0.2 * wrong.total
    assert turn_between(judge, best, 0, [judge.fit(right)]) < math.radians(1.0)
    assert counts == {0: len(hypotheses)}
    assert any(torch.equal(h.scene.rotation, wrong.scene.rotation) for h in hypotheses)


def test_symmetry_is_no_other_pose(table, table_engine):
    """A quarter turn leaves a block the same, any turn a bowl: nothing about them is ambiguous."""
    scene = table_scene(table, assets=(1, 2))
    judge, fit = judged(table_engine, scene, table_engine.render(scene).rgb[0])
    assert same_picture(judge, fit) == (fit, (), {})


def test_filled_slots(table, table_engine):
    scene = table_scene(table).without(0)
    assert filled_slots(judged(table_engine, scene, torch.zeros(64, 64, 3))[1]) == [1]
