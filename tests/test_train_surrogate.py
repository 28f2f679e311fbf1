"""Training the surrogate: its loss, its figures, its picture, and a command that may be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_command import gone
from torch.testing import assert_close

from inverse.cli import main
from inverse.picture import read_picture
from inverse.training.checkpoint import CHECKPOINT, read_facts
from inverse.training.pictures import UNKNOWN, Pictures
from inverse.training.surrogate import SurrogateTask, sheet
from render.surrogate import load_imitator
from scenes import World

COMMAND = (
    "train surrogate cube --pictures 160 --size 16 --engine software --save-seconds 0 --seed 3 --out"
).split()


@pytest.fixture(scope="module")
def pictures(cube, cube_engine):
    scene = cube.sample(8, generator=torch.Generator().manual_seed(5))
    frame = cube_engine.render(scene, size=(32, 32))
    return Pictures(scene, frame.rgb, frame.instance_id.long())


def step(task, pictures, optimiser):
    loss = task.loss(pictures, 0.0)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def test_a_surrogate_learns_the_pictures(cube, pictures):
    """From below 15 dB of the foreground, where grey cubes are, in 60 steps."""
    task = SurrogateTask(cube, (32, 32))
    with torch.no_grad():
        before = task.measure(pictures)
    optimiser = torch.optim.Adam(task.network.parameters(), lr=5e-3)
    torch.manual_seed(0)
    losses = [step(task, pictures, optimiser) for _ in range(60)]
    with torch.no_grad():
        after = task.measure(pictures)
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    assert before["foreground"] < 15.0
    assert after["foreground"] > before["foreground"] + 3.0
    assert after["psnr"] > before["psnr"] + 3.0


def test_figures_are_means_over_pictures_and_foregrounds(cube, pictures):
    task = SurrogateTask(cube, (32, 32))
    with torch.no_grad():
        got = task.measure(pictures)
        error = (task.network(pictures.scene) - pictures.rgb).square().mean(-1)
    wanted = {"psnr": error.flatten(1), "foreground": error}
    assert_close(got["psnr"], float((-10 * wanted["psnr"].mean(1).log10()).mean()))
    ratios = [-10 * e[i == 0].mean().log10() for e, i in zip(error, pictures.instance_id, strict=True)]
    assert_close(got["foreground"], float(torch.stack(ratios).mean()))


def test_where_the_engine_tells_no_ids_the_scenery_does(cube, pictures):
    """Before a plain background: what differs from it is an object."""
    task = SurrogateTask(cube, (32, 32))
    told = task.foreground(pictures)
    blind = replace(pictures, instance_id=torch.full_like(pictures.instance_id, UNKNOWN))
    seen = task.foreground(blind)
    assert told.float().mean() > 0.1
    assert (seen & told).sum() > 0.95 * told.sum()
    assert (seen & ~told).sum() < 0.15 * told.sum()  # the outline's pixels are mixed


def test_a_seed_says_the_first_weights(cube):
    state = torch.random.get_rng_state()
    one, same, other = (SurrogateTask(cube, (16, 16), seed=s).network.state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert not torch.equal(one["embedding"], other["embedding"])


def test_the_sheet_shows_engine_surrogate_and_difference(cube, pictures):
    network = SurrogateTask(cube, (32, 32)).network
    image = sheet(network, pictures[:3])
    with torch.no_grad():
        drawn = network(pictures[:3].scene)
    assert image.shape == (3 * 32, 3 * 32, 3)
    for k in range(3):
        column = image[:, 32 * k : 32 * (k + 1)]
        assert torch.equal(column[:32], pictures.rgb[k])
        assert torch.equal(column[32:64], drawn[k])
        assert_close(column[64:] - 0.5, drawn[k] - pictures.rgb[k])


def start(folder):
    """The command, as a process that draws with one of its own."""
    code = "import sys; from inverse.cli import main; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *COMMAND, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process):
    """Processes that a process has started."""
    return [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_at_any_moment_the_command_goes_on(tmp_path):
    """The weights are those of a run that was left alone; nothing half-written and no process stays."""
    cut = start(tmp_path / "cut")
    checkpoint = tmp_path / "cut" / CHECKPOINT
    while not checkpoint.exists():
        assert cut.poll() is None, cut.communicate()
        time.sleep(0.02)
    workers = children(cut)
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    done = read_facts(checkpoint)["step"]
    assert 0 < done < 10
    again = start(tmp_path / "cut")
    out, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert f"{16 * done}/160" in said  # the bar begins where the checkpoint was
    assert main([*COMMAND, str(tmp_path / "whole")]) == 0
    assert workers
    assert all(gone(pid, patience=30) for pid in workers)

    files = ["checkpoint.safetensors", "surrogate.png", "surrogate.safetensors"]
    for folder in ("whole", "cut"):
        assert sorted(p.name for p in (tmp_path / folder).iterdir()) == files
    one, other = (load_file(tmp_path / f / "surrogate.safetensors") for f in ("whole", "cut"))
    assert len(one) > 10
    assert all(torch.equal(one[name], other[name]) for name in one)

    with safe_open(tmp_path / "cut" / "surrogate.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert facts["command"].startswith("unrender train surrogate cube --pictures 160")
    assert (facts["seed"], facts["pictures"], facts["size"]) == (3, 160, [16, 16])
    assert 5.0 < facts["figures"]["psnr"] < 40.0
    assert "Held out: psnr" in out
    assert read_picture(tmp_path / "cut" / "surrogate.png").rgb.shape == (3 * 16, 8 * 16, 3)
    network = load_imitator(World.load("cube"), tmp_path / "cut" / "surrogate.safetensors")
    assert torch.equal(network.state_dict()["embedding"], one["embedding"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "surogate cube",
            "there is no network 'surogate', only surrogate, encoder, closeup; did you mean 'surrogate'?",
        ),
        ("surrogate cube --pictures 0", "--pictures must be at least 1, got 0"),
        ("surrogate cube --batch 0", "--batch must be at least 1, got 0"),
        ("surrogate cube --workers 0", "--workers must be at least 1, got 0"),
        ("surrogate nowhere", "no world called 'nowhere'"),
        ("encoder cube --size 64", "--size goes with the surrogate"),
        ("encoder cube --by labls", "there is no teacher 'labls'"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, message, capsys, tmp_path):
    assert main(["train", *arguments.split(), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1
