"""The score function's gradients: unbiased, less noisy by each means against noise, and leading somewhere."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_world import small_world
from test_refine import Changed, judge_of, off, scene_of, turned
from torch.testing import assert_close

from inverse.refine import RefineSettings, descend
from render import open_engine
from render.blackbox import Simulator, asked
from render.engine import Frame
from render.score import ScoreGradients, ScoreSettings, loss_gradient, touched
from scenes.scene import stack

LOW, HIGH = [-1.0, 0.0], [1.0, 4.0]  # ranges of 2 and 4: a width is a share of them
THETA = torch.tensor([[0.3, 1.7]], dtype=torch.float64)


def curves(theta):
    """Three numbers of two that bend within a width."""
    x, y = theta
    return np.array([np.sin(4 * x) * y, x * x + np.cos(3 * y), np.exp(-x * y)])


def vector_jacobian(source, theta, cotangent, **settings):
    """What `ScoreGradients` makes of a cotangent, [B, P]."""
    theta = theta.clone().requires_grad_()
    answer = ScoreGradients(source, ScoreSettings(**settings))(theta)
    (gradient,) = torch.autograd.grad(answer, theta, cotangent)
    return gradient


def repeated(source, theta, cotangent, count, **settings):
    """`count` independent estimates from a batch of equal things, [count, P]."""
    return vector_jacobian(source, theta.expand(count, -1), cotangent.expand(count, -1), **settings)


def agrees(estimates, truth, deviations=4.0):
    """Mean estimate and truth differ by no more than chance would have it."""
    error = (estimates.mean(0) - truth).abs()
    return bool((error < deviations * estimates.std(0) / math.sqrt(len(estimates))).all())


# against the derivative of the smoothed function


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_unbiased_for_the_smoothed_function(antithetic, progress):
    """Central differences of the mean over perturbations, by quadrature, in float64."""
    share, cotangent = np.array([0.1, 0.05]), torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64)
    width = share * [2.0, 4.0] * 0.5**progress
    node, weight = np.polynomial.hermite_e.hermegauss(30)
    weight = np.outer(weight, weight) / weight.sum() ** 2

    def smoothed(theta):
        x, y = np.meshgrid(theta[0] + width[0] * node, theta[1] + width[1] * node, indexing="ij")
        return float((curves((x, y)) * cotangent.numpy()[0, :, None, None] * weight).sum())

    at, h = THETA[0].numpy(), 1e-4
    truth = [(smoothed(at + h * e) - smoothed(at - h * e)) / (2 * h) for e in np.eye(2)]
    source = Simulator(curves, LOW, HIGH)
    theta = THETA.expand(4000, -1).clone().requires_grad_()
    module = ScoreGradients(source, ScoreSettings(samples=4, width=share, narrow=0.5, antithetic=antithetic))
    module.progress = progress
    (estimates,) = torch.autograd.grad(module(theta), theta, cotangent.expand(4000, -1))
    assert agrees(estimates, torch.tensor(truth))
    assert not agrees(estimates, -torch.tensor(truth))
    assert not agrees(estimates, 1.2 * torch.tensor(truth))


def test_a_step_has_the_gaussians_density_as_its_slope():
    """A function whose own derivative is 0 everywhere, and nowhere useful."""
    source = Simulator(lambda theta: np.sign(theta), [-1.0], [1.0])
    theta, width = torch.tensor([[0.1]], dtype=torch.float64), 0.2
    slope = 2.0 / (width * math.sqrt(2 * math.pi)) * math.exp(-0.5 * (0.1 / width) ** 2)
    estimates = repeated(source, theta, torch.ones(1, 1, dtype=torch.float64), 4000, samples=8, width=0.1)
    assert agrees(estimates, torch.tensor([slope]))
    assert estimates.mean() == pytest.approx(slope, rel=0.05)


def test_a_linear_function_whatever_the_width():
    """Its smoothed self is itself: the mean estimate is its transpose."""
    matrix = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    source = Simulator(lambda theta: matrix.numpy() @ theta, LOW, HIGH)
    cotangent = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    for width in (1e-3, 3.0):
        estimates = repeated(source, THETA, cotangent, 2000, samples=8, width=width)
        assert agrees(estimates, cotangent[0] @ matrix)


# noise


def spread(function, **settings):
    """Variance of 500 estimates at equal numbers of answers, summed over entries."""
    source = Simulator(function, LOW, HIGH)
    one = torch.ones(1, 1, dtype=torch.float64)
    return float(repeated(source, THETA, one, 500, samples=8, **settings).var(0).sum())


def test_the_baseline_takes_out_what_is_always_there():
    def high(theta):
        return np.array([50.0 + theta[0]])

    assert spread(high, baseline=False, credit=False, antithetic=False) > 100 * spread(high, antithetic=False)


def test_pairs_take_out_what_is_even():
    def bowl(theta):
        return ((theta - THETA[0].numpy()) ** 2).sum(keepdims=True) * 30 + theta[:1]

    assert spread(bowl, antithetic=False) > 20 * spread(bowl)


@pytest.fixture(scope="module")
def engine():
    with open_engine("software", small_world(), size=(24, 32), shadows=False) as opened:
        yield opened


def two_objects():
    """A box on the left, a tinted ball on the right, an empty slot."""
    scene = small_world().sample(1, generator=torch.Generator().manual_seed(0))
    return replace(
        scene,
        asset=torch.tensor([[0, 1, -1]]),
        translation=torch.tensor([[[-0.5, 0.0, 0.5], [0.5, 0.1, 0.5], [0.0, 0.0, 0.0]]]),
        scale=torch.tensor([[1.5, 1.5, 1.0]]),
    )


def scene_gradients(engine, count, cotangent, **settings):
    """`count` independent estimates for `two_objects`, [count, P]."""
    world, scene = engine.world, two_objects()
    theta = world.pack(scene).expand(count, -1).clone().requires_grad_()
    picture = ScoreGradients(engine, ScoreSettings(**settings))(world.unpack(theta, like=scene))
    (gradient,) = torch.autograd.grad(picture, theta, cotangent.expand_as(picture))
    return gradient


def test_credit_keeps_others_noise_out(engine):
    """The same mean; the variance for the dark box falls by half or more: the ball's noise is gone."""
    weight = torch.rand(1, 24, 32, 3, generator=torch.Generator().manual_seed(1))
    own, every = (scene_gradients(engine, 80, weight, samples=8, credit=credit) for credit in (True, False))
    chance = ((own.var(0) + every.var(0)) / 80).sqrt()
    box = [engine.world.names.index(f"object0.{axis}") for axis in "xyz"]
    assert (every.var(0) / own.var(0))[box].median() > 2.0
    assert ((own.mean(0) - every.mean(0)).abs() < 4 * chance)[box].all()


# credit


def test_what_a_slot_touches():
    """Where it is seen before or after, and a pixel around; not where it is in another question."""
    base, owner = torch.full((1, 1, 7, 9), -1), torch.full((1, 2, 7, 9), -1)
    base[0, 0, 1, 1], owner[0, 0, 5, 7], owner[0, 1, 5, 4] = 0, 0, 1
    mask = touched(owner, base, 0, 1)
    assert mask[0, 0].nonzero().tolist() == [
        [i, j] for i, js in ((0, (0, 1, 2)), (1, (0, 1, 2)), (2, (0, 1, 2))) for j in js
    ] + [[i, j] for i in (4, 5, 6) for j in (6, 7, 8)]
    assert mask[0, 1].sum() == 9
    assert touched(owner, base, 1, 0)[0, 1].nonzero().tolist() == [[5, 4]]


@pytest.mark.parametrize("slot", [0, 1])
def test_each_answers_for_its_own_pixels(engine, slot):
    """A cotangent on one object's pixels alone; the other is far from them."""
    seen = engine.render(two_objects()).instance_id == slot
    weight = seen.float()[..., None] * torch.tensor([1.0, -0.5, 0.3])
    gradient = scene_gradients(engine, 1, weight, samples=8, width=0.01)[0]
    place = {s: [engine.world.names.index(f"object{s}.{axis}") for axis in "xyz"] for s in (0, 1)}
    assert gradient[place[slot]].abs().min() > 0
    assert (gradient[place[1 - slot]] == 0).all()


def test_credit_misses_a_cast_shadow(table, table_engine):
    """Table pixels away from a mug, to which its shadow reaches: no gradient with credit, one without."""
    scene = table.sample(1, generator=torch.Generator().manual_seed(0))
    scene = replace(scene, asset=torch.tensor([[0, -1]]), translation=torch.zeros(1, 2, 3))
    seen = table_engine.render(scene).instance_id == 0
    near = torch.nn.functional.max_pool2d(seen[None].float(), 13, 1, 6)[0] > 0
    weight = (~near).float()[..., None].expand(-1, -1, -1, 3)
    gradients = []
    for credit in (True, False):
        place = scene.translation.clone().requires_grad_()
        module = ScoreGradients(table_engine, ScoreSettings(width=0.005, credit=credit))
        (gradient,) = torch.autograd.grad(module(replace(scene, translation=place)), place, weight)
        gradients.append(gradient[0, 0].norm())
    assert gradients[0] == 0.0
    assert gradients[1] > 1.0


class Blind:
    """An engine that gives pictures and nothing else, as programs do."""

    def __init__(self, engine):
        self.engine, self.name, self.world, self.size = engine, "blind", engine.world, engine.size

    def render(self, scene, *, size=None):
        return Frame(self.engine.render(scene, size=size).rgb)


def test_without_ids_every_pixel_counts(engine):
    weight = torch.rand(1, 24, 32, 3, generator=torch.Generator().manual_seed(1))
    blind = scene_gradients(Blind(engine), 2, weight, samples=4)
    assert torch.equal(blind, scene_gradients(engine, 2, weight, samples=4, credit=False))
    assert not torch.equal(blind, scene_gradients(engine, 2, weight, samples=4))


# the module


def test_scenes_may_be_anywhere(engine, device):
    """Pictures come to where the scenes are, and gradients too; the same as on the CPU."""
    scene, gradients = two_objects(), []
    for where in ("cpu", device):
        here = scene.to(where)
        place = here.translation.clone().requires_grad_()
        picture = ScoreGradients(engine, ScoreSettings(samples=4))(replace(here, translation=place))
        assert picture.device.type == torch.device(where).type
        (gradient,) = torch.autograd.grad(picture.square().sum(), place)
        gradients.append(gradient.cpu())
    assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-3)


def test_pixels_are_the_engines_and_gradients_reach_what_is_free(engine):
    """Bit for bit; the empty slot and the box's fixed colour feel nothing."""
    scene = two_objects()
    leaves = [t.clone().requires_grad_() for t in (scene.translation, scene.rotation, scene.colour)]
    place, turn, colour = leaves
    moved = replace(scene, translation=place, rotation=turn, colour=colour)
    module = ScoreGradients(engine, ScoreSettings(samples=8))
    picture = module(moved, (12, 16))
    assert torch.equal(picture, engine.render(scene, size=(12, 16)).rgb)
    first = torch.autograd.grad(picture.sum(), leaves, retain_graph=True)
    for gradient in first:
        assert gradient.isfinite().all()
        assert (gradient[0, 2] == 0).all()
        assert gradient[0, 1].abs().max() > 0
    assert (first[2][0, 0] == 0).all()
    again = torch.autograd.grad(picture.sum(), leaves)
    assert not torch.equal(first[0], again[0])  # new numbers
    with torch.no_grad():
        assert not module(moved).requires_grad


def test_a_seed_reproduces_and_another_does_not(engine):
    weight = torch.rand(1, 24, 32, 3, generator=torch.Generator().manual_seed(1))
    one, same, other = (scene_gradients(engine, 2, weight, samples=4, seed=s) for s in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("credit", [True, False])
def test_chunks_do_not_change_the_result(engine, credit):
    weight = torch.rand(1, 24, 32, 3, generator=torch.Generator().manual_seed(1))
    whole = scene_gradients(engine, 2, weight, samples=10, credit=credit, chunk=1000)
    for chunk in (1, 6):
        parts = scene_gradients(engine, 2, weight, samples=10, credit=credit, chunk=chunk)
        assert_close(parts, whole, rtol=1e-5, atol=1e-4)


def test_widths_narrow_with_progress():
    """Geometrically, from the first to a share of it; per entry its own share of its range."""
    asked_about = []

    def record(theta):
        asked_about.append(theta)
        return theta

    module = ScoreGradients(
        Simulator(record, LOW, HIGH), ScoreSettings(samples=2000, width=[0.1, 0.01], narrow=0.04)
    )
    for progress, share in ((0.0, 1.0), (0.5, 0.2), (1.0, 0.04)):
        module.progress = progress
        theta = THETA.clone().requires_grad_()
        answer = module(theta)
        asked_about.clear()
        answer.sum().backward()
        questions = np.stack(asked_about)
        assert questions.mean(0) == pytest.approx(THETA[0].numpy())  # of pairs, exactly
        assert questions.std(0) == pytest.approx(share * np.array([0.2, 0.04]), rel=0.1)


# of a loss


def test_both_forms_agree_on_a_linear_loss(engine):
    """With the same numbers they are the same, credit or not."""
    scene = two_objects()
    weight = torch.rand(24, 32, 3, generator=torch.Generator().manual_seed(1))
    theta, box = asked(engine, scene)
    for credit in (True, False):
        settings = ScoreSettings(samples=8, credit=credit, seed=3)
        value, gradient = loss_gradient(box, theta, lambda x: (x * weight).sum(-1), settings=settings)
        module = scene_gradients(engine, 1, weight[None], samples=8, credit=credit, seed=3)
        assert_close(gradient, module, rtol=1e-3, atol=1e-2)
        assert_close(value, (engine.render(scene).rgb * weight).sum((1, 2, 3)), rtol=1e-5, atol=1e-5)


def test_a_loss_need_not_be_smooth_nor_of_pixels():
    """The number of wrong answers; ranks and standardised weights point where plain ones do."""
    source = Simulator(lambda theta: theta + np.array([0.1, -0.2]), LOW, HIGH)
    theta, box = asked(source, THETA)

    def wrong(answer):
        return ((answer - torch.tensor([0.9, 2.2])).abs() > 0.3).double().sum(-1)

    settings, found = ScoreSettings(samples=2000, width=0.2, antithetic=False), {}
    for weights in ("plain", "standardised", "ranks"):
        value, found[weights] = loss_gradient(box, theta, wrong, settings=settings, weights=weights)
        assert value.tolist() == [2.0]
    assert (found["plain"] < 0).all()  # both numbers have to grow
    for weights in ("standardised", "ranks"):
        assert torch.cosine_similarity(found[weights], found["plain"]).item() > 0.99
    larger = {
        w: loss_gradient(box, theta, lambda x: 1000 * wrong(x) + 7, settings=settings, weights=w)[1]
        for w in found
    }
    assert_close(larger["plain"], 1000 * found["plain"])
    assert_close(larger["standardised"], found["standardised"])
    assert_close(larger["ranks"], found["ranks"])
    raw = replace(settings, baseline=False, credit=False)
    for weights in ("standardised", "ranks"):  # they have a baseline of their own
        assert_close(loss_gradient(box, theta, wrong, settings=raw, weights=weights)[1], found[weights])


# what it is for


@pytest.fixture(scope="module")
def cubes(cube):
    with open_engine("software", cube, size=(48, 48), shadows=False) as opened:
        yield opened


def test_turned_cubes_come_back(cube, cubes):
    """From 20 degrees to within 2, by gradients alone, with 16 renders each."""
    truth = scene_of(cube)
    starts = [turned(truth, 20.0, axis) for axis in ([0.0, 1.0, 0.0], [0.3, -0.5, 0.8])]
    render = ScoreGradients(cubes, ScoreSettings(samples=16, width=0.01))
    end = descend(render, judge_of(cubes, truth), stack(starts), RefineSettings(steps=40))
    assert (off(cube, end, truth) < 2.0).all()


def test_a_wrong_sign_does_not_lead_there(cube, cubes):
    truth = scene_of(cube)
    wrong = Changed(ScoreGradients(cubes, ScoreSettings(samples=16, width=0.01)), -1.0)
    start = turned(truth, 20.0, [0.3, -0.5, 0.8])
    end = descend(wrong, judge_of(cubes, truth), start, RefineSettings(steps=10))
    assert float(off(cube, end, truth)) > 20.0


# errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples must be even and at least 1, got 0"),
        ({"samples": 3}, "samples must be even and at least 1, got 3"),
        ({"samples": 0, "antithetic": False}, "samples must be at least 1, got 0"),
        ({"width": 0.0}, "width must be positive and finite"),
        ({"width": [0.1, math.nan]}, "width must be positive and finite"),
        ({"narrow": 0.0}, r"narrow must lie in \(0, 1\], got 0.0"),
        ({"narrow": 2.0}, r"narrow must lie in \(0, 1\], got 2.0"),
        ({"reach": -1}, "reach must be at least 0"),
        ({"chunk": 0}, "chunk at least 1, got 1, 0"),
        ({"baseline": False}, "credit needs the baseline"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        ScoreSettings(**settings)


def test_what_does_not_fit_is_refused(engine):
    source = Simulator(curves, LOW, HIGH)
    cotangent = torch.ones(1, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"width must be one number or 2, got \[3\]"):
        vector_jacobian(source, THETA, cotangent, width=[0.1, 0.1, 0.1])
    theta, box = asked(source, THETA)
    with pytest.raises(ValueError, match="there are no weights 'rank', only plain, standardised, ranks"):
        loss_gradient(box, theta, lambda x: x.sum(-1), weights="rank")
    theta, box = asked(engine, two_objects())
    with pytest.raises(ValueError, match=r"credit needs losses per pixel, \[1, 64, 24, 32\], got \[1, 64\]"):
        loss_gradient(box, theta, lambda x: x.mean((2, 3, 4)))
