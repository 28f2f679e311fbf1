"""How far two poses are apart, symmetry taken out."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scenes import Asset


def angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of rotation matrices [rad], accurate near 0 and pi."""
    r = rotation
    sine = torch.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1
    )
    return torch.atan2(sine.norm(dim=-1), r.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0)


def rotation_error(
    asset: Asset, estimate: Float[Tensor, "*batch 3 3"], truth: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Least angle [rad] between two rotations of an asset over the turns that leave its look as it is.

    About which point these turn, makes no difference here; it does for `position_error`.
    """
    symmetry = asset.symmetry
    between = estimate.transpose(-1, -2) @ truth
    if symmetry.sphere:
        return torch.zeros_like(between[..., 0, 0])
    between = between[..., None, :, :] @ torch.from_numpy(symmetry.rotations).to(estimate)
    if symmetry.axis is None:
        return angle(between).amin(-1)
    # any turn about the axis is free: what is left is the angle between the axes
    axis = torch.from_numpy(symmetry.axis).to(estimate)
    turned = between @ axis
    across = torch.linalg.cross(turned, axis.expand_as(turned)).norm(dim=-1)
    return torch.atan2(across, (turned * axis).sum(-1)).amin(-1)


def position_error(
    asset: Asset, estimate: Float[Tensor, "*batch 4 4"], truth: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch"]:
    """Distance [m] between two places of an asset, measured at its `anchor`.

    The origin will not do: a turn that leaves the look as it is may move it, and a small error of rotation
    moves an origin far from the mesh a long way.

    Args:
        asset: The asset.
        estimate: world_from_object, or in any other frame, scale included.
        truth: In the same frame.
    """
    point = torch.from_numpy(np.append(anchor(asset), 1.0)).to(estimate)
    return ((estimate - truth) @ point)[..., :3].norm(dim=-1)


def anchor(asset: Asset) -> Float[np.ndarray, "3"]:
    """The point [m] in the object's frame nearest to the box's middle that no turn of the symmetry moves."""
    symmetry = asset.symmetry
    if symmetry.sphere:
        return np.asarray(symmetry.centre, np.float64)
    offset = (symmetry.rotations.astype(np.float64) @ (asset.centre - symmetry.centre)).mean(0)
    if symmetry.axis is not None:
        offset = (offset @ symmetry.axis) * symmetry.axis
    return np.asarray(symmetry.centre + offset, np.float64)
