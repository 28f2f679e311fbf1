"""Gradients followed through plain functions: known answers come back, and not without the right gradient."""

import numpy as np
import pytest
import torch
from test_evolution import TRUE, bump

from inverse.follow import minimise
from render.blackbox import Simulator
from render.score import ScoreGradients, ScoreSettings

SOURCE = Simulator(bump, [0.0, 0.0, 0.05], [2.0, 1.0, 0.5])
CURVE = torch.from_numpy(bump(TRUE))


def squared(answer):
    return (answer - CURVE).square().mean(-1)


def starts(count, seed=0):
    """Near the truth by up to a fifth of the ranges."""
    generator = torch.Generator().manual_seed(seed)
    away = 0.4 * torch.rand(count, 3, dtype=torch.float64, generator=generator) - 0.2
    return torch.from_numpy(TRUE) + away * (SOURCE.high - SOURCE.low)


class Changed(torch.nn.Module):
    """A strategy whose gradients are multiplied by `factor` [B, 1]."""

    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, theta):
        answer = self.inner(theta)
        answer.register_hook(lambda grad: grad * self.factor)
        return answer


def test_curves_come_back():
    """All of twenty starts, with 16 questions a gradient, to within 2 % of the ranges."""
    module = ScoreGradients(SOURCE, ScoreSettings(samples=16, width=0.03))
    found = minimise(module, SOURCE, starts(20), squared, steps=80)
    error = ((found.theta - torch.from_numpy(TRUE)) / (SOURCE.high - SOURCE.low)).abs().amax(1)
    assert error.max() < 0.02
    assert (found.loss < 0.01 * found.history[0]).all()
    assert torch.equal(found.loss, found.history.amin(0))
    assert torch.equal(found.loss, squared(SOURCE(found.theta)))
    assert found.history.shape == (81, 20)


def test_a_wrong_sign_leads_away():
    module = Changed(ScoreGradients(SOURCE, ScoreSettings(samples=16, width=0.03)), -1.0)
    found = minimise(module, SOURCE, starts(5), squared, steps=30)
    assert (found.history[-1] > found.history[0]).all()
    assert torch.equal(found.theta, starts(5))  # the best it met


def test_ranges_hold_and_progress_is_told():
    """The least lies beyond the range; no step passes its end, and the module hears how far it is."""
    source = Simulator(lambda theta: theta, [0.0, -1.0], [1.0, 1.0])
    module, seen = ScoreGradients(source, ScoreSettings(samples=8)), []

    def watch(step, theta, losses):
        seen.append((step, module.progress))
        assert (theta >= source.low).all()
        assert (theta <= source.high).all()

    theta = torch.zeros(1, 2, dtype=torch.float64)
    goal = torch.tensor([3.0, 0.5])
    found = minimise(module, source, theta, lambda x: (x - goal).square().sum(-1), steps=100, watch=watch)
    assert seen == [(step, step / 100) for step in range(101)]
    assert found.theta[0].tolist() == pytest.approx([1.0, 0.5], abs=0.02)


def test_a_gradient_that_is_not_finite_moves_nothing():
    """Of its own start; the other goes on."""
    factor = torch.tensor([[1.0], [np.nan]])
    module = Changed(ScoreGradients(SOURCE, ScoreSettings(samples=16, width=0.03)), factor)
    found = minimise(module, SOURCE, starts(2), squared, steps=20)
    assert (found.history[:, 1] == found.history[0, 1]).all()
    assert found.history[-1, 0] < 0.5 * found.history[0, 0]


def test_what_does_not_fit_is_refused():
    module = ScoreGradients(SOURCE)
    with pytest.raises(ValueError, match=r"theta must have shape \[B, 3\], got \[2\]"):
        minimise(module, SOURCE, torch.zeros(2), squared, steps=1)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        minimise(module, SOURCE, starts(2), squared, steps=0)
    with pytest.raises(ValueError, match=r"the loss must have shape \[2\], got \[\]"):
        minimise(module, SOURCE, starts(2), lambda x: x.mean(), steps=1)
