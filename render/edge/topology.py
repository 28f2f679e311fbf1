"""Topology of packed meshes: which edges there are, between which faces, and which surfaces are smooth."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from render.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Topology:
    """What the edge operator knows of a batch's packed triangles besides where they are.

    Attributes:
        faces: Vertex indices, int32 [F, 3].
        instance: Which object of its scene a face belongs to, int32 [F].
        group: Smooth surface of each face: equal where faces share split vertices, int32 [F].
        edges: One row per edge, ascending in the image, int32 [E, 8]: the ends u and v; the apexes of the
            faces on both sides; those faces; 1 for a crease; the image. Apex and face are -1 beyond a mesh's
            border.
        image_count: Number of images B.
    """

    faces: Int[Tensor, "face 3"]
    instance: Int[Tensor, "face"]
    group: Int[Tensor, "face"]
    edges: Int[Tensor, "edge 8"]
    image_count: int


def build_topology(
    faces: Int[Tensor, "face 3"],
    weld: Int[Tensor, "vertex"],
    image: Int[Tensor, "face"],
    instance: Int[Tensor, "face"],
    image_count: int,
) -> Topology:
    """Find the edges of packed triangles.

    An edge is a crease where its two faces use different copies of its ends, which is where normals, colours
    or texture coordinates may jump. Of three or more faces at one edge the first two are taken, as a crease.

    Args:
        faces: Vertex indices, int32 [F, 3].
        weld: Index that all copies of one position share, int32 [V].
        image: Which image a face is drawn into, ascending, int32 [F].
        instance: Which object of that image it belongs to, int32 [F].
        image_count: Number of images B.
    """
    device = faces.device
    corners = faces.long()
    start, end, apex = corners, corners.roll(-1, 1), corners.roll(-2, 1)
    forward = weld[start] < weld[end]
    low = torch.where(forward, start, end).reshape(-1)  # the half-edge's ends, by weld index
    high = torch.where(forward, end, start).reshape(-1)
    face = torch.arange(len(faces), device=device).repeat_interleave(3)
    key = weld[low].long() * len(weld) + weld[high]
    order = torch.argsort(key, stable=True)
    low, high, face, apex, key = low[order], high[order], face[order], apex.reshape(-1)[order], key[order]
    new = torch.ones_like(key, dtype=torch.bool)
    new[1:] = key[1:] != key[:-1]
    first = new.nonzero()[:, 0]
    count = torch.diff(first, append=first.new_tensor([len(key)]))
    second = (first + 1).clamp_max(len(key) - 1)
    shared = count > 1
    none = torch.full_like(first, -1)
    crease = shared & ((low[first] != low[second]) | (high[first] != high[second]) | (count > 2))
    columns = [
        low[first],
        high[first],
        apex[first],
        torch.where(shared, apex[second], none),
        face[first],
        torch.where(shared, face[second], none),
        crease.long(),
        image[face[first]].long(),
    ]
    edges = torch.stack(columns, 1)[(low != high)[first]].int()
    edges = edges[torch.argsort(edges[:, 7], stable=True)]
    return Topology(
        faces.contiguous(), instance.contiguous(), _groups(corners, len(weld)), edges, image_count
    )


def topology(geometry: Geometry) -> Topology:
    """The geometry's topology. Batches of the same assets in the same slots share it."""
    key = id(geometry.faces)
    if key not in _kept:
        g = geometry
        _kept[key] = g.faces, build_topology(g.faces, g.weld, g.image, g.instance, g.image_count)
        while len(_kept) > _KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key][1]


_KEPT = 16  # topologies; of 16 tabletop scenes one takes a few MB
# It holds the faces, so that no others get their id.
_kept: OrderedDict[int, tuple[Tensor, Topology]] = OrderedDict()


def _groups(faces: Int[Tensor, "face 3"], vertex_count: int) -> Int[Tensor, "face"]:
    """Number of each face's connected part, faces being connected where they share a split vertex."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b, c = faces.cpu().numpy().T
    joins = np.concatenate([a, b]), np.concatenate([b, c])
    graph = coo_array((np.ones(len(joins[0]), np.int8), joins), shape=(vertex_count, vertex_count))
    _, part = connected_components(graph, directed=False)
    return torch.from_numpy(part.astype(np.int32)[a]).to(faces.device)
