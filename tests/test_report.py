"""The pictures of a recovery: they are written, show what they must, and keep within their size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_world import small_world
from torch.testing import assert_close

from inverse.files import OutputError
from inverse.picture import read_picture
from inverse.recovery import FoundObject, Recovery, Step
from inverse.report import write_comparison, write_loss, write_refinement


@pytest.fixture
def recovery():
    """A red square of 20 x 10 pixels in a grey 48 x 64 picture, recovered two pixels too far to the right."""
    world = small_world()
    picture, image = torch.full((48, 64, 3), 0.5), torch.full((48, 64, 3), 0.5)
    picture[20:40, 12:22] = torch.tensor([1.0, 0.0, 0.0])
    image[20:40, 14:24] = torch.tensor([1.0, 0.0, 0.0])
    ids = torch.full((48, 64), -1, dtype=torch.int32)
    ids[20:40, 14:24] = 0
    steps = [Step("search", 8.0 - i, 100 * i, 0.1 * i) for i in range(5)]
    steps += [Step("refinement", 4.0 * 0.5**i, 400 + 20 * i, 0.5 + 0.1 * i) for i in range(8)]
    return Recovery(
        world=world,
        scene=world.empty(),
        objects=(FoundObject(0, "box", visible_fraction=1.0), FoundObject(1, "ball", verdict="unexplained")),
        picture=picture,
        image=image,
        instance_id=ids,
        loss=0.1,
        psnr=21.4,
        renders=540,
        seconds=1.3,
        history=tuple(steps),
        frames=tuple(image.roll(k, 1) for k in range(60, 0, -1)),
    )


def panel_colours(path):
    return set(map(tuple, np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()))


def test_comparison_shows_both_pictures_the_difference_and_outlines(recovery, tmp_path):
    write_comparison(recovery, tmp_path / "a.png")
    shown = read_picture(tmp_path / "a.png").rgb
    red = (shown - torch.tensor([1.0, 0.0, 0.0])).abs().amax(-1) < 0.01
    columns = red.any(0).nonzero()[:, 0]
    third = shown.shape[1] / 3
    assert (columns < third).any()  # picture
    assert ((columns > third) & (columns < 2 * third)).any()  # recovered
    orange = (shown - torch.tensor([1.0, 0.498, 0.055])).abs().amax(-1) < 0.02
    assert orange[:, : int(third)].sum() > 100  # the first object's outline, in the first panel


def test_comparison_without_ids_or_objects(recovery, tmp_path):
    write_comparison(replace(recovery, instance_id=None), tmp_path / "a.png")
    write_comparison(replace(recovery, objects=()), tmp_path / "b.png")
    assert read_picture(tmp_path / "a.png").rgb.shape[2] == 3
    assert (tmp_path / "b.png").stat().st_size > 1000


@pytest.mark.parametrize("size", [(16, 128), (300, 40)])
def test_comparison_of_long_pictures(recovery, tmp_path, size):
    """An object that fills the whole picture has an outline all the same."""
    long = replace(
        recovery,
        picture=torch.zeros(*size, 3),
        image=torch.zeros(*size, 3),
        instance_id=torch.zeros(size, dtype=torch.int32),
    )
    write_comparison(long, tmp_path / "a.png")
    shown = read_picture(tmp_path / "a.png").rgb
    assert max(shown.shape) < 2000
    first = shown[:, : int(shown.shape[1] / 3)]
    assert ((first - torch.tensor([1.0, 0.498, 0.055])).abs().amax(-1) < 0.02).sum() > 100


def test_gif_ends_on_the_result(recovery, tmp_path):
    write_refinement(recovery, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert 20 <= gif.n_frames <= 48
        gif.seek(gif.n_frames - 1)
        last = torch.from_numpy(np.asarray(gif.convert("RGB")).astype(np.float32) / 255)
        assert gif.info["duration"] == 2000
    # Scaled by 256 / 48, under a strip of 24 pixels, right of the picture and a gap of 8 pixels.
    row, column = 24 + round(30 * 256 / 48), 341 + 8 + round(14.5 * 256 / 48)
    assert_close(last[row, column], torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0.05)
    assert (last[row, 341 + 8 + round(13.5 * 256 / 48)] - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("count", [0, 1, 3])
def test_gif_of_frames_that_do_not_change(recovery, tmp_path, count):
    write_refinement(replace(recovery, frames=(recovery.image,) * count), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 1


def test_gif_keeps_below_its_size(recovery, tmp_path, monkeypatch):
    monkeypatch.setattr("inverse.report.GIF_BYTES", 100_000)
    noise = torch.Generator().manual_seed(0)
    frames = tuple(torch.rand(32, 32, 3, generator=noise) for _ in range(12))
    noisy = replace(recovery, picture=frames[0], image=frames[1], frames=frames)
    write_refinement(noisy, tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size < 100_000
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames >= 2


def test_loss_of_one_step_and_of_none(recovery, tmp_path):
    for name, history in (("a", recovery.history), ("b", recovery.history[:1]), ("c", ())):
        write_loss(replace(recovery, history=history), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_nothing_is_left_where_a_folder_is_missing(recovery, tmp_path):
    for write in (write_comparison, write_refinement, write_loss):
        with pytest.raises(OutputError, match="No such file"):
            write(recovery, tmp_path / "missing" / "a.png")
    assert list(tmp_path.iterdir()) == []
