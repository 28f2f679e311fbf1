"""At a glance: the bundled encoder's scenes, what is looked at again, and what happens where it is wrong."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import roma
import torch

from inverse.encoder.network import Encoder
from inverse.encoder.sighting import Sightings
from inverse.encoder.stored import load_encoder, save_encoder
from inverse.glance import Glance
from inverse.least_differences import Fit, Judge
from inverse.losses import Evidence
from inverse.metrics import rotation_error
from inverse.recover import recover
from inverse.search import Search, SearchSettings
from inverse.sketch import Sketcher
from render.engine import open_engine
from scenes import Scene, World
from scenes.scene import matrix
from scenes.weights import WeightsError, weights_beside


@pytest.fixture(scope="module")
def world() -> World:
    return World.load("tabletop")


@pytest.fixture(scope="module")
def encoder(world: World) -> Encoder:
    found = load_encoder(world)
    assert found is not None
    return found


def sampled(world: World, seed: int) -> Scene:
    return world.sample(1, generator=torch.Generator().manual_seed(seed))


def assets_of(scene: Scene) -> list[int]:
    return sorted(a for a in scene.asset[0].tolist() if a >= 0)


def slot_of(world: World, scene: Scene, name: str) -> int:
    """The slot of a scene's asset."""
    return scene.asset[0].tolist().index(world.index(name))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [12, 13])
def test_recovery_begins_with_a_glance_and_ends_exactly(world: World, gl: None, seed: int) -> None:
    truth = sampled(world, 7000 + seed)
    with open_engine("opengl", world) as engine:
        picture = engine.render(truth).rgb[0]
    recovery = recover(picture, world)
    assert recovery.history[0].stage == "glance"
    assert assets_of(recovery.scene) == assets_of(truth)
    assert (
        torch.cdist(recovery.scene.translation[0], truth.translation[0]).amin(0)[truth.asset[0] >= 0].max()
        < 2e-3
    )
    assert recovery.renders < 700


@pytest.mark.slow
def test_what_was_held_possible_is_looked_at_before_the_bank_is_made(
    world: World, encoder: Encoder, gl: None
) -> None:
    """The surest object, read as another asset, is put right by the encoder's second choice."""
    truth = sampled(world, 7000)
    with open_engine("opengl", world) as engine:
        picture = engine.render(truth).rgb[0]
        judge = Judge(engine, world, Evidence(picture))
        search = Search(judge, Sketcher(world))
        glance = Glance(encoder, picture)
        glance.seen = _misread(glance.seen)
        first = judge.fit(glance.first(search.rough))
        assert assets_of(first.scene) != assets_of(truth)
        end = search.improve(first, glance, lambda fit: fit)
    assert assets_of(end.scene) == assets_of(truth)
    assert search.content(end)
    assert not search.sketches.begun


def test_one_object_is_not_seen_twice(world: World, encoder: Encoder, gl: None) -> None:
    """Of two peaks in one another the surer one is an object."""
    with open_engine("opengl", world) as engine:
        glance = Glance(encoder, engine.render(sampled(world, 7000)).rgb[0])
    once = glance._surest()
    glance.seen = glance.seen[[0, *range(len(glance.seen))]]
    assert len(once) > 1
    assert glance._surest() == [0, *(place + 1 for place in once[1:])]


def test_what_a_place_may_hold(world: World, encoder: Encoder, gl: None) -> None:
    """All assets that are likely enough beside the likeliest, that one first, where and as they are seen."""
    with open_engine("opengl", world) as engine:
        picture = engine.render(sampled(world, 7000)).rgb[0]
        glance = Glance(encoder, picture)
        first = glance.first(Judge(engine, world, Evidence(picture)).coarser(64))
    heats = torch.zeros(1, len(world.assets))
    heats[0, 3], heats[0, 1], heats[0, 2] = 0.9, 0.018 * 1.01, 0.018 * 0.99
    glance.seen = replace(glance.seen[[0]], heat=heats.amax(1), assets=heats)
    read = glance.readings(0)
    assert read.asset.tolist() == [3, 1]
    assert torch.allclose(read.translation[0, [0, 2]], first.translation[0, 0, [0, 2]], atol=1e-3)
    assert glance.sure(0)
    assert not glance.sure(4)
    glance.seen = replace(glance.seen, heat=torch.tensor([0.4]))
    assert not glance.sure(0)


def test_gradients_are_asked_where_neither_differences_nor_another_reading_help(world: World) -> None:
    """An object that the picture shows elsewhere is out of reach; one that is right is not followed."""
    truth = sampled(world, 7000)
    wrong = replace(truth, translation=truth.translation + torch.tensor([0.2, 0.0, 0.1]))
    asked = []

    def right(fit: Fit) -> Fit:
        asked.append(fit.total)
        return judge.fit(truth)

    def useless(fit: Fit) -> Fit:
        return fit

    with open_engine("software", world) as engine:
        judge = Judge(engine, world, Evidence(engine.render(truth).rgb[0]))
        search = Search(judge, Sketcher(world))
        best = search._near(judge.fit(truth), right, right)
        assert not asked
        for reread, descended in ((right, useless), (useless, right)):
            found = search._near(judge.fit(wrong), reread, descended)
            assert found.total < best.total + 1.0
    assert len(asked) == 2
    assert asked[0] == asked[1]


def _misread(seen: Sightings) -> Sightings:
    """The surest place with its asset's heat taken by another."""
    assets = seen.assets.clone()
    right = int(assets[0].argmax())
    wrong = (right + 1) % assets.shape[1]
    assets[0, wrong], assets[0, right] = seen.heat[0], 0.5 * seen.heat[0]
    return replace(seen, assets=assets)


def test_what_contradicts_a_scene(world: World) -> None:
    """An object too many, one too few, another asset; not a little of everything, as a light that is off."""
    truth = sampled(world, 7007)
    filled = (truth.asset[0] >= 0).nonzero()[:, 0].tolist()
    slot, theta = filled[0], world.pack(truth)
    theta[0, world.names.index("light.azimuth")] += 0.02
    other = truth.asset.clone()
    other[0, slot] = (other[0, slot] + 1) % len(world.assets)
    with open_engine("software", world, size=(128, 128)) as engine:
        picture = engine.render(truth).rgb[0]
        judge = Judge(engine, world, Evidence(picture))
        search = Search(judge, Sketcher(world))
        right, missing, wrong, dim = (
            judge.fit(s)
            for s in (
                truth,
                truth.without(slot),
                replace(truth, asset=other),
                world.unpack(theta, like=truth),
            )
        )
        search.mismatch.measure(right)
        assert search.mismatch.agrees(right)
        assert search.mismatch.misses(missing)
        assert not search.mismatch.agrees(missing)
        assert search.mismatch.is_wrong(wrong, slot)
        assert not search.mismatch.agrees(wrong)
        assert search.mismatch.agrees(dim)
        assert not search.content(dim)


def test_what_shows_behind_another_object_is_missed(world: World) -> None:
    """Of a tenth of a pyramid behind a carton: all that is wrong is beside the carton, which is large."""
    truth = sampled(world, 93_471)
    with open_engine("software", world, size=(128, 128)) as engine:
        judge = Judge(engine, world, Evidence(engine.render(truth).rgb[0]))
        search = Search(judge, Sketcher(world))
        fit = judge.fit(truth.without(slot_of(world, truth, "pyramid")))
        search.mismatch.measure(judge.fit(truth))
        assert not search.mismatch.quite_wrong(fit)
        assert search.mismatch.crowd(search.mismatch.elsewhere(fit)) < search.settings.object_price
        assert search.mismatch.misses(fit)
        assert not search.mismatch.agrees(fit)


def improved(
    world: World, encoder: Encoder, truth: Scene, start: Scene, settings: SearchSettings
) -> tuple[list[str], Fit]:
    """The moves of search, and its end, from a start after a glance that saw nothing else."""
    moves = list[str]()
    with open_engine("opengl", world, size=(128, 128)) as engine:
        picture = engine.render(truth).rgb[0]
        judge = Judge(engine, world, Evidence(picture))
        search = Search(judge, Sketcher(world), settings=settings)
        moved = search._moved

        def watched(move: Callable[[Fit, float], Fit], fit: Fit) -> Fit:
            moves.append(move.__name__)
            return moved(move, fit)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "_moved", watched)
            glance = Glance(encoder, picture)
            glance.seen = glance.seen[[]]
            end = search.improve(judge.fit(start), glance, lambda fit: fit)
    return moves, end


@pytest.mark.parametrize("patience", [0, SearchSettings.glance_patience])
def test_no_repair_is_begun_after_so_many_pictures_in_vain(
    world: World, encoder: Encoder, gl: None, patience: int
) -> None:
    """A pyramid that the encoder has not seen is born late, or not at all."""
    truth = sampled(world, 93_471)
    start = truth.without(slot_of(world, truth, "pyramid"))
    moves, end = improved(world, encoder, truth, start, SearchSettings(glance_patience=patience))
    assert ("_late_birth" in moves) == bool(patience)
    assert (assets_of(end.scene) == assets_of(truth)) == bool(patience)


def test_what_is_missing_is_born_before_others_are_moved(world: World, encoder: Encoder, gl: None) -> None:
    """A plate behind a bottle; the encoder has not seen it."""
    truth = sampled(world, 97_330)
    start = truth.without(slot_of(world, truth, "plate"))
    moves, end = improved(world, encoder, truth, start, SearchSettings())
    assert moves[:1] == ["_late_birth"]
    assert assets_of(end.scene) == assets_of(truth)


def test_a_false_pose_that_no_small_step_betters_is_left(world: World, encoder: Encoder, gl: None) -> None:
    """A block half behind others, 1 cm beside its place and turned by 12 degrees: a least of the cost."""
    truth = sampled(world, 99_041)
    slot = slot_of(world, truth, "block")
    translation, rotation = truth.translation.clone(), truth.rotation.clone()
    translation[0, slot] += torch.tensor([0.0072, 0.0, 0.0043])
    rotation[0, slot] = torch.tensor([0.0, -0.7347, 0.0, 0.6784])
    start = replace(truth, translation=translation, rotation=rotation)
    _, end = improved(world, encoder, truth, start, SearchSettings())
    error = (end.scene.translation - truth.translation)[0, slot].norm()
    assert float(error) < 0.001  # 0.005 if it is not sketched in other turns


def test_no_gradients_are_followed_where_an_object_is_missing(
    world: World, encoder: Encoder, gl: None
) -> None:
    """Of a crowd behind a bottle the encoder overlooks some: they are born before anything is followed."""
    truth = sampled(world, 100_279)
    with open_engine("opengl", world, size=(128, 128)) as engine:
        picture = (255.0 * engine.render(truth).rgb[0]).round() / 255.0
        judge = Judge(engine, world, Evidence(picture))
        glance = Glance(encoder, picture)
        start = judge.fit(glance.first(judge.coarser(64)))
        end = Search(judge, Sketcher(world)).improve(start, glance, lambda fit: pytest.fail("followed"))
    assert assets_of(end.scene) == assets_of(truth)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [99_789, 100_195], ids=["two for one", "one for another"])
def test_what_was_read_amiss_behind_others_is_read_anew(world: World, gl: None, seed: int) -> None:
    """Half a pyramid of the table's colour, like a smaller pyramid and a bottle; an eighth of a pear."""
    truth = sampled(world, seed)
    with open_engine("opengl", world, size=(128, 128)) as engine:
        picture = (255.0 * engine.render(truth).rgb[0]).round() / 255.0
    assert assets_of(recover(picture, world, engine="opengl").scene) == assets_of(truth)


def test_a_small_turn_that_least_differences_do_not_find_is_found(world: World, gl: None) -> None:
    """A mug 11 degrees beside its turn, its handle behind it: every turn between looks worse."""
    truth = sampled(world, 99_342)
    slot, turn = slot_of(world, truth, "mug"), math.radians(11.0) / 2.0
    aside = torch.tensor([0.0, math.sin(turn), 0.0, math.cos(turn)])
    rotation = truth.rotation.clone()
    rotation[0, slot] = roma.quat_product(aside, rotation[0, slot])
    with open_engine("opengl", world, size=(128, 128)) as engine:
        picture = (255.0 * engine.render(truth).rgb[0]).round() / 255.0
        judge = Judge(engine, world, Evidence(picture))
        search = Search(judge, Sketcher(world))
        start = search.settle(judge.fit(replace(truth, rotation=rotation)))
        end = search._spins(start)
    mug = world.assets[world.index("mug")]
    error = [
        rotation_error(mug, matrix(f.scene.rotation[0]), matrix(truth.rotation[0]))[slot]
        for f in (start, end)
    ]
    assert math.degrees(error[0]) > 5.0
    assert math.degrees(error[1]) < 1.0
    assert end.total < start.total


@pytest.mark.slow
def test_an_encoder_that_knows_nothing_does_no_harm() -> None:
    """The engine's picture says that it is wrong, and search takes over."""
    cube = World.load("cube")
    truth = sampled(cube, 4)
    torch.manual_seed(0)
    with open_engine("software", cube) as engine:
        picture = engine.render(truth).rgb[0]
    recovery = recover(picture, cube, encoder=Encoder(cube).eval(), engine="software")
    turned = rotation_error(cube.assets[0], matrix(recovery.scene.rotation[0]), matrix(truth.rotation[0]))
    assert recovery.history[0].stage == "glance"
    assert float(turned.max()) < 0.01


def test_weights_beside_a_changed_world_are_not_used(tmp_path: Path) -> None:
    """Search goes on alone, and the recovery says why; asked for, they are refused."""
    cube = World.load("cube")
    torch.manual_seed(0)
    text = Path(cube.source).read_text()
    (tmp_path / "world.toml").write_text(text.replace("distance = 4", "distance = 4.4"))
    changed = World.load(str(tmp_path))
    save_encoder(weights_beside(changed, "encoder"), Encoder(cube), {})
    with open_engine("software", changed) as engine:
        picture = engine.render(sampled(changed, 1)).rgb[0]
    recovery = recover(picture, changed, engine="software")
    assert recovery.history[0].stage != "glance"
    assert any("camera.distance is 4.4, was 4" in m for m in recovery.messages)
    with pytest.raises(WeightsError, match=re.escape("camera.distance is 4.4, was 4")):
        load_encoder(changed)
    weights_beside(changed, "encoder").unlink()
    assert load_encoder(changed) is None


def test_an_encoder_comes_back_from_its_file(world: World, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = Encoder(world, (16, 16, 24, 32)).eval()
    save_encoder(tmp_path / "encoder.safetensors", first, {"seed": 0})
    again = load_encoder(world, tmp_path / "encoder.safetensors")
    assert again is not None
    picture = torch.rand(1, 128, 128, 3)
    with torch.no_grad():
        for a, b in zip(first(picture), again(picture), strict=True):
            torch.testing.assert_close(a, b, atol=5e-3, rtol=5e-3)
    assert not any(p.requires_grad for p in again.parameters())
