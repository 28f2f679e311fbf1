"""The bundled assets: sizes, meshes, and symmetries that are neither claimed wrongly nor left out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial import KDTree

from scenes import Asset, World
from scenes.symmetry import Surface
from scenes.worldfile import turns_about_y

TABLETOP, STREET = World.load("tabletop"), World.load("street")
CUBE = World.load("cube").assets[0]
# "cone" is a name of both worlds.
ASSETS = {a.name: a for a in (*TABLETOP.assets, CUBE)} | {f"street's {a.name}": a for a in STREET.assets}
VEHICLES = ("hatchback", "saloon", "suv", "pickup", "van")


def look(asset: Asset):
    """Places on the surface and the colours there: the middle of each face and three places around it."""
    weights = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]]) / np.array([[3], [6], [6], [6]])
    places = np.einsum("kc,fcd->fkd", weights, asset.vertices[asset.faces]).reshape(-1, 3)
    colours = np.einsum("kc,fcd->fkd", weights, asset.colours[asset.faces]).reshape(-1, 3)
    if asset.texture is not None:
        uv = np.einsum("kc,fcd->fkd", weights, asset.uv[asset.faces]).reshape(-1, 2)
        height, width = asset.texture.shape[:2]
        texel = asset.texture[(uv[:, 1] % 1 * height).astype(int), (uv[:, 0] % 1 * width).astype(int)]
        colours = colours * texel / 255
    return places, colours


def looks_alike(asset: Asset, turn) -> bool:
    """True where the turned asset has the same surface and, facet by facet, the same colours."""
    places, colours = look(asset)
    if np.ptp(colours, axis=0).max() < 1e-6:
        return Surface(asset.vertices[asset.faces].astype(float)).distance(places @ turn.T) < 1e-4
    distance, index = KDTree(places).query(places @ turn.T)
    return distance.max() < 1e-5 and np.abs(colours[index] - colours).max() < 0.01


@pytest.mark.parametrize("name", ASSETS)
def test_meshes_are_sound(name):
    asset = ASSETS[name]
    a, b, c = asset.vertices[asset.faces].astype(float).transpose(1, 0, 2)
    assert asset.vertices.dtype == asset.normals.dtype == asset.colours.dtype == np.float32
    assert asset.faces.dtype == np.int32
    assert asset.closed
    assert (a * np.cross(b, c)).sum() > 0
    assert_allclose(np.linalg.norm(asset.normals, axis=1), 1, atol=1e-5)
    assert 6 <= len(asset.faces) <= 1500
    assert asset.colours.min() >= 0
    assert asset.colours.max() <= 1


@pytest.mark.parametrize("asset", TABLETOP.assets, ids=lambda a: a.name)
def test_things_on_the_table_have_real_sizes_and_stand(asset):
    size = np.ptp(asset.vertices, axis=0)
    assert 0.05 <= size.max() <= 0.26
    assert asset.vertices[:, 1].min() == 0


@pytest.mark.parametrize("asset", STREET.assets, ids=lambda a: a.name)
def test_things_on_the_street_have_real_sizes_and_stand(asset):
    width, height, length = np.ptp(asset.vertices, axis=0)
    assert asset.vertices[:, 1].min() == pytest.approx(0, abs=1e-6)
    if asset.name in VEHICLES:
        assert 1.7 < width < 2.1
        assert 1.4 < height < 2.3
        assert 3.9 < length < 5.4
        assert asset.centre[[0, 2]] == pytest.approx([0, 0], abs=0.05)
    else:
        assert 0.4 < max(width, length) < 2
        assert 0.9 < height < 2.4


def test_the_street_has_vehicles_of_free_paint_and_things_of_known_colour():
    """A tint leaves glass and tyres dark; vehicles look along +z, where the windscreen leans back."""
    assert [a.name for a in STREET.assets if a.colour_free] == list(VEHICLES)
    assert len(STREET.assets) >= 8
    for asset in STREET.assets[: len(VEHICLES)]:
        assert asset.symmetry.trivial
        area = np.linalg.norm(
            np.cross(*np.diff(asset.vertices[asset.faces], axis=1).transpose(1, 0, 2)), axis=1
        )
        of_paint = (asset.colours[asset.faces].min((1, 2)) == 1.0) @ area
        assert 0.3 < of_paint / area.sum() < 0.8
        glass = np.abs(asset.colours[:, 2] - 0.06) < 1e-6
        front = glass & (np.abs(asset.normals[:, 0]) < 0.2) & (asset.normals[:, 2] > 0.1)
        assert front.any()
        assert (asset.normals[front, 1] > 0.2).all()
        assert asset.vertices[front, 2].min() > 0
        assert np.ptp(asset.vertices[front, 1]) > 0.3


@pytest.mark.parametrize("name", ASSETS)
def test_symmetry_is_true(name):
    """Every turn that is claimed leaves the look as it is; what claims none has no common turn about y."""
    asset = ASSETS[name]
    assert_allclose(asset.symmetry.rotations[0], np.eye(3))
    for turn in asset.symmetry.rotations:
        assert looks_alike(asset, turn)
    if asset.symmetry.axis is not None:
        assert_allclose(asset.symmetry.axis, [0, 1, 0])
        # A lathe of 28 or 24 segments repeats after one of them.
        assert any(looks_alike(asset, turns_about_y(n)[1]) for n in (28, 24))
    else:
        turns = [t for n in (2, 3, 4, 5, 24, 28) for t in turns_about_y(n)[1:2]]
        claimed = asset.symmetry.rotations
        for turn in turns:
            known = any(np.abs(turn - c).max() < 1e-5 for c in claimed)
            assert looks_alike(asset, turn) == known


def test_tabletop_has_textured_plain_and_round_things():
    assets = TABLETOP.assets
    assert len(assets) >= 10
    assert sum(a.texture is not None for a in assets) >= 4
    assert sum(a.colour_free for a in assets) >= 4
    assert sum(a.symmetry.axis is not None for a in assets) >= 4
    assert not any(a.colour_free and a.texture is not None for a in assets)


def test_cube_has_six_far_colours():
    """No two faces are nearer than 0.4 in linear RGB."""
    colours = np.unique(CUBE.colours, axis=0)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert len(colours) == 6
    assert apart[~np.eye(6, dtype=bool)].min() > 0.4


def test_weld_joins_copies_of_one_position():
    assert len(CUBE.vertices) == 24
    assert len(np.unique(CUBE.weld)) == 8
    for point in np.unique(CUBE.weld):
        assert np.ptp(CUBE.vertices[point == CUBE.weld], axis=0).max() == 0


def test_centre_and_radius():
    assert_allclose(CUBE.centre, 0, atol=1e-7)
    assert CUBE.radius == pytest.approx(np.sqrt(3) / 2, rel=1e-6)


def test_symmetry_is_trivial_by_default():
    assert CUBE.symmetry.trivial
    assert not ASSETS["block"].symmetry.trivial
    assert not ASSETS["bowl"].symmetry.trivial
