"""Rereading: objects that an encoder mistook are put right by sketches, and the engine decides."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from inverse.encoder.stored import load_encoder
from inverse.glance import Glance
from inverse.least_differences import Fit, Judge
from inverse.losses import Evidence
from inverse.metrics import rotation_error
from inverse.rereading import Rereading
from inverse.search import Search
from inverse.sketch import Sketcher
from render.engine import Engine, open_engine
from scenes import Scene, World
from scenes.scene import matrix

PRICE = 4.0


@pytest.fixture(scope="module")
def world() -> World:
    return World.load("street")


class Seen:
    """A picture of an SUV that the border cuts off, and of a cone; what the encoder sees in it."""

    def __init__(self, world: World, engine: Engine) -> None:
        encoder = load_encoder(world)
        assert encoder is not None
        self.suv, self.cone = world.index("suv"), world.index("cone")
        cone = placed(world.empty(), 1, self.cone, 0.0, [1.5, 0.0, -11.0])
        self.truth = placed(cone, 0, self.suv, 326.0, [-3.9, 0.0, -7.4])
        picture = engine.render(self.truth).rgb[0]
        self.judge = Judge(engine, world, Evidence(picture))
        self.search = Search(self.judge, Sketcher(world))
        self.glance = Glance(encoder, picture)
        assert self.glance.seen.assets.argmax(1)[:2].tolist() == [self.suv, self.cone]
        self.right = self.judge.fit(self.truth)
        self.search.mismatch.measure(self.right)
        self.rereading = Rereading(
            self.judge, self.search.rough, self.search.sketches, self.glance, self.search.mismatch, PRICE
        )

    def first(self, scene: Scene, places: dict[int, int]) -> Fit:
        self.glance.places = places
        return self.rereading.first(self.judge.fit(scene))


def placed(scene: Scene, slot: int, asset: int, degrees: float, place: list[float]) -> Scene:
    """The scene with an orange object of natural size in a slot."""
    half = math.radians(degrees) / 2
    told = {
        "asset": asset,
        "rotation": [0.0, math.sin(half), 0.0, math.cos(half)],
        "translation": place,
        "scale": 1.0,
        "colour": [0.7, 0.25, 0.05],
    }
    changed = {}
    for name, value in told.items():
        changed[name] = getattr(scene, name).clone()
        changed[name][0, slot] = torch.tensor(value).to(changed[name])
    return replace(scene, **changed)


@pytest.fixture(scope="module")
def seen(world: World) -> Iterator[Seen]:
    with open_engine("software", world) as engine:
        yield Seen(world, engine)


@pytest.mark.slow
def test_an_object_misread_in_everything_is_put_right(seen: Seen, world: World) -> None:
    """Asset, heading, place and colour are wrong together; one by one none is better than it was."""
    misread = placed(seen.truth, 0, world.index("pickup"), 159.0, [-4.0, 0.0, -8.8])
    misread.colour[0, 0] = torch.tensor([0.1, 0.5, 0.1])
    wrong = seen.judge.fit(misread)
    found = seen.first(misread, {0: 0, 1: 1})
    assert int(found.scene.asset[0, 0]) == seen.suv
    assert float((found.scene.translation - seen.truth.translation)[0, 0].norm()) < 0.5
    assert found.total < 0.5 * wrong.total
    assert torch.equal(found.scene.translation[0, 1], seen.truth.translation[0, 1])


def test_what_is_not_there_is_left_out(seen: Seen, world: World) -> None:
    """Its place may hold another object still, and is looked at again."""
    ghost = placed(seen.truth, 2, world.index("van"), 40.0, [3.5, 0.0, -14.0])
    found = seen.first(ghost, {0: 0, 1: 1, 2: 2})
    assert found.scene.asset[0].tolist() == seen.truth.asset[0].tolist()
    assert seen.glance.places == {0: 0, 1: 1}


@pytest.mark.slow
def test_an_overlooked_object_is_found_where_it_was_doubtful(seen: Seen) -> None:
    alone = seen.truth.without(0)
    found = seen.first(alone, {1: 1})
    assert int(found.scene.asset[0, 0]) == seen.suv
    assert seen.glance.places == {0: 0, 1: 1}
    assert found.total < 0.5 * seen.judge.fit(alone).total


def test_nothing_is_added_to_what_is_right(seen: Seen) -> None:
    seen.glance.places = {0: 0, 1: 1}
    assert seen.rereading.again(seen.right) is seen.right
    assert seen.first(seen.truth, {0: 0, 1: 1}).total == seen.right.total


def test_one_more_object_must_save_its_price(seen: Seen) -> None:
    alone = seen.judge.fit(seen.truth.without(0))
    saved = alone.total - seen.right.total
    assert seen.rereading._better(seen.right, alone, saved + 1.0) is alone
    assert seen.rereading._better(seen.right, alone, saved - 1.0) is seen.right


@pytest.mark.slow
def test_another_asset_is_refined_before_it_is_judged(seen: Seen, world: World) -> None:
    seen.glance.places = {0: 0, 1: 1}
    other = seen.judge.fit(placed(seen.truth, 0, world.index("pickup"), 326.0, [-3.9, 0.0, -7.4]))
    found = seen.rereading.again(other)
    assert int(found.scene.asset[0, 0]) == seen.suv
    assert found.total < 0.5 * other.total


def test_other_readings_are_no_two_alike(seen: Seen, world: World) -> None:
    """By asset, or by a turn of 30 degrees; what the fit holds already is not among them."""
    seen.glance.places = {0: 0, 1: 1}
    others = seen.rereading.others(seen.right, 0)
    scenes = [seen.truth, *(scene for scene, _ in others)]
    costs = [cost for _, cost in others]
    assert len(others) > 1
    assert costs == sorted(costs)
    for a, b in combinations(scenes, 2):
        turn = rotation_error(world.assets[seen.suv], matrix(a.rotation[0, 0]), matrix(b.rotation[0, 0]))
        assert a.asset[0, 0] != b.asset[0, 0] or float(turn) > math.radians(30.0)


def test_only_what_costs_nothing_dies_before_the_rest_is_tried(seen: Seen) -> None:
    """An object out of sight dies; one of many pixels is not even looked at under another light."""
    unseen = seen.judge.fit(placed(seen.truth, 2, seen.cone, 0.0, [-5.0, 0.0, -7.0]))
    assert not bool((unseen.instance_id == 2).any())
    found = seen.search._deaths(unseen, PRICE, most=PRICE)
    assert found.scene.asset[0].tolist() == seen.truth.asset[0].tolist()
    before = seen.judge.renders
    assert seen.search._deaths(seen.right, PRICE, most=PRICE) is seen.right
    assert seen.judge.renders == before + 2
