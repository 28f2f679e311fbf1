"""The engine `mitsuba`: its light against numbers, its geometry against `software`, its gradients."""

import gc
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from small_world import cuboid, small_world
from supersampled import agreement
from test_software import one_box
from torch.testing import assert_close

from render import Engine, EngineError, differentiable, open_engine
from render.blur import blurred_squared_error
from render.mitsuba import MitsubaEngine
from render.shading import decode_srgb, encode_srgb
from render.software import SoftwareEngine

mitsuba = pytest.importorskip("mitsuba", reason='mitsuba is not installed: pip install "unrender[mitsuba]"')

COLOURS = np.random.default_rng(0).uniform(0.2, 1.0, (6, 3)).astype(np.float32)


def lit(scene, **values):
    return replace(scene, light=replace(scene.light, **{k: torch.tensor([v]) for k, v in values.items()}))


def painted_box(**options):
    """A textured box whose sides are tinted one by one, turned to show three of them; tint of its own too."""
    texture = np.random.default_rng(1).integers(40, 256, (4, 4, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    uv = np.tile(np.float32([[0, 0], [1, 0], [1, 1], [0, 1]]), (6, 1))
    box = replace(cuboid("painted", (1.0, 0.8, 0.6), uv=uv, colour_free=True), texture=texture)
    return replace(box, colours=COLOURS.repeat(4, 0), **options)


def one(asset, **change):
    """A scene of one asset before the camera of `small_world`."""
    world = replace(small_world(width=64, height=48), assets=(asset,), count=(1, 1))
    turn = torch.nn.functional.normalize(torch.tensor([[[0.3, 0.4, 0.1, 0.8]]]), dim=-1)
    scene = replace(world.empty(), asset=torch.tensor([[0]]), scale=torch.ones(1, 1), rotation=turn)
    camera = replace(scene.camera, focal=torch.full((1, 2), 60.0))
    scene = replace(scene, translation=torch.tensor([[[0.1, 0.05, 1.5]]]), camera=camera)
    return world, replace(scene, **change)


# --- Light


@pytest.mark.parametrize("angle", [0.0, 4.0, 30.0])
def test_box_colours_by_hand(angle):
    """As for software: 0.5 * (0.2 + 0.6 * cosine), whatever the light's width; behind, the ambient alone.

    A wide light has some noise: samples of its disk are of different cosines.
    """
    for light, linear in (((0, 0, 1), 0.4), ((0, math.sqrt(3), 1), 0.25), ((0, 0, -1), 0.1)):
        world, scene = one_box(light)
        frame = MitsubaEngine(world, size=(24, 32), samples=64, light_angle_degrees=angle).render(scene)
        face = decode_srgb(frame.rgb[0, 11:13, 15:17])
        assert_close(face.mean((0, 1)), torch.full((3,), linear), rtol=0, atol=1e-3)


def test_background_shows_where_nothing_is():
    """Neither the sky nor the light's disk, here in full view, is seen; borders mix in linear light."""
    world, scene = one_box((0, 0, -1))
    scene = replace(scene, background=torch.tensor([[0.1, 0.4, 0.9]]))
    frame = MitsubaEngine(world, size=(24, 32), light_angle_degrees=30.0, samples=64).render(scene)
    empty = frame.instance_id[0] < 0
    empty[11:14, 13:19] = False  # the border
    assert empty.sum() > 500
    assert_close(frame.rgb[0][empty], encode_srgb(scene.background).expand(int(empty.sum()), 3))
    camera = replace(scene.camera, focal=torch.full((1, 2), 19.5))  # the face ends at 17.03
    camera = replace(camera, centre=camera.centre + torch.tensor([0.45, 0.0]))
    rgb = MitsubaEngine(world, size=(24, 32), samples=256).render(replace(scene, camera=camera)).rgb
    share = 0.45 + 19.5 * 0.25 / 4.75 - 1
    want = share * 0.1 + (1 - share) * scene.background[0]
    assert_close(decode_srgb(rgb[0, 12, 17]), want, rtol=0, atol=0.02)


def test_dark_without_lights():
    world, scene = one_box()
    dark = lit(scene, intensity=0.0, ambient=0.0)
    assert MitsubaEngine(world, size=(24, 32)).render(dark).rgb.max() == 0
    only = lit(scene, intensity=0.0, ambient=0.6)
    rgb = MitsubaEngine(world, size=(24, 32)).render(only).rgb
    assert_close(decode_srgb(rgb[0, 12, 16]), torch.full((3,), 0.3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("part", ["texture", "vertex colours", "texture, sides, tint"])
def test_albedo_is_that_of_software(part):
    """A box alone, under a sky alone: every pixel inside has albedo * ambient."""
    sides = part == "texture, sides, tint"
    box = painted_box()
    if part == "texture":
        box = replace(box, colours=np.ones_like(box.colours))
    if part == "vertex colours":
        box = replace(box, uv=None, texture=None)
    world, scene = one(box, colour=torch.tensor([[[0.9, 0.5, 0.7]]]) if sides else torch.ones(1, 1, 3))
    scene = lit(scene, intensity=0.0, ambient=0.9)
    got = MitsubaEngine(world, size=(48, 64), samples=64).render(scene)
    want = SoftwareEngine(world, size=(48, 64), samples=4, shadows=False).render(scene)
    inside = got.instance_id[0] >= 0
    assert inside.sum() > 300
    # Texels' borders are sampled in other places; few pixels are off, by little.
    error = (got.rgb - want.rgb)[0][inside].abs()
    assert error.mean() < (0.003 if part == "vertex colours" else 0.012)
    assert error.median() < 0.004


def test_highlight_is_as_strong_as_the_assets():
    """A face square-on with the light behind the eye, where Blinn-Phong's highlight is at its brightest.

    The matt part, 0.5 * 0.6, loses the mirror's share 8 * 0.3 / 42.
    """
    plain, shiny = (replace(cuboid("box", (1.5, 1.5, 0.1)), specular=s, shininess=40.0) for s in (0.0, 0.3))
    got = []
    for asset in (plain, shiny):
        world, scene = one(asset, rotation=torch.tensor([[[0.0, 0, 0, 1]]]))
        scene = lit(scene, direction=[0.0, 0.0, 1.0], intensity=0.6, ambient=0.0)
        rgb = MitsubaEngine(world, size=(48, 64), samples=64).render(scene).rgb
        got.append(decode_srgb(rgb[0, 21:23, 31:33].mean()))
    assert_close(got[0], torch.tensor(0.3), rtol=0.01, atol=0)
    assert_close(got[1], torch.tensor(0.3 * 0.6 + (1 - 8 * 0.3 / 42) * 0.3), rtol=0.03, atol=0)


def test_shadows_are_as_soft_as_the_light_is_wide():
    """A box before a wall, lit from the side: with a wide light, more of the wall sees a part of it."""
    wall = replace(cuboid("wall", (8.0, 8.0, 0.1)), closed=False)
    world = replace(small_world(width=64, height=48), scenery=(wall,), count=(1, 1))
    scene = lit(world.empty(), direction=[0.8, 0.0, 1.0], intensity=1.0, ambient=0.0)
    scene = replace(scene, asset=torch.tensor([[0]]), translation=torch.tensor([[[0.5, 0.0, 1.0]]]))
    share = []
    for angle in (0.0, 20.0):
        engine = MitsubaEngine(world, size=(48, 64), samples=64, bounces=1, light_angle_degrees=angle)
        frame = engine.render(replace(scene, scale=torch.full((1, 1), 3.0)))
        light = decode_srgb(frame.rgb[0, ..., 0])[frame.instance_id[0] == 1] / (0.5 / 1.64**0.5)
        assert_close(light.median(), torch.tensor(1.0), rtol=0, atol=0.02)
        assert light.min() < 0.05
        share.append(((light > 0.2) & (light < 0.8)).double().mean())
    assert share[1] > 3 * share[0]


# --- Geometry


@pytest.mark.parametrize("size", [(64, 64), (96, 96)])
def test_ids_and_depth_are_those_of_software(table, size):
    scene = table.sample(3, generator=torch.Generator().manual_seed(2))
    middle = scene.camera.centre + torch.tensor([[10.0, -7.5], [0.0, 0.0], [-3.2, 20.0]])
    scene = replace(scene, camera=replace(scene.camera, centre=middle))
    got = MitsubaEngine(table, size=size, samples=1).render(scene)
    want = SoftwareEngine(table, size=size).render(scene)
    same = got.instance_id == want.instance_id
    assert (~same).double().mean() < 0.001
    assert set(got.instance_id.unique().tolist()) >= {0, 1, 2}
    assert_close(got.depth[same], want.depth[same], rtol=1e-4, atol=1e-4)


def test_silhouettes_of_paths_are_those_of_software(cube):
    """The picture's own samples too: a white thing before black covers as much of every pixel."""
    scene = cube.sample(2, generator=torch.Generator().manual_seed(2))
    scene = lit(scene[0], intensity=0.0, ambient=1.0)
    bright = replace(cube, assets=(replace(cube.assets[0], colours=np.ones_like(cube.assets[0].colours)),))
    scene = replace(scene, background=torch.zeros(1, 3))
    got = decode_srgb(MitsubaEngine(bright, size=(64, 64), samples=64).render(scene).rgb)
    want = decode_srgb(SoftwareEngine(bright, size=(64, 64), samples=4).render(scene).rgb)
    assert (got - want).abs().max() < 0.2
    assert (got - want).abs().mean() < 0.002
    assert (got.sum() - want.sum()).abs() < 5e-3 * want.sum()


def test_nothing_to_draw(table):
    engine = MitsubaEngine(table, size=(8, 8), samples=1)
    assert engine.render(table.sample(1)[[]]).rgb.shape == (0, 8, 8, 3)
    bare = replace(table, scenery=())
    frame = MitsubaEngine(bare, size=(8, 8), samples=1).render(bare.empty())
    assert (frame.instance_id == -1).all()
    assert (frame.depth == math.inf).all()
    assert_close(frame.rgb[0, 0, 0], encode_srgb(bare.empty().background[0]))


# --- The same again


def test_same_scene_same_picture(table):
    import drjit

    scene = table.sample(3, generator=torch.Generator().manual_seed(1))
    first = MitsubaEngine(table, size=(32, 32), samples=4)
    want = first.render(scene).rgb
    assert torch.equal(first.render(scene[1]).rgb, want[1:2])
    threads = drjit.thread_count()
    for count in (1, 8):
        drjit.set_thread_count(count)
        try:
            assert torch.equal(MitsubaEngine(table, size=(32, 32), samples=4).render(scene).rgb, want)
        finally:
            drjit.set_thread_count(threads)
    assert not torch.equal(MitsubaEngine(table, size=(32, 32), samples=4, seed=1).render(scene).rgb, want)


def test_puts_back_the_variant(cube):
    mitsuba.set_variant("scalar_spectral")
    theirs = mitsuba.load_dict({"type": "sphere"})
    with MitsubaEngine(cube, size=(8, 8), samples=1) as engine:
        engine.render(cube.sample(1))
        assert mitsuba.variant() == "scalar_spectral"
        with pytest.raises(ValueError, match="asset must lie"):
            engine.render(replace(cube.sample(1), asset=torch.tensor([[9]])))
    assert mitsuba.variant() == "scalar_spectral"
    assert theirs.bbox().max.x == 1


def test_textures_are_read_once(monkeypatch):
    made = []
    bitmap = mitsuba.Bitmap
    monkeypatch.setattr(mitsuba, "Bitmap", lambda texels: made.append(1) or bitmap(texels))
    world, scene = one(
        replace(painted_box(), colours=np.ones((24, 3), np.float32)), colour=torch.ones(1, 1, 3)
    )
    engine = MitsubaEngine(world, size=(6, 8), samples=1)
    for _ in range(3):
        engine.render(scene[[0, 0]])
    assert len(made) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_leak_over_a_hundred_pictures(table):
    def resident():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    scene = table.sample(10, generator=torch.Generator().manual_seed(1))
    engine = MitsubaEngine(table, size=(16, 16), samples=1)
    engine.render(scene)
    before = resident()
    for _ in range(10):
        engine.render(scene)
    assert resident() - before < 8  # [MB]; a hundred copies of the meshes and textures are 150


# --- Gradients


def test_gradient_against_differences_of_its_own_pictures(cube):
    """Of a translation and a turn; the noise is the same in pictures that are compared."""
    base = cube.sample(1, generator=torch.Generator().manual_seed(5))
    engine = MitsubaEngine(cube, size=(48, 48), samples=64, bounces=1)
    aim = replace(base, translation=base.translation + torch.tensor([0.05, -0.03, 0.1]))
    target = engine.render(aim).rgb

    def loss(images):
        return blurred_squared_error(images, target.expand_as(images), 1.0)

    move = torch.zeros(1, 1, 3, requires_grad=True)
    loss(
        differentiable(engine, "manual")(replace(base, translation=base.translation + move))
    ).sum().backward()
    steps = 0.02 * torch.eye(3)[:, None]
    moved = replace(base[[0] * 6], translation=base.translation + torch.cat([steps, -steps]))
    ahead, behind = loss(engine.render(moved).rgb).chunk(2)
    error, cosine = agreement(move.grad.flatten(), (ahead - behind) / 0.04)
    assert cosine > 0.98
    assert error < 0.25


# --- Mistakes


def test_arguments_out_of_range(cube):
    for options, message in (
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"bounces": 0}, "bounces must be at least 1, got 0"),
        ({"light_angle_degrees": 91.0}, r"light_angle_degrees must lie in 0..90, got 91.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"size": (0, 5)}, r"at least 1 px each, got \(0, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            MitsubaEngine(cube, **options)
    engine = MitsubaEngine(cube)
    with pytest.raises(ValueError, match=r"square pixels only: in 128x96 pixels .* 0.750 times as wide"):
        engine.render(cube.sample(1), size=(96, 128))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.render(cube.sample(1))


def test_texture_times_changing_colours_cannot_be_said():
    box = painted_box()
    mixed = replace(box, colours=np.linspace(0, 1, box.colours.size, dtype=np.float32).reshape(-1, 3))
    with pytest.raises(
        EngineError, match="painted has a texture and vertex colours that change within a face"
    ):
        MitsubaEngine(one(mixed)[0])


def test_opened_by_name(cube):
    with open_engine("mitsuba", cube, size=(16, 24), samples=1, light_angle_degrees=0.5) as engine:
        assert isinstance(engine, Engine)
        assert (engine.name, engine.size) == ("mitsuba", (16, 24))


def test_recovers_a_pose_by_gradients(cube):
    """From 15 degrees off; the picture has another noise than those compared with it."""
    scene = cube.sample(1, generator=torch.Generator().manual_seed(5))
    photo = MitsubaEngine(cube, size=(32, 32), samples=64, seed=1).render(scene).rgb
    module = differentiable(MitsubaEngine(cube, size=(32, 32)), "manual")

    def turned(vector):
        turn = roma.rotvec_to_unitquat(torch.tensor([0.15, 0.2, -0.1]) + vector)
        return replace(scene, rotation=roma.quat_product(turn.expand_as(scene.rotation), scene.rotation))

    @torch.no_grad()
    def degrees_off():
        same = (turned(turn).rotation * scene.rotation).sum().abs()
        return float(torch.rad2deg(2 * same.clamp(max=1).acos()))

    turn = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([turn], lr=0.03)
    assert degrees_off() > 15
    for step in range(40):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 40)
        loss = blurred_squared_error(module(turned(turn)), photo, 2.0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert degrees_off() < 2
