"""What the viewer reads and shows, without a browser; test_browser.py has one."""

import json
import math
import os
import signal
import sys
import threading
import webbrowser
from dataclasses import replace
from urllib.request import urlopen

import numpy as np
import pytest
import roma
import torch
from PIL import Image
from small_world import small_world
from torch.testing import assert_close

from inverse import cli
from inverse.recovery import FoundObject, Hypothesis, Recovery, Step
from inverse.recoveryfile import RecoveryFileError, write_recovery, write_scene
from inverse.refinementfile import STEPS, read_steps, write_steps
from inverse.view import Exhibit, Viewer, read_exhibit, recovery_beside
from inverse.view.stage import field_of_view, sight
from render.software import SoftwareEngine
from scenes.gltf import asset_glb
from scenes.world import World


@pytest.fixture(scope="module")
def world():
    return replace(small_world(), source="small.toml")


@pytest.fixture(scope="module")
def recovery(world):
    """Two hypotheses of two objects, and three steps: one object, then two, then where they are found."""
    scene = world.sample(1, generator=torch.Generator().manual_seed(3))
    scene.asset[0] = torch.tensor([0, 1, -1])
    other = replace(scene, rotation=scene.rotation.roll(1, dims=1))
    moved = replace(scene, translation=scene.translation + torch.tensor([0.1, 0.0, 0.0]))
    with SoftwareEngine(world, size=(24, 32)) as engine:
        image = engine.render(scene).rgb[0]
    return Recovery(
        world=world,
        scene=scene,
        objects=(
            FoundObject(0, "box", visible_fraction=0.75),
            FoundObject(1, "ball", verdict="doubtful", reason="a box fits as well", visible_fraction=0.5),
        ),
        picture=image,
        image=image,
        instance_id=None,
        loss=0.25,
        psnr=30.0,
        renders=10,
        seconds=0.5,
        hypotheses=(Hypothesis(scene, 0.25, "best"), Hypothesis(other, 0.26, "box turned by 90 degrees")),
        messages=("ball: a box fits as well.",),
        history=(
            Step("birth", 1.0, 4, 0.1, scene.without(1)),
            Step("birth", 0.5, 8, 0.2, moved),
            Step("result", 0.25, 10, 0.5, scene),
        ),
        engine="software",
        source="photo.png",
    )


@pytest.fixture(scope="module")
def folder(recovery, tmp_path_factory):
    """What `save` writes for the viewer, and the picture as photo.png beside it."""
    folder = tmp_path_factory.mktemp("found")
    write_scene(recovery, folder / "scene.glb")
    write_recovery(recovery, folder / "recovery.json")
    write_steps(recovery, folder / "refinement.json")
    Image.fromarray((recovery.picture * 255).round().byte().numpy()).save(folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def viewer(recovery):
    with Viewer(Exhibit.of(recovery), port=18080, engine="software") as viewer:
        yield viewer


def test_files_give_back_what_was_found(world, recovery, folder):
    made, read = Exhibit.of(recovery), read_exhibit(folder / "recovery.json", world)
    assert [h.note for h in read.hypotheses] == ["best", "box turned by 90 degrees"]
    assert [(s.stage, s.loss, s.renders, s.seconds) for s in read.steps] == [
        (s.stage, s.loss, s.renders, s.seconds) for s in recovery.history
    ]
    assert [o.verdict for o in read.objects] == ["explained", "doubtful"]
    assert read.messages == recovery.messages
    assert np.array_equal(read.picture, made.picture)
    assert len(read.scenes) == len(made.scenes) == 5
    for mine, its in zip(made.scenes, read.scenes, strict=True):
        assert its.asset.tolist() == mine.asset.tolist()
        keep = world.active(mine)
        assert_close(world.pack(its)[keep], world.pack(mine)[keep], rtol=1e-5, atol=1e-5)


def test_a_scene_file_brings_its_recovery(world, folder, tmp_path):
    """scene.glb beside a recovery.json is shown with all of it, any other .glb alone."""
    assert recovery_beside(folder / "scene.glb") == folder / "recovery.json"
    alone = tmp_path / "scene.glb"
    alone.write_bytes((folder / "scene.glb").read_bytes())
    assert recovery_beside(alone) == alone
    assert recovery_beside(folder / "other.glb") == folder / "other.glb"
    exhibit = read_exhibit(alone, world)
    assert len(exhibit.scenes) == 1
    assert exhibit.picture is None
    assert read_exhibit(alone, world, image=folder / "photo.png").picture.shape == (24, 32, 3)


def test_a_lost_picture_is_said_to_be_lost(world, folder, tmp_path):
    lonely = tmp_path / "recovery.json"
    lonely.write_bytes((folder / "recovery.json").read_bytes())
    exhibit = read_exhibit(lonely, world)
    assert exhibit.picture is None
    assert "photo.png is not there: name it with --image" in exhibit.messages[-1]


def test_few_of_many_steps_are_kept(recovery, world, tmp_path):
    """Evenly spaced, the first and the last among them; those without scenes cannot be."""
    many = [Step("birth", 1.0, k, 0.1 * k, recovery.scene) for k in range(500)]
    kept = replace(recovery, history=(*many, Step("birth", 1.0, 500, 50.0)))
    write_steps(kept, tmp_path / "refinement.json")
    renders = [s.renders for s in read_steps(tmp_path / "refinement.json", world)]
    assert len(renders) == STEPS
    assert renders[0] == 0
    assert renders[-1] == 499
    assert max(np.diff(renders)) - min(np.diff(renders)) <= 1
    write_steps(replace(recovery, history=()), tmp_path / "none.json")
    assert read_steps(tmp_path / "none.json", world) == ()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.update(format="x"), 'is no refinement: its "format" must be "unrender-refinement/1"'),
        (lambda c: c.pop("steps"), "the key 'steps' is missing"),
        (lambda c: c["steps"][0].pop("stage"), "the key 'stage' is missing"),
        (lambda c: c["steps"][0].update(loss="high"), "is damaged"),
        (lambda c: c["steps"][0]["objects"][0].update(asset="cup"), "no asset 'cup'"),
    ],
)
def test_damaged_refinement(world, folder, tmp_path, damage, message):
    content = json.loads((folder / "refinement.json").read_text())
    damage(content)
    (tmp_path / "refinement.json").write_text(json.dumps(content))
    with pytest.raises(RecoveryFileError, match=r"refinement\.json") as error:
        read_steps(tmp_path / "refinement.json", world)
    assert message in str(error.value)


def test_pictures_are_the_engines(recovery, world):
    """One for each scene, hypotheses first, as the engine draws it."""
    exhibit = Exhibit.of(recovery)
    drawn = exhibit.pictures("software")
    with SoftwareEngine(world, size=(24, 32)) as engine:
        for scene, picture in zip(exhibit.scenes, drawn, strict=True):
            assert np.abs(picture / 255 - engine.render(scene).rgb[0].numpy()).max() <= 0.5 / 255 + 1e-6


def test_objects_stand_where_the_scene_says(viewer, recovery):
    """Placed, turned, scaled; the camera's pyramid looks along the scene's camera."""
    viewer.show(0)
    scene, stage = recovery.scene, viewer.stage
    assert set(stage.objects) == {0, 1}
    for slot, mesh in stage.objects.items():
        assert_close(torch.tensor(mesh.position), scene.translation[0, slot].double(), check_dtype=False)
        assert_close(torch.tensor(mesh.wxyz).roll(-1).float(), scene.rotation[0, slot])
        assert mesh.scale == pytest.approx(float(scene.scale[0, slot]))
    assert tuple(stage.camera.position) == pytest.approx((0.0, 0.0, 5.0))
    ahead = roma.quat_action(
        torch.tensor(stage.camera.wxyz).roll(-1), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    )
    assert_close(ahead, torch.tensor([0.0, 0.0, -1.0]), check_dtype=False)
    light = torch.tensor(stage.sun.position)
    assert_close(light / light.norm(), scene.light.direction[0], check_dtype=False)
    assert stage.sun.intensity == pytest.approx(math.pi * float(scene.light.intensity[0]))


def test_sight_and_field_of_view(world):
    """24 rows at a focal length of 30 px; an upright camera's y points down in viser."""
    camera = world.empty().camera
    assert math.tan(field_of_view(camera) / 2) == pytest.approx(12 / 30)
    down = roma.quat_action(torch.tensor(sight(camera)).roll(-1), torch.tensor([0.0, 1.0, 0.0]))
    assert_close(down, torch.tensor([0.0, -1.0, 0.0]))


def test_what_is_shown_follows_the_panel(viewer, recovery):
    """Choosing a hypothesis or a step changes meshes, picture, caption and table."""
    viewer.show(0)
    assert "| ball |" in viewer.table.content
    assert "doubtful" in viewer.table.content
    viewer.show(1)
    assert "box turned by 90 degrees" in viewer.caption.content
    assert "doubtful" not in viewer.table.content  # said of the first hypothesis only
    viewer.show(2)  # the first step
    assert "birth, loss 1" in viewer.caption.content
    assert set(viewer.stage.objects) == {0}
    assert [switch.visible for switch in viewer.switches] == [True, False, False]
    first = viewer.images.image
    viewer.show(4)
    assert set(viewer.stage.objects) == {0, 1}
    half = viewer.images.image.shape[1] // 2
    assert np.array_equal(viewer.images.image[:, : half - 2], first[:, : half - 2])  # the picture stays
    assert not np.array_equal(viewer.images.image[:, half + 2 :], first[:, half + 2 :])


def test_hidden_stays_hidden(viewer):
    """An object that was switched off is not shown again by another scene; names go with it."""
    viewer.show(0)
    viewer.stage.set_visible(1, False)
    viewer.show(2)
    viewer.show(1)
    assert not viewer.stage.objects[1].visible
    assert not viewer.stage.labels[1].visible
    viewer.stage.set_visible(1, True)
    viewer.stage.set_labelled(False)
    assert viewer.stage.objects[1].visible
    assert not viewer.stage.labels[1].visible
    viewer.stage.set_labelled(True)
    assert viewer.stage.labels[1].visible


def test_a_mesh_alone_keeps_colours_and_texture():
    """Its tint is the material's factor, in linear light as in glTF; its texture is embedded."""
    tabletop = World.load("tabletop")
    plain = asset_glb(tabletop.assets[tabletop.index("mug")], [0.25, 0.5, 1.0])
    length = int.from_bytes(plain[12:16], "little")
    document = json.loads(plain[20 : 20 + length])
    (material,) = document["materials"]
    assert material["pbrMetallicRoughness"]["baseColorFactor"] == [0.25, 0.5, 1.0, 1.0]
    assert len(document["nodes"]) == 1
    assert b"\x89PNG" in asset_glb(tabletop.assets[tabletop.index("book")], [1.0, 1.0, 1.0])


def test_mistakes_end_in_one_line(capsys, folder, tmp_path):
    def fails(*arguments):
        assert cli.main(["view", *map(str, arguments)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "there is no such file" in fails(tmp_path / "none.json")
    assert "--port must lie between 1 and 65535" in fails(folder / "recovery.json", "--port", 0)
    assert "no engine 'gl'" in fails(folder / "recovery.json", "--engine", "gl")
    (tmp_path / "a.json").write_text("{}")
    assert "is no recovery" in fails(tmp_path / "a.json")
    content = json.loads((folder / "recovery.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(content | {"world": ""}))
    assert "say with --world which world it belongs to" in fails(tmp_path / "b.json")
    (tmp_path / "c.json").write_text(json.dumps(content | {"camera": {}}))
    (tmp_path / "mesh.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert "its camera cannot be read" in fails(tmp_path / "c.json", "--asset", tmp_path / "mesh.obj")
    assert "world cube has no asset 'box'" in fails(folder / "recovery.json", "--world", "cube")


def test_missing_viser_is_named(capsys, monkeypatch, folder):
    for name in [n for n in sys.modules if n.startswith("inverse.view")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "viser", None)
    assert cli.main(["view", str(folder / "recovery.json")]) == 2
    assert capsys.readouterr().err == (
        'unrender: error: the viewer needs viser; install it with: pip install "unrender[view]"\n'
    )


def test_command_serves_until_it_is_interrupted(capsys, monkeypatch, interruptible, tmp_path):
    """From a sampled truth: the browser is sent to a page that answers; Ctrl-C ends it with status 0."""
    pages = []

    def visit(url):
        try:
            with urlopen(url, timeout=30) as page:
                pages.append(page.read())
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(webbrowser, "open", lambda url: threading.Timer(0.5, visit, [url]).start())
    assert cli.main(["sample", "cube", "--out", str(tmp_path), "--size", "32", "--engine", "software"]) == 0
    capsys.readouterr()
    command = ["view", str(tmp_path / "0000.json"), "--engine", "software", "--port", "18090"]
    assert cli.main(command) == 0
    assert b"<html" in pages[0]
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path}/0000.json is shown at http://127.0.0.1:")
    assert out.endswith("; Ctrl-C ends it\n")
    assert err == ""
