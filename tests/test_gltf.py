"""Scene files: exact round trips, geometry that other readers see, files that cannot be read."""

import json
import math
import struct
import warnings
from dataclasses import fields, replace

import numpy as np
import pygltflib
import pytest
import torch
import trimesh
from numpy.testing import assert_allclose

from scenes import SceneFileError, World, load_scene, read_asset, save_scene
from scenes.gltf import world_of
from scenes.scene import matrix

TABLETOP, CUBE = World.load("tabletop"), World.load("cube")


def drawn(world=TABLETOP, seed=1):
    return world.sample(1, generator=torch.Generator().manual_seed(seed))


def tensors(value):
    """Every tensor of a scene, by its place."""
    for field in fields(value):
        part = getattr(value, field.name)
        if isinstance(part, torch.Tensor):
            yield field.name, part
        elif not isinstance(part, int):
            yield from ((f"{field.name}.{n}", t) for n, t in tensors(part))


def document(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    return json.loads(data[20 : 20 + length])


def rewritten(path, change):
    """The file with its JSON part changed."""
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    content = json.loads(data[20 : 20 + length])
    change(content)
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    total = 20 + len(text) + len(rest)
    path.write_bytes(data[:8] + struct.pack("<II", total, len(text)) + b"JSON" + text + rest)


@pytest.mark.parametrize(("world", "seed"), [(TABLETOP, 0), (TABLETOP, 3), (CUBE, 0)])
def test_round_trip_is_exact(tmp_path, world, seed):
    """Every tensor comes back bit for bit, empty slots and numbers without a short decimal form included."""
    scene = drawn(world, seed)
    scene = replace(scene, camera=replace(scene.camera, centre=scene.camera.centre + torch.rand(1, 2)))
    save_scene(scene, world, tmp_path / "a.glb")
    again = load_scene(tmp_path / "a.glb", world)
    expected = dict(tensors(scene))
    found = dict(tensors(again))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    assert (again.camera.width, again.camera.height) == (scene.camera.width, scene.camera.height)
    assert world_of(tmp_path / "a.glb") == world.name


def test_other_readers_see_the_geometry(tmp_path):
    """trimesh finds each object where the scene puts it, to float32, with its texture or tint."""
    scene = drawn(seed=3)
    scene.asset[0] = torch.tensor([TABLETOP.index(n) for n in ("mug", "can", "book", "pear", "plate")])
    save_scene(scene, TABLETOP, tmp_path / "a.glb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = trimesh.load_scene(tmp_path / "a.glb", process=False)
    for s in range(5):
        asset = TABLETOP.assets[scene.asset[0, s]]
        transform, key = loaded.graph[f"{asset.name}.{s}"]
        mesh = loaded.geometry[key]
        turn = matrix(scene.rotation[0, s]).double().numpy()
        expected = asset.vertices @ turn.T * scene.scale[0, s].item() + scene.translation[0, s].numpy()
        assert_allclose(trimesh.transform_points(mesh.vertices, transform), expected, atol=1e-6)
        assert (mesh.faces == asset.faces).all()
        assert_allclose(mesh.vertex_normals, asset.normals, atol=1e-5)
        material = mesh.visual.material
        if asset.texture is not None:
            assert (np.asarray(material.baseColorTexture.convert("RGB")) == asset.texture).all()
            assert_allclose(mesh.visual.uv, asset.uv * [1, -1] + [0, 1], atol=1e-6)
        if asset.colour_free:
            assert_allclose(material.baseColorFactor[:3] / 255, scene.colour[0, s].numpy(), atol=1 / 255)


def test_vertex_colours_are_written(tmp_path):
    save_scene(drawn(CUBE), CUBE, tmp_path / "a.glb")
    colours = np.unique(read_asset(tmp_path / "a.glb").colours.round(2), axis=0)
    assert_allclose(colours, np.unique(CUBE.assets[0].colours, axis=0), atol=0.01)


def test_camera_and_light_are_the_formats_own(tmp_path):
    scene = drawn(seed=2)
    save_scene(scene, TABLETOP, tmp_path / "a.glb")
    gltf = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    nodes = {n.name: n for n in gltf.nodes}
    assert gltf.cameras[0].perspective.yfov == pytest.approx(math.radians(30), rel=1e-5)
    assert gltf.cameras[0].perspective.aspectRatio == 1
    assert nodes["camera"].camera == 0
    assert_allclose(nodes["camera"].translation, [0, 0.85, 1.6], atol=1e-5)
    assert "table" in nodes
    assert gltf.extensionsUsed == ["KHR_lights_punctual"]
    (light,) = gltf.extensions["KHR_lights_punctual"]["lights"]
    assert light["type"] == "directional"
    assert light["intensity"] == pytest.approx(math.pi * scene.light.intensity.item())
    turn = matrix(torch.tensor(nodes["light"].rotation))
    assert_allclose(turn[:, 2], scene.light.direction[0], atol=1e-6)


def test_buffers_are_aligned_and_limits_are_true(tmp_path):
    """Parts begin on multiples of 4, counts fit, and POSITION has its least and largest corner."""
    save_scene(drawn(seed=3), TABLETOP, tmp_path / "a.glb")
    data, content = (tmp_path / "a.glb").read_bytes(), document(tmp_path / "a.glb")
    assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data))
    (length,) = struct.unpack("<I", data[12:16])
    blob = data[28 + length :]
    assert len(blob) >= content["buffers"][0]["byteLength"]
    for view in content["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= len(blob)
    for mesh in content["meshes"]:
        primitive = mesh["primitives"][0]
        accessor = content["accessors"][primitive["attributes"]["POSITION"]]
        view = content["bufferViews"][accessor["bufferView"]]
        positions = np.frombuffer(blob, np.float32, 3 * accessor["count"], view["byteOffset"]).reshape(-1, 3)
        assert_allclose(accessor["min"], positions.min(0))
        assert_allclose(accessor["max"], positions.max(0))
        indices = content["accessors"][primitive["indices"]]
        view = content["bufferViews"][indices["bufferView"]]
        assert np.frombuffer(blob, np.uint32, indices["count"], view["byteOffset"]).max() < accessor["count"]


def test_copies_share_their_geometry(tmp_path):
    scene = drawn(seed=3)
    once = scene.asset.clone()
    once[:, 1:] = -1
    scene.asset[:] = TABLETOP.index("can")
    save_scene(replace(scene, asset=once), TABLETOP, tmp_path / "one.glb")
    save_scene(scene, TABLETOP, tmp_path / "five.glb")
    content = document(tmp_path / "five.glb")
    assert len(content["nodes"]) == 8
    assert len(content["images"]) == 2
    assert len({m["primitives"][0]["attributes"]["POSITION"] for m in content["meshes"]}) == 2


def test_a_world_with_more_or_fewer_slots_reads_the_scene(tmp_path):
    scene = drawn(seed=3)
    scene.asset[:, 2:] = -1
    save_scene(scene, TABLETOP, tmp_path / "a.glb")
    wider, narrower = replace(TABLETOP, count=(1, 7)), replace(TABLETOP, count=(1, 2))
    assert load_scene(tmp_path / "a.glb", wider).asset[0].tolist() == [*scene.asset[0].tolist(), -1, -1]
    assert load_scene(tmp_path / "a.glb", narrower).asset[0].tolist() == scene.asset[0, :2].tolist()
    with pytest.raises(SceneFileError, match="holds 2 objects; world tabletop has 1 slots"):
        load_scene(tmp_path / "a.glb", replace(TABLETOP, count=(1, 1)))


def test_only_one_scene_is_saved(tmp_path):
    with pytest.raises(ValueError, match=r"got 3: choose with scene\[i\]"):
        save_scene(TABLETOP.sample(3), TABLETOP, tmp_path / "a.glb")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """A failure on the way leaves the old file and nothing else; no temporary file stays behind."""
    path = tmp_path / "a.glb"
    save_scene(drawn(), TABLETOP, path)
    before = path.read_bytes()
    with pytest.raises(SceneFileError, match=r"b.glb cannot be written: No such file"):
        save_scene(drawn(), TABLETOP, tmp_path / "gone" / "b.glb")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(SceneFileError, match=r"a.glb cannot be written: No space left"):
        save_scene(drawn(seed=5), TABLETOP, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.glb"]


def test_foreign_and_damaged_files(tmp_path):
    path = tmp_path / "a.glb"
    with pytest.raises(SceneFileError, match=r"a.glb cannot be read: No such file"):
        load_scene(path, TABLETOP)
    path.write_text("hello")
    with pytest.raises(SceneFileError, match=r"a.glb is not a .glb file"):
        load_scene(path, TABLETOP)
    trimesh.creation.box().export(path)
    with pytest.raises(SceneFileError, match="holds no scene of this program"):
        load_scene(path, TABLETOP)
    save_scene(drawn(), TABLETOP, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SceneFileError, match=r"is a damaged .glb file"):
        load_scene(path, TABLETOP)


def test_extras_that_do_not_fit(tmp_path):
    path = tmp_path / "a.glb"

    def saved(change):
        save_scene(drawn(), TABLETOP, path)
        rewritten(path, lambda c: change(c["scenes"][0]["extras"]["unrender"]))

    saved(lambda e: e["objects"][0].update(asset="spoon"))
    with pytest.raises(SceneFileError, match=r"holds 'spoon'; world tabletop has only mug, bowl"):
        load_scene(path, TABLETOP)
    saved(lambda e: e.update(format="unrender-scene/9"))
    with pytest.raises(SceneFileError, match=r"format 'unrender-scene/9'; this version reads"):
        load_scene(path, TABLETOP)
    saved(lambda e: e.pop("light"))
    with pytest.raises(SceneFileError, match=r"damaged: .*'light' is missing"):
        load_scene(path, TABLETOP)
    saved(lambda e: e["objects"][0].update(rotation=[0, 0, 1]))
    with pytest.raises(SceneFileError, match="damaged"):
        load_scene(path, TABLETOP)
    saved(lambda e: e["light"].update(ambient=float("nan")))
    with pytest.raises(SceneFileError, match="ambient is not finite"):
        load_scene(path, TABLETOP)
