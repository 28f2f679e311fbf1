"""Blurred layers: by hand, against plain PyTorch, exact gradients, the same on any threads, safe."""

import gc
import math
import weakref

import pytest
import torch
from supersampled import agreement
from torch.testing import assert_close

from render.attributes import PerCorner, Texture
from render.blur import gaussian_blur
from render.layers import operator, soft_layers, soft_layers_reference, soft_over, soft_over_reference
from render.triangles import Triangles

SIZE = (16, 20)  # (height, width) [px]
RED, GREEN, BLUE = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
BEHIND = torch.tensor([0.2, 0.3, 0.1])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random(seed, *shape):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.fixture
def threads(monkeypatch):
    """Set the number of host threads, however small the work."""

    def switch(count):
        for name in ("layers", "edge", "interpolate", "blur", "raster"):
            module = f"render.{name}.operator.thread_count"
            monkeypatch.setattr(module, lambda device, numbers: count)

    return switch


def rectangles(boxes, dtype=torch.float32, instance=None, **options):
    """Vertices and triangles of rectangles (left, top, right, bottom, inverse depth), each an object."""
    corners = [[[l, t, z], [r, t, z], [r, b, z], [l, b, z]] for l, t, r, b, z in boxes]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]]) + 4 * torch.arange(len(boxes))[:, None, None]
    if instance is None:
        instance = list(range(len(boxes)))
    instance = torch.tensor(instance, dtype=torch.int32).repeat_interleave(2)
    top = Triangles(faces.view(-1, 3).int(), instance=instance, **options)
    return torch.tensor(corners, dtype=dtype).view(-1, 3), top


def painted(*colours, dtype=torch.float32):
    """The same colour for all four corners of each rectangle."""
    return torch.tensor(colours, dtype=dtype).repeat_interleave(4, 0)


FAR, NEAR = (2, 3, 12, 12, 0.4), (7, 6, 18, 14, 0.5)  # two rectangles that overlap


def hard_picture():
    picture = BEHIND.repeat(*SIZE, 1)
    picture[3:12, 2:12] = torch.tensor(RED)
    picture[6:14, 7:18] = torch.tensor(GREEN)
    return picture[None]


# by hand


@pytest.mark.parametrize("order", [[FAR, NEAR], [NEAR, FAR]])
def test_no_softness_is_the_hard_picture(order):
    """Whatever the order of the objects."""
    vertices, top = rectangles(order)
    colours = painted(*(RED if box == FAR else GREEN for box in order))
    colour, alpha = soft_layers(
        vertices, top, colours, image_size=SIZE, sigma=0, gamma=1e-5, background=BEHIND
    )
    assert_close(colour, hard_picture())
    assert_close(alpha, (hard_picture() != BEHIND).any(-1).float())


def test_gamma_says_how_much_shows_through():
    """At gamma, the nearer object hides 73 %."""
    vertices, top = rectangles([FAR, NEAR])
    colours = painted(RED, GREEN)
    colour, _ = soft_layers(vertices, top, colours, image_size=SIZE, sigma=0, gamma=0.1)
    share = 1 / (1 + math.exp(-1))
    assert_close(colour[0, 8, 9], torch.tensor([1 - share, share, 0.0]))


def test_inverse_depth_is_perspective_correct():
    """Two planes that cut through each other swap places where their inverse depths are equal."""
    vertices, top = rectangles([(0, 0, 20, 16, 0.5), (0, 0, 20, 16, 0.5)])
    vertices[[4, 7], 2], vertices[[5, 6], 2] = 0.3, 0.55  # crosses 0.5 at x = 20 * 0.2 / 0.25 = 16
    colour, _ = soft_layers(vertices, top, painted(RED, GREEN), image_size=SIZE, sigma=0, gamma=1e-5)
    assert_close(colour[0, :, :16], torch.tensor(RED).expand(16, 16, 3))
    assert_close(colour[0, :, 16:], torch.tensor(GREEN).expand(16, 4, 3))


def test_empty_layers_and_no_faces():
    """Objects out of sight, and none at all."""
    vertices, top = rectangles([FAR, (100, 100, 110, 110, 0.6)])
    colour, alpha = soft_layers(vertices, top, painted(RED, GREEN), image_size=SIZE, background=BEHIND)
    alone = soft_layers(*rectangles([FAR]), painted(RED), image_size=SIZE, background=BEHIND)
    assert torch.equal(colour, alone[0])
    assert torch.equal(alpha, alone[1])
    none = Triangles(torch.zeros(0, 3, dtype=torch.int32))
    leaf = torch.zeros(0, 3, requires_grad=True)
    colour, alpha = soft_layers(leaf, none, torch.zeros(0, 3), image_size=SIZE, background=BEHIND)
    assert torch.equal(colour, BEHIND.expand(1, *SIZE, 3))
    assert alpha.max() == 0
    assert torch.autograd.grad(colour.sum(), leaf)[0].shape == (0, 3)
    top = Triangles(torch.zeros(0, 3, dtype=torch.int32), image_count=0)
    assert soft_layers(leaf, top, torch.zeros(0, 3), image_size=SIZE)[0].shape == (0, *SIZE, 3)


def test_bare_faces_are_one_layer():
    vertices, top = rectangles([FAR, NEAR], instance=[0, 0])
    colours = painted(RED, GREEN)
    options = {"image_size": SIZE, "background": BEHIND, "gamma": 1e-5}
    bare = soft_layers(vertices, top.faces, colours, **options)
    assert torch.equal(bare[0], soft_layers(vertices, top, colours, **options)[0])
    assert_close(
        bare[0], gaussian_blur((hard_picture() - BEHIND).contiguous(), 2.0) + BEHIND, rtol=0, atol=1e-5
    )


def test_alpha_stays_in_range():
    """The recursive blur overshoots by a percent."""
    vertices, top = rectangles([(3, 3, 60, 60, 0.4)])
    _, alpha = soft_layers(vertices, top, painted(RED), image_size=(64, 64), sigma=4.0)
    assert 0 <= alpha.min() < alpha.max() <= 1
    assert alpha.max() > 0.99


# batches


def cutting_triangles(seed, *batch, count=6, size=SIZE):
    """Random triangles of three objects, in no order, with colours per corner."""
    height, width = size
    vertices = random(seed, *batch, 3 * count, 3) * torch.tensor([width + 4.0, height + 4.0, 0.3])
    vertices = vertices + torch.tensor([-2.0, -2.0, 0.3])
    faces = torch.arange(3 * count, dtype=torch.int32).view(-1, 3)
    top = Triangles(faces, instance=torch.arange(count, dtype=torch.int32) % 3)
    return vertices, top, PerCorner(random(seed + 1, *batch, count, 3, 2))


@pytest.mark.parametrize("sigma", [0.0, 1.2])
def test_matches_reference(sigma):
    """Pictures, and the gradients that do not come from motion on the screen."""
    vertices, top, colours = cutting_triangles(0, 2)
    behind = random(5, 2, 2).requires_grad_()
    values = colours.values.requires_grad_()
    options = {"image_size": SIZE, "sigma": sigma, "gamma": 0.1, "background": behind}
    got, want = (f(vertices, top, PerCorner(values), **options) for f in (soft_layers, soft_layers_reference))
    cotangents = random(6, 2, *SIZE, 2) - 0.5, random(7, 2, *SIZE) - 0.5
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, rtol=0, atol=1e-5)  # barycentrics are float32
    grads = [torch.autograd.grad(r, (values, behind), cotangents) for r in (got, want)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b, rtol=0, atol=1e-4 * float(b.abs().max()))


def test_ragged_scenes_are_the_scenes_one_by_one():
    """Pictures with three, one, no and two objects, whose numbers leave gaps; one background each."""
    boxes = [FAR, NEAR, (1, 8, 9, 15, 0.45), NEAR, FAR, (4, 1, 10, 15, 0.42)]
    image = torch.tensor([0, 0, 0, 1, 3, 3], dtype=torch.int32)
    colours = torch.rand(24, 3, generator=generator(0), requires_grad=True)
    backgrounds = torch.rand(4, 3, generator=generator(1))
    options = {"image_size": SIZE, "sigma": 1.5}
    packed_vertices, packed_top = rectangles(
        boxes, instance=[5, 0, 2, 7, 1, 0], image=image.repeat_interleave(2), image_count=4
    )
    together = soft_layers(packed_vertices, packed_top, colours, background=backgrounds, **options)
    assert operator._layered(packed_top).count == 3
    cotangent = torch.randn(4, *SIZE, 3, generator=generator(2))
    (grad,) = torch.autograd.grad(together[0], colours, cotangent)
    for i in range(4):
        mine = (image == i).nonzero()[:, 0].tolist()
        own = colours.detach().view(6, 4, 3)[mine].reshape(-1, 3).requires_grad_()
        vertices, top = rectangles([boxes[j] for j in mine])
        alone = soft_layers(vertices.view(-1, 3), top, own, background=backgrounds[i], **options)
        assert_close(together[0][i], alone[0][0], rtol=0, atol=1e-6)
        assert_close(together[1][i], alone[1][0], rtol=0, atol=1e-6)
        (want,) = torch.autograd.grad(alone[0], own, cotangent[i : i + 1])
        assert_close(grad.view(6, 4, 3)[mine].reshape(-1, 3), want, rtol=0, atol=1e-4)


def test_batch_of_poses_is_the_poses_one_by_one():
    vertices, top, colours = cutting_triangles(3, 4)
    vertices.requires_grad_()
    together, _ = soft_layers(vertices, top, colours, image_size=SIZE)
    (grad,) = torch.autograd.grad(together.square().sum(), vertices)
    for i in range(4):
        own = vertices.detach()[i].requires_grad_()
        alone, _ = soft_layers(own, top, PerCorner(colours.values[i]), image_size=SIZE)
        assert_close(together[i], alone[0])
        assert_close(grad[i], torch.autograd.grad(alone.square().sum(), own)[0], rtol=1e-5, atol=1e-7)


def test_layers_keep_what_triangles_say():
    """Faces move, with all that is said of them; an object's number in its picture is all that changes."""
    _, top, _ = cutting_triangles(0)
    rng = generator(1)
    top = Triangles(
        top.faces,
        weld=torch.randint(0, 5, (6, 3), generator=rng, dtype=torch.int32),
        image=torch.tensor([0, 0, 0, 2, 2, 2]).int(),
        image_count=3,
        instance=torch.tensor([7, -2, 7, 1, 3, 1]).int(),
        culled=torch.tensor([True, False, True, False, False, True]),
        faceted=True,
    )
    layered = operator._layered(top)
    assert layered.count == 2
    assert layered.order.tolist() == [1, 0, 2, 3, 5, 4]
    assert layered.triangles.image.tolist() == [0, 1, 1, 4, 4, 5]
    assert layered.triangles.image_count == 6
    assert layered.triangles.faceted
    for name in ("faces", "weld", "culled"):
        assert torch.equal(getattr(layered.triangles, name), getattr(top, name)[layered.order])


def test_backs_of_closed_meshes_are_not_drawn():
    vertices, top = rectangles([FAR, NEAR], culled=torch.tensor([True, True, False, False]))
    turned = Triangles(top.faces.flip(1), instance=top.instance, culled=top.culled)
    colours = painted(RED, GREEN)
    alphas = [soft_layers(vertices, t, colours, image_size=SIZE)[1].sum() for t in (top, turned)]
    alone = soft_layers(*rectangles([NEAR]), painted(GREEN), image_size=SIZE)[1].sum()
    assert_close(min(alphas), alone)
    assert max(alphas) > 1.2 * alone


def test_layers_are_found_once_and_forgotten_with_their_triangles():
    vertices, top, colours = cutting_triangles(3)
    soft_layers(vertices, top, colours, image_size=SIZE)
    layered = weakref.ref(operator._layered(top))
    soft_layers(vertices, top, colours, image_size=SIZE)
    assert operator._layered(top) is layered()
    del top
    gc.collect()
    assert layered() is None


@pytest.mark.parametrize("batch", [1, 5])
def test_threads_change_no_bit(threads, batch):
    vertices, top, colours = cutting_triangles(8, batch)
    vertices, colours = vertices.float().requires_grad_(), PerCorner(colours.values.float())
    runs = []
    for count in [1, 3, 3, 3, 3]:
        threads(count)
        out = soft_layers(vertices, top, colours, image_size=SIZE)
        (grad,) = torch.autograd.grad(out[0].square().sum() + out[1].sum(), vertices)
        runs.append((*out, grad))
    for run in runs[1:]:
        assert torch.equal(run[0], runs[0][0])
        assert torch.equal(run[1], runs[0][1])
        assert torch.equal(run[2], runs[1][2])
    assert (runs[1][2] - runs[0][2]).norm() < 1e-5 * runs[0][2].norm()


# gradients


def random_layers(seed, count, low=0.02, high=0.98):
    layers = random(seed, 2, count, 3, 4, 5)
    layers[..., 3] = low + (high - low) * layers[..., 3]
    return layers


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("backgrounds", [1, 2])
def test_over_gradcheck(count, backgrounds):
    layers = random_layers(count, count).requires_grad_()
    background = random(9, backgrounds, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: soft_over(*a, 0.3), (layers, background))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("gamma", [1e-3, 0.3])
def test_over_matches_reference(count, gamma):
    """Coverages too that a blur left out of range, and ones of exactly 0 and 1, several at a pixel."""
    layers = random_layers(count, count, low=-0.2, high=1.2)
    layers[:, :, 0, :, 3] = layers[:, :, 0, :, 3].round()
    layers[:, :, 1, 0, 3] = 1.0
    layers.requires_grad_()
    background = random(9, 2, 3).requires_grad_()
    got, want = soft_over(layers, background, gamma), soft_over_reference(layers, background, gamma)
    cotangents = random(6, 2, 3, 4, 3) - 0.5, random(7, 2, 3, 4) - 0.5
    grads = [torch.autograd.grad(r, (layers, background), cotangents) for r in (got, want)]
    for a, b in zip((*got, *grads[0]), (*want, *grads[1]), strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-9 * float(b.detach().abs().max()))


def test_over_float32_close_to_float64():
    layers, background = random_layers(0, 4), random(9, 1, 3)
    runs = []
    for dtype in (torch.float32, torch.float64):
        leaf = layers.to(dtype).requires_grad_()
        colour, alpha = soft_over(leaf, background.to(dtype), 0.05)
        runs.append((colour, *torch.autograd.grad(colour.square().sum() + alpha.square().sum(), leaf)))
    for single, double in zip(*runs, strict=True):
        assert (single - double).norm() < 1e-5 * double.norm()


def test_layouts_of_cotangents_and_layers():
    """A sum's cotangent has stride 0, a permuted picture is not contiguous."""
    layers = random_layers(0, 2).movedim(-1, 0).contiguous().movedim(0, -1).requires_grad_()
    background = random(9, 3).requires_grad_()
    grads = [
        torch.autograd.grad(sum(x.sum() for x in f(layers, background, 0.1)), (layers, background))
        for f in (soft_over, soft_over_reference)
    ]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b)


def test_hidden_all_but_completely():
    """In float32 too, an object 60 gamma behind an opaque one keeps a transmission, and gradients."""
    layers = torch.zeros(1, 2, 1, 1, 5)
    layers[0, :, 0, 0] = torch.tensor([[1.0, 0, 0, 1, 1.0], [0, 1.0, 0, 1, 0.4]])
    layers.requires_grad_()
    colour, _ = soft_over(layers, torch.zeros(3), 0.01)
    (grad,) = torch.autograd.grad(colour[0, 0, 0, 1], layers)
    want = torch.tensor(math.exp(-60.0))
    assert_close(colour[0, 0, 0, 1], want, rtol=1e-3, atol=0)
    assert_close(grad[0, 1, 0, 0, 4], want / 0.01, rtol=1e-3, atol=0)


def depth_gradient():
    """Gradient in the corners' inverse depths of three triangles, and its differences: no contour moves."""
    corners = [[2, 1, 0.40], [17, 2, 0.45], [8, 14, 0.5], [3, 12, 0.48], [16, 13, 0.41], [9, 1, 0.44]]
    corners += [[1, 7, 0.42], [18, 6, 0.47], [10, 15, 0.43]]
    vertices = torch.tensor(corners, dtype=torch.float64)
    top = Triangles(torch.arange(9, dtype=torch.int32).view(3, 3), instance=torch.arange(3).int())
    colours = torch.eye(3, dtype=torch.float64).repeat_interleave(3, 0)  # one for each triangle
    cotangent = random(3, 1, *SIZE, 3)

    def loss(z):
        v = torch.cat([vertices[:, :2], z[:, None]], -1)
        return (soft_layers(v, top, colours, image_size=SIZE, gamma=0.03)[0] * cotangent).sum()

    z = vertices[:, 2].clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(z), z)
    step = 1e-3 * torch.eye(9, dtype=torch.float64)
    want = torch.stack([(loss(z.detach() + s) - loss(z.detach() - s)) / 2e-3 for s in step])
    return z.detach(), grad, want


def test_gradient_of_an_objects_depth():
    """All corners nearer by the same share: where their surfaces are seen stays."""
    z, *grads = depth_gradient()
    grad, want = ((z * g).view(3, 3).sum(1) for g in grads)
    assert want.abs().min() > 0.1
    assert_close(grad, want, rtol=1e-3, atol=0)


def test_gradient_of_each_corners_depth():
    _, grad, want = depth_gradient()
    error, cosine = agreement(grad, want)
    assert error < 1e-3
    assert cosine > 0.99999


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e12, 3e38, -0.5, 0.0, 1e-40])
def test_bad_vertices_give_finite_pictures_and_gradients(value):
    """Not finite, huge, at and behind the eye: no face of theirs is drawn, or it is clipped."""
    for axis in range(3):
        vertices, top, colours = cutting_triangles(0)
        vertices = vertices.float()
        vertices[2::5, axis] = value
        leaves = [vertices.requires_grad_(), colours.values.float().requires_grad_(), torch.rand(2)]
        leaves[2].requires_grad_()
        out = soft_layers(leaves[0], top, PerCorner(leaves[1]), image_size=SIZE, background=leaves[2])
        for x in (*out, *torch.autograd.grad(out[0].square().sum() + out[1].sum(), leaves)):
            assert x.isfinite().all()


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("gamma", [1e-300, 1e30])
def test_extreme_softness_gives_finite_gradients(sigma, gamma):
    """Ties in depth too."""
    vertices, top = rectangles([FAR, NEAR, NEAR, (3, 3, 3.001, 8, 1e8), (1, 1, 4, 9, 1e-8)])
    vertices.requires_grad_()
    colours = torch.rand(20, 3, generator=generator(0))
    out = soft_layers(vertices, top, colours, image_size=SIZE, sigma=sigma, gamma=gamma)
    for x in (*out, *torch.autograd.grad(out[0].square().sum() + out[1].sum(), vertices)):
        assert x.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": torch.zeros(8, 2)}, r"vertices must be float of shape \[B, V, 3\] or \[V, 3\]"),
        ({"vertices": torch.zeros(7, 3)}, "faces name vertex 7, but there are 7 vertices"),
        ({"vertices": torch.zeros(8, 3).half()}, "must be float32 or float64, got torch.float16"),
        ({"faces": torch.zeros(2, 3)}, r"faces must be int32 of shape \[F, 3\]"),
        (
            {"attributes": torch.zeros(7, 3)},
            r"attributes must have shape \[8, C\] or \[1, 8, C\], got \[7, 3\]",
        ),
        ({"attributes": torch.zeros(8, 3).double()}, "attributes must be torch.float32"),
        ({"attributes": PerCorner(torch.zeros(3, 3, 3))}, r"attributes must have shape \[4, 3, C\]"),
        ({"attributes": Texture(torch.zeros(2, 2, 3), torch.zeros(8, 2))}, "takes no texture"),
        ({"image_size": (0, 4)}, r"at least 1 x 1 px, got \(0, 4\)"),
        ({"sigma": -1.0}, "sigma must be a finite number of pixels, at least 0, got -1.0"),
        ({"sigma": math.nan}, "sigma must be a finite number"),
        ({"gamma": 0.0}, "gamma must be positive and finite, got 0.0"),
        ({"gamma": math.inf}, "gamma must be positive and finite, got inf"),
        ({"background": torch.zeros(4)}, r"background must have shape \[3\] or \[1, 3\], got \[4\]"),
        ({"background": torch.zeros(3).double()}, "background must be torch.float32"),
    ],
)
def test_rejects(change, message):
    vertices, top = rectangles([FAR, NEAR])
    arguments = {"vertices": vertices, "faces": top, "attributes": torch.zeros(8, 3)} | change
    with pytest.raises(ValueError, match=message):
        soft_layers(**({"image_size": SIZE} | arguments))


@pytest.mark.parametrize(
    ("layers", "gamma", "message"),
    [
        (torch.zeros(2, 4, 4, 5), 0.1, r"layers must have shape \[B, K, H, W, C \+ 2\], got \[2, 4, 4, 5\]"),
        (torch.zeros(1, 2, 4, 4, 2), 0.1, "layers must have shape"),
        (torch.zeros(1, 0, 4, 4, 5), 0.1, "layers must have shape"),
        (torch.zeros(1, 2, 4, 4, 5).int(), 0.1, "layers must be float32 or float64, got torch.int32"),
        (torch.zeros(1, 2, 4, 4, 5), -0.1, "gamma must be positive and finite, got -0.1"),
        (torch.zeros(1, 2, 4, 4, 6), 0.1, r"background must have shape \[4\] or \[1, 4\], got \[3\]"),
    ],
)
def test_over_rejects(layers, gamma, message):
    with pytest.raises(ValueError, match=message):
        soft_over(layers, torch.zeros(3), gamma)
