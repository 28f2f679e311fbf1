"""Projection, packing and the near plane: by hand, by differences, by what a ray through a pixel meets."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from small_world import cuboid, small_world
from torch.testing import assert_close

from render.geometry import NEAR, assemble
from scenes import Asset


def ground(y=-0.5, reach=10.0):
    """An open sheet that reaches behind the camera of `small_world`."""
    corners = np.array(
        [[-reach, y, reach], [reach, y, reach], [reach, y, -reach], [-reach, y, -reach]], np.float32
    )
    return Asset(
        name="ground",
        vertices=corners,
        faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        normals=np.tile(np.float32([0, 1, 0]), (4, 1)),
        colours=np.full((4, 3), 0.5, np.float32),
        uv=np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32),
        texture=np.zeros((4, 4, 3), np.uint8),
    )


def grounded():
    return replace(small_world(), scenery=(ground(),))


def three_scenes(world, dtype=torch.float32):
    """Two boxes in the first scene, none in the second, one in the third's last slot."""
    scene = world.empty(3)
    asset = torch.tensor([[0, 1, -1], [-1, -1, -1], [-1, -1, 1]])
    translation = torch.tensor([[0.3, -0.2, -1.0], [-0.5, 0.1, 0.5], [0.0, 0.0, 0.0]]).expand(3, 3, 3)
    rotation = torch.nn.functional.normalize(torch.tensor([0.1, 0.7, -0.2, 0.9]), dim=0).expand(3, 3, 4)
    scene = replace(scene, asset=asset, translation=translation, rotation=rotation)
    return scene._map(lambda t: t.to(dtype) if t.is_floating_point() else t)


def test_projects_by_hand():
    """A point 0.2 m right, 0.1 m up and 5.1 m away from the eye; focal length 30 px, centre (16, 12)."""
    world = small_world()
    scene = replace(
        world.empty(),
        asset=torch.tensor([[0, -1, -1]]),
        translation=torch.zeros(1, 3, 3),
        scale=torch.ones(1, 3),
    )
    geometry = assemble(world, scene, (24, 32))
    corner = np.flatnonzero((world.assets[0].vertices == np.float32([0.2, 0.1, -0.1])).all(1))[0]
    want = torch.tensor([16 + 30 * 0.2 / 5.1, 12 - 30 * 0.1 / 5.1, 1 / 5.1])
    assert_close(geometry.vertices[corner], want)


def test_scales_with_size():
    world = grounded()
    small, large = (assemble(world, three_scenes(world), s).vertices for s in ((24, 32), (48, 64)))
    assert_close(large, small * torch.tensor([2.0, 2.0, 1.0]))


def test_packs_scene_after_scene():
    world = grounded()
    geometry = assemble(world, three_scenes(world), (24, 32))
    triangles = geometry.triangles
    assert triangles.image.tolist() == sorted(triangles.image.tolist())
    present = {(int(i), int(s)) for i, s in zip(triangles.image, triangles.instance, strict=True)}
    assert present == {(0, 0), (0, 1), (0, 3), (1, 3), (2, 2), (2, 3)}
    welds = [set(triangles.weld[triangles.image == i].flatten().tolist()) for i in range(3)]
    assert not welds[0] & welds[1]
    assert not welds[1] & welds[2]
    boxes = triangles.instance < 3
    assert triangles.culled[boxes].all()
    assert not triangles.culled[~boxes].any()
    assert set(geometry.texture[~boxes].tolist()) == {2}
    assert set(geometry.texture[boxes].tolist()) == {-1}


def test_welds_a_box_into_eight_corners():
    world = small_world()
    scene = replace(world.empty(), asset=torch.tensor([[0, 1, -1]]))
    geometry = assemble(world, scene, (24, 32))
    triangles = geometry.triangles
    assert len(triangles.weld.unique()) == 16
    for index in triangles.weld.unique():
        copies = geometry.vertices[triangles.faces[triangles.weld == index].long()]
        assert (copies == copies[0]).all()


def test_one_batch_equals_scenes_alone():
    world = grounded()
    scene = three_scenes(world)
    whole = assemble(world, scene, (24, 32))
    for i in range(3):
        alone = assemble(world, scene[i], (24, 32))
        here = whole.triangles.faces[whole.triangles.image == i].long()
        for name in ("vertices", "positions", "normals", "colours", "uv"):
            assert_close(
                getattr(whole, name)[here],
                getattr(alone, name)[alone.triangles.faces.long()],
                rtol=0,
                atol=1e-6,
            )


def test_cut_ground_is_where_rays_meet_it():
    """Each pixel below the horizon sees the plane y = -0.5 at its ray's depth; nothing is seen above."""
    from render.raster import rasterize

    world = grounded()
    geometry = assemble(world, world.empty(), (24, 32))
    assert len(geometry.vertices) > 4, "the sheet crosses the near plane and must have been cut"
    raster = rasterize(geometry.vertices, geometry.triangles, image_size=(24, 32))
    down = (torch.arange(24) + 0.5 - 12) / 30
    depth = torch.where(down > 0, 0.5 / down, torch.inf)
    seen = (depth < 15.0) & (depth > 0)  # the sheet ends 15 m before the eye
    want = torch.where(seen, 1.0 / depth, 0.0)[:, None].expand(-1, 32)
    assert_close(raster.inverse_depth[0], want, rtol=1e-4, atol=0)


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("behind", [[0], [0, 1], [0, 1, 2]])
def test_cuts_a_triangle(turn, behind):
    """What remains before the near plane, from any first vertex: its area, its winding, its plane."""
    corners = np.array([[-1.0, 0.0, 3.0], [1.0, 0.0, 3.0], [0.0, 1.0, 3.0]], np.float32)
    corners[behind, 2] = 7.0  # the eye is at z = 5
    sheet = replace(ground(), vertices=corners, faces=np.roll([[0, 1, 2]], turn, axis=1).astype(np.int32))
    sheet = replace(sheet, normals=sheet.normals[:3], colours=sheet.colours[:3], uv=sheet.uv[:3])
    world = replace(small_world(), scenery=(sheet,))
    geometry = assemble(world, world.empty(), (24, 32))
    assert len(geometry.triangles.faces) == {1: 2, 2: 1, 3: 0}[len(behind)]
    points = geometry.positions[geometry.triangles.faces.long()]
    got = torch.linalg.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]).sum(0)
    corners = torch.from_numpy(corners)
    whole = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])
    kept = (2.0 - NEAR) / 4.0  # of an edge that crosses, the share before the near plane
    share = {1: 1 - (1 - kept) ** 2, 2: kept**2, 3: 0.0}[len(behind)]
    assert_close(got, share * whole, rtol=1e-4, atol=1e-5)
    assert (points[..., 2] <= 5.0 - NEAR + 1e-5).all()


def test_cut_edges_stay_welded():
    """The two halves of the sheet share the new vertex on their diagonal, bit for bit."""
    world = grounded()
    geometry = assemble(world, world.empty(), (24, 32))
    triangles = geometry.triangles
    new = triangles.faces >= 4
    groups = [triangles.faces[triangles.weld == w].unique().long() for w in triangles.weld[new].unique()]
    assert sorted(len(g) for g in groups) == [1, 1, 2]
    for group in groups:
        assert (geometry.vertices[group] == geometry.vertices[group[0]]).all()


@pytest.mark.parametrize("what", ["vertices", "positions", "normals", "colours"])
def test_gradients(what):
    """Every number of the scene, against float64 differences, with a ground cut by the near plane."""
    world = grounded()
    scene = three_scenes(world, torch.float64)[[0, 2]]
    objects = ["rotation", "translation", "scale", "colour"]
    camera = ["rotation", "translation", "focal", "centre"]

    def value(*numbers):
        changed = replace(scene, **dict(zip(objects, numbers[:4], strict=True)))
        lens = replace(scene.camera, **dict(zip(camera, numbers[4:], strict=True)))
        geometry = assemble(world, replace(changed, camera=lens), (24, 32))
        assert len(geometry.vertices) > len(geometry._layout.positions), "the near plane must take part"
        return getattr(geometry, what)[geometry.triangles.faces.unique().long()]

    numbers = [getattr(scene, f) for f in objects] + [getattr(scene.camera, f) for f in camera]
    numbers = [n.clone().requires_grad_() for n in numbers]
    # Vertices on the near plane are thousands of pixels away: their differences need a common scale.
    size = value(*numbers).detach().abs().clamp_min(1.0)
    assert torch.autograd.gradcheck(lambda *n: value(*n) / size, numbers, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_empty():
    world = small_world()
    for batch in ([], [0, 1]):
        geometry = assemble(world, world.empty(2)[batch], (4, 4))
        assert geometry.triangles.faces.shape == (0, 3)
        assert geometry.vertices.shape == (0, 3)


def test_all_behind_is_nothing():
    world = small_world()
    scene = replace(world.empty(), asset=torch.tensor([[0, -1, -1]]), translation=torch.full((1, 3, 3), 9.0))
    geometry = assemble(world, scene, (24, 32))
    assert len(geometry.triangles.faces) == 0
    assert geometry.vertices.isfinite().all()


def test_layouts_are_kept_by_content():
    world = small_world()
    scene = three_scenes(world)
    first, again = (assemble(world, scene, (24, 32)) for _ in range(2))
    other = assemble(world, replace(scene, asset=scene.asset.flip(0)), (24, 32))
    assert first._layout is again._layout
    assert other._layout is not first._layout


@pytest.mark.parametrize(("asset", "size", "message"), [(5, (8, 8), "scene.asset"), (0, (0, 8), "size")])
def test_rejects(asset, size, message):
    world = small_world()
    scene = replace(world.empty(), asset=torch.tensor([[asset, -1, -1]]))
    with pytest.raises(ValueError, match=message):
        assemble(world, scene, size)


def test_world_of_one_texture():
    """An asset without uv has no texture to look up, whatever its picture."""
    box = cuboid("box", (1, 1, 1), texture=np.zeros((2, 2, 3), np.uint8))
    assert {f.name for f in fields(box)} >= {"texture", "uv"}
    world = replace(small_world(), assets=(box,))
    geometry = assemble(world, replace(world.empty(), asset=torch.tensor([[0, -1, -1]])), (8, 8))
    assert (geometry.texture == -1).all()
