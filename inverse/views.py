"""Views: poses of single objects anywhere before the camera, proposed from the outline of what is there.

The picture's foreground falls into blobs. For each asset and each of many rotations, the pose whose
silhouette has a blob's bounding box is solved for, sketched into a crop round the blob, and scored by colour
and by coverage.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from inverse.bank import rotations
from inverse.candidates import Candidates, Moves, Pinhole, join
from inverse.losses import Evidence
from inverse.sketch import Rest, Target, View

_ROTATIONS = 1500
_UNIFORM = 0.55  # share of the border that must have one colour for a background to be told from it


def background_of(image: Float[Tensor, "height width 3"]) -> Float[Tensor, "3"] | None:
    """Encoded colour of a uniform background, read off the border; None where it is not uniform."""
    border = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])
    middle = border.median(0).values
    near = (border - middle).abs().amax(-1) < 0.04
    return border[near].mean(0) if float(near.float().mean()) > _UNIFORM else None


def foreground(
    image: Float[Tensor, "height width 3"], background: Float[Tensor, "3"]
) -> Float[Tensor, "height width"]:
    """Where the picture differs from a uniform background, 0 or 1; specks of noise are left out."""
    difference = (image - background).abs().amax(-1)
    border = torch.cat([difference[0], difference[-1], difference[:, 0], difference[:, -1]])
    noise = float(border[border < 0.08].median()) / 0.67
    mask = (difference > max(0.03, 5.0 * noise)).numpy()
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count:
        sizes = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
        keep = 1 + np.flatnonzero(sizes >= max(12.0, 2e-4 * mask.size))
        mask = np.isin(labels, keep)
    return torch.from_numpy(mask.astype(np.float32))


@dataclass(frozen=True)
class Blob:
    """A connected part of the foreground: its box [px], and whether the picture's border cuts it."""

    left: float
    top: float
    right: float
    bottom: float
    area: float
    cut: bool


def blobs(mask: Float[Tensor, "height width"]) -> list[Blob]:
    """The connected parts of a mask, largest first."""
    labels, _ = ndimage.label(mask.numpy() > 0.5, np.ones((3, 3)))
    height, width = mask.shape
    found = []
    for k, box in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = box
        area = float((labels[box] == k).sum())
        cut = rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        found.append(Blob(columns.start, rows.start, columns.stop, rows.stop, area, cut))
    return sorted(found, key=lambda b: -b.area)


@dataclass(frozen=True)
class Crop:
    """A square of the picture [px], drawn at any resolution."""

    left: float
    top: float
    side: float

    @staticmethod
    def around(blob: Blob, margin: float = 1.35) -> "Crop":
        """A square round a blob, `margin` times as large."""
        side = margin * max(blob.right - blob.left, blob.bottom - blob.top)
        return Crop((blob.left + blob.right - side) / 2, (blob.top + blob.bottom - side) / 2, side)

    def view(self, pinhole: Pinhole, pixels: int) -> View:
        """The crop drawn `pixels` large."""
        return pinhole.crop(self.left, self.top, self.side, pixels)

    def sample(
        self, image: Float[Tensor, "batch height width channel"], pixels: int
    ) -> Float[Tensor, "batch row column channel"]:
        """The picture inside the crop, averaged over each new pixel; outside it the border's colour."""
        height, width = image.shape[1:3]
        fold = max(1, math.ceil(self.side / pixels))
        t = (torch.arange(pixels * fold) + 0.5) / (pixels * fold) * self.side
        gx, gy = (self.left + t) / width * 2 - 1, (self.top + t) / height * 2 - 1
        grid = torch.stack(torch.meshgrid(gx, gy, indexing="xy"), -1).expand(len(image), -1, -1, -1)
        x = F.grid_sample(
            image.permute(0, 3, 1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return F.avg_pool2d(x, fold).permute(0, 2, 3, 1).contiguous()

    def target(self, evidence: Evidence, pixels: int) -> Target:
        """The evidence inside the crop."""
        image = self.sample(evidence.image[None], pixels)[0]
        mask = torch.zeros(pixels, pixels)
        if evidence.mask is not None:
            inside = self.sample(evidence.mask[None, :, :, None], pixels)[0, :, :, 0]
            mask = inside.contiguous()
        return Target(image, mask, 0.0 if evidence.mask is None else evidence.mask_weight, evidence.tau)

    def rest(self, image: Tensor, inverse_depth: Tensor, pixels: int) -> Rest:
        """Explanations [M, H, W, 3] with inverse depth [M, H, W] inside the crop."""
        depth = self.sample(inverse_depth[..., None], pixels)[..., 0]
        return Rest(self.sample(image, pixels), depth.contiguous())


def poses(
    moves: Moves,
    pinhole: Pinhole,
    points: list[Float[Tensor, "point 3"]],
    blob: Blob,
    *,
    count: int = _ROTATIONS,
    seed: int = 0,
) -> Candidates:
    """For each asset and rotation, the pose whose silhouette has the blob's box.

    Args:
        moves: Of the world.
        pinhole: The camera.
        points: A few hundred surface points per asset, in the object's frame.
        blob: What is to be explained.
        count: Rotations per asset.
        seed: Turns the grid of rotations.
    """
    parts = []
    for asset, p in enumerate(points):
        if moves.spheres[asset]:
            turns = torch.eye(3)[None]
        else:
            turns = rotations(count, seed)
        for stretch, ax, ay in _framings(blob):
            c = _fitted(moves, pinhole, p, asset, turns, blob, stretch, ax, ay)
            parts.append(c)
    return join(parts)


def _framings(blob: Blob) -> list[tuple[float, float, float]]:
    """How much larger than its box an object may be, and which part of it is seen (0.5: the middle)."""
    if not blob.cut:
        return [(1.0, 0.5, 0.5)]
    return [
        (s, ax, ay)
        for s in (1.0, 1.4, 1.9)
        for ax in (0.0, 0.5, 1.0)
        for ay in (0.0, 0.5, 1.0)
        if s > 1.0 or (ax == 0.5 and ay == 0.5)
    ]


def _fitted(
    moves: Moves,
    pinhole: Pinhole,
    points: Tensor,
    asset: int,
    turns: Tensor,
    blob: Blob,
    stretch: float,
    ax: float,
    ay: float,
) -> Candidates:
    width, height = (blob.right - blob.left) * stretch, (blob.bottom - blob.top) * stretch
    left = blob.left - ax * (width - (blob.right - blob.left))
    top = blob.top - ay * (height - (blob.bottom - blob.top))
    focal = torch.tensor(pinhole.focal)
    goal = torch.tensor([left + width / 2, top + height / 2])
    scale = math.sqrt(moves.scale_low * moves.scale_high)  # one look tells size and distance together only
    centred = scale * (points - moves.centre[asset]) @ turns.transpose(1, 2)  # [R, P, 3], camera axes
    radius = scale * float(moves.radius[asset])
    depth = torch.full((len(turns),), 2.0 * radius * float(focal[1]) / max(width, height))
    aim = goal.expand(len(turns), 2).clone()
    for _ in range(4):
        depth = depth.clamp_min(1.05 * radius)
        middle = torch.stack(
            [
                (aim[:, 0] - pinhole.centre[0]) / focal[0] * depth,
                -(aim[:, 1] - pinhole.centre[1]) / focal[1] * depth,
                -depth,
            ],
            -1,
        )
        q = centred + middle[:, None]
        inverse = -1.0 / q[..., 2].clamp_max(-1e-3)
        x, y = (
            pinhole.centre[0] + focal[0] * q[..., 0] * inverse,
            pinhole.centre[1] - focal[1] * q[..., 1] * inverse,
        )
        low, high = torch.stack([x.amin(1), y.amin(1)], -1), torch.stack([x.amax(1), y.amax(1)], -1)
        size = (high - low).clamp_min(1e-3)
        ratio = torch.sqrt(size.prod(-1) / (width * height))
        depth = depth * ratio
        aim = aim + (goal - (low + high) / 2)
    misfit = (size[:, 0] / size[:, 1]).log() - math.log(width / height)
    keep = misfit.abs() < (0.35 if not blob.cut else 1.0)
    if not bool(keep.any()):
        keep = misfit.abs() <= misfit.abs().min()
    rotation = pinhole.rotation.T @ turns[keep]
    middle = middle[keep] @ pinhole.rotation + pinhole.eye
    translation = middle - scale * (rotation @ moves.centre[asset][:, None])[..., 0]
    count = int(keep.sum())
    return Candidates(torch.full((count,), asset), rotation, translation, torch.full((count,), scale))


def surface_points(vertices: Float[np.ndarray, "vertex 3"], most: int = 250) -> Float[Tensor, "point 3"]:
    """Vertices that reach furthest in many directions: enough of a mesh to find its silhouette's box."""
    turns = rotations(most)[:, 2].numpy()
    return torch.from_numpy(vertices[np.unique((vertices @ turns.T).argmax(0))].astype(np.float32))
