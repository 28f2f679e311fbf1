"""Surrogates: whose answers, whose gradients, how good these are, and that nothing frozen moves."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import safetensors.torch
import torch
from small_world import small_world
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close

from render import open_engine
from render.blackbox import Simulator, asked
from render.blur import blurred_squared_error
from render.surrogate import FunctionSurrogate, LocalSurrogate, SurrogateGradients, fit_surrogate
from render.surrogate.local import fitted_slope
from scenes.files import OutputError

TIMES = np.linspace(0.0, 1.0, 20)
PART = {"questions": 512, "held_out": 128, "steps": 500}


def ringing(theta):
    """A damped oscillation: amplitude, decay, frequency, phase."""
    amplitude, decay, frequency, phase = theta
    return amplitude * np.exp(-decay * TIMES) * np.sin(2 * np.pi * frequency * TIMES + phase)


@pytest.fixture(scope="module")
def simulator():
    names = ["amplitude", "decay", "frequency", "phase"]
    return Simulator(ringing, [0.5, 0.5, 1.0, 0.0], [2.0, 3.0, 2.0, 1.5], names=names)


@pytest.fixture(scope="module")
def fitted(simulator):
    return fit_surrogate(simulator, **PART)


@pytest.fixture(scope="module")
def engine():
    with open_engine("software", small_world(), size=(24, 32)) as e:
        yield e


class Painter(torch.nn.Module):
    """A network from theta to pictures whose buffers move where it trains."""

    def __init__(self, world, size):
        super().__init__()
        self.world, self.size = world, size
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(len(world.names), 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.Linear(8, size[0] * size[1] * 3),
        )

    def forward(self, scene, size):
        return self.layers(self.world.pack(scene)).view(len(scene), *self.size, 3)


def random_theta(simulator, count, seed=0, inner=0.0):
    draw = torch.rand(count, len(simulator.low), generator=torch.Generator().manual_seed(seed)).double()
    return simulator.low + (inner + (1 - 2 * inner) * draw) * (simulator.high - simulator.low)


def differences(simulator, theta, cotangent):
    """Central differences of <cotangent, f(theta)>, per share of each entry's range."""
    span, columns = simulator.high - simulator.low, []
    for p in range(theta.shape[1]):
        step = torch.zeros_like(span)
        step[p] = 1e-5 * span[p]
        columns.append(((simulator(theta + step) - simulator(theta - step)) * cotangent).sum(1) / 2e-5)
    return torch.stack(columns, 1)


def gradient(module, theta, cotangent):
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad((module(theta) * cotangent).sum(), theta)[0]


def moving(scene):
    """The scene with leaves that move it."""
    leaves = [t.clone().requires_grad_() for t in (scene.rotation, scene.translation)]
    return replace(scene, rotation=leaves[0], translation=leaves[1]), leaves


def sample(world, count, seed=0):
    return world.sample(count, generator=torch.Generator().manual_seed(seed))


# whose answers, whose gradients


def test_an_engines_pixels_a_networks_slopes(engine):
    torch.manual_seed(0)
    network = Painter(engine.world, (24, 32)).eval()
    scene, weight = sample(engine.world, 3), torch.rand(3, 24, 32, 3)
    leaf, leaves = moving(scene)
    image = SurrogateGradients(engine, network)(leaf)
    assert torch.equal(image, engine.render(scene).rgb)
    got = torch.autograd.grad((image * weight).sum(), leaves)
    wanted = torch.autograd.grad((network(leaf, (24, 32)) * weight).sum(), leaves)
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other)
        assert other.abs().max() > 0


def test_a_networks_own_pictures(engine, monkeypatch):
    """The engine is not asked for them."""
    torch.manual_seed(0)
    network = Painter(engine.world, (24, 32)).eval()
    module = SurrogateGradients(engine, network, picture="operator")
    monkeypatch.setattr(engine, "render", lambda *_, **__: pytest.fail("not needed"))
    leaf, leaves = moving(sample(engine.world, 3))
    image = module(leaf)
    assert torch.equal(image, network(leaf, (24, 32)))
    assert torch.autograd.grad(image.sum(), leaves)[0].abs().max() > 0


def test_a_simulators_answers_and_a_networks(simulator, fitted):
    theta, cotangent = random_theta(simulator, 4), torch.rand(4, 20, dtype=torch.float64)
    straight = SurrogateGradients(simulator, fitted)
    own = SurrogateGradients(simulator, fitted, picture="operator")
    assert torch.equal(straight(theta.clone().requires_grad_()), simulator(theta))
    assert torch.equal(own(theta), fitted(theta))
    assert torch.equal(gradient(straight, theta, cotangent), gradient(own, theta, cotangent))
    with torch.no_grad():
        assert not straight(theta.requires_grad_()).requires_grad


def test_frozen_networks_do_not_move(engine):
    """Weights and buffers, in training mode, under an optimiser of everything with decay; theta does move."""
    torch.manual_seed(0)
    network = Painter(engine.world, (24, 32))
    network(sample(engine.world, 8), None)  # its running means are no longer 0
    module = SurrogateGradients(engine, network).train()
    assert all(p.requires_grad for p in network.parameters())
    before = copy.deepcopy(module.state_dict())
    assert not torch.equal(before["surrogate.layers.1.running_mean"], torch.zeros(8))
    leaf, leaves = moving(sample(engine.world, 3))
    start = leaves[1].detach().clone()
    optimiser = torch.optim.AdamW([*leaves, *module.parameters()], lr=0.01, weight_decay=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        module(leaf).square().mean().backward()
        optimiser.step()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert (leaves[1] - start).abs().min() > 1e-3


def test_what_is_missing_or_of_another_shape_is_refused(engine, simulator, fitted):
    with pytest.raises(
        ValueError, match=r"needs a network that imitates the engine.*kind='local' needs none"
    ):
        SurrogateGradients(engine, None)
    with pytest.raises(ValueError, match=r"fit one with render\.surrogate\.fit_surrogate"):
        SurrogateGradients(simulator, None)
    scene = sample(engine.world, 2)
    for picture in ("engine", "operator"):
        module = SurrogateGradients(engine, Painter(engine.world, (12, 16)), picture=picture)
        with pytest.raises(ValueError, match=r"must draw pictures \[2, 24, 32, 3\], got \[2, 12, 16, 3\]"):
            module(scene)
    with pytest.raises(ValueError, match=r"must answer as its source does, \[2, 20\], got \[2, 4\]"):
        SurrogateGradients(simulator, torch.nn.Identity())(random_theta(simulator, 2))
    with pytest.raises(ValueError, match=r"imitates a simulator of .*, not an engine"):
        SurrogateGradients(engine, fitted)
    with pytest.raises(ValueError, match=r"theta must have shape \[B, 4\], got \[2, 3\]"):
        fitted(torch.zeros(2, 3))


def test_another_simulators_surrogate_is_refused(simulator, fitted):
    other = Simulator(ringing, simulator.low.numpy(), simulator.high.numpy())
    with pytest.raises(ValueError, match=r"was fitted to \['amplitude', .* the simulator has \['theta0'"):
        SurrogateGradients(other, fitted)
    wider = Simulator(ringing, simulator.low.numpy(), simulator.high.numpy() + 1, names=simulator.names)
    with pytest.raises(ValueError, match=r"ranges \[\[0.5, 2.0\], .* has \[\[0.5, 3.0\], .*fit it again"):
        SurrogateGradients(wider, fitted)


# a network that imitates a function


def test_a_function_is_imitated(simulator, fitted):
    """What it says of itself is true of questions it has never met; gradients are right everywhere."""
    theta = random_theta(simulator, 500, seed=7)
    error = (fitted(theta).detach() - simulator(theta)).square().sum()
    spread = (simulator(theta) - simulator(theta).mean(0)).square().sum()
    assert fitted.r2 > 0.995
    assert_close(1 - fitted.r2, (error / spread).item(), rtol=0.4, atol=0.0)  # 128 questions against 500
    theta, cotangent = theta[:50], torch.randn(50, 20, generator=torch.Generator().manual_seed(1)).double()
    got = gradient(fitted, theta, cotangent) * (simulator.high - simulator.low)
    truth = differences(simulator, theta, cotangent)
    cosine = cosine_similarity(got, truth, dim=1)
    assert cosine.median() > 0.99
    assert cosine.min() > 0.8
    assert_close(float((got.norm(dim=1) / truth.norm(dim=1)).median()), 1.0, rtol=0.05, atol=0.0)


def test_answers_are_of_thetas_type(simulator, fitted):
    theta = random_theta(simulator, 3)
    assert fitted(theta).dtype == torch.float64
    assert fitted(theta.float()).dtype == torch.float32
    assert_close(fitted(theta.float()).double(), fitted(theta), rtol=1e-4, atol=1e-4)


def test_a_seed_reproduces_a_fit(simulator):
    """And the caller's own random numbers go on as if nothing had been drawn."""
    few = {"questions": 64, "held_out": 16, "steps": 20}
    torch.manual_seed(5)
    first = fit_surrogate(simulator, seed=1, **few)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    again, other = (fit_surrogate(simulator, seed=seed, **few) for seed in (1, 2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert first.r2 == again.r2
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_the_best_network_met_is_kept():
    """Of mere noise that is one that says its mean; the last one has learnt the answers by heart."""
    noise = Simulator(lambda theta: np.sin(1e5 * theta.sum(keepdims=True)), [0.0] * 4, [1.0] * 4)
    assert fit_surrogate(noise, questions=64, held_out=128, steps=800).r2 > -0.15


def test_observations_of_any_shape():
    """With entries that never change among them."""
    simulator = Simulator(lambda theta: np.array([[theta[0], 1.0, theta[1] ** 2]]), [-1.0, -1.0], [1.0, 1.0])
    fitted = fit_surrogate(simulator, questions=256, held_out=32, steps=300)
    theta = random_theta(simulator, 20)
    assert fitted(theta).shape == (20, 1, 3)
    assert_close(fitted(theta), simulator(theta), rtol=0.0, atol=0.05)


def test_unanswered_questions_are_refused(simulator):
    half = Simulator(lambda theta: np.log(theta), [-1.0], [1.0])
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match=r"4\d of 8\d answers are not finite, for example at \[-0"),
    ):
        fit_surrogate(half, questions=64, held_out=8, steps=1)
    with pytest.raises(ValueError, match="must be at least 1, got 64, 0, 1"):
        fit_surrogate(simulator, questions=64, held_out=0, steps=1)


def test_weights_are_written_whole_and_read_back(simulator, fitted, tmp_path, monkeypatch):
    file = tmp_path / "ringing.safetensors"
    fitted.save(file)
    assert [p.name for p in tmp_path.iterdir()] == ["ringing.safetensors"]
    again, theta = FunctionSurrogate.load(file, simulator), random_theta(simulator, 5)
    assert torch.equal(again(theta), fitted(theta))
    assert again.r2 == fitted.r2

    def broken(path, data):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OutputError, match=r"cannot write .*ringing\.safetensors: disk full"):
        fitted.save(file)
    assert list(tmp_path.iterdir()) == [file]
    assert torch.equal(FunctionSurrogate.load(file, simulator)(theta), fitted(theta))


def test_a_save_that_fails_leaves_nothing_behind(fitted, tmp_path):
    folder = tmp_path / "ringing.safetensors"
    folder.mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        fitted.save(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_files_of_others_are_refused(simulator, fitted, tmp_path):
    file = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError):
        FunctionSurrogate.load(file, simulator)
    fitted.save(file)
    with pytest.raises(ValueError, match="the simulator has"):
        FunctionSurrogate.load(file, Simulator(ringing, simulator.low.numpy(), simulator.high.numpy()))
    safetensors.torch.save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="holds no surrogate of a simulator"):
        FunctionSurrogate.load(file, simulator)
    file.write_text("no weights")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        FunctionSurrogate.load(file, simulator)


# networks around one point


def test_slopes_of_straight_and_bent_values():
    """Of B functions at once, each with its own slope and scale; what does not change has none."""
    generator = torch.Generator().manual_seed(0)
    offset = torch.randn(4, 32, 6, generator=generator)
    offset = torch.cat([offset, -offset], 1)
    truth = torch.randn(4, 6, generator=generator) * torch.tensor([1.0, 1e3, 1e-3, 0.0])[:, None]
    value = torch.einsum("bnp,bp->bn", offset, truth).double() + 5.0
    slope = fitted_slope(offset, value, generator=generator)
    assert slope[3].abs().max() == 0
    assert (cosine_similarity(slope[:3], truth[:3].double()) > 0.99).all()
    assert_close(slope[:3].norm(dim=1), truth[:3].norm(dim=1).double(), rtol=0.1, atol=0.0)
    bent = (value - 5.0) / truth.norm(dim=1).clamp_min(1e-9)[:, None]
    slope = fitted_slope(offset, bent.sin() + bent.square(), generator=generator)
    assert (cosine_similarity(slope[:3], truth[:3].double()) > 0.95).all()


def test_local_gradients_of_a_simulator(simulator):
    theta = random_theta(simulator, 50, inner=0.1)
    cotangent = torch.randn(50, 20, generator=torch.Generator().manual_seed(1)).double()
    local = LocalSurrogate(simulator, samples=32, width=0.01)
    assert torch.equal(local(theta), simulator(theta))
    got = gradient(local, theta, cotangent) * (simulator.high - simulator.low)
    cosine = cosine_similarity(got, differences(simulator, theta, cotangent), dim=1)
    assert cosine.median() > 0.99
    assert cosine.min() > 0.9


def test_local_gradients_of_the_cubes_pictures(cube, cube_engine):
    """Against differences of finer pictures; the engine's own pixels come out."""
    target, start = sample(cube, 20), cube.pack(sample(cube, 20))
    generator = torch.Generator().manual_seed(1)
    start = start + 0.15 * torch.randn(start.shape, generator=generator)
    wanted = cube_engine.render(target).rgb

    def loss(image):
        return blurred_squared_error(image, wanted, 2.0)

    leaf = start.clone().requires_grad_()
    scenes = cube.unpack(leaf, like=target)
    image = LocalSurrogate(cube_engine)(scenes)
    assert torch.equal(image, cube_engine.render(scenes).rgb)
    (got,) = torch.autograd.grad(loss(image).sum(), leaf)
    columns = []
    with open_engine("software", cube, size=(64, 64), samples=4) as fine:
        for step in 0.025 * torch.eye(3):
            sides = (loss(fine.render(cube.unpack(start + s * step, like=target)).rgb) for s in (1, -1))
            columns.append((next(sides) - next(sides)).double() / 0.05)
    cosine = cosine_similarity(got.double(), torch.stack(columns, 1), dim=1)
    assert cosine.median() > 0.97
    assert cosine.min() > 0.5


def test_what_is_even_gives_no_slope():
    """At the bottom of a bowl questions in pairs cancel."""
    bowl = Simulator(lambda theta: np.array([theta @ theta]), [-1.0] * 6, [1.0] * 6)
    local = LocalSurrogate(bowl, samples=16, width=0.1)
    bottom, side = torch.zeros(8, 6).double(), torch.full((8, 6), 0.2).double()
    slopes = [
        gradient(local, theta, torch.ones(8, 1).double()).norm(dim=1).mean() for theta in (bottom, side)
    ]
    assert slopes[0] < 0.3 * slopes[1]


def test_entries_without_effect_stay(engine):
    """Empty slots and fixed colours get no gradient, and a loss without slope none at all."""
    scene = sample(engine.world, 3)
    theta, box = asked(engine, scene)
    leaf = theta.clone().requires_grad_()
    image = LocalSurrogate(engine, samples=8)(engine.world.unpack(leaf, like=scene))
    (got,) = torch.autograd.grad(image.square().sum(), leaf, retain_graph=True)
    assert (got[~box.active] == 0).all()
    assert (got[box.active] != 0).any()
    assert torch.autograd.grad((image * 0).sum(), leaf)[0].abs().max() == 0


def test_a_seed_reproduces_local_gradients(simulator):
    """A sequence of them: each asks anew. Progress narrows the questions."""
    theta, cotangent = random_theta(simulator, 3), torch.ones(3, 20).double()
    one, same = (LocalSurrogate(simulator, samples=8, seed=3) for _ in range(2))
    first, second = (gradient(one, theta, cotangent) for _ in range(2))
    assert torch.equal(first, gradient(same, theta, cotangent))
    assert torch.equal(second, gradient(same, theta, cotangent))
    assert not torch.equal(first, second)
    far = []
    spy = Simulator(lambda t: far.append(t) or ringing(t), simulator.low.numpy(), simulator.high.numpy())
    for progress, width in ((0.0, 0.03), (1.0, 0.003)):
        far.clear()
        local = LocalSurrogate(spy, samples=512)
        local.progress = progress
        gradient(local, theta[:1], cotangent[:1])
        spread = torch.tensor(np.array(far[1:])).std(0) / (simulator.high - simulator.low)
        assert_close(spread, torch.full((4,), width).double(), rtol=0.15, atol=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 7}, "samples must be even and at least 2, got 7"),
        ({"samples": 0}, "samples must be even and at least 2, got 0"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
        ({"width": float("nan")}, "width must be positive and finite, got nan"),
        ({"narrow": 2.0}, r"narrow must lie in \(0, 1\], got 2.0"),
    ],
)
def test_settings_are_checked(simulator, options, message):
    with pytest.raises(ValueError, match=message):
        LocalSurrogate(simulator, **options)


# what it is all for


@pytest.mark.parametrize("kind", ["fitted", "local"])
def test_known_parameters_are_recovered(simulator, fitted, kind):
    """From 10 starts that are up to 15 % of the ranges off in each entry."""
    truth = random_theta(simulator, 10, seed=3, inner=0.2)
    span = simulator.high - simulator.low
    shift = (random_theta(simulator, 10, seed=4) - simulator.low - span / 2) * 0.3 / span
    module = (
        SurrogateGradients(simulator, fitted) if kind == "fitted" else LocalSurrogate(simulator, samples=16)
    )
    wanted, shift = simulator(truth), shift.requires_grad_()
    optimiser = torch.optim.Adam([shift], lr=0.02, betas=(0.8, 0.95))
    steps = 100
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.02 * 0.02 ** (step / steps)
        module.progress = step / steps
        optimiser.zero_grad()
        (module(truth + shift * span) - wanted).square().sum().backward()
        optimiser.step()
    error = shift.detach().abs().amax(1)
    assert (error < 0.01).float().mean() >= 0.9
    assert error.median() < 0.003


def test_a_known_pose_is_recovered(cube, cube_engine):
    """By the local kind: 6 cubes that start 12 degrees off, 16 pictures of 48x48 pixels a step."""
    target, generator, size = sample(cube, 6, seed=1), torch.Generator().manual_seed(2), (48, 48)
    axis = torch.nn.functional.normalize(torch.randn(6, 3, generator=generator), dim=1)
    turn = roma.rotvec_to_unitquat(axis * np.radians(12.0))
    start = replace(target, rotation=roma.quat_product(turn[:, None], target.rotation))
    wanted = cube_engine.render(target, size=size).rgb
    theta = cube.pack(start).requires_grad_()
    module, steps = LocalSurrogate(cube_engine, samples=16), 24
    optimiser = torch.optim.Adam([theta], lr=0.08, betas=(0.8, 0.95))
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.08 * 0.03 ** (step / steps)
        module.progress = step / steps
        optimiser.zero_grad()
        image = module(cube.unpack(theta, like=target), size=size)
        blurred_squared_error(image, wanted, 2.0 * 0.2 ** (step / steps)).sum().backward()
        optimiser.step()
    found = cube.unpack(theta.detach(), like=target).rotation[:, 0]
    error = torch.rad2deg(roma.unitquat_geodesic_distance(found, target.rotation[:, 0]))
    assert error.max() < 1.0
    assert error.median() < 0.5
