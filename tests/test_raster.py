"""The hard rasterizer: by hand, against plain PyTorch, watertight, safe, the same on any threads."""

import math

import pytest
import torch
from torch.testing import assert_close

from render.raster import nearest, operator, rasterize, rasterize_reference
from render.triangles import Triangles


def draw(vertices, faces, size=(8, 8), **options):
    faces = Triangles(torch.as_tensor(faces, dtype=torch.int32), **options)
    return rasterize(torch.as_tensor(vertices, dtype=torch.float32), faces, image_size=size)


def random_triangles(seed, *, images=3, faces=40):
    g = torch.Generator().manual_seed(seed)
    vertices = torch.rand(60, 3, generator=g) * torch.tensor([44.0, 34.0, 1.0]) + torch.tensor(
        [-6.0, -5.0, 0.2]
    )
    index = torch.combinations(torch.arange(60), 3)  # of two triangles with the same corners, either may win
    index = index[torch.randperm(len(index), generator=g)[: faces * images]].int()
    image = torch.arange(images, dtype=torch.int32).repeat_interleave(faces)
    return vertices, Triangles(index, image=image, image_count=images)


def test_triangle_by_hand():
    """Corners (1, 1), (5, 1), (1, 5): the centres with x + y <= 6. Inverse depth 1, 0.5, 0.5."""
    raster = draw([[1, 1, 1.0], [5, 1, 0.5], [1, 5, 0.5]], [[0, 1, 2]])
    centre = torch.arange(8) + 0.5
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    inside = (x >= 1) & (y >= 1) & (x + y <= 6)
    assert (raster.face[0] == torch.where(inside, 0, -1)).all()
    want = torch.where(inside, 1.0 - 0.5 * (x + y - 2) / 4, 0.0)
    assert_close(raster.inverse_depth[0], want)
    # At (2.5, 1.5) the affine weights are (0.5, 0.375, 0.125); times inverse depth (0.5, 0.1875, 0.0625),
    # sum 0.75.
    assert_close(raster.barycentric[0, 1, 2], torch.tensor([0.5, 0.1875, 0.0625]) / 0.75)
    assert (raster.barycentric[0][~inside] == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_matches_reference(seed):
    vertices, faces = random_triangles(seed)
    got = rasterize(vertices, faces, image_size=(24, 32))
    want = rasterize_reference(vertices.double(), faces, image_size=(24, 32))
    same = got.face == want.face
    assert (~same).float().mean() <= 2e-3, "only centres on a border within float32's rounding may differ"
    assert_close(got.inverse_depth[same].double(), want.inverse_depth[same], rtol=1e-5, atol=1e-6)
    assert_close(got.barycentric[same].double(), want.barycentric[same], rtol=0, atol=1e-4)


def test_nearer_wins_then_lower_face():
    square = [[0, 0], [8, 0], [0, 8]]
    vertices = [[*p, z] for z in (0.5, 0.8, 0.8) for p in square]
    raster = draw(vertices, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    assert set(raster.face.unique().tolist()) == {-1, 1}


def grid(seed, on_centres):
    """A rotated jittered grid over [3, 61]^2 whose faces have vertices of their own, and their weld index."""
    g = torch.Generator().manual_seed(seed)
    n = 16
    line = torch.linspace(-50.0, 50.0, n)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
    points = points + (torch.rand(points.shape, generator=g) - 0.5) * 4.0
    angle = float(torch.rand((), generator=g)) * math.pi
    c, s = math.cos(angle), math.sin(angle)
    points = points @ torch.tensor([[c, -s], [s, c]]) + 32.0
    if on_centres:
        points = points.floor() + 0.5
    a = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).flatten()
    welded = torch.cat([torch.stack([a, a + 1, a + n + 1], 1), torch.stack([a, a + n + 1, a + n], 1)])
    order = torch.stack([torch.randperm(3, generator=g) for _ in welded])
    weld = welded.gather(1, order).flatten()
    depth = 0.5 + 0.1 * torch.rand(len(points), 1, generator=g)
    faces = torch.arange(len(weld)).view(-1, 3)
    return torch.cat([points, depth], 1)[weld], faces, weld.view(-1, 3).int()


@pytest.mark.parametrize("on_centres", [False, True])
def test_watertight(on_centres):
    """No pixel of a grid that covers the whole image is lost, wherever edges run."""
    for seed in range(10):
        vertices, faces, weld = grid(seed, on_centres)
        raster = draw(vertices, faces, (64, 64), weld=weld)
        assert (raster.face >= 0).all(), f"seed {seed}: {int((raster.face < 0).sum())} pixels lost"


def test_shared_edges_through_pixel_centres():
    """Two triangles left and right of an edge that runs through centres up to rounding: none is lost."""
    g = torch.Generator().manual_seed(0)
    count = 2000
    through = torch.randint(4, 12, (count, 2), generator=g) + 0.5
    along = torch.randint(-7, 8, (count, 2), generator=g).float()
    along[(along == 0).all(1)] = 1.0
    low, high = (3.0 + 20.0 * torch.rand(count, 1, generator=g) for _ in range(2))
    u, v = through - low * along, through + high * along
    across = torch.stack([-along[:, 1], along[:, 0]], 1) * 40.0
    corners = torch.stack([u, v, through + across, v, u, through - across], 1).reshape(-1, 2)
    vertices = torch.cat([corners, torch.ones(len(corners), 1)], 1)
    faces = torch.arange(len(vertices), dtype=torch.int32).view(-1, 3)
    first = torch.arange(count, dtype=torch.int32)[:, None] * 6
    weld = (first + torch.tensor([0, 1, 2, 1, 0, 5], dtype=torch.int32)).view(-1, 3)
    images = torch.arange(count, dtype=torch.int32).repeat_interleave(2)
    triangles = Triangles(faces, image=images, image_count=count, weld=weld)
    raster = rasterize(vertices, triangles, image_size=(16, 16))
    column, row = through.long().unbind(1)
    lost = raster.face[torch.arange(count), row, column] < 0
    assert not lost.any(), f"{int(lost.sum())} of {count} centres lost"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e7, -1e12, 1e30, 3e38])
@pytest.mark.parametrize("component", [0, 1, 2])
def test_bad_numbers_draw_finite_pictures(value, component):
    """Also: a good triangle in the same image is drawn where the bad one is not nearer."""
    good = [[-9, -9, 0.5], [30, -9, 0.5], [-9, 30, 0.5]]
    bad = [[1.0, 1.0, 0.1], [7.0, 2.0, 0.1], [2.0, 7.0, 0.1]]
    bad[1][component] = value
    raster = draw(good + bad, [[0, 1, 2], [3, 4, 5]])
    assert raster.inverse_depth.isfinite().all()
    assert raster.barycentric.isfinite().all()
    assert_close(raster.barycentric.sum(-1), torch.ones(1, 8, 8))
    if component != 2:
        assert (raster.face == 0).all()


@pytest.mark.parametrize(
    "corners",
    [
        [[1, 1, 1], [5, 5, 1], [3, 3, 1]],  # no area
        [[2, 2, 1], [2, 2, 1], [2, 2, 1]],
        [[1, 1, 1], [5, 1, -0.5], [1, 5, 1]],  # a corner behind the eye
        [[1, 1, 0], [5, 1, 1], [1, 5, 1]],
        [[100, 100, 1], [200, 100, 1], [100, 200, 1]],  # off the image
        [[-1e9, -1e9, 1], [-1e9, -2e9, 1], [-2e9, -1e9, 1]],
    ],
)
def test_draws_nothing(corners):
    raster = draw(corners, [[0, 1, 2]])
    assert (raster.face == -1).all()
    assert (raster.inverse_depth == 0).all()


def test_sliver_keeps_depth_and_weights_in_range():
    raster = draw([[0.5, 0.5, 0.2], [7.5, 7.5, 0.9], [4.0, 4.0000005, 0.4]], [[0, 1, 2]])
    hit = raster.face >= 0
    assert hit.any()
    assert ((raster.inverse_depth[hit] >= 0.2) & (raster.inverse_depth[hit] <= 0.9)).all()
    assert ((raster.barycentric >= 0) & (raster.barycentric <= 1)).all()


def test_weights_beyond_float32():
    """Of edge values times inverse depth, the far corner's overflows."""
    raster = draw([[-1049.2, 5373.2, 9e26], [15.6, -9.1, 9e26], [-512597.0, -10151254.0, 9e26]], [[0, 1, 2]])
    hit = raster.face == 0
    assert hit.any()
    assert raster.barycentric.isfinite().all()
    assert_close(raster.barycentric.sum(-1)[hit], torch.ones(int(hit.sum())))


@pytest.mark.parametrize("images", [1, 3, 17])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_no_bit(monkeypatch, images, threads):
    vertices, faces = random_triangles(5, images=images)
    results = []
    for count in (1, threads):
        monkeypatch.setattr(operator, "thread_count", lambda *_, count=count, **__: count)
        raster = rasterize(vertices, faces, image_size=(29, 31))
        results.append([raster.face, raster.inverse_depth, raster.barycentric])
    for one, many in zip(*results, strict=True):
        assert torch.equal(one, many)


def test_culling_drops_backs():
    """On the screen, y down, a triangle that turns clockwise shows its back."""
    front, back = [[1, 1, 1], [1, 7, 1], [7, 1, 1]], [[1, 1, 1], [7, 1, 1], [1, 7, 1]]
    for corners, seen in ((front, True), (back, False)):
        assert bool((draw(corners, [[0, 1, 2]], culled=torch.tensor([True])).face >= 0).any()) == seen
        assert (draw(corners, [[0, 1, 2]], culled=torch.tensor([False])).face >= 0).any()


def test_nearest_is_the_inverse_depth():
    vertices, faces = random_triangles(7)
    want = rasterize(vertices, faces, image_size=(24, 32)).inverse_depth
    assert torch.equal(nearest(vertices, faces, image_size=(24, 32)), want)


def test_noncontiguous_inputs():
    vertices, triangles = random_triangles(8, images=1)
    faces = triangles.faces
    got = rasterize(vertices.T.contiguous().T, faces.T.contiguous().T, image_size=(24, 32))
    assert torch.equal(got.face, rasterize(vertices, faces, image_size=(24, 32)).face)


def test_empty():
    raster = draw(torch.zeros(0, 3), torch.zeros(0, 3))
    assert (raster.face == -1).all()
    raster = draw(torch.zeros(0, 3), torch.zeros(0, 3), image_count=0)
    assert raster.face.shape == (0, 8, 8)


def test_leaves_gradients_alone():
    vertices, faces = random_triangles(9)
    raster = rasterize(vertices.requires_grad_(), faces, image_size=(24, 32))
    assert not raster.barycentric.requires_grad
    assert vertices.grad is None


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_copies_are_pictures_of_their_own(monkeypatch, images, threads):
    """One mesh, or one set of ragged scenes, with nine sets of vertices: each as if drawn alone."""
    monkeypatch.setattr(operator, "thread_count", lambda *_, **__: threads)
    vertices, faces = random_triangles(3, images=images)
    many = vertices + torch.randn(9, *vertices.shape, generator=torch.Generator().manual_seed(0)).abs()
    whole = rasterize(many, faces, image_size=(24, 32))
    assert len(whole.face) == 9 * images
    for i in range(9):
        alone = rasterize(many[i], faces, image_size=(24, 32))
        for name in ("face", "inverse_depth", "barycentric"):
            here = getattr(whole, name)[i * images : (i + 1) * images]
            assert torch.equal(here, getattr(alone, name))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"vertices": torch.zeros(4, 2)},
            r"vertices must be float of shape \[B, V, 3\] or \[V, 3\], got torch.float32 \[4, 2\]",
        ),
        ({"vertices": torch.zeros(2, 3)}, "faces name vertex 2, but there are 2 vertices"),
        ({"faces": torch.zeros(1, 3, dtype=torch.int64)}, "faces must be int32"),
        ({"faces": torch.tensor([[0, -1, 2]], dtype=torch.int32)}, "faces must be 0 or more, got -1"),
        ({"image_size": (0, 4)}, "at least 1 px"),
    ],
)
def test_rejects(bad, message):
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    arguments = {"vertices": torch.zeros(4, 3), "faces": faces, "image_size": (4, 4)}
    with pytest.raises(ValueError, match=message):
        rasterize(**arguments | bad)
