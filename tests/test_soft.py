"""Soft rasterization: by hand, gradcheck, against plain PyTorch, and PyTorch3D's figures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from render.attributes import PerCorner, Texture
from render.soft import operator, soft_rasterize, soft_rasterize_reference
from render.triangles import Triangles

SIZE = (7, 10)  # (height, width) [px]
DATA = Path(__file__).parent / "data" / "pytorch3d_soft.npz"


@pytest.fixture
def exact(monkeypatch):
    """Leave nothing out: no end of a face, no early out."""
    monkeypatch.setattr(operator, "_CUT", 60.0)
    monkeypatch.setattr(operator, "_OPAQUE", 700.0)


@pytest.fixture
def threads(monkeypatch):
    """Set the number of host threads, however small the work."""
    return lambda count: monkeypatch.setattr(operator, "thread_count", lambda device, numbers: count)


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Run the kernels meant for a GPU, faces in chunks of rows."""

    def switch():
        monkeypatch.setattr(operator, "_sequential", lambda device: False)
        monkeypatch.setattr(operator, "_ITEMS", 2**12)

    return switch


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random(seed, *shape, dtype=torch.float64):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def triangles_at(seed, *batch, faces=4, size=SIZE, dtype=torch.float64):
    """Vertices of random faces, some of them partly out of the picture."""
    height, width = size
    scale = torch.tensor([width + 2.0, height + 2.0, 0.2], dtype=dtype)
    return random(seed, *batch, 3 * faces, 3, dtype=dtype) * scale + torch.tensor([-1, -1, 0.4], dtype=dtype)


def separate(faces):
    return torch.arange(3 * faces, dtype=torch.int32).view(-1, 3)


def ragged():
    """Three pictures of one packed scene: two faces, none, three; one of them culled if seen from behind."""
    image = torch.tensor([0, 0, 2, 2, 2], dtype=torch.int32)
    culled = torch.tensor([False, True, False, True, False])
    faces = separate(5)
    faces[1, 0], faces[4, 2] = 1, 7  # vertices that faces share
    return Triangles(faces, image=image, image_count=3, culled=culled)


def problems():
    """Every kind of input: what draws it, and its tensors, all of which carry gradients."""

    def drawn(faces, attributes_of, size=SIZE, sigma=1.3):
        def draw(function, vertices, background, *tensors):
            return function(
                vertices,
                faces,
                attributes_of(*tensors),
                image_size=size,
                sigma=sigma,
                gamma=0.05,
                background=background,
            )

        return draw

    four = separate(4)
    shared = torch.tensor([[0, 1, 2], [2, 1, 3], [4, 0, 5], [2, 3, 11]], dtype=torch.int32)
    yield (
        "vertex",
        drawn(shared, lambda a: a),
        [triangles_at(0, 2), random(1, 2, 3), random(2, 12, 3)],
    )
    yield (
        "vertex per copy",
        drawn(four, lambda a: a),
        [triangles_at(3, 2), random(4, 3), random(5, 2, 12, 3)],
    )
    yield "corner", drawn(four, PerCorner), [triangles_at(6, 2), random(7, 2, 3), random(8, 4, 3, 3)]
    yield (
        "corner per copy",
        drawn(shared, PerCorner),
        [triangles_at(9, 2), random(10, 3), random(11, 2, 4, 3, 3)],
    )
    yield (
        "ragged",
        drawn(ragged(), lambda a: a),
        [triangles_at(12, faces=5), random(13, 3, 3), random(14, 15, 3)],
    )
    yield (
        "ragged copies",
        drawn(ragged(), PerCorner),
        [triangles_at(15, 2, faces=5), random(16, 6, 3), random(17, 5, 3, 3)],
    )
    yield (
        "texture",
        drawn(four, lambda uv, texels: Texture(texels, uv)),
        [triangles_at(18, 2), random(19, 2, 3), random(20, 12, 2) * 2 - 0.5, random(21, 3, 4, 3)],
    )
    yield (
        "texture per copy",
        drawn(shared, lambda uv, texels: Texture(texels, PerCorner(uv))),
        [triangles_at(22, 2), random(23, 3), random(24, 2, 4, 3, 2) * 2 - 0.5, random(25, 2, 2, 3, 3)],
    )


PROBLEMS = {name: (draw, tensors) for name, draw, tensors in problems()}


def results(function, problem, dtype=torch.float64):
    """Colour, alpha and all gradients under random cotangents."""
    draw, tensors = problem
    inputs = [t.to(dtype, copy=True).requires_grad_() for t in tensors]
    outputs = draw(function, *inputs)
    cotangents = [torch.randn(o.shape, generator=generator(99), dtype=torch.float64) for o in outputs]
    grads = torch.autograd.grad(outputs, inputs, [c.to(dtype) for c in cotangents])
    return [o.detach() for o in outputs], grads


def big(x, y, depth=0.5):
    """A triangle with its right angle at (x, y), 1e4 px long to the right and down."""
    return torch.tensor([[x, y, depth], [x + 1e4, y, depth], [x, y + 1e4, depth]], dtype=torch.float64)


def test_coverage_by_hand():
    """Distances to an edge from inside and outside, and to a corner."""
    white, sigma = torch.ones(3, 3, dtype=torch.float64), 1.5
    colour, alpha = soft_rasterize(big(3.0, 2.0), separate(1), white, image_size=(6, 8), sigma=sigma)
    for row, column, squared in [
        (4, 4, 1.5**2),  # the left edge is 1.5 px away, the upper 2.5 px
        (2, 6, 0.5**2),
        (3, 1, -(1.5**2)),
        (0, 1, -(1.5**2 + 1.5**2)),  # the corner
        (0, 5, -(1.5**2)),
    ]:
        want = 1 / (1 + math.exp(-squared / sigma**2))
        assert alpha[0, row, column].item() == pytest.approx(want, abs=1e-12), (row, column)
    assert_close(colour, alpha[..., None].expand(-1, -1, -1, 3))


def test_pixels_beyond_three_sigma_are_not_touched():
    white = torch.ones(3, 3, dtype=torch.float64)
    # 3.033 sigma is where coverage falls to 1e-4
    _, alpha = soft_rasterize(big(5.52, -50.0), separate(1), white, image_size=(2, 8), sigma=1.0)
    assert (alpha[0, 0, :2] == 0).all()
    assert alpha[0, 0, 2].item() == pytest.approx(1 / (1 + math.exp(3.02**2)))


def test_depth_by_hand():
    """Two faces that both cover everything mix by exp(difference of inverse depth / gamma)."""
    vertices = torch.cat([big(-500.0, -500.0, 0.5), big(-500.0, -500.0, 0.52)])
    colours = torch.tensor([[1.0, 0, 0]] * 3 + [[0.0, 1, 0]] * 3, dtype=torch.float64)
    colour, alpha = soft_rasterize(vertices, separate(2), colours, image_size=(1, 1), gamma=0.01)
    near = math.exp(2) / (1 + math.exp(2))
    assert_close(colour[0, 0, 0], torch.tensor([1 - near, near, 0.0], dtype=torch.float64))
    assert alpha.item() == 1


def test_interpolation_is_perspective_correct():
    """Half-way on the screen between depths 1 and 3 is a quarter of the way on the surface."""
    vertices = torch.tensor([[0.5, -50, 1], [100.5, -50, 1 / 3], [0.5, 90, 1]], dtype=torch.float64)
    values = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.float64)
    colour, _ = soft_rasterize(vertices, separate(1), values, image_size=(1, 51), sigma=0.1)
    weight = 50 / 100 * (1 / 3) / (50 / 100 * (1 / 3) + 50 / 100)
    assert_close(colour[0, 0, 50], torch.full((3,), weight, dtype=torch.float64))


def test_texture_by_hand():
    """Texel centres show their texels; half-way between two is their mean; the texture repeats."""
    texels = random(0, 2, 4, 3)
    uv = torch.tensor([[0.0, 0], [1e4 / 8, 0], [0, 1e4 / 4]], dtype=torch.float64)  # 2 px per texel
    colour, alpha = soft_rasterize(
        big(-1.0, 0.0) - torch.tensor([0, 4 * 25, 0]), separate(1), Texture(texels, uv), image_size=(4, 7)
    )
    assert alpha[0, 1, 4] > 0.99
    moved = uv + torch.tensor([-3.0, 5.0])
    assert_close(
        soft_rasterize(
            big(-1.0, 0.0) - torch.tensor([0, 100, 0]), separate(1), Texture(texels, moved), image_size=(4, 7)
        )[0],
        colour,
    )
    # column 3 is 4.5 px from the left: u = 4.5/8, texel coordinate 4.5/2 - 0.5 = 1.75
    row = (
        (0.25 * texels[0, 1] + 0.75 * texels[0, 2]) * 0.75,
        (0.25 * texels[1, 1] + 0.75 * texels[1, 2]) * 0.25,
    )
    # row 1 is 1.5 px + 100 px from the top: texel row 1.5/2 - 0.5 = 0.25
    assert_close(colour[0, 1, 3], (row[0] + row[1]) * alpha[0, 1, 3])


def test_the_background_is_laid_behind_by_alpha():
    vertices, values, behind = triangles_at(0, 2), random(1, 12, 3), random(2, 2, 3)
    options = {"image_size": SIZE, "sigma": 1.3}
    bare, alpha = soft_rasterize(vertices, separate(4), values, **options)
    over, _ = soft_rasterize(vertices, separate(4), values, background=behind, **options)
    assert_close(over, bare + (1 - alpha[..., None]) * behind[:, None, None])


def test_back_faces_are_culled():
    """Clockwise on the screen, y down, is a back; the front is drawn as without culling."""
    back, front = separate(1), separate(1).flip(1)
    options = {"image_size": (6, 8), "sigma": 1.0}
    vertices, values = big(3.0, 2.0), random(0, 3, 3)
    for faces, visible in ((back, False), (front, True)):
        closed = Triangles(faces, culled=torch.tensor([True]))
        want = soft_rasterize(vertices, faces, values, **options)
        got = soft_rasterize(vertices, closed, values, **options)
        assert all(torch.equal(g, w * visible) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradcheck(name, exact):
    """Of sums with random weights: one backward pass, and differences in every number of every input."""
    draw, tensors = PROBLEMS[name]

    def weighed(*inputs):
        outputs = draw(soft_rasterize, *inputs)
        return sum((o * random(seed, *o.shape).sub(0.5)).sum() for seed, o in enumerate(outputs))

    inputs = [t.clone().requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(weighed, inputs, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("gpu", [False, True])
def test_matches_reference(name, gpu, exact, as_on_gpu):
    if gpu:
        as_on_gpu()
    want, got = (results(f, PROBLEMS[name]) for f in (soft_rasterize_reference, soft_rasterize))
    assert all(g.abs().max() > 0.1 for g in want[1])
    assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_ends_of_faces_leave_out_little():
    """60 faces of coverage 1e-4 at their ends, where depth differs by 4 gamma at most."""
    want, got = (results(f, many(gamma=0.05)) for f in (soft_rasterize_reference, soft_rasterize))
    assert (want[0][0] - got[0][0]).abs().max() < 0.02
    assert (want[0][1] - got[0][1]).abs().max() < 2e-3
    for w, g in zip(want[1], got[1], strict=True):
        assert (w - g).norm() < 0.01 * w.norm()


@pytest.mark.parametrize("gpu", [False, True])
def test_early_outs_leave_out_nothing_visible(gpu, as_on_gpu, monkeypatch):
    """Depth differs by 40 gamma: most faces are hidden."""
    if gpu:
        as_on_gpu()
    got = results(soft_rasterize, many())
    monkeypatch.setattr(operator, "_OPAQUE", 700.0)
    want = results(soft_rasterize, many())
    assert_close(got[0], want[0], rtol=0, atol=1e-6)
    for w, g in zip(want[1], got[1], strict=True):
        assert (w - g).norm() < 1e-5 * w.norm()
    assert not torch.equal(want[1][0], got[1][0])


def many(copies=2, size=(20, 24), gamma=0.005):
    vertices = triangles_at(0, copies, faces=60, size=size)

    def draw(function, vertices, background, values):
        return function(
            vertices, separate(60), values, image_size=size, sigma=0.8, gamma=gamma, background=background
        )

    return draw, [vertices, random(1, copies, 3), random(2, 180, 3)]


def test_both_paths_are_equal(as_on_gpu):
    cpu = results(soft_rasterize, many())
    as_on_gpu()
    gpu = results(soft_rasterize, many())
    assert_close(gpu, cpu, rtol=1e-6, atol=1e-6)  # left out: weights of 1e-7


def test_float32_close_to_float64():
    single, double = (results(soft_rasterize, many(), d) for d in (torch.float32, torch.float64))
    for s, d in zip(single[0], double[0], strict=True):
        assert (s - d).abs().max() < 1e-5
    for s, d in zip(single[1], double[1], strict=True):
        assert (s - d).norm() < 2e-4 * d.norm()


@pytest.mark.parametrize("name", ["many", "one picture", "ragged copies", "texture", "corner per copy"])
def test_same_bits_every_run(name, threads):
    """Shared by copies, pictures or rows: pictures as with one thread, gradients as in every run."""
    problem = {"many": many(), "one picture": many(1)}.get(name) or PROBLEMS[name]
    alone = results(soft_rasterize, problem)
    for count in (2, 3):
        threads(count)
        runs = [results(soft_rasterize, problem) for _ in range(8)]
        for pictures, grads in runs:
            assert all(map(torch.equal, pictures, alone[0]))
            assert all(map(torch.equal, grads, runs[0][1]))
            assert_close(grads, alone[1], rtol=1e-10, atol=1e-10)


def test_pictures_shared_by_threads(threads):
    """Enough pictures in one packed scene, and faces that several pictures' threads add to."""
    image = torch.arange(9, dtype=torch.int32).repeat_interleave(2)
    triangles = Triangles(separate(3).repeat(6, 1), image=image, image_count=9)

    def draw(function, vertices, values):
        return function(vertices, triangles, values, image_size=SIZE, sigma=1.3, gamma=0.05)

    problem = draw, [triangles_at(0, faces=3), random(1, 9, 3)]
    alone = results(soft_rasterize, problem)
    threads(2)
    for _ in range(8):
        pictures, grads = results(soft_rasterize, problem)
        assert all(map(torch.equal, pictures, alone[0]))
        assert_close(grads, alone[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e7, -1e7, 1e9, 1e12, 3e38, 0.0, -1.0, 1e-38]
)
@pytest.mark.parametrize("gpu", [False, True])
def test_bad_vertices_give_finite_results(value, gpu, as_on_gpu):
    if gpu:
        as_on_gpu()
    for axis in range(3):
        draw, tensors = many()
        tensors[0][:, 2::5, axis] = value
        pictures, grads = results(soft_rasterize, (draw, tensors), torch.float32)
        assert all(t.isfinite().all() for t in (*pictures, *grads))
        assert pictures[1].max() > 0.5
        if not abs(value) <= 1e7:
            assert (grads[0][:, 2::5] == 0).all()


def test_bad_texture_coordinates_do_not_crash():
    for value in (math.nan, math.inf, -math.inf, 1e12, -1e-18, 3e38):
        uv = torch.full((3, 2), value, dtype=torch.float64)
        texture = Texture(random(0, 3, 4, 3), uv)
        colour, _ = soft_rasterize(big(3.0, 2.0), separate(1), texture, image_size=(6, 8))
        assert colour.isfinite().all()


@pytest.mark.parametrize("gpu", [False, True])
def test_no_area_and_slivers_give_finite_results(gpu, as_on_gpu):
    if gpu:
        as_on_gpu()
    points = [[3, 3, 0.5], [9, 9, 0.5], [6, 6, 0.5], [3, 3 + 1e-6, 0.5], [3, 3, 0.5], [9, 9 + 1e-4, 0.1]]
    points += [[1e9, 3, 0.5], [5e8, 3 + 1e-9, 0.5], [-1e9, 40, 0.5], [3.00001, 3, 1e8], [3, 3.00001, 1e-8]]
    vertices = torch.tensor(points, dtype=torch.float32, requires_grad=True)
    faces = torch.combinations(torch.arange(len(points)), 3).int()
    values = random(0, len(points), 3, dtype=torch.float32).requires_grad_()
    for sigma, gamma in ((1.0, 0.01), (1e-30, 1e-30), (1e30, 1e30), (1e-30, 1e30), (1e30, 1e-30)):
        colour, alpha = soft_rasterize(
            vertices, faces.contiguous(), values, image_size=(12, 16), sigma=sigma, gamma=gamma
        )
        grads = torch.autograd.grad(
            (colour.sum(), alpha.square().sum()), (vertices, values), [torch.ones(())] * 2
        )
        assert all(t.isfinite().all() for t in (colour, alpha, *grads)), (sigma, gamma)


@pytest.mark.parametrize(("sigma", "gamma"), [(1e-12, 1e-12), (1e12, 1e12), (1e-3, 10.0), (50.0, 1e-7)])
def test_saturated_values_are_finite(sigma, gamma):
    _, tensors = many()

    def draw(function, vertices, background, values):
        return function(
            vertices,
            separate(60),
            values,
            image_size=(20, 24),
            sigma=sigma,
            gamma=gamma,
            background=background,
        )

    pictures, grads = results(soft_rasterize, (draw, tensors), torch.float32)
    assert all(t.isfinite().all() for t in (*pictures, *grads))
    assert pictures[1].min() >= 0
    assert pictures[1].max() <= 1


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize(("copies", "pictures", "faces"), [(0, 1, 1), (1, 0, 0), (1, 1, 0), (2, 3, 0)])
def test_empty_scenes_show_the_background(copies, pictures, faces, gpu, as_on_gpu):
    if gpu:
        as_on_gpu()
    vertices = torch.zeros(copies, 3, 3, requires_grad=True)
    values = torch.zeros(3, 3, requires_grad=True)
    background = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    colour, alpha = soft_rasterize(
        vertices,
        Triangles(separate(faces), image_count=pictures),
        values,
        image_size=(1, 2),
        background=background,
    )
    assert colour.shape == (copies * pictures, 1, 2, 3)
    assert torch.equal(colour, background.expand_as(colour))
    assert (alpha == 0).all()
    grads = torch.autograd.grad(colour.sum() + alpha.sum(), (vertices, values, background))
    assert grads[0].abs().sum() + grads[1].abs().sum() == 0
    assert_close(grads[2], torch.full((3,), 2.0 * copies * pictures))


def test_one_pixel():
    vertices = triangles_at(0, 2).requires_grad_()
    colour, alpha = soft_rasterize(vertices, separate(4), random(1, 12, 3), image_size=(1, 1))
    assert colour.shape == (2, 1, 1, 3)
    (grad,) = torch.autograd.grad(alpha.sum(), vertices)
    assert grad.isfinite().all()


def test_strides_do_not_matter():
    """Not contiguous, expanded, sliced: the same results; cotangents too."""
    draw, (vertices, background, values) = PROBLEMS["vertex"]
    want = results(soft_rasterize, (draw, [vertices, background, values]))
    strided = [
        vertices.transpose(0, 2).contiguous().transpose(0, 2),
        background.T.contiguous().T,
        torch.stack([values, values], -1)[..., 0],
    ]
    assert not any(t.is_contiguous() for t in strided)
    inputs = [t.requires_grad_() for t in strided]
    outputs = draw(soft_rasterize, *inputs)
    cotangents = [torch.randn(o.shape, generator=generator(99), dtype=torch.float64) for o in outputs]
    cotangents = [c.transpose(1, 2).contiguous().transpose(1, 2) for c in cotangents]
    got = [o.detach() for o in outputs], torch.autograd.grad(outputs, inputs, cotangents)
    assert_close(got, want)


def test_expanded_inputs_and_cotangents():
    """A stride of 0 among inputs adds up what its copies get; sum()'s cotangent has strides of 0 as well."""
    one, values = triangles_at(0, 1).requires_grad_(), random(1, 1, 3).requires_grad_()

    def total(vertices, values):
        colour, alpha = soft_rasterize(vertices, separate(4), values, image_size=SIZE)
        return colour.sum() + alpha.sum()

    expanded = torch.autograd.grad(total(one.expand(3, -1, -1), values.expand(12, 3)), (one, values))
    whole = torch.autograd.grad(3 * total(one, values.expand(12, 3).contiguous()), (one, values))
    assert_close(expanded, whole)


@pytest.mark.parametrize("name", ["vertex", "texture"])
def test_only_what_is_needed(name):
    """Each gradient alone is the same as with all others, and so from each output alone."""
    draw, tensors = PROBLEMS[name]
    _, want = results(soft_rasterize, PROBLEMS[name])
    for i in range(len(tensors)):
        inputs = [t.detach().clone().requires_grad_(i == j) for j, t in enumerate(tensors)]
        outputs = draw(soft_rasterize, *inputs)
        cotangents = [torch.randn(o.shape, generator=generator(99), dtype=torch.float64) for o in outputs]
        assert_close(torch.autograd.grad(outputs, inputs[i], cotangents)[0], want[i])
    inputs = [t.detach().clone().requires_grad_() for t in tensors]
    outputs = draw(soft_rasterize, *inputs)
    parts = [
        torch.autograd.grad(o, inputs, c, retain_graph=True) for o, c in zip(outputs, cotangents, strict=True)
    ]
    assert_close([a + b for a, b in zip(*parts, strict=True)], list(want))


def test_strides_of_zero_are_no_contiguity():
    """PyTorch calls them contiguous in tensors of one item or none; Warp does not."""
    for shape in ((1, 1, 1), (0, 3), (2, 3)):
        expanded = torch.zeros(()).expand(shape)
        assert operator._dense(expanded).stride() == torch.empty(shape).stride()


@pytest.mark.parametrize("name", ["flat", "level", "square"])
def test_equals_pytorch3d(name, exact):
    """Silhouettes, colours where there is something, and gradients; data/make_pytorch3d_soft.py says how."""
    with np.load(DATA) as data:
        sigma, gamma = float(data["sigma"]), float(data["gamma"])
        keys = [k for k in data if k.startswith(f"{name}/")]
        theirs = {k.split("/")[1]: torch.from_numpy(data[k]).double() for k in keys}
    vertices, colours = theirs["vertices"].requires_grad_(), theirs["colours"].requires_grad_()
    background = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    over, alpha = soft_rasterize(
        vertices,
        separate(len(colours)),
        PerCorner(colours),
        image_size=tuple(theirs["alpha"].shape),
        sigma=sigma,
        gamma=gamma,
        background=background,
    )
    assert_close(alpha[0], theirs["alpha"], rtol=0, atol=2e-6)
    there = theirs["alpha"] > 0.01
    colour = (over[0] - (1 - alpha[0, ..., None]) * background)[there] / alpha[0][there][:, None]
    assert 0.5 < there.double().mean() < 1
    assert_close(colour, theirs["colour"][there], rtol=0, atol=2e-5)
    (by_alpha,) = torch.autograd.grad(alpha[0], vertices, theirs["grad_alpha"], retain_graph=True)
    by_colour = torch.autograd.grad(colour, (vertices, colours), theirs["grad_colour"][there])
    pairs = [(by_alpha, theirs["grad_vertices_by_alpha"])]
    if name == "level":  # ours feels depths also through perspective
        pairs += [(by_colour[0][:, :2], theirs["grad_vertices_by_colour"][:, :2])]
        pairs += [(by_colour[1], theirs["grad_colours"])]
    else:  # and divides a colour between corners in another way
        pairs += [(by_colour[0], theirs["grad_vertices_by_colour"])]
        pairs += [(by_colour[1].sum(1), theirs["grad_colours"].sum(1))]
    for ours, want in pairs:
        assert want.norm() > 0.5
        assert (ours - want).norm() < 1e-4 * want.norm()  # theirs is float32


def test_no_gradient_of_a_gradient():
    vertices = triangles_at(0).requires_grad_()
    colour, _ = soft_rasterize(vertices, separate(4), random(1, 12, 3), image_size=SIZE)
    (grad,) = torch.autograd.grad(colour.square().sum(), vertices, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": torch.zeros(3, 2)}, r"vertices must be float of shape \[B, V, 3\] or \[V, 3\]"),
        ({"vertices": torch.zeros(3, 3).half()}, "vertices must be float32 or float64, got torch.float16"),
        ({"faces": separate(1).long()}, r"faces must be int32 of shape \[F, 3\], got torch.int64 \[1, 3\]"),
        ({"faces": separate(2)}, "faces name vertex 5, but there are 3 vertices"),
        (
            {"attributes": torch.zeros(4, 3)},
            r"attributes must have shape \[3, C\] or \[1, 3, C\], got \[4, 3\]",
        ),
        ({"attributes": torch.zeros(3, 3).double()}, "attributes must be torch.float32 on cpu"),
        ({"image_size": (0, 4)}, r"image_size must be at least 1 x 1 px, got \(0, 4\)"),
        ({"sigma": 0.0}, "sigma must be positive and finite, got 0.0"),
        ({"sigma": math.nan}, "sigma must be positive and finite, got nan"),
        ({"gamma": math.inf}, "gamma must be positive and finite, got inf"),
        ({"background": torch.zeros(4)}, r"background must have shape \[3\] or \[1, 3\], got \[4\]"),
        (
            {"background": torch.zeros(3).double()},
            "background must be torch.float32 on cpu as the vertices are",
        ),
    ],
)
def test_rejects(change, message):
    arguments = {
        "vertices": torch.zeros(3, 3),
        "faces": separate(1),
        "attributes": torch.zeros(3, 3),
        "image_size": (4, 4),
    } | change
    with pytest.raises(ValueError, match=message):
        soft_rasterize(**arguments)
