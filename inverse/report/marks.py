"""Found objects drawn into a picture: where each is seen, how it is turned."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse.picture import levels
from inverse.recovery import FoundObject, Recovery
from inverse.recoveryfile import rigid
from render.pinhole import zoomed
from scenes.asset import Asset

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Apart from one another, and from the red, green and blue of the objects' axes
_COLOURS = ("#ff7f0e", "#17becf", "#e377c2", "#bcbd22", "#9467bd", "#8c564b", "#ffffff", "#7f7f7f")
AXES = {"x": "#ff2020", "y": "#00d030", "z": "#3060ff"}  # an object's own, and their colours


def colour_of(number: int) -> str:
    """The colour of object `number` of a recovery, as #rrggbb."""
    return _COLOURS[number % len(_COLOURS)]


def draw_found(ax: "Axes", recovery: Recovery) -> None:
    """Draw the picture, the found objects' masks in it (where the engine has ids) and their axes.

    Dotted is an axis that the object's symmetry leaves open.
    """
    from matplotlib.lines import Line2D

    height, width = recovery.picture.shape[:2]
    show(ax, recovery.picture)
    for number, found in enumerate(recovery.objects):
        if recovery.instance_id is not None:
            _draw_mask(ax, recovery.instance_id == found.slot, colour_of(number))
    for found in recovery.objects:
        _draw_axes(ax, recovery, found)
    if recovery.objects:
        names = [Line2D([], [], color=colour, linewidth=2.2, label=name) for name, colour in AXES.items()]
        ax.legend(handles=names, loc="lower right", ncols=3, fontsize=8, handlelength=1.2, framealpha=0.7)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)


def show(ax: "Axes", rgb: Float[Tensor, "row column 3"]) -> None:
    """Draw a picture without ticks; its pixel (row i, column j) has its centre at (j + 0.5, i + 0.5)."""
    height, width = rgb.shape[:2]
    ax.imshow(levels(rgb), interpolation="nearest", extent=(0, width, height, 0))
    ax.set_axis_off()


def axes_in_picture(recovery: Recovery, found: FoundObject) -> Float[np.ndarray, "4 2"] | None:
    """Where an object's origin and the ends of its x, y and z axes are in the picture (column, row) [px].

    The axes are as long as the object is large: from its middle to its farthest vertex. None where one of
    the four lies behind the camera.
    """
    scene, slot = recovery.scene, found.slot
    camera = zoomed(scene.camera, (recovery.picture.shape[0], recovery.picture.shape[1]))
    length = _asset(recovery, found).radius * float(scene.scale[0, slot])
    world_from_object = rigid(scene.rotation[0, slot], scene.translation[0, slot])
    camera_from_world = torch.linalg.inv(rigid(camera.rotation[0], camera.translation[0]))
    tips = torch.cat([torch.zeros(1, 3), length * torch.eye(3)]).double()
    points = torch.nn.functional.pad(tips, (0, 1), value=1.0) @ (camera_from_world @ world_from_object).T
    right, up, backward, _ = points.unbind(1)
    if bool((backward >= 0).any()):
        return None
    sight = torch.stack([right, -up], 1) / -backward[:, None]
    seen: np.ndarray = (sight * camera.focal[0] + camera.centre[0]).numpy()
    return seen


def _draw_axes(ax: "Axes", recovery: Recovery, found: FoundObject) -> None:
    from matplotlib.patheffects import Normal, Stroke

    seen = axes_in_picture(recovery, found)
    if seen is None:
        return
    casing = [Stroke(linewidth=4.0, foreground="white"), Normal()]
    for tip, colour, told in zip(seen[1:], AXES.values(), _told(_asset(recovery, found)), strict=True):
        ends = np.stack([seen[0], tip]).T
        if told:
            ax.plot(*ends, color=colour, linewidth=2.2, solid_capstyle="round", path_effects=casing)
        else:
            ax.plot(*ends, color=colour, linewidth=2.2, linestyle=(0, (0.8, 0.8)))


def _told(asset: Asset) -> tuple[bool, ...]:
    """For x, y and z: whether the asset's look tells where that axis points."""
    if asset.symmetry.sphere:
        return (False,) * 3
    if asset.symmetry.axis is None:
        return (True,) * 3
    return tuple(bool(abs(a) > 0.999) for a in asset.symmetry.axis)


def _draw_mask(ax: "Axes", mask: Bool[Tensor, "row column"], colour: str) -> None:
    """Tint a mask and draw its border; the mask is padded so that that closes at the picture's edge."""
    if not bool(mask.any()):
        return
    height, width = mask.shape
    padded = torch.nn.functional.pad(mask.float(), (1, 1, 1, 1)).numpy()
    centres = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5
    ax.contourf(*centres, padded, levels=[0.5, 1.0], colors=[colour], alpha=0.2)
    ax.contour(*centres, padded, levels=[0.5], colors=[colour], linewidths=2.0)


def _asset(recovery: Recovery, found: FoundObject) -> Asset:
    return recovery.world.assets[int(recovery.scene.asset[0, found.slot])]
