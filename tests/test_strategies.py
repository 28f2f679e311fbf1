"""Every strategy on every engine: the same call, a gradient that points downhill, a pose that is found."""

from dataclasses import replace

import pytest
import torch
from test_command import VIEWER
from torch.testing import assert_close

from inverse.compare.agreement import loss_gradient, pixel_steps
from inverse.compare.problems import Off, draw
from inverse.differences import central_differences
from inverse.metrics import rotation_error
from inverse.refine import Descent, RefineSettings
from render import Simulator, differentiable, open_engine
from render.blur import blurred_squared_error
from render.opengl import OpenGLEngine
from render.score import ScoreSettings
from render.surrogate import fit_surrogate
from scenes.scene import matrix
from scenes.world import Interval

SIZE = (48, 48)
STRATEGIES = {
    "edge": ("manual", {}),
    "soft": ("manual", {"operator": "soft"}),
    "layers": ("manual", {"operator": "layers"}),
    "autodiff": ("autodiff", {"sigma": 0.5}),  # wider, the soft picture is off by some degrees
    "score": ("score", {"settings": ScoreSettings(samples=16)}),
    "surrogate": ("surrogate", {"kind": "local", "samples": 16}),
}
ENGINES = ("opengl", "software", "mitsuba", "command")


class Flipped(torch.nn.Module):
    """A module with the wrong sign."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *subject):
        answer = self.module(*subject)
        return 2.0 * answer.detach() - answer


def strategy(name, engine):
    kind, options = STRATEGIES[name]
    return differentiable(engine, kind, **options)


@pytest.fixture(scope="module")
def sliding(cube):
    """The cube before a plain background, free to move across the view; without ambient light, as glTF is."""
    return replace(
        cube,
        placement="upright",
        yaw=Interval(0.6, 0.6),
        position=(Interval(-0.5, 0.5), Interval(-0.5, 0.5), Interval(0.0, 0.0)),
        light=replace(cube.light, ambient=Interval(0.0, 0.0), intensity=Interval(0.8, 0.8)),
    )


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, sliding):
    """One engine after another."""
    options = {"command": {"command": VIEWER}, "mitsuba": {"samples": 16}}.get(request.param, {})
    if request.param == "opengl":
        request.getfixturevalue("gl")
        opened = OpenGLEngine(sliding, size=SIZE)
    else:
        if request.param == "mitsuba":
            pytest.importorskip("mitsuba")
        opened = open_engine(request.param, sliding, size=SIZE, **options)
    with opened:
        yield opened


@pytest.fixture(scope="module")
def problem(engine, sliding):
    """A picture, a start that is off, and the differences of this engine's own pictures there."""
    problem = draw(sliding, engine, 1, off=Off(shift=0.06), seed=4, size=SIZE)
    steps = pixel_steps(engine, problem)

    def loss(image):
        return blurred_squared_error(image, problem.picture.double(), 2.0)

    return (
        problem,
        central_differences(engine, problem.start, loss, steps, samples=1, size=SIZE) * steps,
        steps,
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_points_as_the_engines_differences_do(engine, problem, name):
    """Within 37 degrees (16 questions are noisy)."""
    problem, reference, steps = problem
    module = strategy(name, engine)
    with torch.no_grad():
        picture = module(problem.start)
    assert picture.shape == (1, *SIZE, 3)
    assert name == "autodiff" or torch.equal(picture, engine.render(problem.start).rgb)
    gradient = loss_gradient(module, problem, 2.0) * steps
    assert torch.cosine_similarity(gradient.double(), reference).item() > 0.8


def turned(cube, engine, module, *, steps):
    """Errors [degrees] of three cubes before and after following the gradient for some steps."""
    problem = draw(cube, engine, 3, off=Off(turn_degrees=12.0), seed=0, size=SIZE)
    unit = pixel_steps(engine, problem) * SIZE[0]
    descent = Descent(module, cube, problem.start, unit, RefineSettings(stride=0.02))
    for step in range(steps):
        descent.step(problem.picture, step / (steps - 1))
    truth = matrix(problem.truth.rotation[:, 0])
    return [
        rotation_error(cube.assets[0], matrix(scenes.rotation[:, 0]), truth).rad2deg()
        for scenes in (problem.start, descent.scenes)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_finds_a_known_pose(cube, cube_engine, name):
    """From 12 degrees to within 1.5, two of three at least; with the wrong sign all get farther away."""
    before, after = turned(cube, cube_engine, strategy(name, cube_engine), steps=20)
    assert_close(before, torch.full((3,), 12.0), atol=0.01, rtol=0)
    assert after.median() < 1.5
    assert turned(cube, cube_engine, Flipped(strategy(name, cube_engine)), steps=6)[1].min() > 12.0


@pytest.mark.parametrize("name", ["score", "local", "trained"])
def test_points_downhill_on_a_plain_function(name):
    """Where an engine draws no pictures; here the derivative is known."""
    simulator = Simulator(lambda theta: theta @ [[1.0, 2.0], [0.5, -1.0]] + theta[:1] ** 2, [-1, -1], [1, 1])
    module = {
        "score": lambda: differentiable(simulator, "score", settings=ScoreSettings(samples=32)),
        "local": lambda: differentiable(simulator, "surrogate", kind="local", samples=32),
        "trained": lambda: differentiable(
            simulator, "surrogate", surrogate=fit_surrogate(simulator, questions=256)
        ),
    }[name]()
    theta = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    cotangent = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    jacobian = torch.tensor([[1.0 + 0.6, 0.5], [2.0 + 0.6, -1.0]], dtype=torch.float64)
    expected = cotangent @ jacobian
    for wrapped, sign in ((module, 1.0), (Flipped(module), -1.0)):
        leaf = theta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((wrapped(leaf) * cotangent).sum(), leaf)
        assert torch.cosine_similarity(sign * gradient, expected).item() > 0.9
