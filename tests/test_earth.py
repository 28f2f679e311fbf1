"""The example `earth`: layers recovered from noisy curves as well as the noise permits, by every strategy."""

import sys

import numpy as np
import pytest
import torch

pytest.importorskip("disba", reason='disba is missing: pip install "unrender[examples]"')

from examples import earth
from render.surrogate import SurrogateGradients, fit_surrogate

# Of chi-squared with 7 degrees of freedom: 999 in 1000 stay below, and 9 in 10
ALWAYS, MOSTLY = 24.3, 12.0


@pytest.fixture(scope="module")
def simulator():
    return earth.earth()


@pytest.fixture(scope="module")
def network(simulator):
    return fit_surrogate(simulator, questions=1024, held_out=128, steps=1000)


def test_deep_layers_are_felt_by_long_waves_only(simulator):
    """And a whole earth of one kind carries waves at 0.9194 of its shear speed (a Poisson solid)."""
    middle = (simulator.low + simulator.high) / 2
    mantle = middle.clone()
    mantle[3] *= 1.01
    change = (simulator(mantle[None]) / simulator(middle[None]) - 1)[0]
    assert abs(change[0]) < 1e-5
    assert change[19] > 5e-3
    uniform = np.array([3.0, 3.0, 3.0, 3.0 + 1e-6, 2.0, 10.0, 12.0])
    np.testing.assert_allclose(earth.dispersion(uniform)[:20], 0.9194 * 3.0, rtol=1e-3)


def test_modes_that_end_are_answered_with_the_mantle(simulator):
    """Without a jump; and so are earths that disba finds no waves for: always finite."""
    theta = torch.stack([simulator.low, simulator.high])
    thin = theta[0].clone()
    thin[4:] *= torch.linspace(1.0, 0.3, 3, dtype=torch.float64)
    curves = np.stack([earth.dispersion(t.numpy()) for t in (theta[0], thin)])
    assert (curves[1, 20:] == thin[3].item()).any()
    first = int(np.argmax(curves[1, 20:] == thin[3].item()))
    assert abs(curves[1, 20 + first - 1] - thin[3].item()) < 0.15
    assert np.isfinite(earth.dispersion(np.full(7, -1.0))).all()


def test_the_surrogate_recovers_the_layers(simulator, network):
    """8 earths; none may be missed, and their errors are those of best fits: half below 6.3."""
    truth, measured, sigma = earth.measure(simulator, 8, seed=1)
    found = earth.recover(SurrogateGradients(simulator, network), simulator, measured, sigma, steps=200)
    distance = earth.distance(simulator, found, truth, sigma)
    assert distance.max() < ALWAYS
    assert 3.0 < distance.median() < MOSTLY


def test_the_score_function_recovers_the_layers(simulator):
    """One earth; the script's `--count 20 --strategy score` tries many."""
    truth, measured, sigma = earth.measure(simulator, 1, seed=1)
    module = earth.gradients(simulator, "score")
    found = earth.recover(module, simulator, measured, sigma, steps=240)
    assert earth.distance(simulator, found, truth, sigma).max() < ALWAYS


def test_the_local_surrogate_recovers_the_layers(simulator):
    truth, measured, sigma = earth.measure(simulator, 1, seed=2)
    module = earth.gradients(simulator, "local")
    found = earth.recover(module, simulator, measured, sigma, steps=100)
    assert earth.distance(simulator, found, truth, sigma).max() < ALWAYS


class Negative(torch.nn.Module):
    """A module's answers with its gradient turned round."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, theta):
        answer = self.module(theta)
        return 2.0 * answer.detach() - answer


def test_a_wrong_sign_recovers_nothing(simulator, network):
    truth, measured, sigma = earth.measure(simulator, 4, seed=1)
    module = Negative(SurrogateGradients(simulator, network))
    found = earth.recover(module, simulator, measured, sigma, steps=20)
    assert earth.distance(simulator, found, truth, sigma).min() > ALWAYS


def test_the_script_prints_a_table_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(earth, "recover", lambda *a, recover=earth.recover: recover(*a, steps=3))
    earth.main(earth.Settings(strategy="local", count=2, out=tmp_path / "new"))
    printed = capsys.readouterr().out
    for name in earth.RANGES:
        assert name in printed
    assert "of 2 earths" in printed
    assert (tmp_path / "new" / "local.png").stat().st_size > 10_000


def test_a_missing_simulator_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "disba", None)
    monkeypatch.delitem(sys.modules, "examples.earth")
    with pytest.raises(SystemExit, match=r'pip install "unrender\[examples\]"'):
        __import__("examples.earth")
