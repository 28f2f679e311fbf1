"""The arm example: its simulator is gymnasium's, and a network learns to steer it."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

import gymnasium

from examples.arm import EPISODE, HELD_OUT, Arm, Controller, Settings, computed, idle, main, train


def test_episodes_side_by_side_are_gymnasiums():
    """The same torques lead the fingertip along the same path, step by step."""
    arm = Arm([3, 11], EPISODE)
    torques = np.random.default_rng(0).uniform(-1.0, 1.0, (EPISODE, 2, 2))
    at = iter(torques)
    paths = arm.run(lambda _: next(at))
    distances = np.linalg.norm(paths - arm.target, axis=-1)
    environment = gymnasium.make("Reacher-v5")
    for episode, seed in enumerate((3, 11)):
        environment.reset(seed=seed)
        for step in range(EPISODE):
            _, _, _, late, info = environment.step(torques[step, episode])
            tip = environment.unwrapped.get_body_com("fingertip")[:2]
            assert paths[step, episode] == pytest.approx(tip, abs=1e-12)
            assert distances[step, episode] == pytest.approx(-info["reward_dist"], abs=1e-12)
        assert late
    environment.close()


def test_a_second_run_begins_where_the_first_did():
    arm = Arm([0, 1, 2], 10)
    weights = np.random.default_rng(1).normal(size=Controller.size)
    first = arm.distances(partial(Controller.torques, weights))
    assert (arm.distances(partial(Controller.torques, weights)) == first).all()
    assert (arm.distances(idle) != first).any()


def test_inverse_kinematics_arrives():
    """The hand-written controller is right, so that it is a fair one to be compared with."""
    last = Arm(HELD_OUT, EPISODE).distances(computed)[-1]
    assert last.max() < 0.001


def test_senses_turn_with_the_arm():
    """What the network is told stays the same when arm and target turn about the shoulder together."""
    arm = Arm([5], 1)

    def told(turn):
        cos, sin = np.cos(turn), np.sin(turn)
        arm.angle[:] = [[0.3 + turn, 0.8]]
        arm.target[:] = np.array([[0.1, 0.05]]) @ np.array([[cos, sin], [-sin, cos]])
        arm._batch.forward()
        return Controller.senses(arm)

    assert told(2.1) == pytest.approx(told(0.0), abs=1e-9)


@pytest.mark.slow
def test_training_reaches_targets_never_trained_on():
    settings = Settings(seed=1, steps=40, starts=1)
    training = train(settings, progress=False)
    arm = Arm(HELD_OUT, EPISODE)
    before = np.median(arm.distances(partial(Controller.torques, training.before))[-1])
    after = np.median(arm.distances(partial(Controller.torques, training.after))[-1])
    assert before > 0.15
    assert after < 0.04
    assert training.curve.min() < 0.5 * training.curve[0].min()


def test_script_prints_distances_and_draws(tmp_path, capsys):
    main(Settings(steps=1, targets=2, samples=2, starts=2, out=tmp_path))
    printed = capsys.readouterr().out
    for name in ("no torque", "untrained", "trained", "inverse kinematics"):
        assert name in printed
    assert (tmp_path / "arm.png").stat().st_size > 10_000
    assert np.load(tmp_path / "controller.npy").shape == (Controller.size,)
