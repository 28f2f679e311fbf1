"""recovery.json: poses by hand in both conventions, round trips, and the errors of bad starts."""

import json
import math
from dataclasses import replace

import pytest
import roma
import torch
from small_world import small_world
from torch.testing import assert_close

from inverse.recovery import FoundObject, Hypothesis, Recovery, Step
from inverse.recoveryfile import RecoveryFileError, load_start, rigid, scene_json, write_recovery, write_truth
from scenes.world import Interval


def turned(axis, degrees):
    return roma.rotvec_to_unitquat(torch.tensor(axis) * math.radians(degrees))


@pytest.fixture
def world():
    return small_world()


@pytest.fixture
def scene(world):
    """A box 3 m in front of an eye at (0, 0, 5), a ball above it, one slot empty."""
    scene = world.empty()
    scene.asset[0, :2] = torch.tensor([0, 1])
    scene.translation[0, 0] = torch.tensor([0.5, 0.0, 2.0])
    scene.translation[0, 1] = torch.tensor([0.0, 1.0, 0.0])
    scene.rotation[0, 0] = turned([0.0, 1.0, 0.0], 90.0)
    scene.scale[0, 0] = 2.0
    scene.colour[0, 1] = torch.tensor([0.25, 0.5, 0.75])
    return scene


@pytest.fixture
def recovery(world, scene):
    picture = torch.rand(24, 32, 3, generator=torch.Generator().manual_seed(0))
    return Recovery(
        world=world,
        scene=scene,
        objects=(
            FoundObject(
                0,
                "box",
                visible_fraction=0.75,
                uncertainty={"position_m": 0.001, "rotation_degrees": math.inf},
            ),
            FoundObject(1, "ball", presence=0.5, verdict="doubtful", reason="a box fits as well"),
        ),
        picture=picture,
        image=(picture + 0.1).clamp(max=1.0),
        instance_id=torch.full((24, 32), -1, dtype=torch.int32),
        loss=0.25,
        psnr=math.inf,
        renders=10,
        seconds=0.5,
        hypotheses=(Hypothesis(scene, 0.25), Hypothesis(scene.without(1), 0.5, "without the ball")),
        history=(Step("search", 1.0, 4, 0.1), Step("refinement", 0.25, 10, 0.5)),
        frames=(picture, picture),
        engine="software",
        seed=3,
        source="photo.png",
    )


def test_poses_by_hand(world, scene):
    """The eye is at (0, 0, 5) looking along -z: x stays, y and z turn round in OpenCV's axes."""
    content = scene_json(scene, world)
    box, ball = content["objects"]
    assert_close(
        torch.tensor(content["camera"]["world_from_camera"]),
        torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]]),
    )
    # A quarter turn about +y takes the object's x to -z and its z to x.
    want = torch.tensor([[0.0, 0, 1, 0.5], [0, 1, 0, 0], [-1, 0, 0, 2], [0, 0, 0, 1]])
    assert_close(torch.tensor(box["world_from_object"]), want)
    want = torch.tensor([[0.0, 0, 1, 0.5], [0, -1, 0, 0], [1, 0, 0, 3], [0, 0, 0, 1]])
    assert_close(torch.tensor(box["camera_from_object"]), want)
    assert ball["camera_from_object"][1][3] == pytest.approx(-1.0)  # above the axis: negative in OpenCV's y
    assert ball["camera_from_object"][2][3] == pytest.approx(5.0)
    assert box["scale"] == 2.0
    assert box["size"] == pytest.approx([0.8, 0.4, 0.4])  # twice the box's 0.4 x 0.2 x 0.2
    assert ball["colour_linear"] == pytest.approx([0.25, 0.5, 0.75])


def test_projection_agrees_in_both_conventions(world):
    """A point of the object lands on one pixel, through OpenGL's axes and through camera_from_object."""
    scene = world.sample(1, generator=torch.Generator().manual_seed(1))
    scene = replace(scene, camera=replace(scene.camera, rotation=turned([0.3, -0.5, 0.2], 40.0)[None]))
    content = scene_json(scene, world)
    camera, entry = content["camera"], content["objects"][0]
    point = torch.tensor([0.1, 0.05, -0.02, 1.0], dtype=torch.float64)
    x, y, z, _ = torch.tensor(entry["camera_from_object"], dtype=torch.float64) @ point
    opencv = (camera["fx"] * x / z + camera["cx"], camera["fy"] * y / z + camera["cy"])
    eye = rigid(scene.camera.rotation[0], scene.camera.translation[0])
    x, y, z, _ = torch.linalg.inv(eye) @ rigid(scene.rotation[0, 0], scene.translation[0, 0]) @ point
    opengl = (camera["cx"] + camera["fx"] * x / -z, camera["cy"] - camera["fy"] * y / -z)
    assert_close(torch.stack(opencv), torch.stack(opengl))
    turn = torch.tensor(entry["camera_from_object"])[:3, :3]
    assert_close(turn @ turn.T, torch.eye(3), rtol=0, atol=1e-6)
    assert torch.linalg.det(turn) == pytest.approx(1.0)


def test_start_round_trip(world, tmp_path):
    """What was written comes back, but for what the world knows."""
    for seed in range(5):
        truth = world.sample(1, generator=torch.Generator().manual_seed(seed))
        path = tmp_path / "truth.json"
        write_truth(
            truth, world, path, image="0000.png", engine="software", seed=seed, visible_fraction=[None] * 3
        )
        start = load_start(path, world)
        count = int((truth.asset >= 0).sum())
        assert start.asset[0, :count].tolist() == truth.asset[truth.asset >= 0].tolist()
        keep = world.active(truth)
        assert_close(world.pack(start)[keep], world.pack(truth)[keep], rtol=1e-5, atol=1e-6)


def test_truth_says_what_is_seen(world, scene, tmp_path):
    write_truth(
        scene,
        world,
        tmp_path / "a.json",
        image="a.png",
        engine="opengl",
        seed=7,
        visible_fraction=[0.5, None, None],
    )
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["format"] == "unrender-recovery/1"
    assert [o["visible_fraction"] for o in content["objects"]] == [0.5, None]
    assert (content["image"], content["engine"], content["seed"]) == ("a.png", "opengl", 7)


def test_recovery_file(recovery, tmp_path):
    """Every key of the format; numbers that JSON does not have become null."""
    write_recovery(recovery, tmp_path / "recovery.json")
    content = json.loads((tmp_path / "recovery.json").read_text())
    box, ball = content["objects"]
    assert (box["verdict"], ball["verdict"], ball["reason"]) == (
        "explained",
        "doubtful",
        "a box fits as well",
    )
    assert (box["presence"], box["visible_fraction"], ball["visible_fraction"]) == (1.0, 0.75, None)
    assert box["uncertainty"] == {"position_m": 0.001, "rotation_degrees": None}
    assert content["psnr"] is None
    assert [(h["loss"], len(h["objects"])) for h in content["hypotheses"]] == [(0.25, 2), (0.5, 1)]
    wanted = {
        "format",
        "image",
        "world",
        "engine",
        "strategy",
        "seed",
        "camera",
        "lights",
        "background",
        "objects",
    }
    assert set(content) >= wanted | {"hypotheses", "loss", "psnr", "renders", "seconds"}


def test_saved_recovery_is_a_start(recovery, world, tmp_path):
    """Both files that hold the scene give it back."""
    pictures = ["comparison.png", "refinement.gif", "loss.png", "report.html"]
    names = ["scene.glb", "recovery.json", "refinement.json", *pictures]
    assert recovery.save(tmp_path / "out") == [tmp_path / "out" / n for n in names]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    keep = world.active(recovery.scene)
    for name in names[:2]:
        start = load_start(tmp_path / "out" / name, world)
        assert_close(world.pack(start)[keep], world.pack(recovery.scene)[keep], rtol=1e-5, atol=1e-6)


def test_start_from_a_picture_of_another_size(world, scene, tmp_path):
    """A free focal length is scaled to the world's picture."""
    free = replace(world, camera=replace(world.camera, focal=Interval(20.0, 40.0)))
    camera = replace(scene.camera, focal=2 * torch.tensor([[25.0, 25.0]]), width=64, height=48)
    odd = replace(scene, camera=camera)
    write_truth(odd, free, tmp_path / "a.json", image="", engine="", seed=0, visible_fraction=[None] * 3)
    start = load_start(tmp_path / "a.json", free)
    assert_close(start.camera.focal, torch.tensor([[25.0, 25.0]]))
    assert (start.camera.width, start.camera.height) == (32, 24)


def test_start_keeps_what_the_world_knows(world, scene, tmp_path):
    """A colour that is not free and a camera that is known are the world's, whatever the file says."""
    odd = replace(scene, colour=torch.full_like(scene.colour, 0.5), background=torch.full((1, 3), 0.9))
    odd = replace(odd, camera=replace(scene.camera, translation=torch.tensor([[1.0, 2.0, 9.0]])))
    write_truth(odd, world, tmp_path / "a.json", image="", engine="", seed=0, visible_fraction=[None] * 3)
    start = load_start(tmp_path / "a.json", world)
    assert_close(start.colour[0, 0], torch.ones(3))  # the box has its own colour
    assert_close(start.colour[0, 1], torch.full((3,), 0.5))  # the ball's is free
    assert_close(start.camera.translation, scene.camera.translation)
    assert_close(start.background, scene.background)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), r'"format" must be "unrender-recovery/1"'),
        (lambda c: c.pop("camera"), "the key 'camera' is missing"),
        (lambda c: c["objects"][0].update(asset="bax"), "has no asset 'bax'; did you mean 'box'"),
        (lambda c: c["objects"].extend(c["objects"]), "has 4 objects, world small at most 3"),
        (lambda c: c["objects"][0].update(scale="big"), "is damaged"),
        (lambda c: c["objects"][0].update(world_from_object=[[1]]), r"is damaged .*\[4, 4\] finite numbers"),
        (
            lambda c: c["objects"][0].update(colour_linear=[math.nan, 0, 0]),
            r"is damaged .*\[3\] finite numbers",
        ),
        (lambda c: c.update(objects=3), "is damaged"),
        (lambda c: c.update(lights=[]), "is damaged"),
    ],
)
def test_rejects_bad_starts(world, scene, tmp_path, change, message):
    path = tmp_path / "a.json"
    write_truth(scene, world, path, image="", engine="", seed=0, visible_fraction=[None] * 3)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RecoveryFileError, match=message) as error:
        load_start(path, world)
    assert "\n" not in str(error.value)


def test_rejects_what_is_no_start(world, tmp_path):
    with pytest.raises(RecoveryFileError, match="there is no such file"):
        load_start(tmp_path / "a.json", world)
    (tmp_path / "a.json").write_text("text")
    with pytest.raises(RecoveryFileError, match=r"neither a \.glb nor JSON"):
        load_start(tmp_path / "a.json", world)


def test_recovered_needs_an_object_that_is_not_contradicted(recovery):
    assert recovery.recovered
    assert not replace(recovery, objects=()).recovered
    lost = tuple(replace(o, verdict="unexplained") for o in recovery.objects)
    assert not replace(recovery, objects=lost).recovered
    assert replace(recovery, objects=(lost[0], recovery.objects[1])).recovered
