"""The close-up: what is cut out, what it means, and that it learns."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inverse.cli import main
from inverse.encoder.closeup import CloseUp, Told
from inverse.encoder.cutout import Squares, cut_out, squares_of
from inverse.encoder.figures import Figures
from inverse.encoder.labels import labels_of
from inverse.encoder.network import Encoder
from inverse.encoder.sighting import believed, corrected, look, scene_of
from inverse.encoder.stored import load_encoder, save_closeup, save_encoder
from inverse.training.closeup import CloseUpTask, mistaken
from inverse.training.pool import held_out
from scenes import World, bundled_worlds
from tests.test_encoder import sampled, told_by_truth


def test_a_cut_out_shows_the_square_it_was_asked_for() -> None:
    """Of a picture whose red is the column and whose green is the row; beside the picture all is grey."""
    rows, columns = torch.meshgrid(torch.arange(48.0) + 0.5, torch.arange(64.0) + 0.5, indexing="ij")
    picture = torch.stack([columns / 64, rows / 64, torch.zeros_like(rows)], -1)[None].repeat(2, 1, 1, 1)
    picture[0] = 1.0
    squares = Squares(torch.tensor([[30.0, 20.0], [0.0, 24.0]]), torch.tensor([16.0, 20.0]))
    cut = cut_out(picture, torch.tensor([1, 1]), squares, 8)
    steps = (torch.arange(8.0) + 0.5) / 8 - 0.5
    torch.testing.assert_close(cut[0, 0], ((30.0 + 16.0 * steps) / 64).expand(8, 8))
    torch.testing.assert_close(cut[0, 1], ((20.0 + 16.0 * steps) / 64)[:, None].expand(8, 8))
    torch.testing.assert_close(cut[1, :, :, :3], torch.full((3, 8, 3), 0.5))
    assert (cut[1, 2, :, 5:] == 0.0).all()


@pytest.mark.parametrize("name", bundled_worlds())
def test_the_squares_hold_their_objects(name: str) -> None:
    """Nearly all of what an engine draws of an object lies in its square, and fills some of it."""
    world = World.load(name)
    encoder = Encoder(world)
    pictures = held_out(world, 24, encoder.size, engine="software")
    labels = labels_of(encoder.layout, pictures.scene, pictures.visible >= 40, encoder.size)
    belief = mistaken(encoder.layout, labels, pictures.scene, error=0.0)
    squares = squares_of(encoder.layout, belief)
    shown = (pictures.instance_id[labels.batch] == labels.slot[:, None, None]).float()
    inside = cut_out(shown[..., None].expand(-1, -1, -1, 3), torch.arange(len(shown)), squares, 64)[:, 0]
    pixels = (inside - 0.5).clamp(min=0.0).mean((1, 2)) * 2.0 * squares.side**2
    share = pixels / shown.sum((1, 2))
    assert share.median() > 0.9
    assert (shown.sum((1, 2)) / squares.side**2).median() > 0.1


@pytest.mark.parametrize("name", bundled_worlds())
def test_a_true_answer_about_a_wrong_belief_gives_the_true_scene(name: str) -> None:
    world = World.load(name)
    encoder, closeup, figures = Encoder(world), CloseUp(world), Figures()
    encoder.spread.copy_(torch.tensor([1e-3, 0.05]))  # of exact places
    closeup.spread.copy_(torch.tensor([1e-6, 1e-6]))  # trusted alone
    torch.manual_seed(0)
    for seed in range(20):
        scene = sampled(world, 1, seed)
        labels = labels_of(encoder.layout, scene, scene.asset >= 0, encoder.size)
        belief = mistaken(encoder.layout, labels, scene, error=1.0)
        squares = squares_of(encoder.layout, belief)
        radii = torch.tensor([a.radius for a in world.assets])
        where = (labels.batch, labels.slot)
        size = radii[labels.asset] * scene.scale[where] / labels.depth
        truth = told_by_truth(encoder, scene)
        told = Told(
            asset=50.0 * truth.assets,
            offset=(labels.pixels - squares.centre) / squares.side[:, None],
            size=(size / (radii[belief.asset] * belief.scale / belief.depth)).log(),
            rotation=truth.numbers[:, encoder.layout.parts["rotation"]],
        )
        seen = replace(truth, numbers=truth.numbers + 0.1)
        guess = scene_of(encoder, corrected(encoder, closeup, seen, belief, told, squares))
        shown = torch.zeros(scene.slots)
        shown[labels.slot] = 1
        figures.add(world, scene, shown, guess, counted=1)
    summary = figures.summary()
    assert summary["F1"] == 1.0
    assert summary["asset"] == 1.0
    assert max(figures.position) < 1e-3
    assert max(figures.scale) < 1e-3
    assert max(figures.rotation) < 1e-2


def test_beliefs_are_where_the_sightings_are() -> None:
    world = World.load("tabletop")
    encoder, scene = Encoder(world), sampled(world, 1, 3)
    encoder.spread.copy_(torch.tensor([1e-3, 0.05]))
    labels = labels_of(encoder.layout, scene, scene.asset >= 0, encoder.size)
    belief = believed(encoder, told_by_truth(encoder, scene))
    torch.testing.assert_close(belief.pixels, labels.pixels, atol=1e-2, rtol=0)
    torch.testing.assert_close(belief.depth, labels.depth, atol=0, rtol=1e-3)
    assert torch.equal(belief.asset, labels.asset)


@pytest.mark.parametrize("name", ["street", "tabletop"])
def test_a_step_of_training_makes_the_loss_smaller(name: str, device: torch.device) -> None:
    world = World.load(name)
    task = CloseUpTask(Encoder(world).to(device))
    task.network.to(device)
    pictures = held_out(world, 8, task.encoder.size, engine="software").to(device)
    rate = torch.optim.Adam(task.network.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        torch.manual_seed(0)
        loss = task.loss(pictures, 0.0)
        rate.zero_grad()
        loss.backward()
        rate.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert 0.0 <= task.measure(pictures)["F1"] <= 1.0


def test_what_is_large_is_not_looked_at_again() -> None:
    """The cube fills the picture: there is nothing that a cut-out could show better, or teach."""
    world = World.load("cube")
    encoder, scene = Encoder(world), sampled(world, 1, 3)
    encoder.attach(CloseUp(world))
    assert encoder.closeup is not None
    assert not encoder.closeup.small(believed(encoder, told_by_truth(encoder, scene))).any()
    picture = torch.rand(1, 128, 128, 3)
    again = look(encoder, picture, least=0.01)[0]
    encoder.closeup = None
    assert torch.equal(again.numbers, look(encoder, picture, least=0.01)[0].numbers)


def test_a_close_up_comes_back_from_the_file_beside_its_encoder(tmp_path: Path) -> None:
    world = World.load("tabletop")
    torch.manual_seed(0)
    encoder, closeup = Encoder(world, (16, 16, 24, 32)), CloseUp(world)
    closeup.threshold.fill_(0.013)
    encoder.attach(closeup)
    save_encoder(tmp_path / "encoder.safetensors", encoder, {})
    alone = load_encoder(world, tmp_path / "encoder.safetensors")
    assert alone is not None
    assert alone.closeup is None
    save_closeup(tmp_path / "closeup.safetensors", closeup, {})
    both = load_encoder(world, tmp_path / "encoder.safetensors")
    assert both is not None
    assert both.closeup is not None
    assert float(both.threshold) == pytest.approx(0.013)
    torch.testing.assert_close(
        both.closeup.state_dict(), closeup.state_dict(), atol=1e-3, rtol=1e-3, check_dtype=False
    )
    picture = torch.rand(1, 128, 128, 3)
    first, again = (look(e, picture, least=0.01)[0] for e in (alone, both))
    assert torch.equal(first.heat, again.heat)
    assert not torch.allclose(first.numbers, again.numbers, atol=0.1)


def test_there_is_nothing_to_look_after_without_an_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(World.load("cube").source)
    (tmp_path / "world.toml").write_text(source.read_text())
    code = main(["train", "closeup", str(tmp_path), "--out", str(tmp_path / "out"), "--pictures", "32"])
    assert code != 0
    assert "has no encoder" in capsys.readouterr().err
