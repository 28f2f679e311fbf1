"""The table that `unrender recover` prints: one line for each object."""

import math

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from inverse.recovery import FoundObject, Recovery
from render.shading import encode_srgb
from scenes.asset import Asset
from scenes.world import World

HEAD = ("object", "position x y z [m]", "rotation", "size [cm]", "colour", "visible", "verdict")


def table(recovery: Recovery) -> str:
    """The objects of a recovery as aligned text, in the order of `recovery.objects`."""
    rows = [HEAD, *(row(recovery, found) for found in recovery.objects)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def row(recovery: Recovery, found: FoundObject) -> tuple[str, ...]:
    """What the table says of one object, in the order of `HEAD`."""
    scene, s = recovery.scene, found.slot
    asset = recovery.world.assets[int(scene.asset[0, s])]
    size = np.ptp(asset.vertices, axis=0) * float(scene.scale[0, s]) * 100
    tint = encode_srgb(scene.colour[0, s]).clamp(0.0, 1.0)
    return (
        found.asset,
        " ".join(f"{v:7.3f}" for v in scene.translation[0, s].tolist()),
        rotation_text(recovery.world, scene.rotation[0, s], asset),
        " x ".join(f"{v:.1f}" for v in size),
        "#" + "".join(f"{round(c * 255):02x}" for c in tint.tolist()) if asset.colour_free else "its own",
        "" if found.visible_fraction is None else f"{found.visible_fraction:.0%}",
        found.verdict + (f" ({found.reason})" if found.reason else ""),
    )


def rotation_text(world: World, rotation: Float[Tensor, "4"], asset: Asset) -> str:
    """Yaw in "upright" worlds, else axis times angle; "any" where turning changes nothing."""
    axis, sphere = asset.symmetry.axis, asset.symmetry.sphere
    if sphere or (world.placement == "upright" and axis is not None and abs(float(axis[1])) > 0.999):
        return "any"
    if world.placement == "upright":
        yaw = math.degrees(2 * math.atan2(float(rotation[1]), float(rotation[3])))
        return f"yaw {(yaw + 180) % 360 - 180:.1f}°"
    vector = torch.rad2deg(roma.unitquat_to_rotvec(rotation))
    return "({})°".format(", ".join(f"{v:.1f}" for v in vector.tolist()))
