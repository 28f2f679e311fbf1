"""The table that `unrender recover` prints: one line for each object."""

import math

import numpy as np
import roma
import torch

from inverse.recovery import FoundObject, Recovery
from render.shading import encode_srgb
from scenes.world import World

HEAD = ("object", "position x y z [m]", "rotation", "size [cm]", "colour", "visible", "verdict")


def table(recovery: Recovery) -> str:
    """The objects of a recovery as aligned text, in the order of `recovery.objects`."""
    rows = [HEAD, *(_row(recovery, found) for found in recovery.objects)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(recovery: Recovery, found: FoundObject) -> tuple[str, ...]:
    scene, s = recovery.scene, found.slot
    asset = recovery.world.assets[int(scene.asset[0, s])]
    size = np.ptp(asset.vertices, axis=0) * float(scene.scale[0, s]) * 100
    tint = encode_srgb(scene.colour[0, s]).clamp(0.0, 1.0)
    return (
        found.asset,
        " ".join(f"{v:7.3f}" for v in scene.translation[0, s].tolist()),
        _rotation(recovery.world, scene.rotation[0, s], asset.symmetry.axis, asset.symmetry.sphere),
        " x ".join(f"{v:.1f}" for v in size),
        "#" + "".join(f"{round(c * 255):02x}" for c in tint.tolist()) if asset.colour_free else "its own",
        "" if found.visible_fraction is None else f"{found.visible_fraction:.0%}",
        found.verdict + (f" ({found.reason})" if found.reason else ""),
    )


def _rotation(world: World, rotation: torch.Tensor, axis: np.ndarray | None, sphere: bool) -> str:
    """Yaw in "upright" worlds, else axis times angle; "any" where turning changes nothing."""
    if sphere or (world.placement == "upright" and axis is not None and abs(float(axis[1])) > 0.999):
        return "any"
    if world.placement == "upright":
        yaw = math.degrees(2 * math.atan2(float(rotation[1]), float(rotation[3])))
        return f"yaw {(yaw + 180) % 360 - 180:.1f}°"
    vector = torch.rad2deg(roma.unitquat_to_rotvec(rotation))
    return "({})°".format(", ".join(f"{v:.1f}" for v in vector.tolist()))
