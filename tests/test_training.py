"""Training: pictures that depend on the step alone, and runs that go on where they were cut off."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inverse.training.checkpoint import CHECKPOINT, CheckpointError
from inverse.training.pictures import Pictures, _sampled
from inverse.training.pool import CHUNK, Pool, PoolSettings, held_out
from inverse.training.trainer import TrainingSettings, rate_factor, train
from scenes import Interval, World

POOL = PoolSettings(size=(16, 16), kept=2 * CHUNK, reuse=1, first=CHUNK, engine="software")
SETTINGS = TrainingSettings(
    pictures=12 * 16, batch=16, rate=0.05, warmup=2, held=16, save_seconds=0.0, measure_seconds=1e9, pool=POOL
)


class Repeat:
    """A convolution that learns to repeat the picture, with noise, so that chance matters too."""

    def __init__(self, stop: int = 1000) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.stop, self.seen = stop, 0

    def loss(self, pictures: Pictures, progress: float) -> torch.Tensor:
        if self.seen == self.stop:
            raise KeyboardInterrupt
        self.seen += 1
        x = pictures.rgb.permute(0, 3, 1, 2)
        return (self.network(x + 0.1 * torch.randn_like(x)) - x).square().mean()

    def measure(self, held: Pictures) -> dict[str, float]:
        x = held.rgb.permute(0, 3, 1, 2)
        return {"error": (self.network(x) - x).square().mean().item()}


@pytest.mark.slow
def test_a_run_cut_off_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    world = World.load("cube")
    whole, cut, again = Repeat(), Repeat(stop=7), Repeat()
    done = train(world, whole, tmp_path / "whole", SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        train(world, cut, tmp_path / "cut", SETTINGS)
    train(world, again, tmp_path / "cut", SETTINGS)
    assert (whole.seen, again.seen) == (12, 5)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    assert done.pictures == 192
    held = held_out(world, 16, (16, 16), engine="software")
    assert done.figures["error"] < 0.5 * Repeat().measure(held)["error"]
    with pytest.raises(CheckpointError, match=r"rate was 0\.05, is 0\.1"):
        train(world, Repeat(), tmp_path / "cut", replace(SETTINGS, rate=0.1))
    with pytest.raises(CheckpointError, match="asset mug is new"):
        train(World.load("tabletop"), Repeat(), tmp_path / "cut", SETTINGS)


def test_nothing_stays_of_a_run_killed_as_it_writes(tmp_path: Path) -> None:
    """Killed between writing and renaming."""
    saved = (
        "import os, sys, torch; from pathlib import Path; import inverse.training.checkpoint as c; "
        "Path.replace = (lambda *_: os._exit(9)) if sys.argv[2:] else Path.replace; "
        "n = torch.nn.Linear(2, 2); o = torch.optim.Adam(n.parameters()); "
        "c.save_checkpoint(Path(sys.argv[1]) / c.CHECKPOINT, n, o, {'step': 1})"
    )
    killed = subprocess.run([sys.executable, "-c", saved, str(tmp_path), "killed"], check=False)
    assert killed.returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    subprocess.run([sys.executable, "-c", saved, str(tmp_path)], check=True)
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def test_no_checkpoint_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_text("something else")
    with pytest.raises(CheckpointError, match="is no checkpoint of a training"):
        train(World.load("cube"), Repeat(), tmp_path, SETTINGS)


def test_the_pool_gives_a_step_the_same_pictures_whenever_it_begins() -> None:
    world = World.load("cube")
    settings = replace(POOL, workers=2)
    with Pool(world, settings, batch=32) as pool:
        straight = [pool.pictures(step) for step in range(9)]
    with Pool(world, POOL, step=8, batch=32) as pool:
        late = pool.pictures(8)
    assert torch.equal(straight[8].rgb, late.rgb)
    assert torch.equal(straight[8].scene.rotation, late.scene.rotation)
    assert not torch.equal(straight[7].rgb, late.rgb)
    seen = late.visible[:, 0]
    assert (seen > 20).all()
    assert (seen < 200).all()


def test_a_worker_that_cannot_draw_says_why() -> None:
    world = World.load("cube")
    with (
        Pool(world, replace(POOL, engine="command:no-such-program {scene} {image}")) as pool,
        pytest.raises(RuntimeError, match=r"pictures cannot be drawn: EngineError: .*no-such-program"),
    ):
        pool.pictures(0)


def test_the_rate_warms_up_and_falls() -> None:
    factors = [rate_factor(step, SETTINGS) for step in range(SETTINGS.steps)]
    assert factors[0] == 0.5
    assert factors[1] == max(factors)
    assert factors[1:] == sorted(factors[1:], reverse=True)
    assert factors[-1] < 0.05


TOGETHER = """
import json, sys
from pathlib import Path
from test_training import SETTINGS, Repeat
from inverse.training.trainer import train
from scenes import Interval, World
import os

if __name__ == "__main__":
    task = Repeat()
    folder = Path(sys.argv[1])
    train(World.load("cube"), task, folder, SETTINGS)
    weights = task.network.weight.flatten().tolist()
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(weights))
"""


@pytest.mark.slow
def test_several_processes_train_one_network(tmp_path: Path) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(tmp_path / "together.py"), str(tmp_path)),
        ],
        env=environment,
        check=True,
        timeout=240,
        capture_output=True,
    )
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    alone = Repeat()
    train(World.load("cube"), alone, tmp_path / "alone", SETTINGS)
    assert first != alone.network.weight.flatten().tolist()
    assert (tmp_path / CHECKPOINT).is_file()


def test_scenes_that_find_no_room_are_drawn_anew_a_few_times() -> None:
    """Four things on a table of 28 cm find room about every other time, on one of 14 cm never."""
    table = World.load("tabletop")

    def side(half: float) -> World:
        across = Interval(-half, half)
        return replace(table, position=(across, table.position[1], across), count=(4, 4))

    with pytest.raises(ValueError, match="no room for 4 objects"):
        side(0.14).sample(1, generator=torch.Generator().manual_seed(0))
    scene = _sampled(side(0.14), 1, torch.Generator().manual_seed(0))
    assert (scene.asset >= 0).all()
    with pytest.raises(ValueError, match="no room for 4 objects"):
        _sampled(side(0.07), 1, torch.Generator().manual_seed(0))
