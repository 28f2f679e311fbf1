"""Sampling: reproducible, within ranges, uniform, objects apart."""

from dataclasses import replace

import pytest
import torch

from render.software import SoftwareEngine
from scenes import Interval, World
from scenes.sampling import footprints
from scenes.scene import matrix

TABLETOP, CUBE = World.load("tabletop"), World.load("cube")


@pytest.fixture(scope="module")
def software_street():
    with SoftwareEngine(World.load("street"), size=(96, 192)) as engine:
        yield engine


def drawn(world, batch, seed=0):
    return world.sample(batch, generator=torch.Generator().manual_seed(seed))


def test_the_same_generator_gives_the_same_scenes():
    first, second, other = drawn(TABLETOP, 8), drawn(TABLETOP, 8), drawn(TABLETOP, 8, seed=1)
    assert torch.equal(first.asset, second.asset)
    assert torch.equal(TABLETOP.pack(first), TABLETOP.pack(second))
    assert not torch.equal(TABLETOP.pack(first), TABLETOP.pack(other))


def test_numbers_lie_in_their_ranges_and_fill_them():
    """Of 2000 uniform draws, the least and largest lie within 1 % of the range's ends."""
    theta = TABLETOP.pack(drawn(TABLETOP, 2000))
    active = TABLETOP.active(drawn(TABLETOP, 2000))
    low, high = TABLETOP.low, TABLETOP.high
    slack = 1e-5 * (high - low)
    assert ((theta >= low - slack) & (theta <= high + slack))[active].all()
    for p, name in enumerate(TABLETOP.names):
        if name.startswith(("light", "object0.scale", "object0.yaw")):
            used = theta[active[:, p], p]
            assert used.min() < low[p] + 0.01 * (high - low)[p]
            assert used.max() > high[p] - 0.01 * (high - low)[p]


def test_counts_and_assets_are_uniform():
    """2000 scenes: each of 5 counts 400 +- 5 sigma, each of 13 assets 462 +- 5 sigma."""
    asset = drawn(TABLETOP, 2000).asset
    count = (asset >= 0).sum(1)
    assert (torch.bincount(count, minlength=6)[1:] - 400).abs().max() < 5 * 18
    names = torch.bincount(asset[asset >= 0], minlength=len(TABLETOP.assets)).float()
    assert (names / names.mean() - 1).abs().max() < 0.25


def test_filled_slots_come_first():
    filled = drawn(TABLETOP, 100).asset >= 0
    assert (filled[:, :-1] | ~filled[:, 1:]).all()
    assert filled[:, 0].all()


def test_only_assets_of_free_colour_are_tinted():
    scene = drawn(TABLETOP, 200)
    free = torch.tensor([a.colour_free for a in TABLETOP.assets] + [False])[scene.asset]
    assert (scene.colour[~free] == 1).all()
    assert (scene.colour[free] < 0.91).all()


def test_objects_keep_apart():
    scene = drawn(TABLETOP, 300)
    radius = footprints(TABLETOP)[scene.asset.clamp(min=0)] * scene.scale
    apart = torch.cdist(scene.translation[..., [0, 2]], scene.translation[..., [0, 2]])
    touching = apart <= radius[:, :, None] + radius[:, None]
    filled = scene.asset >= 0
    pairs = filled[:, :, None] & filled[:, None] & ~torch.eye(5, dtype=torch.bool)
    assert pairs.any()
    assert not (touching & pairs).any()


def test_free_rotations_are_uniform():
    """Each axis' image averages to zero (5 sigma of 1000 draws: 0.09); the angle's mean is pi/2 + 2/pi."""
    turned = matrix(drawn(CUBE, 1000).rotation[:, 0])
    assert turned.mean(0).abs().max() < 0.09
    angle = torch.arccos(((turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert angle.mean().item() == pytest.approx(torch.pi / 2 + 2 / torch.pi, abs=0.1)


def test_known_numbers_are_exact():
    scene = drawn(CUBE, 3)
    assert (scene.translation == 0).all()
    assert (scene.scale == 1).all()
    assert (scene.asset == 0).all()


def test_five_large_vehicles_find_room_on_the_street():
    """The worst that can be drawn, 300 times; a street of 9 by 15 m was too small for it."""
    street = World.load("street")
    large = tuple(street.assets[street.index(name)] for name in ("pickup", "van"))
    scene = drawn(replace(street, assets=large, count=(5, 5)), 300)
    assert scene.asset.shape == (300, 5)
    assert (scene.asset >= 0).all()


def test_most_objects_of_the_street_are_seen(software_street):
    """At least three quarters of all objects show 40 pixels of 192 x 96: what can be found."""
    scene = drawn(software_street.world, 60)
    seen = software_street.render(scene).instance_id
    pixels = torch.stack([(seen == s).sum((1, 2)) for s in range(scene.slots)], 1)[scene.asset >= 0]
    assert (pixels >= 40).float().mean() > 0.75


def test_no_room_is_said_in_words():
    narrow = Interval(0.0, 0.01)
    crowded = replace(TABLETOP, count=(5, 5), position=(narrow, Interval(0, 0), narrow))
    with pytest.raises(ValueError, match=r"no room for 5 objects .* widen \[objects\] x and z"):
        drawn(crowded, 1)


def test_batch_must_be_positive():
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        TABLETOP.sample(0)
