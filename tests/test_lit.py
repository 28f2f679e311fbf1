"""Lit colours of corners: the shading model at the corners, with its gradients."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import torch
from supersampled import PAINTED, problem
from torch.testing import assert_close

from render.attributes import PerCorner
from render.geometry import assemble
from render.lit import lit_colours
from render.raster import Raster
from render.shading import encode_srgb, shade_reference
from scenes.scene import stack

SIZE = (64, 64)


def double(value):
    """All floats of a scene in double precision."""
    if is_dataclass(value):
        return replace(value, **{f.name: double(getattr(value, f.name)) for f in fields(value)})
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value


def at_corners(geometry, scene, world):
    """What `shade_reference` sees at the corners of all faces, [F, 3, 3]."""
    of = geometry.triangles.image
    face = torch.arange(len(of))[None, :, None].expand(len(scene), -1, 3)
    face = torch.where(of[None, :, None] == torch.arange(len(scene))[:, None, None], face, -1).int()
    corner = torch.eye(3, dtype=torch.float64).expand(*face.shape, 3)
    linear = shade_reference(geometry, Raster(face, torch.zeros(face.shape), corner), scene, world)
    return encode_srgb(linear[of.long(), torch.arange(len(of))].clamp(0.0, 1.0))


def glossy_pair():
    """Two glossy objects, tinted, and the same with one of them alone and nearer."""
    p = problem("lit", 4)
    scene = replace(p.base, colour=torch.tensor([[[0.9, 0.5, 0.7], [0.4, 0.8, 1.0]]]))
    alone = replace(scene.without(1), translation=scene.translation + torch.tensor([0.0, 0.1, 0.5]))
    return p.world, double(stack([scene, alone]))


def values(colours, geometry):
    """[F, 3, 3], whether they are per vertex or per corner."""
    if isinstance(colours, PerCorner):
        return colours.values
    return colours[geometry.triangles.faces.long()]


def leaves(scene):
    """The scene with its light, poses, tints and camera as leaves, and these."""
    light, camera = scene.light, scene.camera
    found = [scene.rotation, scene.translation, scene.scale, scene.colour, camera.translation]
    found += [light.direction, light.intensity, light.ambient]
    turn, place, scale, colour, eye, direction, intensity, ambient = (
        t.detach().clone().requires_grad_() for t in found
    )
    light = replace(light, direction=direction, intensity=intensity, ambient=ambient)
    camera = replace(camera, translation=eye)
    scene = replace(
        scene, rotation=turn, translation=place, scale=scale, colour=colour, light=light, camera=camera
    )
    return scene, [turn, place, scale, colour, eye, direction, intensity, ambient]


def test_equals_the_model_at_the_corners():
    """Values and gradients, in double precision; highlights are not clamped away here."""
    world, scenes = glossy_pair()
    scene, inputs = leaves(scenes)
    geometry = assemble(world, scene, SIZE)
    colours = lit_colours(geometry, scene, world)
    assert not isinstance(colours, PerCorner)
    expected = at_corners(geometry, scene, world)
    assert_close(values(colours, geometry), expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = torch.autograd.grad((values(colours, geometry) * weight).sum(), inputs, retain_graph=True)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        assert other.abs().max() > 0
        assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_backs_of_open_meshes_are_lit_from_their_own_side():
    """The far half of an opened ball is seen from behind; a closed one's backs are left as they are."""
    world, scene = glossy_pair()
    opened = replace(world, assets=tuple(replace(a, closed=False) for a in world.assets))
    geometry = assemble(opened, scene, SIZE)
    colours = lit_colours(geometry, scene, opened)
    assert isinstance(colours, PerCorner)
    assert_close(colours.values, at_corners(geometry, scene, opened))
    closed = lit_colours(assemble(world, scene, SIZE), scene, world)
    assert (colours.values - values(closed, geometry)).abs().amax((1, 2)).gt(0.01).float().mean() > 0.2


def painted(texture):
    p = problem("textured", 2)
    world = replace(
        p.world, assets=(*p.world.assets[:PAINTED], replace(p.world.assets[PAINTED], texture=texture))
    )
    scene = double(p.base)
    geometry = assemble(world, scene, SIZE)
    return geometry, scene, world, lit_colours(geometry, scene, world)


def test_a_texture_of_one_colour_is_exact():
    geometry, scene, world, colours = painted(np.full((16, 16, 3), (200, 90, 30), np.uint8))
    assert_close(colours.values, at_corners(geometry, scene, world), rtol=0, atol=1e-6)


def test_a_fine_pattern_is_its_mean():
    """Texels black or white by chance: grey at all corners, about as bright as their mean light."""
    noise = np.random.default_rng(0).integers(0, 2, (64, 64, 1)).repeat(3, 2).astype(np.uint8) * 255
    half = int(round(float(encode_srgb(torch.tensor(0.5))) * 255))
    even = painted(np.full((64, 64, 3), half, np.uint8))[-1]
    assert_close(painted(noise)[-1].values, even.values, rtol=0, atol=0.05)


def test_a_gradation_runs_across_the_face():
    """Dark to bright: corners at the bright end are brighter, by more than half of the difference."""
    ramp = np.broadcast_to(np.linspace(0, 255, 32)[None, :, None], (32, 32, 3)).astype(np.uint8)
    geometry, _, _, colours = painted(ramp)
    u = geometry.uv[geometry.triangles.faces.long()][..., 0]
    spread = u.amax(1) - u.amin(1) > 0.5
    bright = torch.where(u > 0.5, 1, 0)[..., None]
    light = colours.values[spread].amax(-1)
    high = (light * bright[spread][..., 0]).sum() / bright[spread].sum()
    low = (light * (1 - bright[spread][..., 0])).sum() / (1 - bright[spread]).sum()
    assert high > 1.3 * low


def test_no_faces():
    world, scene = glossy_pair()
    empty = replace(scene, asset=torch.full_like(scene.asset, -1))
    assert lit_colours(assemble(world, empty, SIZE), empty, world).shape == (0, 3)
