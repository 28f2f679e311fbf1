"""The engine `command`: a viewer of our own and, where it is installed, f3d; and programs that go wrong."""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from supersampled import agreement
from torch.testing import assert_close

from render import Engine, EngineError, differentiable, open_engine
from render.blur import blurred_squared_error
from render.command import EXAMPLE, CommandEngine
from render.shading import decode_srgb, encode_srgb
from render.software import SoftwareEngine

SIZE = (48, 64)
VIEWER = [
    sys.executable,
    str(Path(__file__).with_name("glb_viewer.py")),
    *("{scene}", "{image}", "{width}", "{height}"),
]
SHELL = ["sh", "-c"]
REST = ["sh", "{scene}", "{image}", "{width}", "{height}"]  # $0, $1 ...


def shell(script, *more):
    return [*SHELL, script, *REST, *more]


@pytest.fixture(scope="module")
def wide(cube):
    """The cube's world before a camera of 64 x 48 pixels, under a light without ambient, which glTF lacks."""
    camera = replace(cube.camera, width=SIZE[1], height=SIZE[0], centre=(SIZE[1] / 2, SIZE[0] / 2))
    return replace(cube, camera=camera)


@pytest.fixture
def open_command(wide, tmp_path, monkeypatch):
    """Opens the engine with its temporary files in a folder that must be empty afterwards."""
    folder = tmp_path / "a folder"  # paths with blanks must reach the program whole
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield lambda command, **options: CommandEngine(wide, command=command, **{"size": SIZE, **options})
    assert list(folder.iterdir()) == []


def dark(scene, **camera):
    light = replace(scene.light, ambient=torch.zeros(len(scene)), intensity=torch.full((len(scene),), 0.8))
    return replace(scene, light=light, camera=replace(scene.camera, **camera))


def some(world, count=1, seed=3, **camera):
    focal = torch.full((count, 2), 70.0)
    scene = world.sample(count, generator=torch.Generator().manual_seed(seed))
    return dark(scene, **{"focal": focal, **camera})


def drawn_by_software(world, scene, size=SIZE):
    with SoftwareEngine(world, size=size, samples=4, shadows=False) as engine:
        return engine.render(scene)


def gone(process, patience=5.0):
    """True where there is no such process, or only its grave: soon, as the system buries in its own time."""
    end = time.monotonic() + patience
    while alive(process) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(process)


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- A viewer that reads glTF as everybody does


@pytest.mark.parametrize("size", [SIZE, (72, 96)])
def test_draws_what_software_draws(wide, open_command, size):
    """Both average 4 x 4 samples at the same places; 8 bits and their ties are left."""
    scene = some(wide, 3)
    frame = open_command(VIEWER).render(scene, size=size)
    assert frame.instance_id is None
    assert frame.depth is None
    assert frame.rgb.shape == (3, *size, 3)
    assert frame.rgb.dtype == torch.float32
    wrong = (frame.rgb - drawn_by_software(wide, scene, size).rgb).abs().amax(-1)
    assert (wrong > 2 / 255).double().mean() < 0.002
    assert wrong.max() < 0.1


@pytest.mark.parametrize("centre", [(25.0, 30.5), (40.0, 24.0), (31.75, 24.25)])
def test_principal_point_off_the_middle(wide, open_command, centre):
    scene = some(wide, centre=torch.tensor([centre]))
    wrong = (open_command(VIEWER).render(scene).rgb - drawn_by_software(wide, scene).rgb).abs().amax(-1)
    quarter = max(abs(2 * c - round(2 * c)) for c in centre) / 2  # what halves of pixels cannot say
    assert quarter <= 0.25
    assert (wrong > 2 / 255).double().mean() < (0.003 if quarter == 0 else 0.1)


def test_a_batch_is_its_scenes_one_by_one(wide, open_command):
    scene, engine = some(wide, 3), open_command(VIEWER, workers=2)
    pictures = engine.render(scene).rgb
    assert torch.equal(pictures[1:2], engine.render(scene[1]).rgb)
    assert not torch.equal(pictures[0], pictures[1])
    assert engine.render(scene[[]]).rgb.shape == (0, *SIZE, 3)


def test_nothing_in_the_scene(wide, open_command):
    scene = wide.empty()
    assert_close(
        open_command(VIEWER).render(scene).rgb,
        encode_srgb(scene.background).expand(1, *SIZE, 3),
        rtol=0,
        atol=1e-6,
    )


def test_workers_run_side_by_side(wide, open_command, tmp_path):
    """Each of four runs counts who is at work; two workers are two at the most, and at least once."""
    here = f'"{tmp_path}"'
    script = f"mkdir {here}/$$; sleep 0.5; ls -d {here}/[0-9]* | wc -l >> {here}/counts; rmdir {here}/$$; "
    script += 'cp "$5" "$2"'
    Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / "a.png")
    open_command(shell(script, str(tmp_path / "a.png")), workers=2).render(some(wide, 4))
    assert max(map(int, (tmp_path / "counts").read_text().split())) == 2


def test_gradient_against_differences_of_its_own_pictures(wide, open_command):
    """Of a translation. The pictures have 8 bits: steps are large enough for that."""
    engine, base = open_command(VIEWER), some(wide, seed=5)
    target = engine.render(replace(base, translation=base.translation + torch.tensor([0.05, -0.03, 0.1]))).rgb

    def loss(images):
        return blurred_squared_error(images, target.expand_as(images), 1.0)

    move = torch.zeros(1, 1, 3, requires_grad=True)
    loss(
        differentiable(engine, "manual")(replace(base, translation=base.translation + move))
    ).sum().backward()
    steps = 0.02 * torch.eye(3)[:, None]
    six = base[[0] * 6]
    moved = replace(six, translation=six.translation + torch.cat([steps, -steps]))
    ahead, behind = loss(engine.render(moved).rgb).chunk(2)
    error, cosine = agreement(move.grad.flatten(), (ahead - behind) / 0.04)
    assert cosine > 0.98
    assert error < 0.25


# --- Pictures


def stored(mode, path):
    """A picture of a mode, its straight sRGB colours [48, 64, 3] and opacity [48, 64, 1]."""
    colour = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    opacity = np.full((*SIZE, 1), 255, np.uint8)
    if mode == "RGBA":
        opacity = np.random.default_rng(1).integers(0, 256, (*SIZE, 1), np.uint8)
        image = Image.fromarray(np.concatenate([colour, opacity], -1))
    elif mode == "I;16":
        image = Image.fromarray(colour[..., 0].astype(np.uint16) * 257)
    elif mode == "P":
        image = Image.fromarray(colour[..., 0] // 16, "L").convert("P")
    else:
        image = Image.fromarray(colour).convert(mode)
    image.save(path)
    if mode in ("L", "P", "I;16"):
        grey = np.asarray(image.convert("L")) if mode != "I;16" else colour[..., 0]
        colour = grey[..., None].repeat(3, -1)
    return torch.from_numpy(colour / 255.0).float(), torch.from_numpy(opacity / 255.0).float()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_pictures_of_every_mode_before_the_background(wide, open_command, tmp_path, mode):
    colour, alpha = stored(mode, tmp_path / "a.png")
    scene = replace(some(wide), background=torch.tensor([[0.1, 0.4, 0.9]]))
    got = open_command(shell('cp "$5" "$2"', str(tmp_path / "a.png"))).render(scene).rgb[0]
    want = encode_srgb(decode_srgb(colour) * alpha + scene.background[0] * (1 - alpha))
    assert_close(got, want, rtol=0, atol=1e-5)


# --- Programs that go wrong


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo one; echo boom >&2; exit 3", r"ended with status 3; its last lines:\n  one\n  boom\n"),
        ("exit 139", r"ended with status 139 \(SIGSEGV\); it wrote nothing"),
        ("kill -SEGV $$", r"was ended by SIGSEGV"),
        ("echo done", r"ended well but wrote no picture to \{image\}; its last lines:\n  done"),
        ('echo nonsense > "$2"', r"wrote no readable picture: .*known format"),
        ('cp "$5" "$2"', r"a picture of 20x30 pixels, not of 64x48: it is told the size by \{width\}"),
        ("yes line | head -n 50; exit 1", r"status 1; its last lines:(\n  line){8}\nThe command was: sh -c"),
    ],
)
def test_failures_say_which_and_quote_the_program(wide, open_command, tmp_path, script, message):
    Image.new("RGB", (20, 30)).save(tmp_path / "small.png")
    with pytest.raises(EngineError, match=message):
        open_command(shell(script, str(tmp_path / "small.png"))).render(some(wide, 3))


@pytest.mark.parametrize("polite", [True, False])
def test_time_out_ends_the_whole_group(wide, open_command, tmp_path, polite):
    """The program's children too, one that ignores the request to end included."""
    trap = "" if polite else "trap '' TERM; "
    script = f'{trap}echo waiting; sleep 60 & echo $! > "{tmp_path}/pid"; wait; wait'
    began = time.monotonic()
    with pytest.raises(
        EngineError, match=r"took longer than 0.5 s and was ended; its last lines:\n  waiting"
    ):
        open_command(shell(script), timeout=0.5).render(some(wide))
    assert time.monotonic() - began < 10
    assert gone(int((tmp_path / "pid").read_text()))


def test_interrupt_ends_programs_and_tidies_up(wide, open_command, tmp_path, interruptible):
    engine = open_command(shell(f'echo $$ >> "{tmp_path}/pids"; sleep 60'), workers=2)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        engine.render(some(wide, 3))
    running = (tmp_path / "pids").read_text().split()
    assert len(running) == 2
    assert all(gone(int(p)) for p in running)


def test_programs_that_are_not_there(wide, open_command, tmp_path):
    with pytest.raises(EngineError, match="no program 'f4d' here: install it"):
        open_command("f4d {scene} {image}")
    broken = tmp_path / "broken"
    broken.write_text("\0")
    broken.chmod(0o755)
    with pytest.raises(EngineError, match="broken' cannot be run: Exec format error"):
        open_command([str(broken), "{scene}", "{image}"]).render(some(wide))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "true {scene} {image} {heigth}",
            r"unknown placeholder \{heigth\}; there are \{scene\}, \{image\}, \{wi",
        ),
        ("true {scene} {image} {}", r"unknown placeholder \{\}"),
        ("true {scene!r} {image}", r"unknown placeholder \{scene!r\}"),
        ("true {scene} {image} {width:04d}", r"unknown placeholder \{width:04d\}"),
        ("true {scene} {image} {", "cannot be read: .*doubled"),
        ("true '{scene} {image}", "cannot be read: No closing quotation"),
        ("true {scene}", r"must say \{image\} where it belongs, for example: f3d"),
        ("", r"must say \{scene\}"),
    ],
)
def test_commands_that_cannot_be(open_command, command, message):
    with pytest.raises(ValueError, match=message):
        open_command(command)


def test_other_braces_are_doubled(wide, open_command, tmp_path):
    Image.new("RGB", (SIZE[1], SIZE[0])).save(tmp_path / "a.png")
    script = 'test "${{#2}}" -gt 0 && cp "$5" "$2"'
    assert open_command(shell(script, str(tmp_path / "a.png"))).render(some(wide)).rgb.max() == 0


def test_arguments_out_of_range(wide, open_command):
    for options, message in (
        ({"timeout": 0.0}, "timeout must be above 0 s, got 0.0"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"size": (0, 5)}, r"at least 1 px each, got \(0, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            open_command(VIEWER, **options)
    engine = open_command(VIEWER)
    with pytest.raises(ValueError, match="asset must lie in"):
        engine.render(replace(some(wide), asset=torch.tensor([[7]])))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.render(some(wide))


def test_pixels_that_are_not_square_warn_once(wide, open_command):
    engine, scene = open_command(VIEWER), some(wide, focal=torch.tensor([[70.0, 63.0]]))
    with pytest.warns(UserWarning, match=r"pixels 0.900 times as wide as high"):
        engine.render(scene)
    engine.render(scene)  # a second warning would be an error


def test_opened_by_name(wide):
    line = "true {scene} {image}"
    with open_engine(f"command:{line}", wide, size=SIZE, timeout=5.0) as engine:
        assert isinstance(engine, Engine)
        assert (engine.name, engine.size) == ("command", SIZE)
    with open_engine("command", wide, command=line.split()) as engine:
        assert engine.size == (128, 128)
    with pytest.raises(ValueError, match='must be told which, for example "command:f3d'):
        open_engine("command", wide)


# --- f3d


@pytest.fixture
def f3d():
    for program in ("f3d", "xvfb-run"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian, Ubuntu: apt-get install f3d xvfb xauth)")
    return f"xvfb-run -a {EXAMPLE}"


@pytest.mark.parametrize("centre", [(32.0, 24.0), (25.0, 30.5)])
def test_f3d_sees_the_same_silhouette(wide, open_command, f3d, centre):
    scene = replace(some(wide, centre=torch.tensor([centre])), background=torch.zeros(1, 3))
    picture = open_command(f3d).render(scene).rgb[0]
    truth = drawn_by_software(wide, scene)
    assert ((picture.amax(-1) > 0.02) != (truth.instance_id[0] >= 0)).sum() <= 2
    seen = truth.instance_id[0] >= 0
    assert (picture - truth.rgb[0])[seen].abs().mean() < 0.06  # glTF's own material has a gloss


def test_f3d_without_a_display_is_an_error(wide, open_command, f3d, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(EngineError, match=r"the program (was ended by SIGSEGV|ended with status)"):
        open_command(EXAMPLE).render(some(wide))
