"""Clipping at the near plane: what is left, its edges, and gradients through the cut."""

import pytest
import torch
from torch.testing import assert_close

from render.clipping import clip_near
from render.raster import rasterize
from render.triangles import Triangles

FAN = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4]], dtype=torch.int32)
POINTS = torch.tensor(  # camera coordinates: looks along -z
    [[0.0, -0.5, 1.0], [-1.0, -0.5, -1.0], [-0.4, -0.3, -2.0], [0.6, -0.4, -2.5], [1.0, -0.5, -1.5]]
)


def project(points, f=20.0):
    inverse_depth = 1.0 / -points[:, 2]
    return torch.stack(
        [points[:, 0] * inverse_depth * f + 16, 12 - points[:, 1] * inverse_depth * f, inverse_depth], 1
    )


def test_nothing_to_cut():
    assert clip_near(torch.ones(5), Triangles(FAN), 0.1) is None
    assert clip_near(-torch.ones(5), Triangles(FAN[:0]), 0.1) is None


def test_faces_that_lose_a_corner_become_two():
    cut = clip_near(-POINTS[:, 2], Triangles(FAN), 0.1)
    assert cut.origin.tolist() == [0, 0, 1, 1, 2, 2]
    points = cut.extend(POINTS)
    assert_close(-points[5:, 2], torch.full((len(points) - 5,), 0.1))
    assert (-points[cut.triangles.faces.long(), 2] >= 0.1 - 1e-6).all()


def test_two_corners_behind_leave_a_tip_and_three_nothing():
    depth = torch.tensor([-1.0, -1.0, 2.0, -3.0, -2.0])
    cut = clip_near(depth, Triangles(FAN), 0.1)
    assert cut.origin.tolist() == [0, 1]


def test_neighbours_stay_neighbours():
    """The cut faces still touch: the fan's inner edges are no borders."""
    cut = clip_near(-POINTS[:, 2], Triangles(FAN), 0.1)
    top = cut.triangles
    assert (top.edges[:, 5] >= 0).sum() == 5  # two inner edges, and one inside each face that became two
    points = cut.extend(POINTS)
    for index in top.weld.unique():
        copies = points[top.faces[top.weld == index].long()]
        assert (copies == copies[0]).all()


def test_pictures_objects_and_culling_are_kept():
    top = Triangles(
        FAN,
        image=torch.tensor([0, 1, 1], dtype=torch.int32),
        image_count=2,
        instance=torch.tensor([4, 5, 6], dtype=torch.int32),
        culled=torch.tensor([True, False, True]),
    )
    cut = clip_near(-POINTS[:, 2], top, 0.1)
    for name in ("image", "instance", "culled"):
        assert torch.equal(getattr(cut.triangles, name), getattr(top, name)[cut.origin])
    assert cut.triangles.image_count == 2
    assert cut.follow(torch.arange(5))[5:].tolist() == cut.inside.tolist()


def test_what_is_seen_does_not_change():
    """A plane that reaches behind the eye is seen where its rays meet it."""
    cut = clip_near(-POINTS[:, 2], Triangles(FAN), 0.05)
    raster = rasterize(project(cut.extend(POINTS)), cut.triangles, image_size=(24, 32))
    nearer = clip_near(-POINTS[:, 2], Triangles(FAN), 0.2)
    other = rasterize(project(nearer.extend(POINTS)), nearer.triangles, image_size=(24, 32))
    both = (raster.face >= 0) & (other.face >= 0)
    assert both.sum() > 60
    assert_close(raster.inverse_depth[both], other.inverse_depth[both], rtol=1e-4, atol=0)
    assert ((raster.face >= 0) >= (other.face >= 0)).all()


def test_gradients_through_the_cut():
    def vertices(points):
        return project(clip_near(-points[:, 2], Triangles(FAN), 0.3).extend(points))[5:]

    assert torch.autograd.gradcheck(vertices, POINTS.double().requires_grad_())


def test_rejects():
    with pytest.raises(ValueError, match="near must be positive, got 0"):
        clip_near(torch.ones(5), Triangles(FAN), 0.0)
