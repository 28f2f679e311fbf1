"""Imitators: any number of objects in any order, exact gradients of themselves, weights that stay."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_world import small_world
from torch.testing import assert_close

import scenes
from inverse.compare.problems import opened
from render import differentiable, open_engine
from render.surrogate import Imitator, load_imitator, save_imitator
from render.surrogate.imitator.boxes import Boxes
from render.surrogate.imitator.composite import compose
from scenes import World
from scenes.weights import WeightsError
from scenes.world import Interval

SIZE = (24, 32)
FITTED = sorted(p.parent.name for p in Path(scenes.__file__).parent.glob("*/surrogate.safetensors"))


def imitator(world, size=SIZE, seed=0):
    """An untrained network in double precision that draws something of everything."""
    torch.manual_seed(seed)
    network = Imitator(world, size)
    network.standardise(sample(world, 64))
    for parameter in network.film.out.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network.double()


def sample(world, count, seed=0):
    return world.sample(count, generator=torch.Generator().manual_seed(seed))


def double(world, scene):
    """The scenes in float64."""
    return world.unpack(world.pack(scene).double(), like=replace(scene.to(torch.float64), asset=scene.asset))


def differences(function, x, step=1e-6):
    """Central differences of a function of x [P] that gives one number."""
    steps = step * torch.eye(len(x), dtype=x.dtype)
    return torch.stack([(function(x + s) - function(x - s)) / (2 * step) for s in steps])


@pytest.fixture(scope="module")
def worlds(cube, table):
    """Upright with scenery, any rotation without it, and free of ids of anything bundled."""
    return {"table": table, "cube": cube, "small": small_world()}


@pytest.fixture(scope="module", params=["table", "cube", "small"])
def world(request, worlds):
    return worlds[request.param]


# what is drawn


def test_pictures_are_finite_and_of_the_size_asked_for(world):
    scene, network = sample(world, 3), imitator(world).float()
    for size in (None, (16, 24)):
        picture = network(scene, size)
        assert picture.shape == (3, *(size or SIZE), 3)
        assert picture.dtype == torch.float32
        assert picture.min() >= 0.0
        assert picture.max() <= 1.0
    assert network(scene[:0]).shape == (0, *SIZE, 3)


def test_the_order_of_slots_does_not_matter(table):
    world = replace(table, count=(5, 5), separate=False)
    scene, network = double(world, sample(world, 4)), imitator(world)
    order = torch.tensor([3, 0, 4, 1, 2])
    mixed = {n: getattr(scene, n)[:, order] for n in ("asset", "rotation", "translation", "scale", "colour")}
    assert_close(network(replace(scene, **mixed)), network(scene), rtol=0.0, atol=1e-12)
    alone = network(
        replace(scene, asset=scene.asset[:, :1], **{n: t[:, :1] for n, t in mixed.items() if n != "asset"})
    )
    assert (alone - network(scene)).abs().max() > 0.05


def test_an_empty_slot_changes_nothing_and_is_not_drawn(world, monkeypatch):
    """Whatever numbers it holds; also with gradients."""
    scene, network = double(world, sample(world, 3)), imitator(world)
    full = network(scene)
    padding = {
        n: torch.cat([getattr(scene, n), torch.full_like(getattr(scene, n)[:, :1], float("nan"))], 1)
        for n in ("rotation", "translation", "scale", "colour")
    }
    asset = torch.cat([scene.asset, torch.full_like(scene.asset[:, :1], -1)], 1)
    leaf = padding["translation"].requires_grad_()
    seen = []
    monkeypatch.setattr(
        network.film, "forward", lambda *a: seen.append(a) or type(network.film).forward(network.film, *a)
    )
    wide = network(replace(scene, **padding, asset=asset))
    assert torch.equal(wide, full)
    assert len(seen[0][1]) == int((scene.asset >= 0).sum())
    (gradient,) = torch.autograd.grad(wide.sum(), leaf)
    assert gradient[:, :-1].isfinite().all()
    assert (gradient[:, -1] == 0).all()


def test_objects_hide_by_depth_softly():
    """Against the formula, pixel by pixel; nothing hides itself."""
    generator = torch.Generator().manual_seed(0)
    dense_alpha = torch.rand(3, 4, generator=generator).double()  # [slot, pixel]
    dense_alpha[1, 2] = 0.0
    depth = torch.rand(3, 4, generator=generator).double()
    colour, backdrop = torch.rand(3, 4, 3, generator=generator).double(), torch.rand(4, 3).double()
    slot, pixel = (dense_alpha > 0).nonzero(as_tuple=True)
    softness = torch.tensor(0.1).double()
    picture, coverage = compose(
        colour[slot, pixel], dense_alpha[slot, pixel], depth[slot, pixel], backdrop,
        pixel=pixel, slot=slot, softness=softness,
    )  # fmt: skip
    for p in range(4):
        weights = []
        for i in range(3):
            weight = dense_alpha[i, p].clone()
            for j in set(range(3)) - {i}:
                weight *= 1 - dense_alpha[j, p] * torch.sigmoid((depth[i, p] - depth[j, p]) / softness)
            weights.append(weight)
        left = (1 - dense_alpha[:, p]).prod()
        wanted = sum(w * c for w, c in zip(weights, colour[:, p], strict=True)) + left * backdrop[p]
        assert_close(picture[p], wanted / (sum(weights) + left))
        assert_close(coverage[p], 1 - left)


def test_turns_that_look_the_same_give_the_same_picture(table):
    """A bowl may turn as it likes, a block by a quarter; a mug and a book may not."""
    network = imitator(table)
    assert Boxes(table).order.tolist() == [1.0, 0.0, 4.0, 1.0]  # mug, bowl, block, book
    scene = double(table, sample(table, 8))
    scene = replace(scene, asset=torch.arange(4).repeat(4).view(8, 2))
    for asset, angle, same in ((1, 0.4, True), (2, torch.pi / 2, True), (2, 0.4, False), (0, 0.4, False)):
        theta, turned = table.pack(scene), table.pack(scene)
        for s in range(2):
            turned[:, table.names.index(f"object{s}.yaw")] += angle * (scene.asset[:, s] == asset)
        difference = (
            network(table.unpack(turned, like=scene)) - network(table.unpack(theta, like=scene))
        ).abs()
        assert (difference.amax() < 1e-6) == same  # boxes' middles are rounded


def test_other_sizes_show_the_same_picture(world):
    """Twice as many pixels average to nearly the same; the network is as smooth as its training's pixels."""
    scene, network = double(world, sample(world, 4)), imitator(world)
    fine = network(scene, (2 * SIZE[0], 2 * SIZE[1]))
    averaged = fine.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).mean((2, 4))
    assert (averaged - network(scene)).abs().mean() < 0.01


def test_pixels_that_are_not_wanted_show_no_objects(world):
    scene, network = double(world, sample(world, 3)), imitator(world)
    among = torch.rand(3, *SIZE) < 0.5
    whole, part = network.draw(scene), network.draw(scene, among=among)
    assert_close(part.rgb[among], whole.rgb[among], rtol=0.0, atol=1e-12)
    assert (part.coverage[~among] == 0.0).all()
    assert whole.coverage[~among].max() > 0.3


# gradients


@pytest.mark.parametrize("name", ["table", "cube"])
def test_gradients_are_those_of_its_pictures(worlds, name):
    """To everything that a scene has, against float64 differences; crops do not jump."""
    world = opened(worlds[name])
    network = imitator(world)
    generator = torch.Generator().manual_seed(1)
    met = set()
    for seed in range(3):
        scene = double(world, sample(world, 1, seed))
        weight = torch.randn(1, *SIZE, 3, generator=generator).double()

        def value(theta, scene=scene, weight=weight):
            return (network(world.unpack(theta[None], like=scene)) * weight).sum()

        theta = world.pack(scene)[0].requires_grad_()
        (got,) = torch.autograd.grad(value(theta), theta)
        with torch.no_grad():
            wanted = differences(value, theta.detach())
        assert_close(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
        active = world.active(scene)[0]
        for group in {g for g, a in zip(world.groups, active.tolist(), strict=True) if a}:
            these = torch.tensor([g == group for g in world.groups]) & active
            assert got[these].abs().max() > 1e-3
            met.add(group)
    assert met == {"position", "rotation", "scale", "colour", "light", "camera"}


def test_nothing_jumps_where_a_crop_passes_a_pixel(table):
    """A walk of 4 px in 400 steps: no step changes the picture by much more than its neighbours."""
    scene, network = double(table, sample(table, 1)), imitator(table)
    x = torch.linspace(0.0, 0.1, 400).double()
    walk = scene[torch.zeros(400, dtype=torch.long)]
    moved = walk.translation.clone()
    moved[:, 0, 0] += x
    picture = network(replace(walk, translation=moved)).flatten(1)
    step = (picture[1:] - picture[:-1]).norm(dim=1)
    assert step.max() < 3.0 * step.median()


def test_weights_of_assets_and_presence_in_place_of_indices(table):
    scene, network = double(table, sample(table, 2)), imitator(table)
    hard = torch.nn.functional.one_hot(scene.asset, 4).double()
    nothing = replace(scene, asset=torch.full_like(scene.asset, -1))
    there = torch.ones(2, 2).double()
    assert_close(network(nothing, asset_weights=hard, presence=there), network(scene), rtol=0.0, atol=1e-12)
    assert torch.equal(network(scene, presence=0 * there), network(nothing))
    faint = network(scene, presence=0.3 * there)
    off = [(network(s) - faint).abs().mean() for s in (scene, nothing)]
    assert max(off) > 0.0
    assert min(off) > 0.0
    weight = torch.randn(2, *SIZE, 3, generator=torch.Generator().manual_seed(0)).double()

    def value(x):
        mixed = (hard + 0.1 * x[:16].view(2, 2, 4)).softmax(-1)
        return (network(nothing, asset_weights=mixed, presence=x[16:].view(2, 2)) * weight).sum()

    x = torch.rand(20, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    (got,) = torch.autograd.grad(value(x), x)
    assert_close(got, differences(value, x.detach()).detach(), rtol=1e-4, atol=1e-6)
    assert (got != 0).all()


def test_an_object_behind_the_eye_is_not_drawn(table):
    scene, network = double(table, sample(table, 1)), imitator(table)
    behind = scene.translation.clone()
    behind[:, :, 2] = 5.0
    nothing = replace(scene, asset=torch.full_like(scene.asset, -1))
    assert torch.equal(network(replace(scene, translation=behind)), network(nothing))


def test_what_does_not_fit_is_said_in_words(table):
    scene, network = sample(table, 2), imitator(table).float()
    with pytest.raises(ValueError, match=r"scene.asset must lie in -1..3, got 7..7"):
        network(replace(scene, asset=torch.full_like(scene.asset, 7)))
    with pytest.raises(
        ValueError, match=r"asset_weights must have shape \[2, 2, 4\] and presence \[2, 2\], got"
    ):
        network(scene, presence=torch.ones(2, 3))


# files


def test_a_file_keeps_network_and_world(tmp_path, table, worlds):
    network, path = imitator(table).float(), tmp_path / "surrogate.safetensors"
    save_imitator(path, network, table, {"seed": 3})
    state = torch.random.get_rng_state()
    again = load_imitator(table, path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.size == SIZE
    scene = sample(table, 2)
    assert torch.equal(again(scene), network(scene))
    with pytest.raises(WeightsError, match=r"another world than small: asset box is new"):
        load_imitator(worlds["small"], path)
    with pytest.raises(WeightsError, match="there are no such weights"):
        load_imitator(table, tmp_path / "none.safetensors")


def test_the_strategy_reads_a_file_and_freezes_it(tmp_path, table, table_engine):
    network, path = imitator(table, (64, 64)).float(), tmp_path / "surrogate.safetensors"
    save_imitator(path, network, table, {})
    module = differentiable(table_engine, "surrogate", weights=path)
    stays_frozen(module, table)
    own = differentiable(table_engine, "surrogate", weights=path, picture="operator")
    assert torch.equal(own(sample(table, 2)), network(sample(table, 2)))


def stays_frozen(module, world):
    """Gradients reach the scene; no optimiser that is given the module moves a weight of it."""
    before = {n: t.clone() for n, t in module.state_dict().items()}
    assert len(before) > 10
    theta = world.pack(sample(world, 2)).requires_grad_()
    optimiser = torch.optim.SGD([theta, *module.parameters()], lr=0.1)
    module.train()(world.unpack(theta, like=sample(world, 2))).sum().backward()
    assert theta.grad.abs().max() > 0
    optimiser.step()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_world_without_a_network_says_how_to_train_one():
    with (
        open_engine("software", small_world(), size=SIZE) as engine,
        pytest.raises(ValueError, match="the world small has none: train one with `unrender train surrogate"),
    ):
        differentiable(engine, "surrogate")


# what is bundled


@pytest.mark.parametrize("name", FITTED)
def test_bundled_weights_draw_their_world(name):
    """Foregrounds, of pictures that nobody trained on, above a bound that a blank scene is far below."""
    world = World.load(name)
    network = load_imitator(world)
    scene = sample(world, 12, seed=99)
    blank = replace(scene, asset=torch.full_like(scene.asset, -1))
    with open_engine("software", world, size=network.size) as engine:
        frame = engine.render(scene)
        module = differentiable(engine, "surrogate")
        stays_frozen(module, world)
        assert torch.equal(module(scene), frame.rgb)
    seen = (frame.instance_id >= 0) & (frame.instance_id < scene.slots)
    with torch.no_grad():
        errors = [(network(s) - frame.rgb).square().mean(-1)[seen].mean() for s in (scene, blank)]
    drawn, nothing = (float(-10 * e.log10()) for e in errors)
    assert drawn > 18.0
    assert drawn > nothing + 5.0


@pytest.mark.parametrize("name", FITTED)
def test_bundled_weights_are_refused_for_another_world(name):
    world = World.load(name)
    farther = Interval(world.camera.distance.low + 1.0, world.camera.distance.high + 1.0)
    other = replace(world, camera=replace(world.camera, distance=farther))
    with (
        open_engine("software", other, size=(16, 16)) as engine,
        pytest.raises(WeightsError, match=r"camera\.distance is"),
    ):
        differentiable(engine, "surrogate")
