"""Triangles: the edges and neighbours of meshes, what operators are given, and what they refuse."""

import pytest
import torch

from render.attributes import PerCorner, Texture, carried
from render.triangles import Triangles, packed


def tetrahedron():
    return torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], dtype=torch.int32)


def test_edges_of_a_tetrahedron():
    top = Triangles(tetrahedron())
    assert len(top.edges) == 6
    assert {tuple(e) for e in top.edges[:, :2].tolist()} == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    for u, v, apex, other, face, beyond, crease, image in top.edges.tolist():
        for third, f in ((apex, face), (other, beyond)):
            assert {u, v, third} == set(top.faces[f].tolist())
        assert (crease, image) == (0, 0)
    assert len(top.group.unique()) == 1


def test_neighbours_share_the_edge_opposite():
    top = Triangles(tetrahedron())
    for f, corners in enumerate(top.faces.tolist()):
        for k in range(3):
            edge = set(corners) - {corners[k]}
            other = int(top.neighbours[f, k])
            assert other != f
            assert edge <= set(top.faces[other].tolist())


def test_border_has_no_neighbour():
    top = Triangles(torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32))
    assert top.neighbours.tolist() == [[-1, 1, -1], [-1, -1, 0]]
    assert (top.edges[:, 5] < 0).sum() == 4


def test_copies_of_a_position_make_creases():
    weld = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    top = Triangles(torch.tensor([[0, 1, 2], [4, 2, 3]], dtype=torch.int32), weld=weld)
    assert top.edges[:, 6].sum() == 1
    apart = Triangles(torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32), weld=weld)
    assert apart.edges[:, 6].sum() == 1
    assert apart.group.tolist() == [0, 1]


def test_faceted_meshes_are_all_creases():
    top = Triangles(tetrahedron(), faceted=True)
    assert top.edges[:, 6].all()
    assert top.group.tolist() == [0, 1, 2, 3]


def test_pictures_keep_their_edges():
    image = torch.tensor([0, 0, 1, 1], dtype=torch.int32)
    top = Triangles(tetrahedron() + 4 * (image[:, None] == 1).int(), image=image, image_count=2)
    assert top.edges[:, 7].tolist() == sorted(top.edges[:, 7].tolist())
    assert set(top.image[top.edges[:, 4].long()].tolist()) == {0, 1}


def test_no_faces():
    top = Triangles(torch.zeros(0, 3, dtype=torch.int32))
    assert top.edges.shape == (0, 8)
    assert top.neighbours.shape == (0, 3)
    assert top.group.shape == (0,)


def test_bare_faces_are_remembered_until_they_change():
    faces, vertices = tetrahedron(), torch.zeros(4, 3)
    first, again = (packed(vertices, faces)[1] for _ in range(2))
    assert first is again
    faces[0, 0] = 3
    assert packed(vertices, faces)[1] is not first


def test_packs_copies_one_after_another():
    vertices = torch.rand(5, 4, 3)
    flat, _, copies = packed(vertices, tetrahedron())
    assert copies == 5
    assert torch.equal(flat[4:8], vertices[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faces": torch.zeros(4, 3)}, r"faces must be int32 of shape \[F, 3\], got torch.float32 \[4, 3\]"),
        ({"weld": torch.zeros(4, dtype=torch.int32)}, r"weld must be torch.int32 of shape \[4, 3\]"),
        ({"image": torch.zeros(3, dtype=torch.int32)}, r"image must be torch.int32 of shape \[4\]"),
        ({"instance": torch.zeros(4)}, "instance must be torch.int32"),
        ({"culled": torch.zeros(4)}, "culled must be torch.bool"),
        ({"image_count": -1}, "image_count must be 0 or more"),
    ],
)
def test_triangles_reject(options, message):
    with pytest.raises(ValueError, match=message):
        Triangles(**{"faces": tetrahedron()} | options)


def corner_values(attributes, copies=1):
    """Values [copies, F, 3, C] as a kernel would read them."""
    top = Triangles(tetrahedron())
    got = carried(attributes, torch.zeros(copies, 4, 3), top, copies)
    rows = torch.arange(copies)[:, None, None] * got.stride + got.index[None]
    return got, got.values[rows]


def test_attributes_per_vertex_and_per_corner_say_the_same():
    vertex = torch.rand(4, 5)
    corner = vertex[tetrahedron().long()]
    for attributes in (vertex, PerCorner(corner), vertex.expand(1, 4, 5), PerCorner(corner[None])):
        assert torch.equal(corner_values(attributes)[1][0], corner)
    many = torch.rand(3, 4, 5)
    for attributes in (many, PerCorner(many[:, tetrahedron().long()])):
        assert torch.equal(corner_values(attributes, copies=3)[1], many[:, tetrahedron().long()])


def test_texture_carries_uv():
    texels = torch.rand(6, 7, 3)
    got, uv = corner_values(Texture(texels, torch.rand(4, 2)), copies=2)
    assert got.channels == 3
    assert uv.shape[-1] == 2
    assert got.texels.shape == (1, 6, 7, 3)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (torch.zeros(5, 3), r"attributes must have shape \[4, C\] or \[1, 4, C\], got \[5, 3\]"),
        (torch.zeros(2, 4, 3), "attributes must have shape"),
        (PerCorner(torch.zeros(3, 3, 2)), r"attributes must have shape \[4, 3, C\]"),
        (torch.zeros(4, 3).double(), "attributes must be torch.float32 on cpu"),
        (torch.zeros(4, 0), "attributes must have at least 1 channel"),
        (Texture(torch.zeros(2, 2, 3), torch.zeros(4, 3)), "uv must have 2 channels, got 3"),
        (Texture(torch.zeros(2, 3), torch.zeros(4, 2)), r"texels must have shape \[H, W, C\]"),
        (Texture(torch.zeros(0, 2, 3), torch.zeros(4, 2)), "at least 1"),
    ],
)
def test_attributes_reject(attributes, message):
    with pytest.raises(ValueError, match=message):
        corner_values(attributes)
