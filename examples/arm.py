"""Steer a robot arm by a small network, trained through a simulator that gives no gradients.

    pip install "unrender[examples]"
    python examples/arm.py [--seed 0] [--out out/arm]

The arm is gymnasium's Reacher-v5 in MuJoCo: two links of about 10 cm, torques at shoulder and elbow, and a
target somewhere within reach. The simulator says where the fingertip goes, not how that depends on the
network's weights. To the strategy "score" it is a black box as an engine is one: theta, the weights, in, and
an observation, the fingertip's distances from some targets, out.

To steer something else, replace `Arm` by your program and `Controller` by what you want to tune: all that
`train` asks for is a function of a vector.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from tqdm.auto import tqdm

from render.blackbox import Simulator, asked
from render.score import ScoreSettings, loss_gradient
from scenes.files import atomic, output_folder

try:
    import gymnasium
    from mujoco.batch import Batch
except ImportError as error:
    raise SystemExit('MuJoCo is missing; install it with: pip install "unrender[examples]"') from error

UPPER, LOWER = 0.1, 0.11  # lengths of the links [m], from gymnasium's reacher.xml
EPISODE = 50  # control steps of an episode of Reacher-v5, 20 ms each
HELD_OUT = range(1_000_000, 1_000_100)  # seeds of episodes that are never trained on


@dataclass(frozen=True)
class Settings:
    """How long and how finely to train."""

    seed: int = 0  # of the targets, the first weights and the perturbations
    out: Path = Path("out/arm")  # gets arm.png and controller.npy
    steps: int = 80  # gradients followed
    targets: int = 8  # episodes that one question about the weights runs
    horizon: int = 24  # control steps of each
    samples: int = 32  # questions per gradient
    starts: int = 3  # first weights that are tried side by side: some get stuck, the best is kept


@dataclass(frozen=True, eq=False)
class Training:
    """The best controller before and after.

    Attributes:
        before, after: Weights.
        curve: Root of the mean squared distance [m] on the way, over the episodes that are trained on, for
            each of the weights begun with.
    """

    before: Float[np.ndarray, "weight"]
    after: Float[np.ndarray, "weight"]
    curve: Float[np.ndarray, "step start"]


Torques = Callable[["Arm"], Float[np.ndarray, "episode 2"]]
"""A controller: sees the arm, says torques in [-1, 1]."""


class Arm:
    """Episodes of Reacher-v5 side by side, begun as gymnasium begins them.

    Attributes:
        angle, speed: Of shoulder and elbow [rad, rad/s], [E, 2]. As all others views of MuJoCo's own memory.
        target, tip: Where the target and the fingertip are [m], [E, 2].
    """

    def __init__(self, seeds: Sequence[int], steps: int) -> None:
        """Set up one episode for each seed of gymnasium's `reset`, of `steps` control steps."""
        environment: Any = gymnasium.make("Reacher-v5").unwrapped
        starts = []
        for seed in seeds:
            environment.reset(seed=int(seed))
            starts.append((environment.data.qpos.copy(), environment.data.qvel.copy()))
        self.steps = steps
        self._substeps = environment.frame_skip
        self._position, self._velocity = (np.array(part) for part in zip(*starts, strict=True))
        self._batch = Batch(environment.model, nsim=len(starts), nthread=1)
        self._qpos, self._qvel = self._batch.bind("qpos"), self._batch.bind("qvel")
        self._torque = self._batch.bind("ctrl")
        self.angle, self.target = self._qpos[:, :2], self._qpos[:, 2:]
        self.speed = self._qvel[:, :2]
        self.tip = self._batch.body("fingertip").xpos[:, :2]
        environment.close()

    def run(self, torques: Torques) -> Float[np.ndarray, "step episode 2"]:
        """Paths of the fingertips [m] under a controller."""
        self._batch.reset()
        self._qpos[:], self._qvel[:] = self._position, self._velocity
        self._batch.forward()
        path = []
        for _ in range(self.steps):
            self._torque[:] = torques(self)
            self._batch.step(nstep=self._substeps)
            path.append(self.tip.copy())
        return np.array(path)

    def distances(self, torques: Torques) -> Float[np.ndarray, "step episode"]:
        """Distances of the fingertips to their targets [m] after each step."""
        return np.linalg.norm(self.run(torques) - self._position[:, 2:], axis=-1)


class Controller:
    """A network from what the arm senses to torques: 6 inputs, 8 hidden units, 2 outputs, tanh twice.

    It senses as if it sat on the upper link: the way from fingertip to target in that link's frame, the
    elbow's angle and both speeds. So what it learns for one direction holds for all.
    """

    shapes = ((6, 8), (8,), (8, 2), (2,))
    size = sum(math.prod(shape) for shape in shapes)

    @classmethod
    def first(cls, seed: int, count: int) -> Float[np.ndarray, "count weight"]:
        """Weights to begin with: random hidden units that nothing listens to yet, so that the arm rests.

        An arm thrown about at random tells next to nothing about its weights.
        """
        weights = np.random.default_rng(seed).normal(size=(count, cls.size)) * 0.4
        weights[:, math.prod(cls.shapes[0]) :] = 0.0
        return weights

    @classmethod
    def torques(cls, weights: Float[np.ndarray, "weight"], arm: Arm) -> Float[np.ndarray, "episode 2"]:
        """Torques in [-1, 1]."""
        ends = np.cumsum([math.prod(shape) for shape in cls.shapes])[:-1]
        parts = [part.reshape(shape) for part, shape in zip(np.split(weights, ends), cls.shapes, strict=True)]
        hidden = np.tanh(cls.senses(arm) @ parts[0] + parts[1])
        return np.tanh(hidden @ parts[2] + parts[3])

    @staticmethod
    def senses(arm: Arm) -> Float[np.ndarray, "episode 6"]:
        """What the network is told, each of the order of 1."""
        (x, y), shoulder, elbow = (arm.target - arm.tip).T / UPPER, arm.angle[:, 0], arm.angle[:, 1]
        cos, sin = np.cos(shoulder), np.sin(shoulder)
        along, across = cos * x + sin * y, cos * y - sin * x
        return np.stack([along, across, np.cos(elbow), np.sin(elbow), *(arm.speed.T / 10.0)], axis=1)


def train(settings: Settings, *, progress: bool = True) -> Training:
    """Train a controller to be near its targets soon, and to stay.

    Ranks of the losses weigh the perturbations: an arm that is thrown about loses by far more than a better
    one gains, and would outweigh it.
    """
    first = settings.seed * settings.targets
    arm = Arm(range(first, first + settings.targets), settings.horizon)
    simulator = Simulator(
        lambda weights: arm.distances(partial(Controller.torques, weights)),
        low=np.full(Controller.size, -2.0),
        high=np.full(Controller.size, 2.0),
    )
    starts = torch.from_numpy(Controller.first(settings.seed, settings.starts))
    weights = starts.clone().requires_grad_()
    _, box = asked(simulator, weights)
    perturbed = ScoreSettings(samples=settings.samples, width=0.025, narrow=0.3)
    generator = torch.Generator().manual_seed(settings.seed)
    optimiser = torch.optim.Adam([weights], lr=0.1, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.2 ** (1.0 / settings.steps))
    curve = []
    for step in (bar := tqdm(range(settings.steps), unit="step", disable=not progress)):
        losses, weights.grad = loss_gradient(
            box,
            weights,
            lambda distances: distances.square().mean((2, 3)),
            settings=perturbed,
            weights="ranks",
            progress=step / settings.steps,
            generator=generator,
        )
        optimiser.step()
        schedule.step()
        curve.append(losses.sqrt().numpy())
        bar.set_postfix_str(f"{100.0 * curve[-1].min():.1f} cm from the target, root mean square")
    best = int(simulator(weights).square().mean((1, 2)).argmin())
    return Training(starts[best].numpy(), weights[best].detach().numpy(), np.array(curve))


def computed(arm: Arm) -> Float[np.ndarray, "episode 2"]:
    """A hand-written controller: inverse kinematics, then proportional-derivative control of the angles."""
    x, y = arm.target.T
    cosine = (x**2 + y**2 - UPPER**2 - LOWER**2) / (2.0 * UPPER * LOWER)
    elbow = np.arccos(cosine.clip(-1.0, 1.0))
    shoulder = np.arctan2(y, x) - np.arctan2(LOWER * np.sin(elbow), UPPER + LOWER * np.cos(elbow))
    turn = (shoulder - arm.angle[:, 0] + np.pi) % (2.0 * np.pi) - np.pi
    missing = np.stack([turn, elbow - arm.angle[:, 1]], axis=1)
    return (missing - 0.1 * arm.speed).clip(-1.0, 1.0)


def idle(arm: Arm) -> Float[np.ndarray, "episode 2"]:
    """No torque at all."""
    return np.zeros_like(arm.angle)


def main(settings: Settings) -> None:
    """Train, print distances from targets that were not trained on, draw."""
    folder = output_folder(settings.out)
    torch.set_num_threads(1)
    training = train(settings)
    arm = Arm(HELD_OUT, EPISODE)
    controllers: dict[str, Torques] = {
        "no torque": idle,
        "untrained": partial(Controller.torques, training.before),
        "trained": partial(Controller.torques, training.after),
        "inverse kinematics": computed,
    }
    print(f"fingertip from target at the end of an episode [cm], {len(HELD_OUT)} episodes never trained on")
    print(f"{'':20}{'median':>8}{'9 of 10':>9}{'worst':>8}")
    for name, torques in controllers.items():
        last = 100.0 * arm.distances(torques)[-1]
        print(f"{name:20}{np.median(last):8.2f}{np.quantile(last, 0.9):9.2f}{last.max():8.2f}")
    np.save(folder / "controller.npy", training.after)
    draw(training, folder / "arm.png")
    print(f"wrote {folder / 'arm.png'} and controller.npy")


def draw(training: Training, path: Path) -> None:
    """Write paths of the fingertip to eight targets, before and after, and the learning curve."""
    from matplotlib.figure import Figure

    arm = Arm(HELD_OUT[:8], EPISODE)
    figure = Figure(figsize=(13.0, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, title, weights in zip(axes, ("before", "after"), (training.before, training.after), strict=False):
        paths = arm.run(partial(Controller.torques, weights))
        for episode, target in enumerate(arm.target):
            (line,) = ax.plot(*paths[:, episode].T, linewidth=1.5)
            ax.plot(*paths[-1, episode], "o", color=line.get_color(), markersize=5)
            ax.plot(*target, "x", color=line.get_color(), markersize=11, markeredgewidth=2)
        ax.plot(0.0, 0.0, "ks", markersize=7)
        ax.set(title=f"{title}: fingertip (dot: end) and target (cross)", xlabel="x [m]", ylabel="y [m]")
        ax.set(xlim=(-0.24, 0.24), ylim=(-0.24, 0.24), aspect="equal")
    axes[2].plot(100.0 * training.curve)
    axes[2].set(title="targets trained on, the way there included", xlabel="gradients followed")
    axes[2].set_ylabel("distance, root mean square [cm]")
    axes[2].set_ylim(bottom=0.0)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
