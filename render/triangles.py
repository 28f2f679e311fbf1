"""Triangles: which vertices make which faces, of which object and picture; fixed while vertices move."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

T = TypeVar("T")

_KEPT = 16  # meshes whose edges are remembered for calls that give bare faces


class Triangles:
    """The faces of a batch of pictures, packed one picture after another.

    Two kinds of batches share this type. One mesh in many poses: faces of one picture, with vertices
    [B, V, 3]. Ragged scenes: faces of `image_count` pictures, each with its own objects, with vertices [V, 3]
    that hold all of them. Operators take bare `faces` where nothing but the faces is to be said.

    Memory: 21 bytes a face and, once edges are found, 32 an edge: 69 a face of a closed mesh, and while they
    are found some 700 a face.

    Attributes:
        faces: Vertex indices, int32 [F, 3].
        weld: `faces`, with all copies of one position replaced by one index, int32 [F, 3]. Meshes are made of
            copies where normals, colours or texture coordinates jump; positions tell which faces touch.
        image: Which picture a face belongs to, ascending, int32 [F].
        image_count: Number of pictures.
        instance: Which object of its picture a face belongs to, int32 [F].
        culled: True for faces whose back is not drawn, as for closed meshes, bool [F]. A back is what winds
            clockwise on the screen, y down.
        faceted: True if every edge is a crease, as where each face has a colour of its own.
    """

    def __init__(
        self,
        faces: Int[Tensor, "face 3"],
        *,
        weld: Int[Tensor, "face 3"] | None = None,
        image: Int[Tensor, "face"] | None = None,
        image_count: int = 1,
        instance: Int[Tensor, "face"] | None = None,
        culled: Bool[Tensor, "face"] | None = None,
        faceted: bool = False,
    ) -> None:
        """Check and keep the arguments; those not given say: no copies, one picture, one object, open.

        Raises:
            ValueError: If a shape, dtype or device does not fit.
        """
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype != torch.int32:
            raise ValueError(f"faces must be int32 of shape [F, 3], got {faces.dtype} {list(faces.shape)}")
        if image_count < 0:
            raise ValueError(f"image_count must be 0 or more, got {image_count}")
        count = len(faces)
        zeros = torch.zeros(count, dtype=torch.int32, device=faces.device)
        self.faces = faces.contiguous()
        self.weld = _fitting("weld", weld, self.faces, (count, 3))
        self.image = _fitting("image", image, zeros, (count,))
        self.instance = _fitting("instance", instance, zeros, (count,))
        self.culled = _fitting("culled", culled, zeros.bool(), (count,))
        self.image_count = image_count
        self.faceted = faceted
        self._kept: dict[object, Any] = {}

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def device(self) -> torch.device:
        """Where the arrays are."""
        return self.faces.device

    def keep(self, key: object, make: Callable[[], T]) -> T:
        """Return make()'s result, made at the first call with this key: what depends on the faces alone."""
        if key not in self._kept:
            with torch._C._DisableFuncTorch():  # else what a torch.func transform makes ends with it
                self._kept[key] = make()
        return self._kept[key]

    @property
    def vertices_needed(self) -> int:
        """One more than the largest vertex index."""
        return self.keep("vertices needed", self._vertices_needed)

    def _vertices_needed(self) -> int:
        if len(self) == 0:
            return 0
        if int(self.faces.min()) < 0:
            raise ValueError(f"faces must be 0 or more, got {int(self.faces.min())}")
        return int(self.faces.max()) + 1

    @property
    def instance_count(self) -> int:
        """One more than the largest object number of any picture."""
        return self.keep("instances", lambda: int(self.instance.max()) + 1 if len(self) else 0)

    @property
    def edges(self) -> Int[Tensor, "edge 8"]:
        """The mesh's edges, one row each, ascending in the picture, int32 [E, 8].

        The ends u and v; the apexes of the faces on both sides; those faces; 1 for a crease; the picture.
        Apex and face are -1 beyond a mesh's border. An edge is a crease where its two faces use different
        copies of its ends. Of three or more faces at one edge the first two are taken, as a crease.
        """
        return self.keep("sides", self._sides)[0]

    @property
    def neighbours(self) -> Int[Tensor, "face 3"]:
        """The face beyond the edge opposite each corner, -1 where there is none, int32 [F, 3]."""
        return self.keep("sides", self._sides)[1]

    def _sides(self) -> tuple[Tensor, Tensor]:
        """`edges` and `neighbours`: half-edges sorted by their welded ends, paired."""
        corners = self.faces.long()
        start, end, apex = corners, corners.roll(-1, 1), corners.roll(-2, 1)
        weld_start, weld_end = self.weld.long(), self.weld.long().roll(-1, 1)
        forward = weld_start < weld_end
        low = torch.where(forward, start, end).reshape(-1)  # the half-edge's ends, by weld index
        high = torch.where(forward, end, start).reshape(-1)
        weld_low = torch.minimum(weld_start, weld_end).reshape(-1)
        weld_high = torch.maximum(weld_start, weld_end).reshape(-1)
        half = torch.arange(3 * len(corners), device=self.device)
        order = torch.argsort((weld_low << 32) + weld_high, stable=True)
        low, high, half, apex = low[order], high[order], half[order], apex.reshape(-1)[order]
        key = torch.stack([weld_low[order], weld_high[order]], 1)
        new = torch.ones_like(low, dtype=torch.bool)
        new[1:] = (key[1:] != key[:-1]).any(1)
        first = new.nonzero()[:, 0]
        count = torch.diff(first, append=first.new_tensor([len(key)]))
        second = (first + 1).clamp_max(max(0, len(key) - 1))
        shared = count > 1
        crease = shared & ((low[first] != low[second]) | (high[first] != high[second]) | (count > 2))
        if self.faceted:
            crease = shared
        none = torch.full_like(first, -1)
        image = self.image.long()
        face = half // 3
        columns = [
            low[first],
            high[first],
            apex[first],
            torch.where(shared, apex[second], none),
            face[first],
            torch.where(shared, face[second], none),
            crease.long(),
            image[face[first]],
        ]
        edges = torch.stack(columns, 1)[(key[:, 0] != key[:, 1])[first]].int()
        edges = edges[torch.argsort(edges[:, 7], stable=True)]
        beyond = torch.full((3 * len(corners),), -1, dtype=torch.int32, device=self.device)
        pairs = half[first][shared], half[second][shared]
        beyond[pairs[0]], beyond[pairs[1]] = face[second][shared].int(), face[first][shared].int()
        # the edge opposite corner k starts at corner k + 1
        return edges.contiguous(), beyond.view(-1, 3).roll(-1, 1).contiguous()

    @property
    def group(self) -> Int[Tensor, "face"]:
        """Smooth surface of each face: equal where faces share vertices, int32 [F]."""
        return self.keep("group", self._group)

    def _group(self) -> Tensor:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if self.faceted or len(self) == 0:
            return torch.arange(len(self), dtype=torch.int32, device=self.device)
        a, b, c = self.faces.cpu().numpy().T
        joins = np.concatenate([a, b]), np.concatenate([b, c])
        size = self.vertices_needed
        graph = coo_array((np.ones(len(joins[0]), np.int8), joins), shape=(size, size))
        _, part = connected_components(graph, directed=False)
        return torch.from_numpy(part.astype(np.int32)[a]).to(self.device)


def packed(
    vertices: Float[Tensor, "*batch vertex 3"], faces: "Tensor | Triangles"
) -> tuple[Float[Tensor, "vertex 3"], Triangles, int]:
    """Vertices of all copies one after another, the triangles of one copy, and the number of copies.

    Copy c of face f has the vertices c * V + faces[f] and is drawn into picture c * image_count + image[f].
    Bare faces are remembered by identity, so that their edges are found once.

    Args:
        vertices: [B, V, 3], or [V, 3] for one copy. Gradients flow.
        faces: int32 [F, 3], or Triangles.

    Raises:
        ValueError: If a shape, dtype or device does not fit, or faces name vertices that are not there.
    """
    if vertices.ndim not in (2, 3) or vertices.shape[-1] != 3 or not vertices.is_floating_point():
        raise ValueError(
            "vertices must be float of shape [B, V, 3] or [V, 3], "
            f"got {vertices.dtype} {list(vertices.shape)}"
        )
    triangles = faces if isinstance(faces, Triangles) else _remembered(faces)
    if triangles.device != vertices.device:
        raise ValueError(f"faces are on {triangles.device}, vertices on {vertices.device}")
    if triangles.vertices_needed > vertices.shape[-2]:
        raise ValueError(
            f"faces name vertex {triangles.vertices_needed - 1}, but there are {vertices.shape[-2]} vertices"
        )
    copies = 1 if vertices.ndim == 2 else len(vertices)
    return vertices.reshape(-1, 3), triangles, copies


_kept: OrderedDict[tuple[int, int], tuple[Tensor, Triangles]] = OrderedDict()


def _remembered(faces: Tensor) -> Triangles:
    """The triangles of bare faces, kept for as long as the tensor has not been written to."""
    key = id(faces), 0 if faces.is_inference() else faces._version
    if key not in _kept:
        _kept[key] = faces, Triangles(faces)  # holds the tensor, so that no other gets its id
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key][1]


def _fitting(name: str, tensor: Tensor | None, default: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tensor is None:
        return default
    if tensor.shape != shape or tensor.dtype != default.dtype:
        raise ValueError(
            f"{name} must be {default.dtype} of shape {list(shape)}, got {tensor.dtype} {list(tensor.shape)}"
        )
    if tensor.device != default.device:
        raise ValueError(f"{name} is on {tensor.device}, faces on {default.device}")
    return tensor.contiguous()
