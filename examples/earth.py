"""The layers of the earth, from the speed of surface waves, through a simulator that gives no gradients.

    pip install "unrender[examples]"
    python examples/earth.py [--strategy score|surrogate|local] [--seed 0] [--count 1] [--out out/earth]

Rayleigh waves run along the surface, long ones deeper than short ones: how fast they are by period, the
dispersion curve, tells what is below. `disba` computes curves from layers; here layers are found from curves
with noise. disba knows nothing of gradients: a strategy of `render` supplies them, through the modules that
serve pictures as well. To recover something of your own, replace `dispersion` and the ranges.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm.auto import tqdm

from inverse.follow import minimise
from render import differentiable
from render.blackbox import Simulator
from render.score import ScoreSettings
from render.surrogate import fit_surrogate

try:
    from disba import DispersionError, PhaseDispersion
except ImportError as error:
    raise SystemExit('disba is missing; install it with: pip install "unrender[examples]"') from error

# A crust of three layers on the mantle: what is unknown, and between which bounds
RANGES = {
    "sediment speed": (1.2, 2.4),  # of shear waves [km/s]
    "upper crust speed": (2.7, 3.4),
    "lower crust speed": (3.4, 4.0),
    "mantle speed": (4.1, 4.8),
    "sediment thickness": (1.0, 5.0),  # [km]
    "upper crust thickness": (8.0, 20.0),
    "lower crust thickness": (10.0, 25.0),
}
UNITS = ["km/s"] * 4 + ["km"] * 3
LAYERS = 4
PERIODS = (np.geomspace(2.0, 60.0, 20), np.geomspace(1.0, 10.0, 12))  # [s] fundamental and first higher mode
NOISE = 0.005  # of a measured velocity, relative


@dataclass(frozen=True)
class Settings:
    """What to recover, and how."""

    strategy: Literal["score", "surrogate", "local"] = "surrogate"
    seed: int = 0  # of the earths, their noise and the strategy
    count: int = 1  # earths recovered side by side; the first is shown
    out: Path = Path("out/earth")


def dispersion(theta: np.ndarray) -> np.ndarray:
    """Phase velocities of Rayleigh waves at `PERIODS` [km/s], over an earth of layers theta, [P] -> [M].

    P waves are sqrt(3) times as fast as shear waves; density follows them (Berteussen 1977).

    A mode that cannot run at a period is answered with the mantle's shear velocity. A higher mode's velocity
    tends to that where the mode ends, so the answer has no jump; where no root at all is found for an odd
    model, it is as wrong as an answer can be, and finite. Values below a twentieth of their range's lower end
    count as that: a search may ask for what no earth has.
    """
    theta = np.maximum(theta, 0.05 * np.array(list(RANGES.values()))[:, 0])
    shear, thickness = theta[:LAYERS], np.append(theta[LAYERS:], 0.0)
    pressure = np.sqrt(3.0) * shear
    waves = PhaseDispersion(thickness, pressure, shear, 0.77 + 0.32 * pressure)
    curves = []
    for mode, periods in enumerate(PERIODS):
        velocity = np.full(len(periods), shear[-1])
        try:
            found = waves(periods, mode=mode)
            velocity[np.searchsorted(periods, found.period)] = found.velocity
        except DispersionError:
            pass
        curves.append(velocity)
    return np.concatenate(curves)


def earth() -> Simulator:
    """Dispersion curves as a function of seven numbers."""
    low, high = np.array(list(RANGES.values())).T
    return Simulator(dispersion, low, high, names=list(RANGES))


def measure(simulator: Simulator, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random earths [B, P], their curves with noise [B, M], and the noise's standard deviation [B, M]."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, len(simulator.low), generator=generator, dtype=torch.float64)
    truth = simulator.low + (0.1 + 0.8 * share) * (simulator.high - simulator.low)
    clean = simulator(truth)
    sigma = NOISE * clean
    return truth, clean + sigma * torch.randn(clean.shape, generator=generator, dtype=torch.float64), sigma


def gradients(simulator: Simulator, strategy: str, *, seed: int = 0) -> torch.nn.Module:
    """The simulator's own curves with a strategy's gradients."""
    if strategy == "surrogate":
        network = fit_surrogate(simulator, questions=2048, steps=2500, seed=seed, progress=True)
        return differentiable(simulator, "surrogate", surrogate=network)
    if strategy == "local":
        return differentiable(simulator, "surrogate", kind="local", samples=16, width=0.02, seed=seed)
    return differentiable(simulator, "score", settings=ScoreSettings(samples=32, width=0.02, seed=seed))


def recover(
    module: torch.nn.Module, simulator: Simulator, measured: Tensor, sigma: Tensor, *, steps: int = 400
) -> Tensor:
    """The earths [B, P] whose curves fit best, sought from the middle of the ranges."""
    start = ((simulator.low + simulator.high) / 2).repeat(len(measured), 1)

    def misfit(curves: Tensor) -> Tensor:
        return ((curves - measured) / sigma).square().sum(1)

    with tqdm(total=steps + 1, desc="recovering", mininterval=1.0) as bar:
        return minimise(
            module, simulator, start, misfit, steps=steps, shrink=0.02, watch=lambda *_: bar.update()
        ).theta


def information(simulator: Simulator, theta: Tensor, sigma: Tensor) -> Tensor:
    """Fisher information of the curves about theta, [B, P, P], from central differences.

    Its inverse is the least covariance that the noise permits (Cramér and Rao), and near enough that of the
    best fit.
    """
    span, columns = simulator.high - simulator.low, []
    for step in torch.diag(1e-3 * span):
        columns.append((simulator(theta + step) - simulator(theta - step)) / (2.0 * step.sum() * sigma))
    slope = torch.stack(columns, dim=-1)
    return slope.mT @ slope


def distance(simulator: Simulator, found: Tensor, truth: Tensor, sigma: Tensor) -> Tensor:
    """Squared errors in units of what the noise permits, summed, [B].

    Of best fits they are distributed as chi-squared with P degrees of freedom.
    """
    error = found - truth
    return torch.einsum("bp,bpq,bq->b", error, information(simulator, truth, sigma), error)


def main(settings: Settings) -> None:
    """Recover earths, print the first, draw it."""
    simulator = earth()
    truth, measured, sigma = measure(simulator, settings.count, seed=settings.seed)
    module = gradients(simulator, settings.strategy, seed=settings.seed)
    found = recover(module, simulator, measured, sigma)
    covariance = torch.linalg.inv(information(simulator, found, sigma))
    deviation = covariance.diagonal(dim1=1, dim2=2).sqrt()
    print(f"\n{'':22s}{'true':>8s}{'found':>9s}   by the noise")
    rows = torch.stack([truth[0], found[0], deviation[0]], dim=1).tolist()
    for name, unit, (true, best, spread) in zip(simulator.names, UNITS, rows, strict=True):
        print(f"{name:22s}{true:8.3f}{best:9.3f} ± {spread:.3f} {unit}")
    away = distance(simulator, found, truth, sigma)
    print(f"\nerror² by the noise: {away[0]:.1f}; of best fits half stay below 6.3, 999 in 1000 below 24.3")
    if settings.count > 1:
        print(f"of {settings.count} earths {int((away < 24.3).sum())} below 24.3; median {away.median():.1f}")
    settings.out.mkdir(parents=True, exist_ok=True)
    picture = settings.out / f"{settings.strategy}.png"
    draw(simulator, truth[0], measured[0], sigma[0], found[0], covariance[0], picture)
    print(f"written: {picture}")


def draw(
    simulator: Simulator,
    truth: Tensor,
    measured: Tensor,
    sigma: Tensor,
    found: Tensor,
    covariance: Tensor,
    path: Path,
) -> None:
    """Write a picture: curves as measured and fitted, and the earth as it is, was begun with, was found."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    curves, profile = figure.subplots(1, 2, width_ratios=(3, 2))
    middle = (simulator.low + simulator.high) / 2
    fit, begin = simulator(torch.stack([found, middle]))
    ends = np.cumsum([len(periods) for periods in PERIODS])
    for mode, (periods, end) in enumerate(zip(PERIODS, ends, strict=True)):
        part = slice(end - len(periods), end)
        labels = ("measured", "start", "found") if mode == 0 else (None, None, None)
        curves.errorbar(
            periods, measured[part], sigma[part], fmt=".", color="black", capsize=2, label=labels[0]
        )
        curves.plot(periods, begin[part], color="tab:grey", ls="--", label=labels[1])
        curves.plot(periods, fit[part], color="tab:red", label=labels[2])
        name = ("fundamental mode", "first higher mode")[mode]
        middle_of = (periods[len(periods) // 2], fit[part][len(periods) // 2])
        curves.annotate(name, middle_of, (8, -14), textcoords="offset points")
    curves.set(xscale="log", xlabel="period [s]", ylabel="phase velocity [km/s]")
    draws = np.random.default_rng(0).multivariate_normal(found.numpy(), covariance.numpy(), 40)
    for one in draws.clip(simulator.low.numpy(), simulator.high.numpy()):
        profile.plot(*_steps(one), color="tab:red", alpha=0.08)
    profile.plot(*_steps(middle.numpy()), color="tab:grey", ls="--", label="start")
    profile.plot(*_steps(truth.numpy()), color="black", lw=2, label="true")
    profile.plot(*_steps(found.numpy()), color="tab:red", label="found; faint: as likely")
    profile.set(xlabel="shear velocity [km/s]", ylabel="depth [km]", ylim=(60, 0))
    curves.legend()
    profile.legend(loc="lower left")
    figure.savefig(path, dpi=110)


def _steps(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Velocities and depths of a profile's corners."""
    depth = np.concatenate([[0.0], np.repeat(np.cumsum(theta[LAYERS:]), 2), [60.0]])
    return np.repeat(theta[:LAYERS], 2), depth


if __name__ == "__main__":
    main(tyro.cli(Settings))
