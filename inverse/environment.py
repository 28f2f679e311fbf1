"""Recovery as a game: a gymnasium environment over any world, where each move draws one picture.

    import gymnasium
    environment = gymnasium.make("inverse.environment:unrender/Scene-v0", world="cube")

Needs the extra `rl`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from inverse.losses import Evidence, resize
from inverse.picture import levels
from render.engine import Engine, open_engine
from scenes import Scene, World, stack

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as error:
    raise ImportError('environments need gymnasium; install it with: pip install "unrender[rl]"') from error


@dataclass(frozen=True)
class Rules:
    """How the game is played. Raises ValueError where a number is out of range."""

    steps: int = 24  # moves of an episode, at most
    stride: float = 0.1  # longest change of an entry of theta in one move, as a share of its range, in (0, 1]
    off: float = 0.25  # starts: each entry is off by up to this share of half its range, uniformly
    solved: float = 0.002  # loss below which an episode is over

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0.0 < self.stride <= 1.0:
            raise ValueError(f"stride must lie in (0, 1], got {self.stride}")
        if not 0.0 <= self.off < math.inf:
            raise ValueError(f"off must be at least 0 and finite, got {self.off}")


@dataclass(frozen=True, eq=False)
class Goal:
    """One picture that every episode is about. Raises ValueError where `around` is not one scene.

    Attributes:
        picture: What the engine's picture is to become, sRGB-encoded, of any size.
        around: One scene: it holds the assets that are there, and starts are off from it.
    """

    picture: Float[Tensor, "height width 3"]
    around: Scene

    def __post_init__(self) -> None:
        if len(self.around) != 1:
            raise ValueError(f"around must hold one scene, got {len(self.around)}")


class Games:
    """B games side by side, whose moves the engine draws as one batch.

    Attributes:
        theta: Where each scene is, in the world's units, [B, P].
        active: Which entries of theta have an effect, [B, P].
        target, image: The wanted pictures, and those of the scenes as they are, [B, H, W, 3].
        loss: Mean of `Evidence.cost` over the pixels, 0 to 1, [B].
        moves: Moves since the start, [B].
        renders: Pictures drawn of scenes on the way, one for each start and each move, without wanted ones.
    """

    def __init__(
        self,
        world: World,
        engine: Engine,
        count: int,
        *,
        size: tuple[int, int],
        rules: Rules,
        goal: Goal | None,
    ) -> None:
        """Set up `count` games, which are to be dealt; see `SceneEnvironment` for the rest."""
        self.world, self.engine, self.size, self.rules, self.goal = world, engine, size, rules, goal
        self._low, self._high = world.low, world.high
        # rotation vectors and whole turns come back round; an elevation, or part of a turn, has ends
        whole = self._high - self._low >= 2.0 * math.pi - 1e-4
        self._round = whole & torch.tensor([unit == "rad" for unit in world.units])
        self._scenes = [world.empty()] * count
        self.theta = torch.zeros(count, len(self._low))
        self.active = torch.zeros(count, len(self._low), dtype=torch.bool)
        self.target, self.image = torch.zeros(2, count, *size, 3).unbind()
        self.loss, self.moves = torch.zeros(count), torch.zeros(count, dtype=torch.long)
        self.renders = 0
        image = spaces.Box(0, 255, (*size, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "target": image,
                "current": image,
                "theta": spaces.Box(-1.0, 1.0, self._low.shape, np.float32),
                "active": spaces.MultiBinary(len(self._low)),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, self._low.shape, np.float32)

    def deal(self, which: Sequence[int], generators: Sequence[torch.Generator]) -> None:
        """Begin the games `which` anew, each from its generator: a start, and without a goal a target."""
        rows = torch.tensor(which)
        goal = self.goal
        middle = stack([goal.around if goal else self.world.sample(1, generator=g) for g in generators])
        shift = torch.stack([torch.rand(len(self._low), generator=g) for g in generators]) * 2.0 - 1.0
        self.active[rows] = self.world.active(middle)
        reach = 0.5 * self.rules.off * self._range(rows)
        starts = self._bounded(self.world.pack(middle) + reach * shift, middle)
        if goal:
            self.target[rows], image = resize(goal.picture[None], self.size), self._drawn(starts)
        else:
            self.target[rows], image = self._drawn(stack([middle, starts])).chunk(2)
        self.moves[rows] = 0
        self._put(rows, starts, image)

    def move(self, actions: Float[Tensor, "game parameter"]) -> Float[Tensor, "game"]:
        """Make a move in every game; returns by how much each loss fell."""
        rows = torch.arange(len(self.theta))
        change = self.rules.stride * self._range(rows) * actions.clamp(-1.0, 1.0)
        scenes = self._bounded(self.theta + change, stack(self._scenes))
        before = self.loss.clone()
        self._put(rows, scenes, self._drawn(scenes))
        self.moves += 1
        return before - self.loss

    @property
    def scenes(self) -> Scene:
        """The scenes as they are, B."""
        return stack(self._scenes)

    @property
    def solved(self) -> Bool[Tensor, "game"]:
        """Where the loss is small enough."""
        return self.loss < self.rules.solved

    @property
    def late(self) -> Bool[Tensor, "game"]:
        """Where all moves are made."""
        return self.moves >= self.rules.steps

    def observations(self) -> dict[str, np.ndarray]:
        """What the players see, as `observation_space` with a batch axis in front."""
        scaled = 2.0 * (self.theta - self._low) / (self._high - self._low) - 1.0
        return {
            "target": levels(self.target),
            "current": levels(self.image),
            "theta": scaled.clamp(-1.0, 1.0).numpy(),
            "active": self.active.numpy().astype(np.int8),
        }

    def info(self, game: int) -> dict[str, Any]:
        """Loss and theta of one game."""
        return {"loss": float(self.loss[game]), "theta": self.theta[game].numpy().copy()}

    def _range(self, rows: Tensor) -> Float[Tensor, "game parameter"]:
        """Each entry's range, 0 where it has no effect."""
        return (self._high - self._low) * self.active[rows]

    def _bounded(self, theta: Tensor, like: Scene) -> Scene:
        """The scenes at theta, brought back into its ranges."""
        ended = torch.maximum(torch.minimum(theta, self._high), self._low)
        return self.world.unpack(torch.where(self._round, theta, ended), like=like)

    def _drawn(self, scenes: Scene) -> Tensor:
        return self.engine.render(scenes, size=self.size).rgb

    def _put(self, rows: Tensor, scenes: Scene, image: Tensor) -> None:
        self.renders += len(rows)
        for k, row in enumerate(rows.tolist()):
            self._scenes[row] = scenes[k]
        self.theta[rows] = self.world.pack(scenes)  # packing brings angles back round
        self.image[rows] = image
        self.loss[rows] = Evidence(self.target[rows]).cost(image).mean((1, 2))


class SceneEnvironment(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """Move the free numbers of a scene until the engine's picture of it is the picture that is wanted.

    What is there is known: the scene has the assets of the wanted picture. Where and how it is, is not.

    Observation, a dictionary:
        target, current: The wanted picture and the engine's of the scene as it is, uint8 [H, W, 3].
        theta: The scene's free numbers, their ranges scaled to [-1, 1], float32 [P].
        active: 1 where an entry of theta has an effect, int8 [P].

    Action: float32 [P] in [-1, 1], the change of each entry; 1 stands for `rules.stride` times its range.
    Whole turns go round; what else would leave its range stops at its end.

    Reward: by how much the loss falls, the mean of `Evidence.cost` over the pixels, 0 to 1. An episode's
    rewards add up to all that was gained. The episode is terminated when the loss is below `rules.solved`,
    truncated after `rules.steps` moves. `info` has "loss", and "theta" in the world's units, [P].
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012  gymnasium declares it so
    observation_space: spaces.Space[Any]

    def __init__(
        self,
        world: World | str,
        *,
        engine: Engine | str = "auto",
        size: tuple[int, int] = (64, 64),
        rules: Rules = Rules(),
        goal: Goal | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Open the environment.

        Args:
            world: What may be in the picture, or what `World.load` finds it by.
            engine: Draws the pictures. A name (see `open_engine`): it is opened, and closed with the
                environment. An open engine of `world` may be shared, and stays open.
            size: (H, W) of the pictures [px].
            rules: Length of episodes and moves, how far off starts are.
            goal: The picture that is wanted in every episode. None: that of a scene which the world samples
                at each reset, and starts are off from that.
            render_mode: "rgb_array": `render` gives a picture.

        Raises:
            ValueError: If `render_mode` or the engine is unknown.
            EngineError: If the engine cannot run here.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        world = World.load(world) if isinstance(world, str) else world
        self._owned = isinstance(engine, str)
        self.engine = open_engine(engine, world, size=size) if isinstance(engine, str) else engine
        self.games = Games(world, self.engine, 1, size=size, rules=rules, goal=goal)
        self.observation_space, self.action_space = self.games.observation_space, self.games.action_space
        self.render_mode = render_mode

    @property
    def scene(self) -> Scene:
        """The scene as it is."""
        return self.games.scenes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode: a target, unless it is fixed, and a start. A seed gives the same ones again."""
        super().reset(seed=seed, options=options)
        self.games.deal([0], [torch.Generator().manual_seed(int(self.np_random.integers(2**62)))])
        return self._observation(), self.games.info(0)

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Make a move and draw what it leads to.

        Raises:
            ValueError: If the action is not [P] and finite.
        """
        change = torch.as_tensor(np.asarray(action, np.float32))
        if change.shape != self.action_space.shape or not bool(change.isfinite().all()):
            raise ValueError(f"an action must be {self.games.theta.shape[1]} finite numbers, got {action}")
        games = self.games
        reward = float(games.move(change[None]))
        return self._observation(), reward, bool(games.solved), bool(games.late), games.info(0)

    def render(self) -> UInt8[np.ndarray, "height width3 3"] | None:
        """Target, current picture and their difference, side by side; None without a render mode."""
        if self.render_mode is None:
            return None
        target, current = self.games.target[0], self.games.image[0]
        return levels(torch.cat([target, current, (target - current).abs()], dim=1))

    def close(self) -> None:
        """Close the engine, if it was opened here; a second call does nothing."""
        if self._owned:
            self.engine.close()

    def _observation(self) -> dict[str, np.ndarray]:
        return {name: value[0] for name, value in self.games.observations().items()}


gymnasium.register("unrender/Scene-v0", entry_point="inverse.environment:SceneEnvironment")
