"""Shapes and textures: outward winding, closedness, creases, texture layout, bad parameters."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from scenes import shapes, textures, traffic

SOLIDS = {
    "box": (shapes.box([0.2, 0.3, 0.4]), 0.2 * 0.3 * 0.4),
    "pyramid": (shapes.pyramid(0.3, 0.2), 0.3**2 * 0.2 / 3),
    "sphere": (shapes.sphere(0.5, segments=64, rings=32), 4 / 3 * np.pi * 0.5**3),
    "torus": (shapes.torus(0.4, 0.1, segments=64, sides=32), 2 * np.pi**2 * 0.4 * 0.1**2),
    "lathe": (shapes.lathe([[0, 0], [0.2, 0], [0.2, 0.5], [0, 0.5]], segments=64), np.pi * 0.2**2 * 0.5),
    "extrusion": (shapes.extrusion([[-1, 0], [1, 0], [0.5, 1], [-0.5, 1]], 0.4), 1.5 * 0.4),
    "loft": (shapes.loft([[[0, 0, 0], [2, 0, 0], [0, 2, 0]], [[0, 0, 3], [1, 0, 3], [0, 1, 3]]]), 3.5),
    "tube": (shapes.tube([[0, 0], [0, 1]], 0.1, sides=64), np.pi * 0.1**2),
}


def volume(mesh):
    a, b, c = mesh.vertices[mesh.faces].astype(float).transpose(1, 0, 2)
    return (a * np.cross(b, c)).sum() / 6


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed_and_wind_outwards(name):
    """Positive and right volume: within 1.5 %, what facets of 64 and 32 sides leave out."""
    mesh, expected = SOLIDS[name]
    assert mesh.closed
    assert_allclose(volume(mesh), expected, rtol=0.015)


@pytest.mark.parametrize("name", [*SOLIDS, "mug", "plane"])
def test_normals_are_unit_and_on_the_outside(name):
    mesh = {"mug": shapes.mug(), "plane": shapes.plane()}.get(name) or SOLIDS[name][0]
    a, b, c = mesh.vertices[mesh.faces].astype(float).transpose(1, 0, 2)
    flat = np.cross(b - a, c - a)
    assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)
    assert ((mesh.normals[mesh.faces] * flat[:, None]).sum(-1) > 0).all()


def test_box_stands_on_the_ground_and_is_split_at_its_edges():
    mesh = shapes.box([0.2, 0.3, 0.4])
    assert_allclose(mesh.vertices.min(0), [-0.1, 0, -0.2], atol=1e-7)
    assert_allclose(mesh.vertices.max(0), [0.1, 0.3, 0.2], atol=1e-7)
    assert len(mesh.vertices) == 24
    assert_allclose(np.abs(mesh.normals).max(1), 1, atol=1e-6)


def test_box_faces_show_their_colour_and_cell():
    """Face +y is the third colour and the third cell of the upper row, -z the last of the lower row."""
    colours = np.linspace(0, 1, 18).reshape(6, 3)
    mesh = shapes.box(face_colours=colours, centred=True)
    top, back = mesh.normals[:, 1] > 0.9, mesh.normals[:, 2] < -0.9
    assert_allclose(mesh.colours[top], np.tile(colours[2], (4, 1)), atol=1e-6)
    assert_allclose(mesh.colours[back], np.tile(colours[5], (4, 1)), atol=1e-6)
    assert_allclose(mesh.uv[top].mean(0), [2.5 / 3, 0.25], atol=1e-6)
    assert_allclose(mesh.uv[back].mean(0), [2.5 / 3, 0.75], atol=1e-6)
    assert_allclose(mesh.vertices.mean(0), 0, atol=1e-7)


def test_front_face_reads_upright():
    """Seen from +z, the texture's top-left corner is at the face's upper left."""
    mesh = shapes.box()
    front = np.flatnonzero(mesh.normals[:, 2] > 0.9)
    corner = front[mesh.uv[front].sum(1).argmin()]
    assert_allclose(mesh.vertices[corner], [-0.5, 1.0, 0.5], atol=1e-6)


def test_sphere_is_smooth():
    mesh = shapes.sphere(0.5)
    assert_allclose(mesh.normals, (mesh.vertices - [0, 0.5, 0]) / 0.5, atol=0.02)


def test_crease_angle_decides():
    """Two triangles that meet at 30 degrees share their edge's vertices only above that angle."""
    tilt = np.radians(30)
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -np.cos(tilt), np.sin(tilt)]])
    faces = np.array([[0, 1, 2], [1, 0, 3]])
    assert len(shapes.split_at_creases(vertices, faces, crease_degrees=35).vertices) == 4
    assert len(shapes.split_at_creases(vertices, faces, crease_degrees=25).vertices) == 6


def test_faces_without_area_are_dropped():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    mesh = shapes.split_at_creases(vertices, np.array([[0, 1, 2], [0, 1, 1]]))
    assert len(mesh.faces) == 1


def test_a_vertex_of_very_many_faces_is_cheap_and_keeps_flat_normals():
    count = 3000
    angle = 2 * np.pi * np.arange(count) / count
    rim = np.stack([np.cos(angle), np.zeros(count), -np.sin(angle)], 1)
    faces = np.stack([np.zeros(count, int), 1 + np.arange(count), 1 + np.roll(np.arange(count), -1)], 1)
    mesh = shapes.split_at_creases(np.concatenate([[[0, 0.5, 0]], rim]), faces)
    assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-6)


def test_lathe_turns_from_front_to_right_and_tells_bad_profiles():
    """u = 0 lies at +z and a quarter of the picture later at +x."""
    mesh = shapes.lathe([[0.1, 0], [0.1, 0.2]], segments=12)
    quarter = np.isclose(mesh.uv[:, 0], 0.25)
    assert_allclose(mesh.vertices[quarter][:, [0, 2]], [[0.1, 0], [0.1, 0]], atol=1e-6)
    assert_allclose(mesh.vertices[np.isclose(mesh.uv[:, 1], 0)][:, 1], 0.2, atol=1e-6)
    with pytest.raises(ValueError, match="at least two points"):
        shapes.lathe([[0.1, 0]])
    with pytest.raises(ValueError, match=r"negative radius: -0\.1"):
        shapes.lathe([[-0.1, 0], [0.1, 1]])


def test_smooth_lathe_stays_between_its_ends():
    mesh = shapes.lathe([[0, 0], [0.05, 0], [0.06, 0.03], [0, 0.1]], smooth=5)
    assert mesh.vertices[:, 1].min() == 0
    assert mesh.vertices[:, 1].max() <= np.float32(0.1)
    assert mesh.closed


def test_bevelled_extrusion_keeps_its_outline_and_narrows_its_sides():
    square = [[0, 0], [2, 0], [2, 2], [0, 2]]
    mesh = shapes.extrusion(square, 1.0, bevel=0.2, edge_colours=np.eye(4)[:, :3].tolist())
    assert_allclose(np.ptp(mesh.vertices, axis=0), [2, 2, 1])
    side = mesh.vertices[mesh.vertices[:, 2] > 0.49]
    assert_allclose(side.min(0), [0.2, 0.2, 0.5], atol=1e-6)
    assert mesh.closed
    below = np.abs(mesh.normals[:, 1] + 1) < 1e-6
    assert_allclose(mesh.colours[below], np.tile([1, 0, 0], (below.sum(), 1)))
    assert_allclose(mesh.colours[mesh.normals[:, 2] > 0.99], 1)


def test_extrusions_show_the_whole_texture_upright():
    mesh = shapes.extrusion([[-1, 0], [1, 0], [1, 3], [-1, 3]], 0.2)
    corner = mesh.vertices[mesh.uv.sum(1).argmin()]
    assert_allclose(corner[:2], [-1, 3])
    assert_allclose(np.ptp(mesh.uv, axis=0), 1)


def test_bad_outlines_are_told():
    with pytest.raises(ValueError, match="at least three points"):
        shapes.extrusion([[0, 0], [1, 0]], 1.0)
    with pytest.raises(ValueError, match="counter-clockwise, every point in sight"):
        shapes.extrusion([[0, 0], [0, 1], [1, 1], [1, 0]], 1.0)
    with pytest.raises(ValueError, match=r"bevel must lie in \[0, thickness / 2 = 0.5\), got 0.6"):
        shapes.extrusion([[0, 0], [1, 0], [0, 1]], 1.0, bevel=0.6)
    with pytest.raises(ValueError, match="edge_colours must be 3 linear colours"):
        shapes.extrusion([[0, 0], [1, 0], [0, 1]], 1.0, edge_colours=[[1, 1, 1]])
    with pytest.raises(ValueError, match="rings must be two or more of three or more"):
        shapes.loft([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]])


def test_road_is_level_and_its_strips_tile_it():
    """3 lanes of 4 m: two dashed lines of 15 cm, dashes of 3 m in 9 m; edge lines never end."""
    mesh = traffic.road(lanes=3, lane_width=4.0, length=90.0, verge=10.0, pavement=2.0)
    a, b, c = mesh.vertices[mesh.faces].astype(float).transpose(1, 0, 2)
    area = np.cross(b - a, c - a)[:, 1] / 2
    assert (area > 0).all()
    assert_allclose(area.sum(), 90 * 2 * (6 + 0.2 + 2 + 10), rtol=1e-5)
    white = np.abs(mesh.colours[mesh.faces] - traffic.LINE).max((1, 2)) < 1e-4
    middle = np.abs(mesh.vertices[mesh.faces, 0]).max(1) < 2.2
    assert_allclose(area[white & middle].sum(), 2 * 0.15 * 30, rtol=1e-4)
    assert_allclose(area[white & ~middle].sum(), 2 * 0.15 * 90, rtol=1e-4)


def test_signs_and_vehicles_tell_what_does_not_fit():
    body, pillars = [[2, 0.3], [2, 1], [-2, 1], [-2, 0.3]], [[1, 0.8], [-1, -0.8]]
    rest = {"belt": 0.9, "roof": 1.5, "pillars": pillars, "axles": [1, -1]}
    with pytest.raises(ValueError, match=r"trim must name edges of the body, 0 to 3, got \[4\]"):
        traffic.vehicle(1.8, body, **rest, trim=[4])
    with pytest.raises(ValueError, match="2 pillars have 1 bays between them, glazed is 2"):
        traffic.vehicle(1.8, body, **rest, glazed=2)
    with pytest.raises(ValueError, match=r"bands must increase from above 0 to 1, one for each of 2 colours"):
        traffic.sign(8, 0.4, 1.5, bands=[0.5, 0.9], colours=[[1, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("name", ["checker", "wood", "grain", "can_label", "book_cover", "carton"])
def test_textures_are_the_same_each_time(name):
    make = textures.TEXTURES[name]
    first = make()
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert_array_equal(first, make())
    assert first.std() > 5


def test_rings_run_level_and_wedges_upright():
    red, white = (1, 0, 0), (1, 1, 1)
    level = textures.rings([red, white], [0.25, 1.0], size=64)
    assert (level == level[:, :1]).all()
    assert_array_equal(level[[15, 16], 0], [[255, 0, 0], [255, 255, 255]])
    upright = textures.wedges([red, white], size=32)
    assert (upright == upright[:1]).all()
    assert_array_equal(upright[0, [0, -1]], [[255, 0, 0], [255, 255, 255]])
