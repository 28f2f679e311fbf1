"""Sketches against the software engine's pictures of the same single object, and their scores by hand."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from inverse.candidates import Moves, Pinhole, candidates_of
from inverse.sketch import Lamp, Rest, Sketcher, Target
from render.software import SoftwareEngine

SIZE = 64
TAU = 0.12


@pytest.fixture(scope="module")
def sketcher(table):
    return Sketcher(table)


@pytest.fixture(scope="module")
def plain(table):
    """An engine that draws what a sketch shows: one sample per pixel, no shadow, no highlight, no table."""
    dull = tuple(replace(a, specular=0.0) for a in table.assets)
    world = replace(table, assets=dull, scenery=())
    with SoftwareEngine(world, size=(SIZE, SIZE), samples=1, shadows=False) as engine:
        yield engine


def alone(table, asset, seed=0):
    """A scene of one object in the middle of the table; its light too is drawn by `seed`."""
    scene = table.sample(generator=torch.Generator().manual_seed(seed)).without(1)
    kind, place = scene.asset.clone(), scene.translation.clone()
    kind[0, 0], place[0, 0] = asset, torch.tensor([0.05, 0.0, 0.1])
    tint = torch.tensor([0.3, 0.8, 0.1]) if table.assets[asset].colour_free else torch.ones(3)
    return replace(scene, asset=kind, translation=place, colour=tint.expand(1, 2, 3))


def drawn(sketcher, scene, window=SIZE, size=SIZE, **options):
    camera = Pinhole.of(scene.camera)
    c = candidates_of(scene, [0])
    view = camera.view(size, size)
    return sketcher.draw(c.asset, *camera.place(c), view, window=window, **options), view


def lamp(scene):
    light = scene.light
    direction = Pinhole.of(scene.camera).rotation @ light.direction[0]
    return Lamp(direction, float(light.intensity[0]), float(light.ambient[0]))


def power(encoded):
    """sRGB as the power of linear light in which sketches are shaded."""
    from render.shading import decode_srgb

    return decode_srgb(encoded) ** (1 / 2.2)


def empty_rest(count=1):
    return Rest(torch.full((count, SIZE, SIZE, 3), 0.6), torch.zeros(count, SIZE, SIZE))


def target_of(image, mask=None):
    return Target(
        image.contiguous(), torch.zeros(SIZE, SIZE) if mask is None else mask, float(mask is not None), TAU
    )


def painted(table, sketcher, asset, seed=0):
    """A sketch, its footprint with colours, and the picture that it makes over an empty rest."""
    scene = alone(table, asset, seed)
    sketch, view = drawn(sketcher, scene)
    prints = sketcher.footprints(sketch, view)
    colour = sketcher.shade(prints, lamp(scene))
    image = empty_rest().image[0].reshape(-1, 3).clone()
    image[prints.pixel.long()] = colour.float()
    return scene, sketch, prints, colour, image.view(SIZE, SIZE, 3)


@pytest.mark.parametrize("asset", range(4))
def test_sketch_is_the_engines_picture(table, sketcher, plain, asset):
    """Silhouette and depth agree but for ties on outlines, colours but for the last digits of float16.

    Colours are compared as the power of linear light that sketches use. Textures are made small, and the
    engine's mipmaps blur what is seen askew: the book's colours are as near as its picture is large.
    """
    scene, size = alone(table, asset), 192
    sketch, view = drawn(sketcher, scene, window=size, size=size)
    frame = plain.render(scene, size=(size, size))
    assert sketch.origin.tolist() == [[0, 0]]
    seen, there = sketch.inverse_depth[0] > 0, frame.instance_id[0] == 0
    assert there.sum() > 500
    assert (seen != there).sum() <= 0.002 * there.sum()
    both = seen & there
    assert_close(1 / sketch.inverse_depth[0][both], frame.depth[0][both], rtol=1e-4, atol=0)
    prints = sketcher.footprints(sketch, view)
    colour = torch.zeros(size * size, 3)
    colour[prints.pixel.long()] = sketcher.shade(prints, lamp(scene)).float()
    tinted = colour.view(size, size, 3) * scene.colour[0, 0] ** (1 / 2.2)
    error = (tinted - power(frame.rgb[0]))[both].abs().mean()
    assert error < (0.002 if table.assets[asset].texture is None else 0.04)


def test_windows(table, sketcher):
    """A window is a part of the whole picture; placed by itself it holds the object."""
    scene = alone(table, 0)
    whole, _ = drawn(sketcher, scene)
    for origin in (torch.tensor([[10, 25]], dtype=torch.int32), None):
        part, _ = drawn(sketcher, scene, window=24, origin=origin)
        x, y = part.origin[0].tolist()
        if origin is not None:
            assert (x, y) == (10, 25)
        else:
            assert (part.inverse_depth > 0).sum() == (whole.inverse_depth > 0).sum()
        cut = (slice(None), slice(y, y + 24), slice(x, x + 24))
        assert_close(part.inverse_depth, whole.inverse_depth[cut])


def test_coarse_meshes_keep_the_silhouette(table, sketcher):
    """Of the mug, whose mesh is the finest; a share of its outline may go."""
    scene = alone(table, 0)
    fine, coarse = (drawn(sketcher, scene, coarse=c)[0].inverse_depth > 0 for c in (False, True))
    assert (fine != coarse).sum() <= 0.1 * fine.sum()


def test_behind_the_camera_nothing_is_drawn(table, sketcher):
    scene = alone(table, 2)
    eye = scene.camera.translation
    behind = replace(scene, translation=(2.0 * eye[:, None]).expand(1, 2, 3))
    assert not (drawn(sketcher, behind)[0].inverse_depth > 0).any()


@pytest.mark.parametrize("asset", range(4))
def test_the_truth_scores_best(table, sketcher, asset):
    """Shifted, turned or resized by a few pixels, an object explains its own picture less well."""
    scene, _, _, _, image = painted(table, sketcher, asset, seed=asset)
    moves, camera = Moves(table), Pinhole.of(scene.camera)
    truth, view = candidates_of(scene, [0]), camera.view(SIZE, SIZE)
    steps = moves.steps(truth, camera, view, 4.0)[0]
    away = torch.cat([torch.zeros(1, moves.count), steps.diag(), -steps.diag()])
    c = moves.apply(truth.repeat(len(away)), away)
    sketch = sketcher.draw(c.asset, *camera.place(c), view, window=SIZE)
    prints = sketcher.footprints(sketch, view)
    score = sketcher.score(prints, sketcher.shade(prints, lamp(scene)), None, target_of(image), empty_rest())
    moved = torch.cat([torch.tensor([False]), steps > 0, steps > 0])
    assert score[0] < -20
    assert score[moved].min() > score[0] + 3


def test_score_by_hand(table, sketcher):
    """The truth mends every pixel that the rest has wrong; what the rest hides of it changes nothing."""
    _, _, prints, colour, image = painted(table, sketcher, 3)
    rest = empty_rest()
    square = (image - rest.image[0]).square().sum(-1)
    gain = square / (square + TAU**2)
    score = sketcher.score(prints, colour, None, target_of(image), rest)
    assert float(score[0]) == pytest.approx(-float(gain.sum()), rel=1e-3)
    hidden = rest.inverse_depth.clone()
    hidden[0, :, : SIZE // 2] = 10.0  # something nearer covers the left half
    left = sketcher.score(prints, colour, None, target_of(image), Rest(rest.image, hidden))
    assert float(left[0]) == pytest.approx(-float(gain[:, SIZE // 2 :].sum()), rel=1e-3)


def test_score_counts_the_mask(table, sketcher):
    """Covering what the mask has is worth a pixel each; covering what it has not costs one."""
    _, sketch, prints, colour, image = painted(table, sketcher, 3)
    covered = (sketch.inverse_depth[0] > 0).float()
    plain = float(sketcher.score(prints, colour, None, target_of(image), empty_rest())[0])
    right = float(sketcher.score(prints, colour, None, target_of(image, covered), empty_rest())[0])
    wrong = float(sketcher.score(prints, colour, None, target_of(image, 0 * covered), empty_rest())[0])
    assert right == pytest.approx(plain - float(covered.sum()), rel=1e-4)
    assert wrong == pytest.approx(plain + float(covered.sum()), rel=1e-4)


@pytest.mark.parametrize("tint", [[0.3, 0.8, 0.1], [0.06, 0.5, 0.9]])
def test_tint_in_closed_form(table, sketcher, tint):
    """A tint of the mug is found although an eighth of its pixels are of another thing; the book has none."""
    encoded = torch.tensor(tint) ** (1 / 2.2)
    for asset, want in ((0, encoded), (3, torch.ones(3))):
        scene, sketch, _, _, image = painted(table, sketcher, asset)
        covered = (sketch.inverse_depth[0] > 0)[..., None]
        image = torch.where(covered, image * want, image)
        columns = covered[..., 0].any(0).nonzero()[:, 0]
        image[:, columns[: len(columns) // 8]] = torch.tensor([0.9, 0.1, 0.9])
        zero = torch.zeros(1, dtype=torch.int32)
        _, tints = sketcher.residual(sketch, zero, lamp(scene), target_of(image), empty_rest(), block=1)
        assert_close(tints[0], want, rtol=0, atol=0.02)


def test_score_finds_the_tint(table, sketcher):
    """From the pixels where the object is seen: what hides three quarters of the mug is of another colour."""
    _, sketch, prints, colour, image = painted(table, sketcher, 0)
    covered = (sketch.inverse_depth[0] > 0)[..., None]
    image = torch.where(covered, image * torch.tensor([0.9, 0.4, 0.6]), image)
    left = int(covered[..., 0].nonzero()[:, 1].float().quantile(0.75))
    image[:, :left] = torch.tensor([0.1, 0.9, 0.1])
    rest = empty_rest()
    rest.inverse_depth[0, :, :left] = 10.0
    square = (image - rest.image[0]).square().sum(-1)
    gain = (square / (square + TAU**2))[:, left:].sum()
    score = sketcher.score(prints, colour, None, target_of(image), rest)
    assert float(score[0]) == pytest.approx(-float(gain), rel=1e-3)


@pytest.mark.parametrize("block", [1, 2])
def test_residual_of_the_truth(table, sketcher, block):
    """Nothing on the object, and beside it what the rest has wrong; the mask's channel likewise."""
    scene, sketch, _, _, image = painted(table, sketcher, 3)
    covered = (sketch.inverse_depth[0] > 0).float()
    image[0, 0] = 0.2
    zero = torch.zeros(1, dtype=torch.int32)
    out, _ = sketcher.residual(
        sketch, zero, lamp(scene), target_of(image, covered), empty_rest(), block=block
    )
    assert_close(out[0, 0, 0], torch.tensor([0.4, 0.4, 0.4, 0.0]) / block**2, rtol=0, atol=1e-5)
    out[0, 0, 0] = 0.0
    assert out.abs().max() < 2e-3  # float16


def test_residual_is_drawn_minus_target(table, sketcher):
    """With its sign, for each sketch over the rest it names."""
    scene, sketch, _, _, image = painted(table, sketcher, 3)
    inside = sketch.inverse_depth[0] > 0
    rest = Rest(torch.stack([torch.full((SIZE, SIZE, 3), g) for g in (0.6, 0.1)]), torch.zeros(2, SIZE, SIZE))
    one = torch.ones(1, dtype=torch.int32)
    out, _ = sketcher.residual(
        sketch, one, lamp(scene), target_of(image - 0.05, 0 * inside.float()), rest, block=1
    )
    assert_close(out[0, inside][:, :3], torch.full((int(inside.sum()), 3), 0.05), rtol=0, atol=2e-3)
    assert_close(out[0, inside][:, 3], torch.ones(int(inside.sum())))
    assert_close(out[0, ~inside][:, :3], torch.full((int((~inside).sum()), 3), 0.1 - 0.55))


def test_chosen_and_threads_change_no_bit(table, sketcher):
    """Many sketches at once are drawn and scored in threads; each is what it is alone."""
    scene, _, _, _, image = painted(table, sketcher, 0)
    camera = Pinhole.of(scene.camera)
    many, view = candidates_of(scene, [0]).repeat(100), camera.view(SIZE, SIZE)
    generator = torch.Generator().manual_seed(0)
    many = replace(many, translation=many.translation + 0.05 * torch.randn(100, 3, generator=generator))
    linear, translation = camera.place(many)
    sketch = sketcher.draw(many.asset, linear, translation, view, window=32)
    prints = sketcher.footprints(sketch, view)
    score = sketcher.score(prints, sketcher.shade(prints, lamp(scene)), None, target_of(image), empty_rest())
    for k in (0, 57, 99):
        alone = sketcher.draw(many.asset[[k]], linear[[k]], translation[[k]], view, window=32)
        assert torch.equal(alone.inverse_depth[0], sketch.inverse_depth[k])
    chosen = torch.tensor([57, 3, 99])
    colour = sketcher.shade(prints, lamp(scene))
    assert torch.equal(sketcher.score(prints, colour, chosen, target_of(image), empty_rest()), score[chosen])
