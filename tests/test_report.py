"""What a recovery is shown with: it is written, shows what it must, and keeps within its size."""

import base64
import io
import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import roma
import torch
from matplotlib.figure import Figure
from PIL import Image
from small_world import small_world
from torch.testing import assert_close

from inverse.cli import _parse
from inverse.commands.recover import command_line
from inverse.picture import read_picture
from inverse.recovery import FoundObject, Hypothesis, Recovery, Step
from inverse.report import write_comparison, write_loss, write_refinement, write_report
from inverse.report.marks import axes_in_picture, draw_found
from scenes.files import OutputError

WRITERS = (write_comparison, write_refinement, write_loss, write_report)


@pytest.fixture
def recovery():
    """A red square of 20 x 10 pixels in a grey 48 x 64 picture, recovered two pixels too far to the right."""
    world = small_world()
    scene = world.empty()
    scene.asset[0, :2] = torch.tensor([0, 1])
    scene.translation[0, 0] = torch.tensor([-0.5, -0.2, 0.0])
    picture, image = torch.full((48, 64, 3), 0.5), torch.full((48, 64, 3), 0.5)
    picture[20:40, 12:22] = torch.tensor([1.0, 0.0, 0.0])
    image[20:40, 14:24] = torch.tensor([1.0, 0.0, 0.0])
    ids = torch.full((48, 64), -1, dtype=torch.int32)
    ids[20:40, 14:24] = 0
    steps = [Step("search", 8.0 - i, 100 * i, 0.1 * i) for i in range(5)]
    steps += [Step("refinement", 4.0 * 0.5**i, 400 + 20 * i, 0.5 + 0.1 * i) for i in range(8)]
    return Recovery(
        world=world,
        scene=scene,
        objects=(
            FoundObject(0, "box", visible_fraction=1.0, uncertainty={"x": 0.0012, "rotation_y": 0.01}),
            FoundObject(1, "ball", verdict="unexplained", reason="too <red>"),
        ),
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


def test_axes_by_hand(recovery):
    """The eye is at (0, 0, 5); the picture is twice as wide as the camera's, so that f = 60 px."""
    box = recovery.objects[0]
    size = 0.5 * math.hypot(0.4, 0.2, 0.2)  # [m] from the box's middle to a corner
    scale = float(recovery.scene.scale[0, 0])
    origin = np.array([32.0 - 60 * 0.5 / 5, 24.0 + 60 * 0.2 / 5])
    seen = axes_in_picture(recovery, box)
    reach = 60 * scale * size / 5
    np.testing.assert_allclose(seen[0], origin, rtol=1e-6)
    np.testing.assert_allclose(seen[1], origin - (-reach, 0), rtol=1e-6)
    np.testing.assert_allclose(seen[2], origin - (0, reach), rtol=1e-6)
    near = 5 - scale * size
    np.testing.assert_allclose(seen[3], [32 - 60 * 0.5 / near, 24 + 60 * 0.2 / near], rtol=1e-6)
    recovery.scene.rotation[0, 0] = roma.rotvec_to_unitquat(torch.tensor([0.0, 0.0, math.pi / 2]))
    np.testing.assert_allclose(axes_in_picture(recovery, box)[1], origin - (0, reach), atol=1e-4)


def test_no_axes_behind_the_eye(recovery):
    recovery.scene.translation[0, 0, 2] = 4.9
    assert axes_in_picture(recovery, recovery.objects[0]) is None
    draw_found(ax := Figure().subplots(), recovery)
    assert len(ax.lines) == 3  # the ball's


def test_axes_that_symmetry_leaves_open_are_dotted(recovery):
    draw_found(ax := Figure().subplots(), recovery)
    assert [line.is_dashed() for line in ax.lines] == [False] * 3 + [True] * 3


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


def test_the_loss_grows_in_the_gif(recovery, tmp_path):
    """The curve is as long in its panel as the pictures drawn by then, of 540 in all."""
    write_refinement(recovery, tmp_path / "a.gif")
    reached = []
    with Image.open(tmp_path / "a.gif") as gif:
        for number in (0, gif.n_frames // 2, gif.n_frames - 1):
            gif.seek(number)
            panel = np.asarray(gif.convert("RGB")).astype(int)[:, 2 * (341 + 8) :]
            red = (panel[..., 0] > 180) & (panel[..., 1:] < 80).all(-1)
            reached.append(np.nonzero(red)[1].mean())
    assert reached[0] < reached[1] - 50
    assert reached[1] < reached[2] - 20


@pytest.mark.parametrize("count", [0, 1, 3])
def test_gif_of_frames_that_do_not_change(recovery, tmp_path, count):
    still = replace(recovery, frames=(recovery.image,) * count, history=())
    write_refinement(still, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 1


def noisy(recovery, size):
    """A recovery of noise, which no format makes smaller."""
    noise = torch.Generator().manual_seed(0)
    frames = tuple(torch.rand(*size, 3, generator=noise) for _ in range(10))
    ids = torch.zeros(size, dtype=torch.int32)
    return replace(recovery, picture=frames[0], image=frames[1], frames=frames, instance_id=ids)


def test_gif_keeps_below_its_size(recovery, tmp_path, monkeypatch):
    monkeypatch.setattr("inverse.report.refinement.GIF_BYTES", 100_000)
    write_refinement(noisy(recovery, (32, 32)), tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size < 100_000
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames >= 2


def test_loss_of_one_step_and_of_none(recovery, tmp_path):
    for name, history in (("a", recovery.history), ("b", recovery.history[:1]), ("c", ())):
        write_loss(replace(recovery, history=history), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


class Page(HTMLParser):
    """What a browser would load, and the text that it would show."""

    def __init__(self, path):
        super().__init__()
        self.loaded, self.said, self.tags = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.said)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.said.append(data)


@pytest.fixture
def told(recovery):
    """A recovery with everything that a report tells."""
    hypotheses = (
        Hypothesis(recovery.scene, 0.1, "best", recovery.image),
        Hypothesis(recovery.scene.without(1), 0.2, "without <ball>", recovery.picture),
    )
    return replace(
        recovery,
        frames=recovery.frames[::20],
        hypotheses=hypotheses,
        ambiguous=True,
        messages=("The picture is <b>ambiguous</b>.",),
        engine="software",
        seed=7,
        source="<script>alert(1)</script>.png",
        command="unrender recover '<script>alert(1)</script>.png' --seed 7",
    )


def test_a_report_needs_no_other_file(told, tmp_path):
    write_report(told, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert len(page.loaded) == 7  # three pictures, two hypotheses, the animation, the loss
    for source in page.loaded:
        kind, data = re.fullmatch(r"data:image/(png|gif);base64,(.+)", source).groups()
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.format.lower() == kind
    assert "://" not in page.text
    assert "url(" not in page.text
    assert "$" not in page.text


def test_a_report_tells_everything_and_escapes_it(told, tmp_path):
    write_report(told, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert "script" not in page.tags
    assert "b" not in page.tags
    for said in (
        "box",
        "unexplained (too <red>)",
        "x ± 1.2\N{NO-BREAK SPACE}mm, rotation_y ± 0.57\N{NO-BREAK SPACE}°",
        "at (0.000, 0.000, 5.000) m, looks along (0.000, 0.000, -1.000)",
        "without <ball>: loss 0.2",
        "The picture is <b>ambiguous</b>.",
        "unrender recover '<script>alert(1)</script>.png' --seed 7",
        "seed 7 ",
        "540 pictures drawn in 1.3 s",
    ):
        assert said in page.text


def test_a_report_of_nothing(recovery, tmp_path):
    write_report(replace(recovery, objects=(), history=(), frames=()), tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert "Nothing was found." in page.text
    assert "Hypotheses" not in page.text
    assert len(page.loaded) == 5


def test_a_report_is_light(recovery, tmp_path):
    """Even of much noise in the largest picture that recovery compares."""
    much = noisy(recovery, (256, 256))
    write_report(replace(much, frames=3 * much.frames), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    "line",
    [
        "unrender recover 'my photo.png' --world tabletop --seed 3",
        "unrender recover a.png --asset mug.obj --asset b.obj --camera c.json --steps 0 --out x",
        "unrender recover a.png --world cube --engine 'command:viewer {scene} {image}'",
    ],
)
def test_the_command_is_said_as_it_was_typed(line):
    command = _parse(shlex.split(line)[1:])
    assert sorted(shlex.split(command_line(command))) == sorted(shlex.split(line))
    assert _parse(shlex.split(command_line(command))[1:]) == command


def test_nothing_is_left_where_a_folder_is_missing(recovery, tmp_path):
    for write in WRITERS:
        with pytest.raises(OutputError, match="No such file"):
            write(replace(recovery, frames=()), tmp_path / "missing" / "a.png")
    assert list(tmp_path.iterdir()) == []
