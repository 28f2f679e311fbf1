"""World: camera and light conventions, theta and back, world files that are wrong."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from scenes import World, WorldError, bundled_worlds
from scenes.scene import matrix

EVERYTHING_FREE = """
[objects]
count = [1, 3]
placement = "PLACEMENT"
x = [-1, 1]
y = [0, 0.5]
z = [-1, 1]
scale = [0.5, 2]
colour = [[0, 1], [0.1, 1], [0, 0.9]]
separate = false

[[assets]]
name = "box"
shape = "box"
size = [0.2, 0.3, 0.4]
colour = "free"

[[assets]]
name = "ball"
shape = "sphere"
radius = 0.1
colour = [0.2, 0.4, 0.6]

[camera]
width = 160
height = 120
fov_y_degrees = [30, 50]
aspect = 1.1
centre = [78, 61]
target = [0.1, 0.2, 0.3]
azimuth_degrees = [-180, 180]
elevation_degrees = [-60, 80]
distance = [2, 5]

[light]
azimuth_degrees = [-180, 180]
elevation_degrees = [-80, 80]
intensity = [0, 1]
ambient = [0.1, 0.5]

[background]
colour = [[0, 1], 0.5, [0.2, 0.8]]
"""


def written(tmp_path, text):
    path = tmp_path / "world.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture(params=["upright", "free"])
def free_world(request, tmp_path):
    return World.load(written(tmp_path, EVERYTHING_FREE.replace("PLACEMENT", request.param)))


def test_pack_and_unpack_are_inverse(free_world):
    """Theta drawn in its ranges comes back; float32 costs 1e-5 in focal lengths and angles near the ends."""
    scene = free_world.sample(64, generator=torch.Generator().manual_seed(0))
    theta = free_world.pack(scene)
    assert theta.shape == (64, len(free_world.names))
    again = free_world.unpack(theta, like=free_world.empty(64)).camera
    assert_close(again.translation, scene.camera.translation, atol=2e-6, rtol=1e-5)
    back = free_world.unpack(theta, like=scene)
    for name in ("rotation", "translation", "scale", "colour", "background"):
        assert_close(getattr(back, name), getattr(scene, name), atol=2e-6, rtol=1e-5)
    for name in ("direction", "intensity", "ambient"):
        assert_close(getattr(back.light, name), getattr(scene.light, name), atol=2e-6, rtol=1e-5)
    for name in ("rotation", "translation", "focal", "centre"):
        assert_close(getattr(back.camera, name), getattr(scene.camera, name), atol=2e-6, rtol=1e-5)
    assert_close(free_world.pack(back), theta, atol=1e-5, rtol=1e-5)


def test_every_number_reaches_the_scene(free_world):
    """Moving any one active entry of theta changes the scene's tensors, and no other entry of theta."""
    scene = free_world.sample(1, generator=torch.Generator().manual_seed(3))
    scene.asset[:] = 0
    theta = free_world.pack(scene)
    step = 0.01 * (free_world.high - free_world.low)
    moved = theta + torch.diag(torch.where(theta[0] > (free_world.low + free_world.high) / 2, -step, step))
    again = free_world.pack(free_world.unpack(moved, like=scene))
    assert_close(again, moved, atol=1e-4, rtol=1e-4)


def test_names_units_and_ranges(free_world):
    kinds = zip(free_world.units, free_world.groups, free_world.slot_of, strict=True)
    entries = dict(zip(free_world.names, kinds, strict=True))
    assert entries["object2.y"] == ("m", "position", 2)
    assert entries["object0.g"] == ("linear", "colour", 0)
    assert entries["camera.focal"] == ("px", "camera", -1)
    assert entries["light.elevation"] == ("rad", "light", -1)
    assert "background.g" not in entries
    turn = "object1.yaw" if free_world.placement == "upright" else "object1.rotation_y"
    assert entries[turn] == ("rad", "rotation", 1)
    assert (free_world.low < free_world.high).all()
    focal = free_world.names.index("camera.focal")
    assert free_world.low[focal].item() == pytest.approx(60 / math.tan(math.radians(25)), rel=1e-6)
    assert free_world.high[focal].item() == pytest.approx(60 / math.tan(math.radians(15)), rel=1e-6)


def test_active_tells_what_matters(free_world):
    """The ball has a known colour and, upright, no yaw; an empty slot has nothing."""
    scene = free_world.empty()
    scene.asset[0] = torch.tensor([0, 1, -1])
    active = dict(zip(free_world.names, free_world.active(scene)[0].tolist(), strict=True))
    assert [active[f"object{s}.x"] for s in range(3)] == [True, True, False]
    assert [active[f"object{s}.r"] for s in range(3)] == [True, False, False]
    turn = "yaw" if free_world.placement == "upright" else "rotation_x"
    round_turns = free_world.placement == "free"
    assert [active[f"object{s}.{turn}"] for s in range(3)] == [True, round_turns, False]
    assert active["camera.distance"]
    assert active["background.r"]


def test_known_numbers_stay_the_scenes_own():
    world = World.load("cube")
    scene = world.sample(2, generator=torch.Generator().manual_seed(0))
    moved = world.unpack(world.pack(scene) * 0.5, like=scene)
    assert world.names == ["object0.rotation_x", "object0.rotation_y", "object0.rotation_z"]
    assert moved.camera is scene.camera
    assert moved.light is scene.light
    assert moved.background is scene.background
    assert not torch.equal(moved.rotation, scene.rotation)


def test_both_signs_of_a_quaternion_are_one_yaw():
    world = World.load("tabletop")
    scene = world.sample(8, generator=torch.Generator().manual_seed(0))
    other = replace(scene, rotation=-scene.rotation)
    assert_close(world.pack(other), world.pack(scene))


def test_unpack_is_differentiable_at_the_identity():
    world = World.load("cube")
    theta = torch.zeros(1, 3, requires_grad=True)
    rotation = matrix(world.unpack(theta, like=world.empty()).rotation)
    (gradient,) = torch.autograd.grad(rotation[0, 0, 2, 1], theta)
    assert_close(gradient, torch.tensor([[1.0, 0.0, 0.0]]))


def test_unpack_spreads_one_scene_and_refuses_wrong_shapes():
    world = World.load("tabletop")
    scene = world.sample(1, generator=torch.Generator().manual_seed(0))
    many = world.unpack(world.pack(scene).repeat(3, 1), like=scene)
    assert len(many) == 3
    assert torch.equal(many.asset, scene.asset.expand(3, -1))
    with pytest.raises(ValueError, match=rf"shape \[B, {len(world.names)}\], got \[1, 2\]"):
        world.unpack(torch.zeros(1, 2), like=scene)
    with pytest.raises(ValueError, match="1 or 3 scenes, got 2"):
        world.unpack(torch.zeros(3, len(world.names)), like=many[:2])


def test_camera_of_the_tabletop_sits_where_the_file_says():
    camera = World.load("tabletop").empty().camera
    assert_close(camera.translation, torch.tensor([[0.0, 0.85, 1.6]]), atol=1e-5, rtol=0)
    assert camera.focal[0, 1].item() == pytest.approx(64 / math.tan(math.radians(15)), rel=1e-5)
    assert (camera.width, camera.height) == (128, 128)


def test_camera_looks_at_its_target_from_azimuth_and_elevation(free_world):
    """The target lies on the viewing axis (-z) at its distance; up is up; azimuth 90 degrees is at +x."""
    values = {"camera.azimuth": math.pi / 2, "camera.elevation": 0.5, "camera.distance": 3.0}
    blank = free_world.empty()
    theta = free_world.pack(blank)
    for name, value in values.items():
        theta[0, free_world.names.index(name)] = value
    camera = free_world.unpack(theta, like=blank).camera
    camera_from_world = matrix(camera.rotation[0]).T
    target = torch.tensor([0.1, 0.2, 0.3])
    assert_close(
        camera_from_world @ (target - camera.translation[0]),
        torch.tensor([0.0, 0.0, -3.0]),
        atol=1e-5,
        rtol=0,
    )
    assert (camera_from_world @ torch.tensor([0.0, 1.0, 0.0]))[1] > 0.8
    eye = target + 3 * torch.tensor([math.cos(0.5), math.sin(0.5), 0.0])
    assert_close(camera.translation[0], eye, atol=1e-5, rtol=0)
    assert_close(camera.focal[0, 0] / camera.focal[0, 1], torch.tensor(1.1))
    assert_close(camera.centre[0], torch.tensor([78.0, 61.0]))


def test_camera_at_rest_has_the_worlds_frame(tmp_path):
    text = EVERYTHING_FREE.replace("PLACEMENT", "free")
    for line in (
        "target = [0.1, 0.2, 0.3]\n",
        "azimuth_degrees = [-180, 180]\nelevation_degrees = [-60, 80]\n",
    ):
        text = text.replace(line, "", 1)
    camera = World.load(written(tmp_path, text.replace("distance = [2, 5]", "distance = 0"))).empty().camera
    assert_close(matrix(camera.rotation[0]), torch.eye(3))
    assert_close(camera.translation[0], torch.zeros(3))


def test_camera_of_the_street_is_a_car_s():
    """The eye is 1.4 m above the road and looks along it, 3.5 degrees down."""
    world = World.load("street")
    camera = world.empty().camera
    assert_close(camera.translation[0], torch.tensor([0.0, 1.4, 0.0]), atol=1e-5, rtol=0)
    forward = -matrix(camera.rotation[0])[:, 2]
    assert_close(forward, torch.tensor([0.0, -math.sin(math.radians(3.5)), -math.cos(math.radians(3.5))]))
    assert not {"camera", "background"} & set(world.groups)
    assert {"object0.x", "object0.z", "object0.yaw", "object4.r", "light.azimuth"} <= set(world.names)
    assert "object0.y" not in world.names


def test_light_angles(free_world):
    """Azimuth runs from +z towards +x, elevation up."""
    blank = free_world.empty()
    theta = free_world.pack(blank)
    theta[0, free_world.names.index("light.azimuth")] = math.pi / 2
    theta[0, free_world.names.index("light.elevation")] = math.pi / 6
    direction = free_world.unpack(theta, like=blank).light.direction[0]
    assert_close(direction, torch.tensor([math.cos(math.pi / 6), 0.5, 0.0]), atol=1e-6, rtol=0)


def test_empty_scenes_have_what_is_known(tmp_path):
    text = EVERYTHING_FREE.replace("PLACEMENT", "upright").replace(
        "z = [-1, 1]", "z = 0.25\nyaw_degrees = 90"
    )
    scene = World.load(written(tmp_path, text)).empty(2)
    assert (scene.asset == -1).all()
    assert_close(scene.translation[..., 2], torch.full((2, 3), 0.25))
    assert_close(scene.background[0], torch.tensor([0.5, 0.5, 0.5]))
    assert_close(World.load("cube").empty().background, torch.full((1, 3), 0.2))
    half = math.sqrt(0.5)
    assert_close(scene.rotation[0, 0], torch.tensor([0.0, half, 0.0, half]))


def test_index_finds_assets_by_name():
    world = World.load("tabletop")
    assert world.assets[world.index("mug")].name == "mug"
    with pytest.raises(ValueError, match="no asset 'mag'; it has mug, bowl"):
        world.index("mag")


def test_bundled_worlds_load_by_name_folder_and_file(tmp_path):
    assert {"cube", "street", "tabletop"} <= set(bundled_worlds())
    assert World.load("cube").name == "cube"
    path = written(tmp_path, EVERYTHING_FREE.replace("PLACEMENT", "free"))
    assert World.load(str(tmp_path)).count == World.load(path).count == (1, 3)
    assert World.load(path).source == path


def test_a_mesh_beside_the_world_file_is_an_asset(tmp_path):
    (tmp_path / "slab.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 0 1\nv 0 0 1\nf 1 4 3 2\n")
    text = EVERYTHING_FREE.replace("PLACEMENT", "upright").replace(
        'shape = "sphere"\nradius = 0.1', 'mesh = "slab.obj"\nscale = 0.5'
    )
    asset = World.load(written(tmp_path, text)).assets[1]
    assert asset.vertices.max() == 0.5
    assert_close(torch.tensor(asset.colours[0]), torch.tensor([0.2, 0.4, 0.6]))
    assert not asset.colour_free
    assert asset.symmetry.trivial


def test_scenery_stands_where_it_is_put(tmp_path):
    text = EVERYTHING_FREE.replace("PLACEMENT", "upright")
    text += '\n[[scenery]]\nname = "floor"\nshape = "plane"\nposition = [1, -0.5, 2]\n'
    text += 'texture = {name = "checker", cells = 4}\n'
    (floor,) = World.load(written(tmp_path, text)).scenery
    assert_close(torch.tensor(floor.centre), torch.tensor([1.0, -0.5, 2.0]))
    assert floor.texture is not None
    assert not floor.closed


MISTAKES = [  # what is replaced, by what, and the message (a pattern but for its brackets)
    (
        'shape = "sphere"',
        'shape = "sphare"',
        '[assets ball] shape is "sphare", it must be one of "box", .*mean \'sphere\'',
    ),
    ("radius = 0.1", "radios = 0.1", "[assets ball] radios is an unknown key .did you mean 'radius'"),
    ("radius = 0.1", "radius = 0.1\nposition = [0, 0, 0]", "[assets ball] position is an unknown key"),
    ("x = [-1, 1]", "x = [1, -1]", "[objects] x is [1, -1], .* this range is empty"),
    ("x = [-1, 1]", "x = [1, 2, 3]", "[objects] x is [1, 2, 3], it must be a number, or a pair [low, high]"),
    ("x = [-1, 1]", 'x = "left"', '[objects] x is "left", it must be a number, or a pair'),
    ("x = [-1, 1]", "x = nan", "[objects] x is NaN, it must be a number"),
    ("x = [-1, 1]", "x = true", "[objects] x is true, it must be a number"),
    ("scale = [0.5, 2]", "scale = [0, 2]", "[objects] scale is [0, 2], .* above 0"),
    ("scale = [0.5, 2]", "scail = [0.5, 2]", "[objects] scail is an unknown key .did you mean 'scale'"),
    ("count = [1, 3]", "count = 0", "[objects] count is 0, it must be a whole number of objects from 1"),
    ("count = [1, 3]", "count = [3, 1]", "[objects] count is [3, 1]"),
    ("count = [1, 3]", "count = 1.5", "[objects] count is 1.5"),
    ("count = [1, 3]", "cuont = 1", "[objects] count is missing; is 'cuont' misspelt"),
    ('"upright"', '"lying"', '[objects] placement is "lying", it must be one of "upright", "free"'),
    ("separate = false", "separate = 1", "[objects] separate is 1, it must be true or false"),
    ("[0.1, 1], [0, 0.9]]", "[0, 0.9]]", "[objects] colour is .*three linear numbers"),
    ("[0.1, 1], [0, 0.9]]", "[0.1, 2], [0, 0.9]]", "[objects] colour is .*from 0 to 1"),
    (
        "colour = [0.2, 0.4, 0.6]",
        "colour = [2, 0, 0]",
        '[assets ball] colour is [2, 0, 0], it must be "free", or three',
    ),
    ('name = "ball"', 'name = "box"', "assets has two called 'box'"),
    ('name = "ball"', 'nme = "ball"', "[assets 2] name is missing; is 'nme' misspelt"),
    (
        "radius = 0.1",
        'radius = 0.1\nsymmetry = "round"',
        '[assets ball] symmetry is "round", it must be "none", "axis"',
    ),
    ("radius = 0.1", 'radius = 0.1\ntexture = "wodd"', "[assets ball] texture is \"wodd\", .*mean 'wood'"),
    ("radius = 0.1", 'texture = {name = "wood", age = 3}', "[assets ball.texture] age is an unknown key"),
    ("size = [0.2, 0.3, 0.4]", "size = [0.2, 0.3]", "[assets box] shape box cannot be made"),
    ("size = [0.2, 0.3, 0.4]", 'mesh = "a.obj"', "[assets box] shape or mesh: exactly one"),
    (
        'shape = "sphere"\nradius = 0.1',
        'mesh = "gone.glb"',
        "[assets ball] mesh cannot be used: .*gone.glb does not exist",
    ),
    ("width = 160", "width = 0", "[camera] width is 0, it must be a whole number from 2"),
    ("width = 160", "width = 160\nfocal = 100", "[camera] fov_y_degrees or focal: exactly one"),
    ("fov_y_degrees = [30, 50]", "fov_y_degrees = 190", "[camera] fov_y_degrees is 190, .*below 180"),
    (
        "elevation_degrees = [-60, 80]",
        "elevation_degrees = 90",
        "[camera] elevation_degrees is 90, .*without its ends",
    ),
    ("distance = [2, 5]", "", "[camera] distance is missing"),
    ("centre = [78, 61]", "centre = [78]", "[camera] centre is [78], it must be a list of 2 numbers"),
    ("intensity = [0, 1]", "intensity = -1", "[light] intensity is -1, .* at least 0"),
    ("[background]", "[backdrop]", "background is missing; is 'backdrop' misspelt"),
    ("[light]", "[[light]]", "light is .*it must be a table, written [light]"),
    ("[[assets]]", "[[things]]", "assets is empty: at least one"),
    ("count = [1, 3]", "count = [1, 3", "is not a TOML file: .*line"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_mistakes_end_in_one_clear_line(old, new, message, tmp_path):
    text = EVERYTHING_FREE.replace("PLACEMENT", "upright")
    assert old in text
    path = written(tmp_path, text.replace(old, new))
    pattern = message.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(WorldError, match=f"world.toml.*{pattern}") as caught:
        World.load(path)
    assert "\n" not in str(caught.value)


def test_yaw_needs_upright(tmp_path):
    text = EVERYTHING_FREE.replace("PLACEMENT", "free").replace("y = [0, 0.5]", "yaw_degrees = 0")
    with pytest.raises(WorldError, match=r"\[objects\] yaw_degrees goes with placement"):
        World.load(written(tmp_path, text))


def test_a_world_that_is_not_there(tmp_path):
    with pytest.raises(WorldError, match=r"no world called 'tabeltop' \(did you mean 'tabletop'\?\)"):
        World.load("tabeltop")
    with pytest.raises(WorldError, match=r"holds no world.toml"):
        World.load(str(tmp_path))
    (tmp_path / "world.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WorldError, match="is not a TOML file"):
        World.load(str(tmp_path))


@pytest.mark.parametrize("name", bundled_worlds())
def test_no_scenes(name):
    """A batch of none has every shape that one of some has."""
    world = World.load(name)
    none = world.empty(0)
    assert len(none) == 0
    assert none.rotation.shape == (0, world.count[1], 4)
    assert world.pack(none).shape == (0, len(world.names))
    assert world.unpack(world.pack(none), like=none).translation.shape == (0, world.count[1], 3)


def test_angles_go_round_and_all_else_has_ends(table):
    named = dict(zip(table.names, table.ends.tolist(), strict=True))
    assert not named["object0.yaw"]
    assert not named["light.azimuth"]
    assert all(named[name] for name in ("object0.x", "object0.scale", "light.elevation", "light.ambient"))
