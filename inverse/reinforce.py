"""Reinforcement learning proper: PPO learns to move scenes until their pictures are right.

Two uses. `train_policy` learns to move any scene of a world towards any picture, to be followed afterwards on
pictures it has not seen, at a render a move (`follow_policy`). `search_policy` is about one picture: the
policy is a means of search, thrown away afterwards, and every picture drawn counts.

Needs the extra `rl`. Reference: Schulman, Wolski, Dhariwal, Radford, Klimov: Proximal Policy Optimization
Algorithms, 2017, in the implementation of stable-baselines3. Rewards are immediate here, as the loss is seen
after every move: a discount of 0.3 learns many times quicker than the usual 0.99.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from inverse.environment import Games, Goal, Rules, SceneEnvironment
from render.engine import Engine
from scenes import Scene

try:
    from gymnasium import spaces
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize
except ImportError as error:
    raise ImportError('PPO needs stable-baselines3; install it with: pip install "unrender[rl]"') from error

TRAINING = Rules(steps=8)
"""Short episodes: from a start that is 0.25 off, two moves of 0.1 could do."""
SEARCHING = Rules(steps=4, off=0.0, solved=0.0)
"""Every episode sets out from the same scene; the search ends with its budget."""
_DISCOUNT = 0.3
_SPREAD = -1.0  # logarithm of the first standard deviation of actions


@dataclass(frozen=True, eq=False)
class Attempt:
    """A scene that was looked at.

    Attributes:
        renders: Pictures drawn so far, this one's included.
        loss: Mean of `Evidence.cost` over the pixels.
        scene: One scene.
    """

    renders: int
    loss: float
    scene: Scene


class BothPictures(BaseFeaturesExtractor):
    """A small CNN on the target and on what the current picture differs in; theta goes past it."""

    def __init__(self, observation_space: spaces.Dict, width: int = 128) -> None:
        picture, count = _shape(observation_space, "target"), _shape(observation_space, "theta")[0]
        super().__init__(observation_space, width + 2 * count)
        self.see = nn.Sequential(
            nn.Conv2d(6, 16, 8, stride=4, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(width),
            nn.ReLU(),
        )
        self.see(torch.zeros(1, 6, *picture[1:]))  # tells the lazy layer its width

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Features [B, F]; pictures come as [B, 3, H, W] in [0, 1]."""
        target, current = observation["target"], observation["current"]
        seen = self.see(torch.cat([target - 0.5, 4.0 * (current - target)], 1))
        return torch.cat([seen, observation["theta"], observation["active"]], 1)


class ThetaAlone(BaseFeaturesExtractor):
    """Where there is one goal, theta says it all, and no picture needs to be looked at."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, _shape(observation_space, "theta")[0])

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Theta, [B, P]."""
        return observation["theta"]


def _shape(space: spaces.Dict, name: str) -> tuple[int, ...]:
    shape = space[name].shape
    assert shape is not None
    return shape


class GameTable(VecEnv):
    """Games as stable-baselines3 wants them: all move at once, and one whose episode is over begins anew."""

    def __init__(self, games: Games) -> None:
        self.games = games
        super().__init__(len(games.theta), games.observation_space, games.action_space)
        self.seed(0)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Give each game a generator of its own."""
        seeds = [(seed or 0) + k for k in range(self.num_envs)]
        self._generators = [torch.Generator().manual_seed(s) for s in seeds]
        return seeds

    def reset(self) -> dict[str, np.ndarray]:
        """Begin every game."""
        self.games.deal(range(self.num_envs), self._generators)
        return self.games.observations()

    def step_async(self, actions: np.ndarray) -> None:
        """Take the moves."""
        self._actions = torch.from_numpy(np.asarray(actions, np.float32))

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Make the moves."""
        games = self.games
        rewards = games.move(self._actions).numpy()
        infos = [games.info(k) for k in range(self.num_envs)]
        solved, done = games.solved, games.solved | games.late
        seen, over = games.observations(), done.nonzero()[:, 0].tolist()
        for k in over:
            infos[k]["terminal_observation"] = {name: value[k] for name, value in seen.items()}
            infos[k]["TimeLimit.truncated"] = not bool(solved[k])
        if over:
            games.deal(over, [self._generators[k] for k in over])
            seen = games.observations()
        return seen, rewards, done.numpy(), infos

    def close(self) -> None:
        """Leave the engine to whom it belongs."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """What all games share."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set it for all games."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Fail: there are no environments behind this one."""
        raise NotImplementedError(f"games have no method {method_name!r} of their own")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Say no for each game."""
        return [False] * self.num_envs


def train_policy(
    engine: Engine,
    *,
    renders: int,
    size: tuple[int, int] = (40, 40),
    rules: Rules = TRAINING,
    games: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> PPO:
    """Learn to move scenes of the engine's world towards random targets.

    Args:
        engine: Draws the pictures.
        renders: When to stop: this many pictures of scenes on the way were drawn. The wanted ones, which come
            with each new start, are not counted.
        size: (H, W) of the pictures [px], at least 16.
        rules: Of the games.
        games: Played side by side.
        seed: Of targets, starts, network and actions. Also reseeds numpy's and torch's global generators.
        progress: Show a bar.

    Returns:
        The policy, for `follow_policy`; `policy.save` and `PPO.load` keep it.

    Raises:
        ValueError: If `renders` or `games` is below 1.
    """
    table = _table(engine, games, renders, size=size, rules=rules, goal=None)
    network = {"features_extractor_class": BothPictures, "net_arch": [64]}
    policy = _ppo(table, network, moves=32, batch=256, rate=1e-3, epochs=8, seed=seed)
    _learn(policy, table.games, renders, progress=progress)
    return policy


def follow_policy(
    policy: PPO, environment: SceneEnvironment, *, seed: int | None = None, deterministic: bool = True
) -> list[Attempt]:
    """Play one episode.

    Args:
        policy: From `train_policy`, for the same world and picture size.
        environment: Whose next episode is played.
        seed: Of the episode; None goes on from the last one.
        deterministic: Take the mean action instead of a draw.

    Returns:
        The start and what each move led to; renders count from this episode's start.
    """
    seen, info = environment.reset(seed=seed)
    attempts, over = [Attempt(1, info["loss"], environment.scene)], False
    while not over:
        action, _ = policy.predict(seen, deterministic=deterministic)
        seen, _, solved, late, info = environment.step(action)
        attempts.append(Attempt(len(attempts) + 1, info["loss"], environment.scene))
        over = solved or late
    return attempts


def search_policy(
    engine: Engine,
    goal: Goal,
    *,
    renders: int,
    size: tuple[int, int] = (64, 64),
    rules: Rules = SEARCHING,
    games: int = 8,
    seed: int = 0,
    watch: Callable[[Attempt], None] | None = None,
) -> list[Attempt]:
    """Look for the scene of one picture by learning to move towards it.

    Args:
        engine: Draws the pictures.
        goal: The picture, and the scene that every episode sets out from.
        renders: When to stop: this many pictures were drawn; up to `games` more are.
        size: (H, W) of the pictures [px].
        rules: Of the games.
        games: Played side by side.
        seed: Of network and actions. Also reseeds numpy's and torch's global generators.
        watch: Told after every move, which all games make together, of the best scene so far and of the
            pictures drawn by then. What it raises ends the search.

    Returns:
        The first scene looked at, and each that was better than all before it; the last is the best.

    Raises:
        ValueError: If `renders` or `games` is below 1.
    """
    table = _table(engine, games, renders, size=size, rules=rules, goal=goal)
    network = {"features_extractor_class": ThetaAlone, "net_arch": [64]}
    policy = _ppo(table, network, moves=8, batch=32, rate=1e-2, epochs=10, seed=seed)
    best: list[Attempt] = []

    def keep(infos: list[dict[str, Any]]) -> None:
        for info in infos:
            if not best or info["loss"] < best[-1].loss:
                scene = engine.world.unpack(torch.from_numpy(info["theta"])[None], like=goal.around)
                best.append(Attempt(table.games.renders, info["loss"], scene))
        if watch:
            watch(replace(best[-1], renders=table.games.renders))

    _learn(policy, table.games, renders, progress=False, watch=keep)
    return best


def _table(engine: Engine, games: int, renders: int, **more: Any) -> GameTable:
    for name, value in (("games", games), ("renders", renders)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return GameTable(Games(engine.world, engine, games, **more))


def _ppo(
    table: GameTable,
    network: dict[str, Any],
    *,
    moves: int,
    batch: int,
    rate: float,
    epochs: int,
    seed: int,
) -> PPO:
    """PPO that gathers `moves` of each game before it learns from them."""
    return PPO(
        "MultiInputPolicy",
        VecNormalize(table, norm_obs=False, gamma=_DISCOUNT),  # rewards of the order of 1
        n_steps=moves,
        batch_size=batch,
        n_epochs=epochs,
        learning_rate=rate,
        gamma=_DISCOUNT,
        seed=seed,
        device="cpu",
        policy_kwargs={**network, "log_std_init": _SPREAD},
    )


def _learn(
    policy: PPO,
    games: Games,
    renders: int,
    *,
    progress: bool,
    watch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> None:
    """Let the policy learn until so many pictures are drawn."""
    with tqdm(total=renders, unit="picture", disable=not progress) as bar:
        policy.learn(renders, callback=_Budget(games, renders, bar, watch))


class _Budget(BaseCallback):
    """Ends learning when the pictures are drawn."""

    def __init__(
        self,
        games: Games,
        renders: int,
        bar: "tqdm[Any]",
        watch: Callable[[list[dict[str, Any]]], None] | None,
    ) -> None:
        super().__init__()
        self._games, self._renders, self._bar, self._watch = games, renders, bar, watch

    def _on_training_start(self) -> None:
        if self._watch:
            self._watch([self._games.info(k) for k in range(len(self._games.theta))])

    def _on_step(self) -> bool:
        if self._watch:
            self._watch(self.locals["infos"])
        self._bar.update(min(self._games.renders, self._renders) - self._bar.n)
        return self._games.renders < self._renders
