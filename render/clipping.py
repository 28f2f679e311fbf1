"""Clipping at the near plane: triangles that reach behind the eye are cut, differentiably."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render.triangles import Triangles


@dataclass(frozen=True, eq=False)
class Clipped:
    """What is left of triangles before the near plane.

    Attributes:
        triangles: The faces. Those of one picture stay together; they keep object and culling.
        origin: Which face each of them was or was cut from, int64 [F'].
        inside, outside: Ends of the edges that are cut; on each lies a new vertex, which comes after all
            others. int64 [N].
        t: Where on the way from inside to outside, [N]. Differentiable.
    """

    triangles: Triangles
    origin: Int[Tensor, "face"]
    inside: Int[Tensor, "cut"]
    outside: Int[Tensor, "cut"]
    t: Float[Tensor, "cut"]

    def extend(
        self, attribute: Float[Tensor, "vertex channel"]
    ) -> Float[Tensor, "vertices_and_cuts channel"]:
        """An attribute that is linear along edges, of each vertex, the new ones too, [V + N, C]."""
        inside, outside = attribute[self.inside], attribute[self.outside]
        return torch.cat([attribute, inside + self.t[:, None] * (outside - inside)])

    def follow(self, index: Int[Tensor, "vertex"]) -> Int[Tensor, "vertices_and_cuts"]:
        """An integer that both ends of an edge have in common, of each vertex, the new ones too, [V + N]."""
        return torch.cat([index, index[self.inside]])


def clip_near(depth: Float[Tensor, "vertex"], triangles: Triangles, near: float) -> Clipped | None:
    """Cut triangles at the near plane. A face with one vertex behind it becomes two, with two behind it one.

    Extend the positions in camera coordinates by the result, then project them: gradients flow through the
    cut. Waits for a GPU, since how many faces there are is then known.

    Args:
        depth: Distance of each packed vertex along the camera's viewing axis, [V]. Carries a gradient.
        triangles: Of these vertices.
        near: Depth of the plane, positive. What is nearer is cut away.

    Returns:
        What is left, or None where nothing is cut.

    Raises:
        ValueError: If `near` is not positive.
    """
    if not near > 0.0:
        raise ValueError(f"near must be positive, got {near}")
    behind = depth.detach() < near
    if len(triangles) == 0 or not bool(behind.any()):
        return None
    faces, weld = triangles.faces.long(), triangles.weld.long()
    out = behind[faces]
    count = out.sum(1)
    crossing = ((count == 1) | (count == 2)).nonzero()[:, 0]
    # Turn each crossing face so that its odd vertex (alone on its side) comes first; the winding stays.
    alone = torch.where(count[crossing] == 1, 1, 0)[:, None] == out[crossing].long()
    turn = (alone.int().argmax(1)[:, None] + torch.arange(3, device=faces.device)) % 3
    odd_behind = count[crossing] == 1
    inside, outside = _cut_edges(faces[crossing].gather(1, turn), odd_behind)
    t = (depth[inside] - near) / (depth[inside] - depth[outside])
    keep = (count == 0).nonzero()[:, 0]
    origin = torch.cat([keep, crossing[~odd_behind], crossing[odd_behind], crossing[odd_behind]])
    order = torch.argsort(origin, stable=True)  # faces of one picture must stay together
    origin = origin[order]
    new = len(depth) + torch.arange(len(inside), device=faces.device)
    corners = _corners(faces[keep], faces[crossing].gather(1, turn), new, odd_behind)[order]
    # Both faces of a cut edge meet in the same new position: number it by the edge's two welded ends.
    ends = torch.stack(_cut_edges(weld[crossing].gather(1, turn), odd_behind), 1)
    _, number = torch.unique(ends, dim=0, return_inverse=True)
    fresh = int(triangles.weld.max()) + 1 + number
    welded = _corners(weld[keep], weld[crossing].gather(1, turn), fresh, odd_behind)[order]
    left = Triangles(
        corners.int(),
        weld=welded.int(),
        image=triangles.image[origin],
        image_count=triangles.image_count,
        instance=triangles.instance[origin],
        culled=triangles.culled[origin],
        faceted=triangles.faceted,
    )
    return Clipped(left, origin, inside, outside, t)


def _cut_edges(turned: Tensor, odd_behind: Tensor) -> tuple[Tensor, Tensor]:
    """Ends before and behind the plane of the two edges at each odd vertex [N, 3], each [2 N]."""
    odd, second, third = turned.unbind(1)
    inside = torch.cat([torch.where(odd_behind, second, odd), torch.where(odd_behind, third, odd)])
    outside = torch.cat([torch.where(odd_behind, odd, second), torch.where(odd_behind, odd, third)])
    return inside, outside


def _corners(whole: Tensor, turned: Tensor, new: Tensor, odd_behind: Tensor) -> Tensor:
    """Corners of the faces that are kept, of the tips left, and of both halves of what lost a tip."""
    odd, second, third = turned.unbind(1)
    on_second, on_third = new.view(2, -1)
    tip = torch.stack([odd, on_second, on_third], 1)[~odd_behind]
    left = torch.stack([on_second, second, third], 1)[odd_behind]
    right = torch.stack([on_second, third, on_third], 1)[odd_behind]
    return torch.cat([whole, tip, left, right])
