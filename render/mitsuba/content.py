"""What Mitsuba is told of one scene: shapes, lights, and the camera."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from render.layout import Layout
from render.mitsuba.surfaces import Surfaces
from render.mitsuba.variant import load
from scenes.scene import Camera, matrix

_NEAR, _FAR = 0.01, 1e5  # [m] along the viewing axis; the near plane is that of `render.geometry`
_DISTANCE = 1000.0  # of the light, in radii of all that is there


def scene_of(layout: Layout, surfaces: Surfaces, light_angle: float) -> tuple[Any, list[int]]:
    """Mitsuba's scene, and whose each of its shapes is: the instance's id, -1 for the light.

    Args:
        layout: Of one scene.
        surfaces: Of its world.
        light_angle: Width of the light's disk as surfaces see it [rad].
    """
    content: dict[str, Any] = {"type": "scene"}
    owners: dict[str, int] = {}
    corners = []
    for instance, asset in enumerate(layout.asset[0].tolist()):
        if asset < 0:
            continue
        row = layout.instances[0, instance]
        for k, mesh in enumerate(surfaces.meshes(asset, row[16:28].reshape(3, 4), row[28:31])):
            content[f"{instance}_{k}"], owners[f"{instance}_{k}"] = mesh, instance
            corners += [mesh.bbox().min, mesh.bbox().max]
    content.update(_lights(layout, np.array(corners, np.float64).reshape(-1, 3), light_angle))
    scene = load(content)
    return scene, [owners.get(shape.id(), -1) for shape in scene.shapes()]


def _lights(layout: Layout, corners: Float[np.ndarray, "corner 3"], angle: float) -> dict[str, Any]:
    """The light and the sky, so bright that a matt surface sends back albedo * (ambient + intensity * cos).

    A sky of radiance L gives a matt surface of albedo a the radiance a L. A disk of half angle h seen under
    cos, all of it above the horizon, gives a L sin(h)^2 cos; an irradiance E gives a E cos / pi.
    """
    values = layout.scenes[0].astype(np.float64)
    direction, intensity, ambient = values[:3], max(0.0, values[3]), max(0.0, values[7])
    # Paths that run into the sky sample it best where nothing shades it: no path aims at it.
    sky = {"type": "constant", "radiance": _grey(ambient), "sampling_weight": 0.0}
    if angle == 0.0:
        towards = {"direction": (-direction).tolist(), "irradiance": _grey(math.pi * intensity)}
        return {"sky": sky, "light": {"type": "directional", **towards}}
    radiance = intensity / math.sin(angle / 2) ** 2 + ambient  # it hides a part of the sky
    return {"sky": sky, "light": _disk(direction, radiance, corners, angle)}


def _disk(
    direction: Float[np.ndarray, "3"], radiance: float, corners: Float[np.ndarray, "corner 3"], angle: float
) -> dict[str, Any]:
    """A far disk that faces the middle of all that is there."""
    import mitsuba

    low, high = (corners.min(0), corners.max(0)) if len(corners) else (np.zeros(3), np.ones(3))
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    distance = _DISTANCE * radius
    place = mitsuba.ScalarTransform4f().look_at(
        origin=(middle + distance * direction).tolist(),
        target=middle.tolist(),
        up=np.eye(3)[np.abs(direction).argmin()].tolist(),
    )
    return {
        "type": "disk",
        "to_world": place.scale(distance * math.tan(angle / 2)),
        "emitter": {"type": "area", "radiance": _grey(radiance)},
    }


def sensor_of(camera: Camera, which: int, sampler: dict[str, Any]) -> Any:
    """Camera `which` of a batch as Mitsuba's, for a picture of the camera's width and height."""
    import mitsuba

    width, height = camera.width, camera.height
    x, y = camera.centre[which].tolist()
    return load(
        {
            "type": "perspective",
            "fov_axis": "x",
            "fov": math.degrees(2.0 * math.atan(width / 2.0 / camera.focal[which, 0].item())),
            "principal_point_offset_x": 0.5 - x / width,
            "principal_point_offset_y": 0.5 - y / height,
            "near_clip": _NEAR,
            "far_clip": _FAR,
            "to_world": mitsuba.ScalarTransform4f(world_from_sensor(camera, which).tolist()),
            "sampler": sampler,
            "film": {
                "type": "hdrfilm",
                "width": width,
                "height": height,
                "rfilter": {"type": "box"},
                "pixel_format": "rgba",
                "component_format": "float32",
            },
        }
    )


def world_from_sensor(camera: Camera, which: int) -> Float[Tensor, "4 4"]:
    """The pose of camera `which`, float64; Mitsuba's cameras look along their own +z, with x to the left."""
    pose = torch.eye(4, dtype=torch.float64)
    turn = matrix(torch.nn.functional.normalize(camera.rotation[which].double(), dim=-1))
    pose[:3, :3] = turn * turn.new_tensor([-1.0, 1.0, -1.0])
    pose[:3, 3] = camera.translation[which]
    return pose


def _grey(value: float) -> dict[str, Any]:
    return {"type": "rgb", "value": [value] * 3}
