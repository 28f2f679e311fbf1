"""Geometry: the triangles of a batch of scenes on the screen, differentiably."""

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render.clipping import Clipped, clip_near
from render.triangles import Triangles
from scenes import Asset, Scene, World
from scenes.scene import matrix

NEAR = 0.01  # [m] distance of the near plane, along the camera's -z; what is nearer is cut away

_LAYOUTS_KEPT = 16  # a layout of 16 tabletop scenes takes a few MB


@dataclass(frozen=True, eq=False)
class Geometry:
    """All triangles of a batch of scenes, packed one scene after another.

    Scenes may hold different assets, so that there is no [B, V] axis. Vertices made by the near plane come
    after all others.

    `positions`, `normals`, `colours` and `uv` are computed at their first use: gradients of silhouettes
    alone do without them.

    Attributes:
        vertices: (x px, y px, 1/depth 1/m), depth measured along the camera's -z, [V, 3]. Differentiable in
            the scene's rotation, translation, scale and camera. Vertices behind the near plane hold finite
            numbers without meaning; no face uses them.
        triangles: The faces. Their instance is the scene's slot, or S + i for world.scenery[i]; the backs of
            watertight meshes are culled.
        texture: Index into `assets(world)` of the face's texture, -1 where it has none, int32 [F].
        specular: Strength of the highlight, [F].
        shininess: Its exponent, [F].
        size: (height, width) [px] of the picture the vertices are meant for.
    """

    vertices: Float[Tensor, "vertex 3"]
    triangles: Triangles
    texture: Int[Tensor, "face"]
    specular: Float[Tensor, "face"]
    shininess: Float[Tensor, "face"]
    size: tuple[int, int]
    _layout: "_Layout"
    _placement: "_Placement"
    _cut: Clipped | None

    @cached_property
    def image_of_vertex(self) -> Int[Tensor, "vertex"]:
        """Which scene a vertex belongs to, int64 [V]."""
        return (
            self._layout.image_of_vertex
            if self._cut is None
            else self._cut.follow(self._layout.image_of_vertex)
        )

    @cached_property
    def positions(self) -> Float[Tensor, "vertex 3"]:
        """Vertices in the world [m], differentiable, [V, 3]."""
        place = self._placement
        return self._extend(self._layout.transform(self._layout.positions, place.linear, place.offset))

    @cached_property
    def normals(self) -> Float[Tensor, "vertex 3"]:
        """Unit normals in the world, differentiable, [V, 3]."""
        return self._extend(self._layout.transform(self._layout.normals, self._placement.rotation, None))

    @cached_property
    def colours(self) -> Float[Tensor, "vertex 3"]:
        """Linear albedo without texture, times the slot's tint, differentiable in the tint, [V, 3]."""
        layout = self._layout
        return self._extend(layout.colours.to(self.vertices.dtype) * self._placement.tint[layout.owner])

    @cached_property
    def uv(self) -> Float[Tensor, "vertex 2"]:
        """Texture coordinates, 0 where a mesh has none, [V, 2]."""
        return self._extend(self._layout.uv.to(self.vertices.dtype))

    def _extend(self, attribute: Tensor) -> Tensor:
        return attribute if self._cut is None else self._cut.extend(attribute)


@dataclass(frozen=True, eq=False)
class _Placement:
    """Where each instance stands: rotation, linear (rotation times scale) [I, 3, 3], offset, tint [I, 3]."""

    rotation: Tensor
    linear: Tensor
    offset: Tensor
    tint: Tensor


def assets(world: World) -> tuple[Asset, ...]:
    """The world's assets, then its scenery: what `Geometry.texture` counts through."""
    return (*world.assets, *world.scenery)


def seen_from_behind(corner: Float[Tensor, "face 3 3"]) -> Bool[Tensor, "face"]:
    """True for screen triangles [P, 3, 3] whose back is seen: their area is positive, as y runs down."""
    u, v = corner[:, 1, :2] - corner[:, 0, :2], corner[:, 2, :2] - corner[:, 0, :2]
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] > 0


def assemble(world: World, scene: Scene, size: tuple[int, int]) -> Geometry:
    """Project all triangles of a batch of scenes to the screen, cutting off what is before the near plane.

    Args:
        world: Whose assets and scenery are meant.
        scene: B scenes, on the CPU or a GPU, float32 or float64. Gradients flow to rotation, translation,
            scale, camera and, by `Geometry.colours`, to colour.
        size: (height, width) [px] to draw; focal length and principal point are scaled to it.

    Raises:
        ValueError: If an asset's index is not one of the world's, or the size is not positive.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be (height, width) of at least 1 px, got {size}")
    layout = _layout(world, scene.asset)
    place = _placement(layout, scene)
    camera = scene.camera
    camera_from_world = matrix(camera.rotation).transpose(-1, -2)[layout.image_of_instance]
    eye = camera.translation[layout.image_of_instance]
    linear = camera_from_world @ place.linear
    offset = (camera_from_world @ (place.offset - eye)[..., None])[..., 0]
    zoom = camera.focal.new_tensor([width / camera.width, height / camera.height])
    focal, centre = camera.focal * zoom, camera.centre * zoom
    seen = layout.transform(layout.positions, linear, offset)  # camera coordinates
    faces, cut = layout.faces, clip_near(-seen[:, 2], layout.faces.triangles, NEAR)
    if cut is not None:
        seen, faces = cut.extend(seen), faces.cut(cut)
    inverse_depth = 1.0 / (-seen[:, 2]).clamp_min(NEAR)
    image_of_vertex = layout.image_of_vertex
    if cut is not None:
        image_of_vertex = cut.follow(image_of_vertex)
    lens = torch.cat([focal * focal.new_tensor([1.0, -1.0]), centre], -1)  # image rows run downwards
    lens = lens.index_select(0, image_of_vertex)
    x = seen[:, 0] * inverse_depth * lens[:, 0] + lens[:, 2]
    y = seen[:, 1] * inverse_depth * lens[:, 1] + lens[:, 3]
    vertices = torch.stack([x, y, inverse_depth], -1)
    return Geometry(
        vertices=vertices,
        triangles=faces.triangles,
        texture=faces.texture,
        specular=faces.specular,
        shininess=faces.shininess,
        size=size,
        _layout=layout,
        _placement=place,
        _cut=cut,
    )


@dataclass(frozen=True, eq=False)
class _Faces:
    """The faces of a batch, and what `Geometry` has for each."""

    triangles: Triangles
    texture: Tensor
    specular: Tensor
    shininess: Tensor

    def cut(self, by: Clipped) -> "_Faces":
        """What is left of them."""
        rest = self.texture[by.origin], self.specular[by.origin], self.shininess[by.origin]
        return _Faces(by.triangles, *rest)


@dataclass(frozen=True, eq=False)
class _Layout:
    """What depends only on which assets are where, for one batch: indices and constants."""

    positions: Tensor  # [V, 3] of the assets
    normals: Tensor
    colours: Tensor
    uv: Tensor
    owner: Tensor  # instance of each vertex, int64 [V]
    image_of_vertex: Tensor  # int64 [V]
    image_of_instance: Tensor  # int64 [I]
    slot_of_instance: Tensor  # S + i for scenery, int64 [I]
    faces: _Faces

    def transform(self, points: Tensor, linear: Tensor, offset: Tensor | None) -> Tensor:
        """Return linear @ point + offset of each vertex's instance, [V, 3]."""
        m = linear.index_select(0, self.owner)
        out = (m * points.to(m.dtype)[:, None, :]).sum(-1)
        return out if offset is None else out + offset.index_select(0, self.owner)


class _Static:
    """The arrays of all assets of a world, one after another, and the layouts asked for last."""

    def __init__(self, world: World) -> None:
        parts = assets(world)

        def join(arrays: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
            return torch.cat([torch.as_tensor(np.ascontiguousarray(a)).to(dtype) for a in arrays])

        self.slots_end = len(world.assets)
        self.scenery = len(world.scenery)
        self.positions = join([a.vertices for a in parts], torch.float32)
        self.normals = join([a.normals for a in parts], torch.float32)
        self.colours = join([a.colours for a in parts], torch.float32)
        blank = [np.zeros((len(a.vertices), 2), np.float32) for a in parts]
        self.uv = join(
            [b if a.uv is None else a.uv for a, b in zip(parts, blank, strict=True)], torch.float32
        )
        self.weld = join([a.weld for a in parts], torch.int64)
        self.faces = join([a.faces for a in parts], torch.int64)
        self.vertex_count = torch.tensor([len(a.vertices) for a in parts])
        self.face_count = torch.tensor([len(a.faces) for a in parts])
        self.texture = torch.tensor(
            [i if a.texture is not None and a.uv is not None else -1 for i, a in enumerate(parts)]
        )
        self.closed = torch.tensor([a.closed for a in parts])
        self.specular = torch.tensor([float(a.specular) for a in parts])
        self.shininess = torch.tensor([float(a.shininess) for a in parts])
        self.layouts: OrderedDict[tuple[object, ...], _Layout] = OrderedDict()

    def layout(self, asset: Tensor) -> _Layout:
        """The layout of a batch whose slots hold `asset` [B, S]."""
        rows = asset.detach().cpu().numpy()
        key = (rows.shape, rows.tobytes(), str(asset.device))
        if key in self.layouts:
            self.layouts.move_to_end(key)
            return self.layouts[key]
        found = self._build(torch.from_numpy(rows).long(), asset.device)
        self.layouts[key] = found
        while len(self.layouts) > _LAYOUTS_KEPT:
            self.layouts.popitem(last=False)
        return found

    def _build(self, asset: Tensor, device: torch.device) -> _Layout:
        batch = len(asset)
        if asset.numel() and (asset.min() < -1 or asset.max() >= self.slots_end):
            raise ValueError(
                f"scene.asset must lie in -1 .. {self.slots_end - 1} (the world's assets), "
                f"got {int(asset.min())} .. {int(asset.max())}"
            )
        fixed = torch.arange(self.slots_end, self.slots_end + self.scenery).expand(batch, -1)
        filled = torch.cat([asset, fixed], 1)
        image, slot = (filled >= 0).nonzero(as_tuple=True)
        which = filled[image, slot]
        vertex, owner, first_vertex = _spread(self.vertex_count, which)
        face, owner_of_face, _ = _spread(self.face_count, which)
        shift = first_vertex[owner_of_face]
        which_of_face = which[owner_of_face]
        corners, weld = self.faces[face] + shift[:, None], self.weld[vertex] + first_vertex[owner]
        triangles = Triangles(
            corners.int().to(device),
            weld=weld[corners].int().to(device),
            image=image[owner_of_face].int().to(device),
            image_count=batch,
            instance=slot[owner_of_face].int().to(device),
            culled=self.closed[which_of_face].to(device),
        )
        return _Layout(
            positions=self.positions[vertex].to(device),
            normals=self.normals[vertex].to(device),
            colours=self.colours[vertex].to(device),
            uv=self.uv[vertex].to(device),
            owner=owner.to(device),
            image_of_vertex=image[owner].to(device),
            image_of_instance=image.to(device),
            slot_of_instance=slot.to(device),
            faces=_Faces(
                triangles,
                texture=self.texture[which_of_face].int().to(device),
                specular=self.specular[which_of_face].to(device),
                shininess=self.shininess[which_of_face].to(device),
            ),
        )


_static: "weakref.WeakKeyDictionary[World, _Static]" = weakref.WeakKeyDictionary()


def _layout(world: World, asset: Tensor) -> _Layout:
    if world not in _static:
        _static[world] = _Static(world)
    return _static[world].layout(asset)


def _spread(count: Tensor, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the joined array for the parts `which`, the part each row serves, each part's first new row."""
    start = count.cumsum(0) - count
    length = count[which]
    first = length.cumsum(0) - length
    owner = torch.repeat_interleave(torch.arange(len(which)), length)
    row = torch.arange(len(owner)) - first[owner] + start[which][owner]
    return row, owner, first


def _placement(layout: _Layout, scene: Scene) -> _Placement:
    """Poses and tints of all instances; scenery stands at the origin, white."""
    image, slot = layout.image_of_instance, layout.slot_of_instance
    movable = slot < scene.slots
    at = image[movable], slot[movable]
    rotation = torch.eye(3, dtype=scene.rotation.dtype, device=slot.device).repeat(len(slot), 1, 1)
    linear, offset = rotation, scene.translation.new_zeros(len(slot), 3)
    tint = scene.colour.new_ones(len(slot), 3)
    turn = matrix(scene.rotation[at])
    return _Placement(
        rotation=rotation.index_put((movable,), turn),
        linear=linear.index_put((movable,), scene.scale[at][:, None, None] * turn),
        offset=offset.index_put((movable,), scene.translation[at]),
        tint=tint.index_put((movable,), scene.colour[at]),
    )
