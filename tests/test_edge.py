"""The edge operator: by hand, against plain PyTorch, and against differences of supersampled pictures."""

import pytest
import torch
from supersampled import PLACES, SIZE, agreement, blurred_losses, differences, problem, small_world
from torch.testing import assert_close

from render.edge import edge_gradient, edge_gradient_reference, operator
from render.geometry import assemble
from render.raster import Raster, rasterize
from render.triangles import Triangles

FAR = 500.0  # [px] outside every picture here


def mesh(vertices, faces, dtype=torch.float64):
    """Packed arrays of one object in one picture, no vertex shared by position but by index."""
    return torch.tensor(vertices, dtype=dtype), Triangles(torch.tensor(faces, dtype=torch.int32))


def seen(vertices, top, size):
    return rasterize(vertices, top, image_size=size)


def gradient(image, vertices, top, raster, cotangent, **options):
    leaf = vertices.clone().requires_grad_()
    (grad,) = torch.autograd.grad(edge_gradient(image, leaf, top, raster=raster, **options), leaf, cotangent)
    return grad


HALF_PLANES = {  # ends u and v of the edge
    "steep": ((11.3, -FAR), (13.9, FAR)),
    "upright": ((12.2, -FAR), (12.2, FAR)),
    "flat": ((-FAR, 7.7), (FAR, 9.1)),
    "diagonal": ((-FAR + 2.25, -FAR), (FAR + 2.25, FAR)),
    "other diagonal": ((FAR + 20.25, -FAR), (-FAR + 20.25, FAR)),
}


@pytest.mark.parametrize("name", HALF_PLANES)
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("filled_right", [True, False])
def test_half_plane(name, antialiased, filled_right):
    """Moving an edge changes the picture's sum by contrast x length, whatever its slope."""
    height, width, inside, outside = 20, 24, 0.9, 0.2
    (ux, uy), (vx, vy) = HALF_PLANES[name]
    side = 1.0 if filled_right else -1.0
    apex = ((ux + vx) / 2 + side * (vy - uy) * -3, (uy + vy) / 2 + side * (vx - ux) * 3)
    vertices, top = mesh([[ux, uy, 0.5], [vx, vy, 0.5], [*apex, 0.5]], [[0, 1, 2]])
    raster = seen(vertices, top, (height, width))
    image = torch.where(raster.face >= 0, inside, outside)[..., None].double()
    assert 0.1 < (raster.face >= 0).double().mean() < 0.9
    grad = gradient(image, vertices, top, raster, torch.ones_like(image), antialiased=antialiased)
    t = torch.linspace(0, 1, 1_000_001, dtype=torch.float64)  # the part of the line inside the picture
    x, y = ux + t * (vx - ux), uy + t * (vy - uy)
    share = ((x > 0) & (x < width) & (y > 0) & (y < height)).double().mean()
    # the filled side lies in direction side * (-dy, dx): moving that way uncovers
    want = side * (inside - outside) * share * torch.tensor([vy - uy, -(vx - ux)], dtype=torch.float64)
    got = grad[:, :2].sum(0)
    # pairs of pixels that straddle the picture's border are missing: up to a pixel at each end
    slack = 0.0 if name in ("steep", "upright", "flat") else 1.5 * (inside - outside)
    assert_close(got, want, rtol=2e-3, atol=slack + 1e-3)
    assert grad[:, 2].abs().max() == 0


def test_short_edges_add_up():
    """A contour of edges shorter than a pixel weighs as much as a long one."""
    contrast, x = 0.7, 12.2
    y = torch.linspace(4.1, 15.8, 40).tolist()
    points = [[x, v, 0.5] for v in y] + [[-FAR, 10.0, 0.5]]
    vertices, top = mesh(points, [[i, i + 1, 40] for i in range(39)])
    raster = seen(vertices, top, (20, 24))
    image = contrast * (raster.face >= 0)[..., None].double()
    grad = gradient(image, vertices, top, raster, torch.ones_like(image))[:40]
    assert_close(
        grad[:, 0].sum(), torch.tensor(contrast * (y[-1] - y[0]), dtype=torch.float64), rtol=0.05, atol=0
    )
    assert grad[:, 0].min() > 0


def test_hidden_edge_does_nothing():
    """A wall in front: no gradient reaches what is behind it."""
    wall = [[-FAR, -FAR, 1.0], [FAR, -FAR, 1.0], [0.0, 2 * FAR, 1.0]]
    behind = [[5.0, 5.0, 0.5], [15.0, 5.0, 0.5], [9.0, 15.0, 0.5]]
    vertices, top = mesh(wall + behind, [[0, 1, 2], [3, 4, 5]])
    raster = seen(vertices, top, (20, 24))
    image = torch.rand(1, 20, 24, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grad = gradient(image, vertices, top, raster, torch.ones_like(image))
    assert grad[3:].abs().max() == 0 < grad[:3].abs().max()


def test_moving_along_changes_no_sum():
    """An object off the border that moves sideways leaves the picture's sum as it is."""
    p = problem("cube", 0)
    raster, geometry, image = drawn(p, torch.zeros(1, p.count), torch.float64, samples=4)
    grad = gradient(image, geometry.vertices.double(), geometry.triangles, raster, torch.ones_like(image))
    assert grad[:, :2].sum(0).abs().max() < 0.01 * grad[:, :2].abs().sum()


def drawn(p, theta, dtype=torch.float32, samples=1):
    size = (SIZE * samples, SIZE * samples)
    image, geometry, raster = p.points(theta, size)
    return raster, geometry, image.detach().to(dtype)


def random_triangles(seed, count=8):
    g = torch.Generator().manual_seed(seed)
    vertices = torch.rand(3 * count, 3, generator=g, dtype=torch.float64) * torch.tensor([20.0, 16.0, 0.5])
    vertices = vertices + torch.tensor([-2.0, -2.0, 0.4])
    vertices[count:, 2] = vertices[count:, 2].mean()
    faces = torch.arange(3 * count, dtype=torch.int32).view(-1, 3)
    more = torch.stack([faces[:, 1], faces[:, 0], faces.roll(1, 0)[:, 2]], 1)  # a second face
    faces = torch.cat([faces, more])
    copies = torch.randint(0, 2, (len(more),), generator=g, dtype=torch.int32) * len(vertices)
    faces[count:, 0] += copies  # some of them creases: another copy of one end
    instance = torch.arange(2 * count, dtype=torch.int32) % count % 3
    return vertices.repeat(2, 1), Triangles(faces, weld=faces % len(vertices), instance=instance)


@pytest.mark.parametrize("seed", range(6))
def test_matches_reference(seed):
    """Overlapping triangles, silhouettes, creases and shared edges, any image, any cotangent."""
    vertices, top = random_triangles(seed)
    raster = seen(vertices, top, (12, 16))
    g = torch.Generator().manual_seed(100 + seed)
    image, cotangent = (torch.randn(1, 12, 16, 2, generator=g, dtype=torch.float64) for _ in range(2))
    want = edge_gradient_reference(image, cotangent, vertices, top, raster)
    assert want.abs().max() > 1
    assert_close(gradient(image, vertices, top, raster, cotangent), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("margin", "share"), [(0, 0.0), (1, 0.5)])
def test_contours_at_the_border(margin, share):
    """From half a pixel outside to half a pixel inside: a picture drawn wider and cropped feels half."""
    height, width = 10, 12
    felt = []
    for x in torch.linspace(-0.5, 0.5, 21)[1:-1].tolist():
        points = [[x, -FAR, 0.5], [x, FAR, 0.5], [FAR, 0.0, 0.5]]
        vertices, top = mesh([[a + margin, b + margin, z] for a, b, z in points], [[0, 1, 2]])
        raster = seen(vertices, top, (height + 2 * margin, width + 2 * margin))
        image = (raster.face >= 0)[..., None].double()
        cotangent = torch.zeros_like(image)
        cotangent[:, margin : margin + height, margin : margin + width] = 1.0
        grad = gradient(image, vertices, top, raster, cotangent)
        felt.append(-grad[:, 0].sum() / height)  # a pixel to the right uncovers a column
    assert_close(torch.stack(felt).mean(), torch.tensor(share, dtype=torch.float64), rtol=0.02, atol=1e-9)


def test_crossing_planes_by_hand():
    """Two level walls, one leaning: where they cut, raising one by dz moves the line by dz / slope."""
    leaning = [[-FAR, -FAR, 0.5 - 0.0005 * FAR], [FAR, -FAR, 0.5 + 0.0005 * FAR], [0.0, 3 * FAR, 0.5]]
    upright = [[-FAR, -FAR, 0.506], [FAR, -FAR, 0.506], [0.0, 3 * FAR, 0.506]]
    vertices = torch.tensor(leaning + upright, dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32)
    top = Triangles(faces, instance=torch.tensor([0, 1], dtype=torch.int32))
    raster = seen(vertices, top, (20, 24))
    assert (raster.face[0, :, :11] == 1).all()  # the line runs upright through x = 12
    assert (raster.face[0, :, 13:] == 0).all()
    image = torch.where(raster.face == 0, 0.9, 0.2)[..., None].double()
    grad = gradient(image, vertices, top, raster, torch.ones_like(image))
    # rising by dz, the leaning wall wins dz / 0.0005 px of every row
    assert_close(grad[:3, 2].sum(), torch.tensor(20 * 0.7 / 0.0005, dtype=torch.float64), rtol=1e-3, atol=0)
    assert_close(grad[3:, 2].sum(), -grad[:3, 2].sum(), rtol=1e-9, atol=0)
    # moved to the right, it loses as much as it moves
    assert_close(grad[:3, 0].sum(), torch.tensor(-20 * 0.7, dtype=torch.float64), rtol=1e-3, atol=0)
    one = gradient(image, vertices, Triangles(faces), raster, torch.ones_like(image))
    assert one.abs().max() == 0, "surfaces of one object are not asked"


def test_copies_are_pictures_of_their_own():
    """One mesh in nine poses: each as if alone, with one thread and with two."""
    vertices, top = random_triangles(1)
    many = vertices + 0.3 * torch.rand(9, 1, 3, generator=torch.Generator().manual_seed(0)).double()
    raster = seen(many, top, (12, 16))
    image, cotangent = (torch.rand(9, 12, 16, 2).double() for _ in range(2))
    whole = gradient(image, many, top, raster, cotangent)
    for i in range(9):
        alone = Raster(raster.face[i : i + 1], raster.inverse_depth[i : i + 1], raster.barycentric[i : i + 1])
        one = gradient(image[i : i + 1], many[i], top, alone, cotangent[i : i + 1])
        assert_close(whole[i], one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("run", [1, 4])
def test_pixels_one_at_a_time_as_on_a_gpu(run, monkeypatch):
    p = problem("two", 1)
    raster, geometry, image = drawn(p, torch.zeros(1, p.count), torch.float64)
    cotangent = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = image, geometry.vertices.double(), geometry.triangles, raster, cotangent
    for antialiased in (False, True):
        monkeypatch.undo()
        together = gradient(*given, antialiased=antialiased)
        monkeypatch.setattr(operator, "_LANES", 1)
        monkeypatch.setattr(operator, "run_length", lambda device, width: run)
        assert_close(gradient(*given, antialiased=antialiased), together, rtol=1e-9, atol=1e-9)


def test_pixels_of_one_surface_need_no_marks():
    """A strip of triangles alone, and beside one out of sight that makes it one surface of two."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(9, 3, generator=generator) * torch.tensor([24.0, 20.0, 1.0]) + 0.1
    strip = [[i, i + 1, i + 2] for i in range(7)]
    image, cotangent = torch.rand(2, 1, 20, 24, 3, generator=generator)
    grads = []
    for faces in (strip, [*strip, [9, 10, 11]]):
        away = points.new_tensor([[FAR, 0.0, 1.0], [FAR, 1.0, 1.0], [FAR + 1.0, 0.0, 1.0]])
        vertices, top = mesh([*points.tolist(), *away.tolist()], faces, torch.float32)
        raster = seen(vertices, top, (20, 24))
        assert 0.1 < (raster.face >= 0).float().mean() < 0.9
        grads.append(gradient(image, vertices, top, raster, cotangent))
    assert torch.equal(*grads)


def test_finds_what_the_pixels_show_itself():
    vertices, top = random_triangles(2)
    image = torch.rand(1, 12, 16, 3).double()
    leaf = vertices.clone().requires_grad_()
    (grad,) = torch.autograd.grad(edge_gradient(image, leaf, top).square().sum(), leaf)
    assert torch.equal(grad, gradient(image, vertices, top, seen(vertices, top, (12, 16)), 2 * image))


def test_depth_moves_the_surface():
    """A textured triangle whose corner comes nearer: the texture slides as space says, exactly."""
    vertices, top = mesh([[-60.0, -60, 0.5], [90, -60, 0.5], [-60, 90, 0.5]], [[0, 1, 2]])
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
    paint = lambda p: torch.sin(6 * p[..., :1]) * torch.cos(5 * p[..., 1:])  # noqa: E731  # a formula

    def picture(v):
        raster = seen(v, top, (24, 24))
        b = raster.barycentric.double()
        return paint(b @ uv), raster

    image, raster = picture(vertices)
    g = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g[:, [0, -1]] = g[:, :, [0, -1]] = 0.0  # one-sided slopes
    grad = gradient(image, vertices, top, raster, g)
    for corner in range(3):
        away = torch.zeros_like(vertices)
        away[corner, 2] = 0.01
        ahead, behind = (picture(vertices + s * away)[0] for s in (1, -1))
        want = (g * (ahead - behind) / 0.02).sum()
        assert_close(grad[corner, 2], want, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("axis", [0, 1])
def test_mixed_pixels_take_their_neighbours_slopes(axis):
    """Two faces of one surface, one far before the other: where they meet, colours mix and are not asked."""
    corners = [[-FAR, -FAR, 0.6], [FAR, -FAR, 0.6], [0.0, 3 * FAR, 0.6], [0.0, -5 * FAR, 0.6]]
    vertices, top = mesh(corners, [[0, 1, 2], [1, 0, 3]])
    place = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(20), indexing="ij")).double()
    face = (place[axis] >= 8).int()[None]
    raster = Raster(face, torch.where(face == 0, 0.5, 0.7), torch.zeros(1, 16, 20, 3))
    image = (0.2 * place[0] + 0.3 * place[1])[None, ..., None]
    image[:, (place[axis] == 7) | (place[axis] == 8)] = 5.0
    g = torch.rand(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grad = gradient(image, vertices, top, raster, g, antialiased=True)
    assert_close(grad[:, 0].sum(), -0.3 * g.sum(), rtol=1e-9, atol=0)
    assert_close(grad[:, 1].sum(), -0.2 * g.sum(), rtol=1e-9, atol=0)


def test_float32_close_to_float64():
    p = problem("two", 1)
    raster, geometry, image = drawn(p, torch.zeros(1, p.count))
    cotangent = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    vertices, top = geometry.vertices, geometry.triangles
    single = gradient(image, vertices, top, raster, cotangent)
    double = gradient(image.double(), vertices.double(), top, raster, cotangent.double())
    assert (single - double).norm() < 1e-4 * double.norm()


def test_image_and_its_gradient_pass_unchanged():
    p = problem("cube", 0)
    raster, geometry, image = drawn(p, torch.zeros(1, p.count))
    leaf = image.clone().requires_grad_()
    out = edge_gradient(leaf, geometry.vertices, geometry.triangles, raster=raster)
    cotangent = torch.randn_like(image)
    assert torch.equal(out, image)
    assert torch.equal(torch.autograd.grad(out, leaf, cotangent)[0], cotangent)


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("antialiased", [False, True])
def test_same_bits_every_run(batch, antialiased):
    """Two host threads, one picture in bands or many side by side: no sum depends on who was first."""
    p = problem("two", 2)
    theta = 0.05 * torch.randn(1, p.count, generator=torch.Generator().manual_seed(0))
    raster, geometry, image = drawn(p, theta, samples=4)
    cotangent = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    count = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = [
            gradient(image, geometry.vertices, geometry.triangles, raster, cotangent, antialiased=antialiased)
            for _ in range(20)
        ]
        torch.set_num_threads(1)
        alone = gradient(
            image, geometry.vertices, geometry.triangles, raster, cotangent, antialiased=antialiased
        )
    finally:
        torch.set_num_threads(count)
    assert all(torch.equal(runs[0], r) for r in runs)
    assert (runs[0] - alone).norm() < 1e-5 * alone.norm()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e7, 1e12, 3e38])
def test_bad_vertices_give_finite_gradients(value):
    for axis in range(3):
        vertices, top = random_triangles(0)
        vertices = vertices.float()
        vertices[2::5, axis] = value
        raster = seen(vertices, top, (12, 16))
        image = torch.rand(1, 12, 16, 3)
        # an engine's ids may name any face, whatever became of it
        named = Raster(
            torch.arange(192).view(1, 12, 16).int() % 16, torch.full((1, 12, 16), 0.6), raster.barycentric
        )
        for r in (raster, named):
            assert gradient(image, vertices, top, r, torch.ones_like(image)).isfinite().all()


def test_no_area_and_slivers_give_finite_gradients():
    points = [[3.0, 3.0, 0.5], [9.0, 9.0, 0.5], [6.0, 6.0, 0.5], [3.0, 3.0 + 1e-6, 0.5], [3.0, 3.0, 0.5]]
    vertices, top = mesh(points, [[0, 1, 2], [0, 1, 3], [0, 4, 4], [0, 4, 1]], torch.float32)
    named = Raster(
        torch.arange(192).view(1, 12, 16).int() % 4, torch.full((1, 12, 16), 0.5), torch.zeros(1, 12, 16, 3)
    )
    image = torch.rand(1, 12, 16, 3)
    assert gradient(image, vertices, top, named, torch.ones_like(image)).isfinite().all()


def test_no_faces():
    vertices, top = torch.zeros(0, 3), Triangles(torch.zeros(0, 3, dtype=torch.int32))
    raster = Raster(torch.full((1, 4, 5), -1).int(), torch.zeros(1, 4, 5), torch.zeros(1, 4, 5, 3))
    assert gradient(torch.rand(1, 4, 5, 3), vertices, top, raster, torch.ones(1, 4, 5, 3)).shape == (0, 3)


def test_topology_of_cube_and_sphere():
    world = small_world()
    for name, edges, groups in (("cube", 18, 6), ("sphere", None, 1)):
        p = problem(name, 0)
        top = assemble(world, p.scene(torch.zeros(1, p.count)), (8, 8)).triangles
        assert edges is None or len(top.edges) == edges
        assert len(top.edges) == 3 * len(top.faces) // 2  # closed: every edge has two faces
        assert (top.edges[:, 5] >= 0).all()
        assert len(top.group.unique()) == groups
    assert p.world.assets[1].closed


def test_topology_of_a_cube_has_creases_at_its_twelve_edges():
    p = problem("cube", 0)
    top = assemble(p.world, p.scene(torch.zeros(2, p.count)), (8, 8)).triangles
    assert top.edges[:, 6].sum() == 2 * 12
    assert top.edges[:, 7].tolist() == sorted(top.edges[:, 7].tolist())


def test_topology_of_an_open_square():
    _, top = mesh([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], [[0, 1, 2], [0, 2, 3]])
    assert (top.edges[:, 5] < 0).sum() == 4
    assert top.edges[:, 6].sum() == 0
    assert len(top.group.unique()) == 1


def test_topology_is_shared_by_batches_of_the_same_assets():
    p = problem("cube", 0)
    there, here = (assemble(p.world, p.scene(torch.full((1, p.count), a)), (8, 8)) for a in (0.0, 0.1))
    assert there.triangles is here.triangles


ACCURACY = {  # blur [px], samples per axis of the picture, of the triangles: error and cosine to reach
    "one sample": (1.0, 1, 1, 0.08, 0.998),
    "antialiased": (1.0, 2, 1, 0.08, 0.998),
    "2x2 samples": (1.0, 2, 2, 0.04, 0.999),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_gradient_against_differences_of_supersampled_pictures(name):
    """Rotation, translation, scale, bends; median of three poses; benchmarks/edge.py has the figures."""
    results = {k: [] for k in ACCURACY}
    step = 0.0025 if name == "near" else 0.01  # a ground under the eye bends the loss more
    for seed in range(3):
        p = problem(name, seed)
        target = p.sampled(p.target[None], 16)
        losses = blurred_losses(target, (1.0,))
        truth = differences(p, losses, step=step)[:, 0]
        if seed == 0:  # the truth itself must stand still
            assert agreement(differences(p, losses, step=step / 2)[:, 0], truth)[0] < 0.03
        for k, (sigma, picture, triangles, *_) in ACCURACY.items():
            results[k].append(agreement(p.estimate(target, sigma, picture, triangles), truth))
    for k, (*_, error, cosine) in ACCURACY.items():
        errors, cosines = torch.tensor(results[k]).unbind(1)
        assert errors.median() < error, k
        assert cosines.median() > cosine, k


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(4, 4, 3)}, r"image must have shape \[B, H, W, C\], got \[4, 4, 3\]"),
        (
            {"image": torch.zeros(1, 4, 5, 3)},
            r"raster must be of the image's size \[1, 4, 5\], got \[1, 4, 4\]",
        ),
        ({"image": torch.zeros(1, 4, 4, 3).double()}, "must both be float32 or float64"),
        (
            {"image": torch.zeros(2, 4, 4, 3)},
            "there are 2 images, but vertices of 1 copies of triangles of 1 pictures",
        ),
        ({"vertices": torch.zeros(3, 2)}, r"vertices must be float of shape \[B, V, 3\] or \[V, 3\]"),
    ],
)
def test_rejects(change, message):
    vertices, top = mesh([[0.0, 0, 1], [3, 0, 1], [0, 3, 1]], [[0, 1, 2]], torch.float32)
    arguments = {"image": torch.zeros(1, 4, 4, 3), "vertices": vertices} | change
    with pytest.raises(ValueError, match=message):
        edge_gradient(**arguments, faces=top, raster=seen(vertices, top, (4, 4)))
