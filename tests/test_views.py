"""Views: background and foreground of pictures made by hand, blobs, crops, poses that fill a blob's box."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_world import small_world
from torch.testing import assert_close

from inverse.candidates import Moves, Pinhole
from inverse.losses import Evidence
from inverse.views import Blob, Crop, background_of, blobs, foreground, poses, surface_points
from scenes import World
from scenes.world import Interval

ONE = Interval(1.0, 1.0)
GREY = torch.tensor([0.3, 0.35, 0.4])


def picture(*boxes, size=(40, 60), noise=0.0):
    """Orange boxes (left, top, right, bottom) before grey."""
    image = GREY.expand(*size, 3).clone()
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = torch.tensor([0.9, 0.5, 0.1])
    generator = torch.Generator().manual_seed(0)
    return (image + noise * torch.randn(image.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_background(noise):
    """The border's colour, also where an object hides a third of it."""
    image = picture((0, 0, 50, 20), noise=noise)
    assert_close(background_of(image), GREY, rtol=0, atol=0.002 + 0.1 * noise)


def test_no_background():
    """A border of many colours has none; nor has one of two halves."""
    ramp = torch.linspace(0, 1, 60).expand(40, 60)[..., None].repeat(1, 1, 3)
    assert background_of(ramp) is None
    assert background_of(torch.cat([torch.zeros(20, 60, 3), torch.ones(20, 60, 3)])) is None


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_foreground(noise):
    """What is not background, and no speck of noise."""
    mask = foreground(picture((10, 5, 30, 25), noise=noise), GREY)
    want = torch.zeros(40, 60)
    want[5:25, 10:30] = 1.0
    assert_close(mask, want)


def test_foreground_of_a_picture_full_of_it():
    """Four fifths of the picture are an object, with noise: it is the border that tells the noise."""
    mask = foreground(picture((4, 4, 56, 40), noise=0.01), GREY)
    want = torch.zeros(40, 60)
    want[4:, 4:56] = 1.0
    assert_close(mask, want)


def test_specks_are_left_out():
    image = picture((10, 5, 30, 25), (45, 30, 48, 33))
    assert foreground(image, GREY)[30:33, 45:48].sum() == 0
    assert foreground(image, GREY).sum() == 400


def test_blobs():
    """Boxes of the connected parts, largest first, corners joined; those at the border are cut."""
    mask = torch.zeros(20, 30)
    mask[2:5, 3:8] = 1.0
    mask[5:8, 8:12] = 1.0  # touches by a corner
    mask[12:20, 20:25] = 1.0
    first, second = blobs(mask)
    assert first == Blob(20, 12, 25, 20, 40.0, True)
    assert second == Blob(3, 2, 12, 8, 27.0, False)
    assert blobs(torch.zeros(5, 5)) == []


def test_crop_of_whole_pixels():
    """At its own resolution a crop is the picture's part; at half, its means; outside, the border repeats."""
    image = torch.rand(1, 12, 16, 3, generator=torch.Generator().manual_seed(0))
    crop = Crop(4.0, 2.0, 8.0)
    assert_close(crop.sample(image, 8), image[:, 2:10, 4:12], rtol=0, atol=1e-5)
    means = image[:, 2:10, 4:12].view(1, 4, 2, 4, 2, 3).mean((2, 4))
    assert_close(crop.sample(image, 4), means, rtol=0, atol=1e-5)
    outside = Crop(-4.0, 0.0, 8.0).sample(image, 8)
    assert_close(outside[:, :, 0], image[:, :8, 0], rtol=0, atol=1e-5)


def test_crop_around_a_blob():
    """A square with the blob in its middle, the camera's view of it where the picture is."""
    crop = Crop.around(Blob(10, 4, 30, 14, 100.0, False), margin=1.5)
    assert (crop.left, crop.top, crop.side) == (5.0, -6.0, 30.0)
    world = small_world(width=40, height=24)
    camera = Pinhole.of(world.empty().camera)
    assert crop.view(camera, 60) == camera.crop(5.0, -6.0, 30.0, 60)


def test_evidence_and_rest_of_a_crop():
    image, mask = picture((10, 5, 30, 25)), torch.zeros(40, 60)
    mask[5:25, 10:30] = 1.0
    crop = Crop(10.0, 5.0, 20.0)
    target = crop.target(Evidence(image, mask, mask_weight=0.5), 10)
    assert_close(target.mask, torch.ones(10, 10))
    assert_close(target.image, torch.tensor([0.9, 0.5, 0.1]).expand(10, 10, 3))
    assert target.mask_weight == 0.5
    assert crop.target(Evidence(image), 10).mask_weight == 0.0
    rest = crop.rest(image[None], 0.25 * mask[None], 10)
    assert_close(rest.inverse_depth, torch.full((1, 10, 10), 0.25))


def boxed(c, points, camera):
    """Boxes (left, top, right, bottom) [px] of the points of each candidate, [N, 4]."""
    linear, translation = camera.place(c)
    p = points @ linear.transpose(1, 2) + translation[:, None]
    x = camera.centre[0] - camera.focal[0] * p[..., 0] / p[..., 2]
    y = camera.centre[1] + camera.focal[1] * p[..., 1] / p[..., 2]
    return torch.stack([x.amin(1), y.amin(1), x.amax(1), y.amax(1)], -1)


@pytest.fixture(scope="module")
def floating():
    """Tabletop's things floating before a camera that looks down at them."""
    table = World.load("tabletop")
    assets = tuple(table.assets[table.index(n)] for n in ("mug", "ball", "book"))
    return replace(table, assets=assets, placement="free", scenery=())


@pytest.mark.parametrize(
    "box", [(20.0, 30.0, 70.0, 80.0), (90.0, 5.0, 120.0, 45.0)], ids=["square", "upright, beside"]
)
def test_poses_fill_the_box(floating, box):
    """Each proposed pose is seen in the blob's box: middle to 1 px, area to 5 %; its shape may differ."""
    moves, camera = Moves(floating), Pinhole.of(floating.empty().camera)
    points = [surface_points(a.vertices) for a in floating.assets]
    blob = Blob(*box, 1000.0, False)
    c = poses(moves, camera, points, blob, count=200)
    assert set(c.asset.tolist()) == {0, 1, 2}
    for asset, thing in enumerate(floating.assets):
        got = boxed(c[c.asset == asset], torch.from_numpy(thing.vertices), camera)
        width, height = got[:, 2] - got[:, 0], got[:, 3] - got[:, 1]
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert ((width * height / area).log().abs() < 0.05).all()
        middle = torch.tensor([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        assert ((got[:, :2] + got[:, 2:]) / 2 - middle).abs().max() < 1.0
        wrong = (width / height).log() - math.log((box[2] - box[0]) / (box[3] - box[1]))
        assert wrong.abs().max() < 0.37


def test_poses_have_the_worlds_size(floating):
    """Where objects are twice as large as their assets, they fill the box from twice as far."""
    twice = replace(floating, scale=Interval(2.0, 2.0))
    camera, points = (
        Pinhole.of(floating.empty().camera),
        [surface_points(a.vertices) for a in floating.assets],
    )
    blob = Blob(20.0, 30.0, 70.0, 80.0, 1000.0, False)
    one, two = (poses(Moves(w), camera, points, blob, count=50) for w in (replace(twice, scale=ONE), twice))
    assert_close(two.scale, 2.0 * one.scale)
    assert_close(two.translation - camera.eye, 2.0 * (one.translation - camera.eye), rtol=1e-3, atol=1e-3)


def test_poses_of_a_cut_blob_reach_beyond_the_picture(floating):
    """An object that the border cuts may be larger than what is seen of it."""
    moves, camera = Moves(floating), Pinhole.of(floating.empty().camera)
    points = [surface_points(a.vertices) for a in floating.assets]
    lefts = []
    for at_border in (False, True):
        c = poses(moves, camera, points, Blob(0, 40, 30, 80, 900.0, at_border), count=50)
        lefts.append(boxed(c[c.asset == 0], points[0], camera)[:, 0])
    whole, cut = lefts
    assert whole.abs().max() < 6
    assert cut.min() < -20
    assert len(cut) > 3 * len(whole)


def test_poses_turn_with_the_seed(floating):
    moves, camera = Moves(floating), Pinhole.of(floating.empty().camera)
    points = [surface_points(a.vertices) for a in floating.assets]
    blob = Blob(20.0, 30.0, 70.0, 80.0, 1000.0, False)
    zero, again, one = (poses(moves, camera, points, blob, count=20, seed=s).rotation for s in (0, 0, 1))
    assert torch.equal(zero, again)
    assert zero.shape != one.shape or not torch.equal(zero, one)


def test_surface_points_have_the_extent(floating):
    """A few of the vertices, and in any direction they reach nearly as far as all."""
    for asset in floating.assets:
        points = surface_points(asset.vertices)
        assert len(points) <= 250
        directions = torch.nn.functional.normalize(
            torch.randn(100, 3, generator=torch.Generator().manual_seed(0)), dim=-1
        )
        far = (torch.from_numpy(np.ascontiguousarray(asset.vertices)) @ directions.T).amax(0)
        assert ((points @ directions.T).amax(0) > far - 0.03 * asset.radius).all()
