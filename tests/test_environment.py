"""Scenes as a gymnasium environment, and PPO in it."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

import gymnasium
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_for_ppo

from inverse.environment import Games, Goal, Rules, SceneEnvironment
from inverse.losses import Evidence
from inverse.metrics import rotation_error
from inverse.reinforce import GameTable, follow_policy, search_policy, train_policy
from render import EngineError
from render.software import SoftwareEngine
from scenes.scene import matrix
from scenes.world import Interval
from tests.small_world import small_world

SIZE = (40, 40)


@pytest.fixture(scope="module")
def world():
    """One box that slides before the camera; the light is known."""
    still = {name: Interval(v, v) for name, v in (("azimuth", 0.5), ("elevation", 0.8))}
    bright = {name: Interval(v, v) for name, v in (("intensity", 0.6), ("ambient", 0.4))}
    small = small_world(width=40, height=40, placement="upright")
    return replace(
        small,
        assets=small.assets[:1],
        count=(1, 1),
        position=(Interval(-1.0, 1.0), Interval(-0.5, 1.0), Interval(0.0, 0.0)),
        yaw=Interval(0.0, 0.0),
        scale=Interval(3.0, 3.0),
        light=replace(small.light, **still, **bright),
    )


@pytest.fixture(scope="module")
def engine(world):
    with SoftwareEngine(world, size=SIZE, samples=1, shadows=False) as engine:
        yield engine


@pytest.fixture
def environment(world, engine):
    return SceneEnvironment(world, engine=engine, size=SIZE)


@pytest.mark.parametrize("name", ["cube", "tabletop"])
def test_checkers_of_both_packages_find_nothing(name):
    made = gymnasium.make("inverse.environment:unrender/Scene-v0", world=name, engine="software", size=SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made.unwrapped)
        made = made.spec.make()
        check_for_ppo(made.unwrapped)


def test_reward_is_the_fall_of_the_loss(environment):
    seen, info = environment.reset(seed=3)
    for action in ([1.0, 0.2], [-0.5, 0.5], [0.0, 0.0]):
        before = Evidence(environment.games.target[0]).cost(environment.games.image).mean()
        assert info["loss"] == pytest.approx(float(before))
        seen, reward, _, _, after = environment.step(np.array(action, np.float32))
        drawn = environment.engine.render(environment.scene, size=SIZE).rgb[0]
        assert np.abs(seen["current"] / 255.0 - drawn.numpy()).max() < 0.51 / 255.0
        assert reward == pytest.approx(info["loss"] - after["loss"], abs=1e-7)
        assert (reward == 0.0) == (action == [0.0, 0.0])
        info = after


def test_moving_by_what_is_missing_reaches_the_target(world, engine):
    """Start and target are known here: three moves of a third each, and the episode is over."""
    truth = world.sample(1, generator=torch.Generator().manual_seed(1))
    goal = Goal(engine.render(truth, size=SIZE).rgb[0], truth)
    environment = SceneEnvironment(world, engine=engine, size=SIZE, rules=Rules(stride=0.05), goal=goal)
    _, info = environment.reset(seed=5)
    missing = (world.pack(truth)[0].numpy() - info["theta"]) / (world.high - world.low).numpy()
    action = missing / 0.05 / 3.0
    assert np.abs(action).max() < 1.0
    assert info["loss"] > 0.002
    overs = []
    for _ in range(3):
        _, _, over, late, info = environment.step(action)
        overs.append(over)
    assert overs[-1]
    assert not late
    assert info["loss"] < 1e-6
    assert info["theta"] == pytest.approx(world.pack(truth)[0].numpy(), abs=1e-5)


def test_a_move_is_a_share_of_the_range_and_stops_at_its_end(environment):
    _, info = environment.reset(seed=0)
    _, _, _, _, after = environment.step(np.array([0.5, 0.0]))
    assert after["theta"] - info["theta"] == pytest.approx([0.5 * 0.1 * 2.0, 0.0], abs=1e-6)
    for _ in range(30):
        seen, _, _, late, info = environment.step(np.array([1.0, -1.0]))
    assert late
    assert info["theta"] == pytest.approx([1.0, -0.5])
    assert seen["theta"] == pytest.approx([1.0, -1.0])


def test_whole_turns_come_back_round(cube, cube_engine):
    """Half a turn further and once more: the rotation is the old one, its vector within pi."""
    environment = SceneEnvironment(cube, engine=cube_engine, size=SIZE, rules=Rules(stride=0.5, off=0.0))
    axis = np.array([0.0, 1.0, 0.0])
    start = replace(cube.empty(), asset=torch.zeros(1, 1, dtype=torch.long))
    environment.games.goal = Goal(torch.zeros(*SIZE, 3), start)
    environment.reset(seed=0)
    _, _, _, _, info = environment.step(0.6 * axis)  # 0.6 * 0.5 * 2 pi = 108 degrees
    _, _, _, _, info = environment.step(0.6 * axis)
    assert info["theta"] == pytest.approx(-0.8 * math.pi * axis, abs=1e-4)


def test_starts_are_off_by_at_most_what_was_asked(world, engine):
    truth = world.sample(1, generator=torch.Generator().manual_seed(1))
    goal = Goal(engine.render(truth, size=SIZE).rgb[0], truth)
    environment = SceneEnvironment(world, engine=engine, size=SIZE, rules=Rules(off=0.1), goal=goal)
    starts = np.array([environment.reset(seed=seed)[1]["theta"] for seed in range(40)])
    off = np.abs(starts - world.pack(truth).numpy()) / (world.high - world.low).numpy()
    assert off.max() <= 0.05 + 1e-6
    assert off.max() > 0.04


def test_a_seed_gives_the_same_episode_and_another_one_another(environment):
    def episode(seed):
        first, _ = environment.reset(seed=seed)
        second, *_ = environment.step(np.array([0.3, -0.2]))
        return np.concatenate([first["target"].ravel(), second["current"].ravel()])

    assert (episode(1) == episode(1)).all()
    assert (episode(1) != episode(2)).any()


def test_empty_slots_have_no_effect():
    """Of three slots those without an object are not active, and do not move."""
    world = replace(small_world(width=40, height=40), count=(1, 3))
    with SceneEnvironment(world, engine="software", size=SIZE) as environment:
        for seed in range(10):
            seen, info = environment.reset(seed=seed)
            _, _, _, _, after = environment.step(np.ones(len(world.names)))
            idle = seen["active"] == 0
            assert after["theta"][idle] == pytest.approx(info["theta"][idle], abs=1e-4)
            assert np.abs(after["theta"] - info["theta"])[~idle].max() > 0.1
            assert idle.sum() >= 7 * int((environment.scene.asset < 0).sum())


def test_picture_is_target_current_difference(world, engine):
    environment = SceneEnvironment(world, engine=engine, size=SIZE, render_mode="rgb_array")
    seen, _ = environment.reset(seed=0)
    picture = environment.render()
    assert picture.shape == (40, 120, 3)
    assert picture.dtype == np.uint8
    assert (picture[:, :40] == seen["target"]).all()
    assert (picture[:, 40:80] == seen["current"]).all()
    difference = np.abs(seen["target"].astype(int) - seen["current"])
    assert np.abs(picture[:, 80:] - difference).max() <= 1


def test_only_an_engine_opened_here_is_closed(world, engine):
    SceneEnvironment(world, engine=engine, size=SIZE).close()
    engine.render(world.sample(1))
    own = SceneEnvironment(world, engine="software", size=SIZE)
    own.close()
    own.close()
    with pytest.raises(EngineError, match="closed"):
        own.reset(seed=0)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"stride": 0.0}, r"stride must lie in \(0, 1\], got 0.0"),
        ({"stride": 1.5}, r"stride must lie in \(0, 1\], got 1.5"),
        ({"off": -0.1}, "off must be at least 0 and finite, got -0.1"),
        ({"off": math.nan}, "off must be at least 0 and finite, got nan"),
    ],
)
def test_rules_out_of_range(rules, message):
    with pytest.raises(ValueError, match=message):
        Rules(**rules)


def test_bad_arguments(world, engine, environment):
    with pytest.raises(ValueError, match="around must hold one scene, got 2"):
        Goal(torch.zeros(4, 4, 3), world.sample(2))
    with pytest.raises(ValueError, match="render_mode must be None or 'rgb_array', got 'human'"):
        SceneEnvironment(world, engine=engine, render_mode="human")
    environment.reset(seed=0)
    for action in ([0.0], [0.0, np.nan]):
        with pytest.raises(ValueError, match="an action must be 2 finite numbers"):
            environment.step(np.array(action))
    with pytest.raises(ValueError, match="renders must be at least 1, got 0"):
        train_policy(engine, renders=0)
    with pytest.raises(ValueError, match="games must be at least 1, got 0"):
        train_policy(engine, renders=10, games=0)


def test_games_side_by_side_are_games(world, engine):
    """Three at once end as each does alone; one whose episode is over begins anew and says how it ended."""
    rules = Rules(steps=2)
    table = GameTable(Games(world, engine, 3, size=SIZE, rules=rules, goal=None))
    table.seed(7)
    seen = table.reset()
    actions = np.array([[0.5, 0.1], [-0.3, 1.0], [0.0, -0.7]], np.float32)
    for _ in range(2):
        seen, rewards, over, infos = table.step(actions)
    assert over.all()
    for k in range(3):
        alone = Games(world, engine, 1, size=SIZE, rules=rules, goal=None)
        alone.deal([0], [torch.Generator().manual_seed(7 + k)])
        alone.move(torch.from_numpy(actions[k : k + 1]))
        fall = alone.move(torch.from_numpy(actions[k : k + 1]))
        assert rewards[k] == pytest.approx(float(fall), abs=1e-6)
        last = alone.observations()
        for name, value in infos[k]["terminal_observation"].items():
            assert value == pytest.approx(last[name][0], abs=1e-5)
        assert infos[k]["TimeLimit.truncated"] == (not bool(alone.solved))
        assert (seen["target"][k] != last["target"][0]).any()


@pytest.mark.slow
def test_trained_policy_beats_random_actions_and_doing_nothing(world, engine):
    """On 20 episodes that it has not seen; the same seed trains the same policy."""
    rules = Rules(steps=8, off=0.5)
    policy = train_policy(engine, renders=4000, size=SIZE, rules=rules, progress=False)
    environment = SceneEnvironment(world, engine=engine, size=SIZE, rules=rules)
    learned, idle = [], []
    for seed in range(100, 120):
        attempts = follow_policy(policy, environment, seed=seed)
        idle.append(attempts[0].loss)
        learned.append(attempts[-1].loss)
        assert attempts[-1].renders == len(attempts) <= 9
    random, rng = [], np.random.default_rng(0)
    for seed in range(100, 120):
        environment.reset(seed=seed)
        over = False
        while not over:
            _, _, solved, late, info = environment.step(rng.uniform(-1.0, 1.0, 2))
            over = solved or late
        random.append(info["loss"])
    assert np.mean(learned) < 0.6 * np.mean(idle)
    assert np.mean(learned) < 0.6 * np.mean(random)


def test_policy_search_recovers_a_pose(cube, cube_engine):
    """A cube turned by 25 degrees: within 6 degrees after 600 pictures, all counted; a seed reproduces it."""
    generator = torch.Generator().manual_seed(500)
    truth = cube.sample(1, generator=generator)
    start = cube.unpack(cube.pack(truth) + torch.tensor([[0.25, -0.25, 0.25]]), like=truth)
    goal = Goal(cube_engine.render(truth).rgb[0], start)

    def error(attempt):
        turned, true = matrix(attempt.scene.rotation[0, 0]), matrix(truth.rotation[0, 0])
        return math.degrees(float(rotation_error(cube.assets[0], turned, true)))

    told = []
    found = search_policy(cube_engine, goal, renders=600, size=SIZE, watch=told.append)
    assert error(found[0]) > 15.0
    assert error(found[-1]) < 6.0
    assert [a.loss for a in found] == sorted((a.loss for a in found), reverse=True)
    assert 8 <= found[0].renders <= found[-1].renders <= 608
    assert told[0].renders == 8
    assert told[-1].renders >= 600
    assert told[-1].loss == found[-1].loss
    again = search_policy(cube_engine, goal, renders=600, size=SIZE)
    assert [a.loss for a in again] == [a.loss for a in found]
