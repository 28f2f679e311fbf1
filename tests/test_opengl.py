"""The OpenGL engine's pictures, known by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from quads import quad, scene_of, tabletop, world_of
from torch.testing import assert_close

from render.layout import Arranger
from scenes import Asset, Light, World

# llvmpipe computes pow with about 16 bits: the exact formulas hold to less than a quarter of an 8-bit step.
COLOUR = 1e-3


def srgb(x):
    x = np.clip(np.asarray(x, np.float64), 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def turned(axis, angle):
    """Quaternion xyzw."""
    q = torch.zeros(4)
    q["xyz".index(axis)], q[3] = math.sin(angle / 2), math.cos(angle / 2)
    return q


def test_quad_known_by_hand(open_gl):
    """A square of half a metre, 1 m away, at 8 px a radian: 8 x 8 px in the middle."""
    frame = open_gl(world_of(quad()), size=(16, 16)).render(scene_of())
    inside = np.zeros((16, 16), bool)
    inside[4:12, 4:12] = True
    want = np.where(inside[..., None], srgb([0.2 * 0.9, 0.5 * 0.9, 0.8 * 0.9]), srgb([0.1, 0.2, 0.3]))
    assert frame.rgb.dtype == torch.float32
    np.testing.assert_allclose(frame.rgb[0].numpy(), want, atol=COLOUR)
    np.testing.assert_array_equal(frame.instance_id[0].numpy(), np.where(inside, 0, -1))
    np.testing.assert_array_equal(frame.depth[0].numpy(), np.where(inside, 1.0, np.inf).astype(np.float32))


@pytest.mark.parametrize("factor", [1, 2])
def test_intrinsics_off_centre(open_gl, factor):
    """Different focal lengths, a principal point up and to the right, and another size than the camera's."""
    engine = open_gl(world_of(quad()), size=(16, 20))
    scene = scene_of(size=(16, 20), focal=(8, 4), centre=(12, 5))
    seen = engine.render(scene, size=(16 * factor, 20 * factor)).instance_id[0].numpy() == 0
    rows, columns = np.nonzero(seen)
    assert [rows.min(), rows.max() + 1] == [3 * factor, 7 * factor]
    assert [columns.min(), columns.max() + 1] == [8 * factor, 16 * factor]


def test_row_0_is_the_top(open_gl):
    scene = scene_of(at=((-0.5, 0.5, -1.0),))  # left and up
    seen = open_gl(world_of(quad()), size=(16, 16)).render(scene).instance_id[0] == 0
    assert seen[:8, :8].all()
    assert seen.sum() == 64


def test_ids_and_depth_of_slots_and_scenery(open_gl):
    """The nearer covers the farther; scenery comes after the slots, empty ones counted."""
    wall = replace(quad("wall", half=3.0), vertices=quad(half=3.0).vertices + np.float32([0, 0, -2]))
    engine = open_gl(world_of(quad(), scenery=(wall,)), size=(16, 16))
    at = ((0, 0, 0), (0, 0, -1.5), (0.25, 0, -1))
    frame = engine.render(scene_of(assets=(-1, 0, 0), at=at))
    row = frame.instance_id[0, 8].tolist()
    assert row == [3] * 5 + [1] * 1 + [2] * 8 + [3] * 2
    assert set(frame.depth[0, 8].tolist()) == {2.0, 1.5, 1.0}


def test_depth_of_a_tilted_plane(open_gl):
    scene = scene_of(focal=(16, 16), rotation=turned("y", 0.7).reshape(1, 1, 4))
    frame = open_gl(world_of(quad()), size=(16, 16)).render(scene)
    ray = (np.arange(16) + 0.5 - 8) / 16
    normal = np.array([math.sin(0.7), math.cos(0.7)])  # (x, z)
    want = np.broadcast_to(-normal[1] / (normal[0] * ray - normal[1]), (16, 16))
    seen = frame.instance_id[0].numpy() == 0
    assert seen.sum() > 100
    np.testing.assert_allclose(frame.depth[0].numpy()[seen], want[seen], rtol=1e-6)


def test_light_by_formula(open_gl):
    """Lambert, Blinn-Phong, ambient and tint on a tilted square, pixel by pixel."""
    asset = quad(half=2.0, specular=0.4, shininess=20.0)
    angle = -0.4
    scene = scene_of(light=(0.4, 0.5, 1.0), rotation=turned("x", angle).reshape(1, 1, 4))
    scene = replace(scene, colour=torch.tensor([[[0.5, 1.0, 0.25]]]))
    frame = open_gl(world_of(asset), size=(16, 16), samples=1).render(scene)
    centre = (np.arange(16) + 0.5 - 8) / 8
    depth = frame.depth[0].numpy().astype(np.float64)
    x, y = np.meshgrid(centre, -centre)
    position = np.stack([x * depth, y * depth, -depth], -1)
    n = np.array([0.0, -math.sin(angle), math.cos(angle)])
    light = scene.light.direction[0].double().numpy()
    eye = -position / np.linalg.norm(position, axis=-1, keepdims=True)
    h = light + eye
    h /= np.linalg.norm(h, axis=-1, keepdims=True)
    albedo = np.array([0.2, 0.5, 0.8]) * [0.5, 1.0, 0.25]
    want = albedo * (0.3 + 0.6 * (n @ light)) + (0.4 * 0.6 * (h @ n) ** 20.0)[..., None]
    assert (frame.instance_id == 0).all()
    np.testing.assert_allclose(frame.rgb[0].numpy(), srgb(want), atol=COLOUR)


def test_texture_stands_upright(open_gl):
    """uv (0, 0) is the top-left corner of the first row's first texel; texels are sRGB."""
    texels = np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [128, 128, 128]]])
    asset = quad(colour=(1, 1, 1), texture=texels)
    scene = scene_of(focal=(6, 6))
    frame = open_gl(world_of(asset), size=(16, 16), samples=1).render(scene)
    got = frame.rgb[0, [6, 6, 9, 9], [6, 9, 6, 9]].numpy()  # the pixels at the texels' centres
    linear = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.21586] * 3]) * 0.9
    np.testing.assert_allclose(got, srgb(linear), atol=4e-3)


@pytest.mark.parametrize("texels", [(64, 64), (96, 40), (48, 1)])
def test_texture_is_averaged_in_linear_light(open_gl, texels):
    """Far away, stripes of which one in four is white are a quarter as bright as white, in linear light."""
    stripes = np.zeros((*texels, 3), np.uint8)
    stripes[::4] = 255
    asset = quad(colour=(1, 1, 1), texture=stripes)
    frame = open_gl(world_of(asset), size=(16, 16)).render(scene_of(focal=(4, 4)))
    np.testing.assert_allclose(frame.rgb[0, 7:9, 7:9].numpy(), srgb(0.25 * 0.9), atol=0.01)


def test_supersampling_averages_linear_light(open_gl):
    """A square that ends in the middle of a column lights half of it."""
    scene = scene_of(centre=(8.5, 8))
    frame = open_gl(world_of(quad()), size=(16, 16), samples=2).render(scene)
    colour, background = np.array([0.2, 0.5, 0.8]) * 0.9, np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(frame.rgb[0, 8, 4].numpy(), srgb((colour + background) / 2), atol=COLOUR)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_coverage_by_samples(open_gl, samples):
    """The mean of a picture of white on black tends to the covered area."""
    scene = scene_of(focal=(8.3, 7.7), centre=(8.21, 7.93), background=torch.zeros(1, 3))
    light = Light(torch.tensor([[0.0, 0, 1]]), torch.tensor([0.0]), torch.tensor([1.0]))
    engine = open_gl(world_of(quad(colour=(1, 1, 1))), size=(16, 16), samples=samples)
    rgb = engine.render(replace(scene, light=light)).rgb[0, ..., 0].double().numpy()
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    assert set(np.round(linear * samples**2, 2).reshape(-1)) <= set(range(samples**2 + 1))
    assert abs(linear.sum() - 8.3 * 7.7) < 8.3 / samples


def ground(half=4.0):
    """A floor in the plane y = 0."""
    floor = quad("floor", half, colour=(0.5, 0.5, 0.5))
    turn = np.float32([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    return replace(floor, vertices=floor.vertices @ turn.T, normals=floor.normals @ turn.T)


def from_above(scene, height):
    camera = replace(
        scene.camera,
        rotation=turned("x", -math.pi / 2)[None],
        translation=torch.tensor([[0.0, height, 0.0]]),
    )
    return replace(scene, camera=camera)


def test_shadow_falls_where_geometry_says(open_gl):
    """A square 1 m above the floor under a light from the right: its shadow lies 0.75 m to the left."""
    scene = scene_of(
        at=((0, 1, 0),),
        size=(64, 64),
        focal=(64, 64),
        centre=(32, 32),
        light=(0.6, 0.8, 0.0),
        rotation=turned("x", -math.pi / 2).reshape(1, 1, 4),
    )
    engine = open_gl(world_of(quad(half=0.25), scenery=(ground(),)), size=(64, 64), samples=1)
    frame = engine.render(from_above(scene, 4.0))
    centre = (np.arange(64) + 0.5 - 32) / 64 * 4.0
    x, z = np.meshgrid(centre, centre)
    floor = frame.instance_id[0].numpy() == 1
    distance = np.maximum(np.abs(x + 0.75), np.abs(z)) - 0.25
    got = frame.rgb[0, ..., 0].numpy()
    margin = 0.02  # the filter reaches 1.5 texels of the map, each about 1 cm / cos of the light's slant
    dark, lit = floor & (distance < -margin), floor & (distance > margin)
    assert dark.sum() > 30
    np.testing.assert_allclose(got[dark], srgb(0.5 * 0.3), atol=COLOUR)
    np.testing.assert_allclose(got[lit], srgb(0.5 * (0.3 + 0.6 * 0.8)), atol=COLOUR)


def test_shadow_begins_at_the_foot(open_gl):
    """A screen that stands on the floor darkens it up to its foot, but for the filter's few millimetres."""
    scene = scene_of(
        at=((0, 0.25, 0),), size=(64, 64), focal=(64, 64), centre=(32, 32), light=(0.0, 0.6, 0.8)
    )
    engine = open_gl(world_of(quad(half=0.25), scenery=(ground(),)), size=(64, 64), samples=1)
    red = engine.render(from_above(scene, 1.0)).rgb[0, ..., 0].numpy()
    behind, before = red[25:31, 24:40], red[33:40, 24:40]  # 9 to 109 mm behind the foot, and before it
    np.testing.assert_allclose(behind, srgb(0.5 * 0.3), atol=COLOUR)
    np.testing.assert_allclose(before, srgb(0.5 * (0.3 + 0.6 * 0.6)), atol=COLOUR)


@pytest.mark.parametrize("elevation", [0.1, 0.5, 1.2, math.pi / 2])
def test_nothing_shades_itself(open_gl, elevation):
    """A ball lit from anywhere: where it faces the light it is lit, to the terminator."""
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    normals = mesh.vertices / 0.4
    ball = Asset(
        "ball",
        mesh.vertices.astype(np.float32),
        mesh.faces.astype(np.int32),
        normals.astype(np.float32),
        np.full((len(normals), 3), 0.8, np.float32),
        closed=True,
    )
    light = (math.cos(elevation), math.sin(elevation), 0.3)
    scene = scene_of(at=((0, 0, -1),), size=(64, 64), focal=(64, 64), centre=(32, 32), light=light)
    frame = open_gl(world_of(ball), size=(64, 64), samples=1).render(scene)
    centre = (np.arange(64) + 0.5 - 32) / 64
    x, y = np.meshgrid(centre, -centre)
    depth = np.where(np.isfinite(frame.depth[0].numpy()), frame.depth[0].numpy(), 1.0)
    n = np.stack([x * depth, y * depth, 1.0 - depth], -1) / 0.4
    cosine = n @ scene.light.direction[0].numpy()
    facing = (frame.instance_id[0].numpy() == 0) & (cosine > 0.05)
    assert facing.sum() > 300
    want = srgb(0.8 * (0.3 + 0.6 * cosine[facing]))
    np.testing.assert_allclose(frame.rgb[0, ..., 0].numpy()[facing], want, atol=0.01)


def test_back_faces(open_gl):
    """Drawn with their normal turned to the eye, unless the mesh says that it is closed."""
    away = turned("y", math.pi).reshape(1, 1, 4)
    want = srgb(np.array([0.2, 0.5, 0.8]) * 0.9)
    engine = open_gl(world_of(quad(), quad("shell", closed=True)), size=(16, 16))
    got = engine.render(scene_of(rotation=away))
    np.testing.assert_allclose(got.rgb[0, 8, 8].numpy(), want, atol=COLOUR)
    assert (engine.render(scene_of(assets=(1,), rotation=away)).instance_id == -1).all()
    assert (engine.render(scene_of(assets=(1,))).instance_id == 0).any()


def test_nothing_to_draw(open_gl):
    engine = open_gl(world_of(quad()), size=(8, 8))
    frame = engine.render(scene_of(assets=(-1,), translation=torch.full((1, 1, 3), math.nan)))
    np.testing.assert_allclose(
        frame.rgb.numpy(), np.broadcast_to(srgb([0.1, 0.2, 0.3]), (1, 8, 8, 3)), atol=COLOUR
    )
    assert (frame.instance_id == -1).all()
    assert frame.depth.isinf().all()
    assert engine.render(scene_of()[[]]).rgb.shape == (0, 8, 8, 3)


def test_behind_the_camera_and_across_it(open_gl):
    """What lies behind the eye is not seen; a floor that reaches behind it is cut, not dropped."""
    engine = open_gl(world_of(quad(), scenery=(ground(),)), size=(16, 16))
    camera = replace(scene_of().camera, translation=torch.tensor([[0.0, 0.5, 0.0]]))
    frame = engine.render(scene_of(at=((0, 0.5, 2.0),), camera=camera))
    assert (frame.instance_id[0, 10:] == 1).all()
    assert (frame.instance_id[0, :8] == -1).all()


@pytest.mark.parametrize("name", ["tabletop", "street"])
def test_shadow_maps_are_as_fine_in_large_worlds_as_in_small_ones(name):
    """A texel is 3 to 4 % of an object's radius, in the median: the map fits the objects, not the road."""
    world = World.load(name)
    scenes = world.sample(100, generator=torch.Generator().manual_seed(2))
    texel = Arranger(world, shadow_size=256).arrange(scenes).scenes[:, 11]
    share = np.median(texel) / np.median([a.radius for a in world.assets])
    assert 0.01 < share < 0.06


def test_batch_equals_singles(open_gl):
    """Bit for bit: a scene's picture does not depend on its neighbours or its place in the batch."""
    world, scenes = tabletop(7)
    engine = open_gl(world, size=(48, 64))
    batch = engine.render(scenes)
    for i in range(7):
        single = engine.render(scenes[i])
        for name in ("rgb", "instance_id", "depth"):
            assert torch.equal(getattr(single, name)[0], getattr(batch, name)[i]), (i, name)


def test_geometry_stage_draws_the_same(open_gl, monkeypatch):
    """Drivers without layers in the vertex stage take a geometry stage; the pictures are the same."""
    world, scenes = tabletop(3)
    want = open_gl(world, size=(32, 32)).render(scenes)
    monkeypatch.setattr("render.opengl.context._VERTEX_LAYER", ())
    got = open_gl(world, size=(32, 32)).render(scenes)
    assert_close(got.rgb, want.rgb, rtol=0, atol=1e-6)
    assert torch.equal(got.instance_id, want.instance_id)
