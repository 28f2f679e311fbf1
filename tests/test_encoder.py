"""The encoder: what its numbers mean, what it looks for, and what it makes of them."""

import pytest
import torch

from inverse.encoder.figures import Figures
from inverse.encoder.labels import labels_of
from inverse.encoder.network import Encoder
from inverse.encoder.rays import Rays, handles
from inverse.encoder.sighting import Sightings, scene_of
from scenes import Scene, World, bundled_worlds


def sampled(world: World, count: int, seed: int = 0) -> Scene:
    return world.sample(count, generator=torch.Generator().manual_seed(seed))


def told_by_truth(encoder: Encoder, scene: Scene) -> Sightings:
    """What an encoder would see in the picture of one scene if it knew everything."""
    layout, parts = encoder.layout, encoder.layout.parts
    labels = labels_of(layout, scene, torch.ones_like(scene.asset, dtype=torch.bool), encoder.size)
    cell = labels.place.long()
    numbers = torch.zeros(len(cell), layout.channels)
    numbers[:, parts["offset"]] = labels.place - cell - 0.5
    numbers[:, parts["depth"]] = (labels.depth / layout.typical_depth).log()[:, None]
    where = (labels.batch, labels.slot)
    if layout.upright:
        pairs = layout.yaw_pairs(scene, *where, labels.rays, labels.pixels)
        numbers[:, parts["rotation"]] = pairs.flatten(1)
    else:
        seen = layout.view_from_object(scene, *where, labels.rays, labels.pixels)
        numbers[:, parts["rotation"]] = seen[..., :2].flatten(1)
    if layout.world.scale.free:
        numbers[:, parts["scale"]] = scene.scale[where].log()[:, None]
    if layout.channels > parts["rotation"].stop + layout.world.scale.free:
        numbers[:, parts["colour"]] = scene.colour[where]
    assets = torch.nn.functional.one_hot(labels.asset, len(layout.world.assets)).float()
    whole = layout.of_scene(layout.world.pack(scene))
    return Sightings(torch.ones(len(cell)), assets, numbers, cell, whole)


@pytest.mark.parametrize("name", bundled_worlds())
def test_the_truths_numbers_give_the_true_scene(name: str) -> None:
    world = World.load(name)
    encoder = Encoder(world)
    figures = Figures()
    for seed in range(20):
        scene = sampled(world, 1, seed)
        guess = scene_of(encoder, told_by_truth(encoder, scene))
        shown = torch.zeros(scene.slots)
        shown[labels_of(encoder.layout, scene, scene.asset >= 0, encoder.size).slot] = 1
        figures.add(world, scene, shown, guess, counted=1)
        assert (guess.light.direction * scene.light.direction).sum() > 1 - 1e-5
    summary = figures.summary()
    assert summary["F1"] == 1.0
    assert summary["asset"] == 1.0
    assert max(figures.position) < 1e-4
    assert max(figures.scale) < 1e-4
    assert max(figures.rotation) < 1e-2
    if figures.colour:
        assert max(figures.colour) < 1e-4


def test_pixels_and_directions_are_each_others_inverse() -> None:
    world = World.load("tabletop")
    scene = sampled(world, 8)
    rays = Rays.of(scene.camera, (96, 160))
    points = handles(world, scene)[:, 0]
    pixels, depth = rays.pixels(points)
    back = rays.eye + depth[:, None] * rays.directions(pixels)
    torch.testing.assert_close(back, points, atol=1e-5, rtol=1e-5)


def test_a_plane_seen_steeply_outweighs_an_unsure_depth() -> None:
    world = World.load("tabletop")
    scene = sampled(world, 16)
    rays, points = Rays.of(scene.camera, (128, 128)), handles(world, scene)[:, 0]
    pixels, depth = rays.pixels(points)
    height = float(points[0, 1])
    near = rays.on_plane(pixels, depth * 1.1, height, (1e-3, 0.1))
    torch.testing.assert_close(near, points, atol=1e-4, rtol=1e-4)
    far = rays.on_plane(pixels, depth * 1.1, height, (1e3, 1e-4))
    torch.testing.assert_close(rays.pixels(far)[1], depth * 1.1, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(far[:, 1], points[:, 1], atol=1e-4, rtol=1e-4)
