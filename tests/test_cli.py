"""The command line: help without torch, one line for every mistake, and what the commands write."""

import json
import math
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import roma
import torch
from PIL import Image
from small_world import small_world
from torch.testing import assert_close

from inverse import cli
from inverse.metrics import rotation_error
from inverse.picture import read_picture
from inverse.recovery import FoundObject, Recovery
from inverse.recoveryfile import load_scene, write_truth
from scenes.scene import matrix
from scenes.world import World


def fails(capsys, *arguments):
    """The one line on stderr with which a command ends in status 2."""
    status = cli.main([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith("unrender: error: ")
    assert err.index("\n") == len(err) - 1
    return err


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (64, 64), "grey").save(path)
    return path


@pytest.fixture
def camera(tmp_path):
    path = tmp_path / "camera.json"
    path.write_text(json.dumps({"width": 64, "height": 64, "fx": 80.0, "fy": 80.0, "cx": 32.0, "cy": 32.0}))
    return path


def ply(path, vertices, faces):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(str(x) for x in v) for v in vertices]
    lines += [" ".join(str(i) for i in (len(f), *f)) for f in faces]
    path.write_text("\n".join(lines) + "\n")
    return path


def light(*arguments):
    """What the command says in a process of its own, which fails if it imported anything heavy."""
    code = (
        f"import sys; from inverse.cli import main; status = main({list(arguments)});"
        "heavy = {'torch', 'numpy', 'warp', 'moderngl', 'matplotlib', 'trimesh', 'PIL'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_does_not_import_torch():
    """Help must answer at once: torch alone takes longer than half a second to import."""
    done = light("--help")
    assert done.returncode == 0, done.stderr
    for command in ("recover", "render", "sample", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["recover", "absent.png", "--world", "cube"],
        ["recover", __file__, "--world", "cube", "--mask", "absent.png"],
        ["recover", __file__, "--world", "cube", "--start", "absent.png"],
        ["render", "absent.png", "--out", "a.png"],
    ],
)
def test_a_wrong_name_is_said_at_once(arguments):
    """Before anything heavy is imported."""
    done = light(*arguments)
    assert (done.returncode, done.stderr) == (2, "unrender: error: absent.png: there is no such file\n")


@pytest.mark.parametrize("utf8", [True, False])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recove"], "recove; available subcommands: recover, render, sample, compare, train, view, doctor"),
        (["recover"], "IMAGE"),
        (["recover", "a.png", "--wrld", "cube"], "--wrld, cube; did you mean --world?"),
        (["recover", "a.png", "--steps", "many"], "--steps"),
        (["recover", "a.png", "--seed"], "Missing value for argument '--seed'"),
        (["sample", "cube"], "--out"),
    ],
)
def test_arguments_that_do_not_parse(capsys, monkeypatch, arguments, message, utf8):
    """Also where the terminal has no UTF-8, in which tyro draws its boxes differently."""
    monkeypatch.setattr("tyro._fmtlib._should_use_utf8_drawing_chars", lambda: utf8)
    assert message in fails(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --world (cube, street, tabletop, or a world file of your own), or --asset"),
        (
            ["--world", "cube", "--strategy", "manuel"],
            "no strategy 'manuel', only manual, autodiff, surrogate, score; did you mean 'manual'?",
        ),
        (
            ["--world", "cube", "--operator", "layer"],
            "no operator 'layer', only edge, soft, layers; did you mean 'layers'?",
        ),
        (["--world", "cube", "--engine", "opengel"], "did you mean 'opengl'?"),
        (["--world", "cube", "--device", "gpu"], "no device 'gpu', only cpu, cuda"),
        (["--world", "cube", "--steps", "-1"], "--steps must be at least 0, got -1"),
        (["--world", "cubes"], "did you mean 'cube'?"),
        (["--world", "cube", "--camera", "a.json"], "--camera and --fov-y-degrees go with --asset"),
        (["--world", "cube", "--asset", "a.obj"], "either --world"),
        (["--asset", "a.obj"], '--camera CAMERA.json with {"width": 640'),
        (["--asset", "a.obj", "--camera", "a.json", "--fov-y-degrees", "50"], "not both"),
        (["--asset", "a.obj", "--fov-y-degrees", "180"], "between 0 and 180 degrees, got 180"),
        (["--asset", "missing.obj", "--fov-y-degrees", "50"], "missing.obj does not exist"),
        (["--asset", "a.obj", "--camera", "missing.json"], "missing.json: cannot be read"),
        (["--world", "cube", "--start", "missing.json"], "missing.json: there is no such file"),
        (["--world", "cube", "--mask", "missing.png"], "missing.png: there is no such file"),
    ],
)
def test_recover_rejects(capsys, picture, arguments, message):
    assert message in fails(capsys, "recover", picture, *arguments)


def test_cuda_that_is_missing(capsys, picture, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "use --device cpu" in fails(capsys, "recover", picture, "--world", "cube", "--device", "cuda")


@pytest.mark.parametrize("case", ["missing", "text", "truncated", "1x1", "20000x20000", "16:9"])
def test_recover_rejects_bad_pictures(capsys, tmp_path, case):
    path, message = tmp_path / "bad.png", "bad.png: "
    match case:
        case "missing":
            message += "there is no such file"
        case "text":
            path.write_text("no picture")
            message += "is not a picture in a known format"
        case "truncated":
            path = path.with_suffix(".jpg")
            noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(path)
            path.write_bytes(path.read_bytes()[:2000])
            message = "bad.jpg: the picture is damaged or incomplete"
        case "1x1":
            Image.new("RGB", (1, 1)).save(path)
            message += "1x1 pixels are too few"
        case "20000x20000":
            Image.new("1", (20000, 20000)).save(path)
            message += "is too large; at most 8192 pixels a side"
        case "16:9":
            Image.new("RGB", (160, 90)).save(path)
            message = "the picture is 160x90, the world's camera draws 128x128"
    assert message in fails(capsys, "recover", path, "--world", "cube", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fx", None, "fx is missing"),
        ("fy", "80", "fy must be a number"),
        ("cx", float("nan"), "cx must be a number"),
        ("fx", -1.0, "fx must be above 0"),
        ("width", 64.5, "width must be a whole number"),
        ("fow", 50.0, "unknown key 'fow'"),
        ("width", 640, "the picture is 64x64, the world's camera draws 640x64"),
    ],
)
def test_recover_rejects_bad_cameras(capsys, tmp_path, picture, camera, key, value, message):
    content = json.loads(camera.read_text())
    content[key] = value
    if value is None:
        del content[key]
    camera.write_text(json.dumps(content))
    mesh = ply(tmp_path / "mesh.ply", [(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1, 2)])
    assert message in fails(capsys, "recover", picture, "--asset", mesh, "--camera", camera)


@pytest.mark.parametrize("case", ["no faces", "NaN", "out of range"])
def test_recover_rejects_bad_meshes(capsys, tmp_path, picture, camera, case):
    corners, path = [(0, 0, 0), (1, 0, 0), (0, 1, 0)], tmp_path / "bad.ply"
    match case:
        case "no faces":
            ply(path, corners, [])
        case "NaN":
            ply(path, [*corners[:2], ("nan", 1, 0)], [(0, 1, 2)])
        case "out of range":
            ply(path, corners, [(0, 1, 7)])
    assert "bad.ply" in fails(capsys, "recover", picture, "--asset", path, "--camera", camera)


@pytest.mark.parametrize("old_new", [("width = 128", "wdith = 128"), ("scale = ", "scale = [2, 1] # ")])
def test_recover_rejects_bad_worlds(capsys, tmp_path, picture, old_new):
    """A wrong key and an empty range, each named with its file."""
    text = Path(World.load("cube").source).read_text()
    path = tmp_path / "world.toml"
    path.write_text(text.replace(*old_new, 1))
    assert path.read_text() != text
    err = fails(capsys, "recover", picture, "--world", path)
    assert "world.toml" in err
    assert old_new[1].split()[0] in err


def test_outputs_that_cannot_be_written(capsys, tmp_path, picture):
    """Found out before any long work: the file in the way is named."""
    blocked = tmp_path / "file"
    blocked.touch()
    message = "file is a file, not a folder"
    assert message in fails(capsys, "recover", picture, "--world", "cube", "--out", blocked)
    assert message in fails(capsys, "sample", "cube", "--out", blocked / "below")
    assert cli.main(["sample", "cube", "--out", str(tmp_path / "s"), "--engine", "software"]) == 0
    capsys.readouterr()
    scene = tmp_path / "s" / "0000.json"
    assert message in fails(capsys, "render", scene, "--out", blocked / "a.png")
    assert "suffix '.xyz'" in fails(capsys, "render", scene, "--out", tmp_path / "a.xyz")


def test_render_and_sample_reject(capsys, tmp_path):
    (tmp_path / "bad.glb").write_bytes(b"glTF" + struct.pack("<II", 2, 12))
    assert "bad.glb" in fails(capsys, "render", tmp_path / "bad.glb", "--out", tmp_path / "a.png")
    assert "no such file" in fails(capsys, "render", tmp_path / "a.glb", "--out", tmp_path / "a.png")
    assert "--count must be at least 1" in fails(capsys, "sample", "cube", "--out", tmp_path, "--count", "0")
    for size in ("0", "5000"):
        assert "1 to 4096 pixels" in fails(capsys, "sample", "cube", "--out", tmp_path, "--size", size)
    assert "did you mean 'software'?" in fails(
        capsys, "sample", "cube", "--out", tmp_path, "--engine", "softwear"
    )


def test_sample_then_render(capsys, tmp_path):
    """The truth draws its picture again; the first pictures do not depend on how many follow."""
    sample = ["sample", "tabletop", "--engine", "software", "--seed", "5", "--size", "64"]
    assert cli.main([*sample, "--out", str(tmp_path / "a"), "--count", "2"]) == 0
    assert cli.main([*sample, "--out", str(tmp_path / "b")]) == 0
    names = ["0000.json", "0000.png", "0001.json", "0001.png"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == names
    assert (tmp_path / "a" / "0000.png").read_bytes() == (tmp_path / "b" / "0000.png").read_bytes()
    truth = tmp_path / "a" / "0001.json"
    content = json.loads(truth.read_text())
    assert content["world"] == "tabletop"
    assert (content["camera"]["width"], content["camera"]["height"]) == (64, 64)
    assert all(0 <= o["visible_fraction"] <= 1 for o in content["objects"])
    again = tmp_path / "again.png"
    assert cli.main(["render", str(truth), "--out", str(again), "--engine", "software"]) == 0
    assert_close(read_picture(again).rgb, read_picture(tmp_path / "a" / "0001.png").rgb, rtol=0, atol=2 / 255)
    scene = load_scene(truth, World.load("tabletop"))
    assert int((scene.asset >= 0).sum()) == len(content["objects"])


def test_doctor_names_engines_and_packages(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("opengl", "software", "torch", "warp", "packages"):
        assert name in out


def test_interrupted(capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("inverse.commands.run", interrupt)
    assert cli.main(["sample", "cube", "--out", "a"]) == 130
    assert capsys.readouterr().err == "unrender: interrupted\n"


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Puts a search that finds one box in the place of the real one; it notes what it was called with."""
    world = small_world()
    scene = world.empty()
    scene.asset[0, 1] = 1
    scene.translation[0, 1] = torch.tensor([0.5, -0.25, 1.0])
    scene.colour[0, 1] = torch.tensor([1.0, 0.0, 0.2159])
    called = {}

    def recover(image, world, **options):
        called.update(options, image=image, world=world)
        return called["answer"]

    called["answer"] = Recovery(
        world=world,
        scene=scene,
        objects=(
            FoundObject(1, "ball", verdict="doubtful", reason="a box fits as well", visible_fraction=0.5),
        ),
        picture=torch.zeros(24, 32, 3),
        image=torch.zeros(24, 32, 3),
        instance_id=None,
        loss=0.5,
        psnr=30.0,
        renders=100,
        seconds=2.0,
        messages=("The picture is ambiguous.",),
        engine="software",
    )
    module = ModuleType("inverse.recover")
    module.recover = recover
    monkeypatch.setitem(sys.modules, "inverse.recover", module)
    return called


def test_recover_says_and_writes_what_it_found(capsys, tmp_path, picture, found):
    Image.new("RGBA", (256, 256), (10, 20, 30, 255)).save(picture)
    out = tmp_path / "out"
    arguments = ["recover", picture, "--world", "cube", "--out", out, "--seed", "9", "--steps", "3"]
    assert cli.main([str(a) for a in arguments]) == 0
    said = capsys.readouterr().out
    row = said.splitlines()[1]
    assert row.split() == [
        *("ball", "0.500", "-0.250", "1.000", "any", "37.5", "x", "37.5", "x", "37.5", "#ff0080"),
        *("50%", "doubtful", "(a", "box", "fits", "as", "well)"),
    ]
    assert "The picture is ambiguous." in said
    for name in (
        "scene.glb",
        "recovery.json",
        "refinement.json",
        "comparison.png",
        "refinement.gif",
        "loss.png",
        "report.html",
    ):
        assert (out / name).stat().st_size > (40 if name == "refinement.json" else 100)  # it had no steps
        assert name in said
    assert json.loads((out / "recovery.json").read_text())["image"] == str(picture)
    assert (found["seed"], found["steps"], found["strategy"], found["operator"]) == (9, 3, "manual", "edge")
    assert found["image"].shape == (128, 128, 3)  # shrunk to what the world's camera draws
    assert found["mask"] is None  # opaque


def test_recover_takes_alpha_as_the_mask(tmp_path, picture, found):
    rgba = np.full((128, 128, 4), 255, np.uint8)
    rgba[:, 64:, 3] = 0
    Image.fromarray(rgba).save(picture)
    assert cli.main(["recover", str(picture), "--world", "cube", "--out", str(tmp_path / "out")]) == 0
    assert_close(found["mask"], torch.arange(128).expand(128, 128) < 64)


def test_recover_scales_the_camera_to_a_smaller_picture(tmp_path, picture, found):
    assert cli.main(["recover", str(picture), "--world", "cube", "--out", str(tmp_path / "out")]) == 0
    camera, whole = found["world"].camera, World.load("cube").camera
    assert (camera.width, camera.height) == (64, 64)
    assert camera.focal.low == pytest.approx(whole.focal.low * 64 / whole.height)
    assert camera.centre == pytest.approx(
        (whole.centre[0] * 64 / whole.width, whole.centre[1] * 64 / whole.height)
    )
    assert found["image"].shape == (64, 64, 3)
    Image.new("RGB", (127, 128)).save(picture)
    assert cli.main(["recover", str(picture), "--world", "cube", "--out", str(tmp_path / "out")]) == 0
    assert found["world"].camera.aspect == pytest.approx(whole.aspect * 127 / 128)


def test_recover_of_nothing_ends_in_status_1(capsys, tmp_path, picture, found):
    found["answer"] = replace(found["answer"], objects=(), scene=found["answer"].scene.without(1))
    assert cli.main(["recover", str(picture), "--world", "cube", "--out", str(tmp_path / "out")]) == 1
    assert "Nothing was found." in capsys.readouterr().out


def test_recover_with_a_mesh_and_a_camera(tmp_path, picture, camera, found):
    mesh = ply(tmp_path / "tile.ply", [(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1, 2)])
    arguments = [
        "recover",
        picture,
        "--asset",
        mesh,
        "--asset",
        mesh,
        "--camera",
        camera,
        "--out",
        tmp_path / "out",
    ]
    assert cli.main([str(a) for a in arguments]) == 0
    assert [a.name for a in found["world"].assets] == ["tile-1", "tile-2"]
    assert found["world"].camera.width == 64


@pytest.mark.parametrize("operator", ["soft", "layers"])
def test_recover_by_soft_operators(capsys, tmp_path, operator):
    """A cube from a start 12 degrees off, with the real search and engine at hand: 0.3 degrees."""
    cube = World.load("cube")
    sample = ["sample", "cube", "--engine", "software", "--seed", "7", "--out", tmp_path]
    assert cli.main([str(a) for a in sample]) == 0
    truth = load_scene(tmp_path / "0000.json", cube)
    turn = roma.rotvec_to_unitquat(torch.tensor([[[0.1, -0.15, 0.1]]]))
    start = replace(truth, rotation=roma.quat_product(turn, truth.rotation))
    none = [None] * truth.slots
    write_truth(start, cube, tmp_path / "start.json", image="", engine="", seed=0, visible_fraction=none)
    options = ["--operator", operator, "--start", tmp_path / "start.json", "--steps", "20"]
    arguments = ["recover", tmp_path / "0000.png", "--world", "cube", "--engine", "software"]
    assert cli.main([str(a) for a in (*arguments, *options, "--out", tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "recovery.json").read_text())["operator"] == operator
    found = load_scene(tmp_path / "out" / "recovery.json", cube)
    off = rotation_error(cube.assets[0], matrix(found.rotation[0, 0]), matrix(truth.rotation[0, 0]))
    assert math.degrees(float(off)) < 0.3
