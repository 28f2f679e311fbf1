"""How far two poses are apart, symmetry taken out."""

import torch
from jaxtyping import Float
from torch import Tensor

from scenes import Asset


def angle(rotation: Float[Tensor, "... 3 3"]) -> Float[Tensor, "..."]:
    """Angle of rotation matrices [rad], accurate near 0 and pi."""
    r = rotation
    sine = torch.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1)
    return torch.atan2(sine.norm(dim=-1), r.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0)


def rotation_error(
    asset: Asset, estimate: Float[Tensor, "*batch 3 3"], truth: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Least angle [rad] between two rotations of an asset over the turns that leave its look as it is."""
    symmetry = asset.symmetry
    if symmetry.sphere:
        return torch.zeros(estimate.shape[:-2])
    turns = torch.from_numpy(symmetry.rotations).to(estimate)
    between = estimate.transpose(-1, -2)[..., None, :, :] @ truth[..., None, :, :] @ turns
    if symmetry.axis is None:
        return angle(between).amin(-1)
    # any turn about the axis is free: what is left is the angle between the axes
    axis = torch.from_numpy(symmetry.axis).to(estimate)
    along = ((between @ axis) * axis).sum(-1).clamp(-1.0, 1.0)
    return torch.acos(along).amin(-1)


