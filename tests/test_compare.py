"""Strategies side by side: problems, agreement, races, and the whole on a small budget."""

import csv
import json
from dataclasses import replace

import imageio.v3 as iio
import pytest
import torch
from small_world import small_world
from torch.testing import assert_close

from inverse.compare import Settings, compare, methods, opened
from inverse.compare.agreement import agreements, pixel_steps
from inverse.compare.cost import Counted, cost
from inverse.compare.ledger import Ledger
from inverse.compare.problems import KINDS, Off, around, draw
from inverse.compare.race import Budget, Stop, race
from inverse.compare.truth import Truth
from render import open_engine
from scenes.files import OutputError

SIZE = (24, 32)


@pytest.fixture(scope="module")
def engine():
    with Counted(open_engine("software", small_world(placement="upright"), size=SIZE)) as e:
        yield e


@pytest.fixture(scope="module")
def problems(engine):
    return draw(engine.world, engine, 3, off=Off(), seed=1, size=SIZE)


# problems


def test_an_opened_world_has_every_kind_free(cube):
    assert set(cube.groups) == {"rotation"}
    world = opened(cube)
    assert set(world.groups) == set(KINDS)
    assert [a.name for a in world.assets] == [a.name for a in cube.assets]
    middle = world.empty()
    assert_close(middle.camera.translation, cube.empty().camera.translation)
    assert_close(middle.light.direction, cube.empty().light.direction)


def test_what_is_free_already_keeps_its_range(table):
    world = opened(table)
    assert world.position == table.position
    assert world.light == table.light
    assert set(world.groups) == set(KINDS)


def test_starts_are_off_by_what_is_asked(engine):
    problems = draw(engine.world, engine, 4, off=Off(turn_degrees=20.0, shift=0.03, others=0.1), seed=0)
    degrees, share = Truth(engine, engine.world, problems.truth, SIZE).errors(problems.start)
    balls = (problems.truth.asset[:, 0] == 1) & (problems.truth.asset[:, 1:] < 0).all(1)
    assert_close(degrees[~balls], torch.full_like(degrees[~balls], 20.0), atol=1e-2, rtol=0)
    # within their range; an anchor off the origin moves with the size too
    assert ((share > 0.005) & (share < 0.04)).all()
    world = engine.world
    moved = (world.pack(problems.start) - world.pack(problems.truth)).abs() / (world.high - world.low)
    scales = torch.tensor([group == "scale" for group in world.groups])
    assert moved[:, scales].max() <= 0.1 + 1e-5
    assert moved[:, scales].median() > 0.09


def test_problems_do_not_depend_on_how_many_are_drawn(engine, problems):
    few = draw(engine.world, engine, 2, off=Off(), seed=1, size=SIZE)
    assert torch.equal(few.picture, problems.picture[:2])
    assert torch.equal(few.start.translation, problems.start.translation[:2])
    assert not torch.equal(draw(engine.world, engine, 1, off=Off(), seed=2).picture, few.picture[:1])


def test_problems_around_one_picture(engine, problems):
    image = problems.picture[0]
    same = around(engine.world, problems.truth[0], image, 3, off=Off(), seed=0, size=(12, 16))
    assert same.picture.shape == (3, 12, 16, 3)
    assert torch.equal(same.picture[0], same.picture[2])
    assert not torch.equal(same.start.translation[0], same.start.translation[1])


# agreement and cost


def test_agreement_is_of_each_kind(engine, problems):
    steps = pixel_steps(engine, problems)
    gradient = torch.randn(steps.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for factor, cosine in ((2.0, 1.0), (-0.5, -1.0)):
        rows = agreements(problems, factor * gradient, gradient, steps)
        kinds = set(engine.world.groups)
        assert all({a.kind for a in row} <= kinds for row in rows)
        assert {a.kind for row in rows for a in row} == kinds
        for agreement in (a for row in rows for a in row):
            assert agreement.cosine == pytest.approx(cosine)
            assert agreement.length == pytest.approx(abs(factor))
    nothing = agreements(problems, torch.zeros_like(gradient), gradient, steps)
    assert all(a.cosine == 0.0 and a.length == 0.0 for row in nothing for a in row)


def test_cost_counts_pictures_and_memory(engine, problems):
    kept = []

    def job():
        kept.append(torch.ones(4_000_000))
        engine.render(problems.start)
        kept.clear()

    spent = cost(engine, job)
    assert spent.renders == 3
    assert spent.seconds > 0.0
    assert spent.megabytes is None or 15.0 < spent.megabytes < 30.0


# races


def test_a_race_judges_where_each_problem_was(engine, problems):
    """One problem is right after 4 pictures, one after 8 and one never."""
    world, when = engine.world, (4, 8, 100)
    start, end = world.pack(problems.start), world.pack(problems.truth)

    def runner(engine, problems, budget, progress):
        return [
            [Stop(n, 0.1 * n, end[b] if n >= when[b] else start[b]) for n in range(1, 21)] for b in range(3)
        ]

    done = race(engine, problems, Budget("renders", 10), runner, lambda spent: None)
    right = dict(done.laps)
    assert right[0.0] == 0.0
    assert [right[n] for n in (3.0, 4.0, 7.0, 8.0, 10.0)] == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert done.degrees[0] == pytest.approx(0.0, abs=1e-2)
    assert done.psnr[0] > 40.0 > done.psnr[2]
    assert_close(torch.tensor(done.theta), torch.stack([end[0], end[1], start[2]]))
    slow = race(engine, problems, Budget("seconds", 0.5), runner, lambda spent: None)
    assert slow.laps[-1] == (0.5, pytest.approx(1 / 3))


# the ledger


def test_a_ledger_keeps_what_is_measured(tmp_path):
    ledger = Ledger(tmp_path, {"seed": 0})
    assert ledger.get("a", lambda: (1.5, 2)) == [1.5, 2]
    again = Ledger(tmp_path, {"seed": 0})
    assert again.get("a", lambda: pytest.fail("measured twice")) == [1.5, 2]
    with pytest.raises(ZeroDivisionError):
        again.get("b", lambda: 1 / 0)
    assert set(json.loads((tmp_path / "measurements.json").read_text())["rows"]) == {"a"}
    with pytest.raises(OutputError, match=r"holds a comparison of other settings \(seed\)"):
        Ledger(tmp_path, {"seed": 1})
    (tmp_path / "measurements.json").write_text("{}")
    with pytest.raises(OutputError, match="is no comparison's file"):
        Ledger(tmp_path, {"seed": 0})


# the whole


SMALL = Settings(scenes=2, problems=2, renders=12, seconds=0.05, height=24, samples=2, engine="software")


def test_a_comparison_is_written_and_goes_on_where_it_stopped(tmp_path):
    """Interrupted in its fourth measurement, it begins with that one; then all files are there."""
    world = small_world(placement="upright")
    few = [m for m in methods() if m.name in ("manual, edge", "score", "CMA-ES")]

    def stopped(*_):
        raise KeyboardInterrupt

    broken = [few[0], replace(few[1], run=stopped), few[2]]
    with pytest.raises(KeyboardInterrupt):
        compare(world, broken, tmp_path, settings=SMALL)
    kept = json.loads((tmp_path / "measurements.json").read_text())["rows"]
    assert "manual, edge: race on seconds" in kept
    assert not any(name.startswith("score: race") for name in kept)

    results = compare(world, few, tmp_path, settings=SMALL)
    rows = json.loads((tmp_path / "measurements.json").read_text())["rows"]
    assert all(rows[name] == kept[name] for name in kept)
    assert [r.name for r in results] == [m.name for m in few]
    edge, score, evolution = results
    assert {a.kind for a in edge.agreements} == set(KINDS)
    assert (edge.cost.renders, evolution.cost) == (1, None)
    assert score.cost.renders == 65
    text = (tmp_path / "comparison.md").read_text()
    assert all(f"| {m.name} |" in text for m in few)
    with (tmp_path / "comparison.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["strategy"] for row in table] == [m.name for m in few]
    assert float(table[0]["position_cosine"]) == pytest.approx(edge.of("position")[0])
    for name in ("curves.png", "strategies.png"):
        assert iio.imread(tmp_path / name).std() > 10
