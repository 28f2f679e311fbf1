"""recovery.json: a scene and what is known of it, for people and other programs; read again as a start.

Poses are given twice: `world_from_object`, and `camera_from_object` in OpenCV's axes (x right, y down,
z forward). Both are rigid motions in metres; the object's size is the factor `scale` on the asset, applied
before them. `world_from_camera` is in OpenGL's axes (x right, y up, z backward), as in glTF. Colours and
light are linear.
"""

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

import scenes
from inverse.recovery import Recovery
from scenes import gltf
from scenes.files import atomic
from scenes.intrinsics import Intrinsics
from scenes.scene import Camera, Light, Scene
from scenes.world import World

FORMAT = "unrender-recovery/1"
_OPENCV_FROM_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


class RecoveryFileError(ValueError):
    """A start cannot be read or does not fit its world; the message names the file and what is wrong."""


def write_recovery(recovery: Recovery, path: Path) -> None:
    """Write the whole recovery as recovery.json.

    Raises:
        OutputError: If the file cannot be written.
    """
    said = {o.slot: o for o in recovery.objects}
    content = scene_json(recovery.scene, recovery.world)
    for slot, entry in zip(_filled(recovery.scene), content["objects"], strict=True):
        found = said[slot]
        entry |= {
            "presence": found.presence,
            "verdict": found.verdict,
            "reason": found.reason,
            "visible_fraction": found.visible_fraction,
            "uncertainty": found.uncertainty,
        }
    hypotheses = [
        {"loss": h.loss, "note": h.note, **scene_json(h.scene, recovery.world)} for h in recovery.hypotheses
    ]
    write_json(
        path,
        {
            "format": FORMAT,
            "image": recovery.source,
            "world": world_name(recovery.world),
            "engine": recovery.engine,
            "strategy": recovery.strategy,
            "operator": recovery.operator,
            "seed": recovery.seed,
            **content,
            "hypotheses": hypotheses,
            "ambiguous": recovery.ambiguous,
            "messages": list(recovery.messages),
            "loss": recovery.loss,
            "psnr": recovery.psnr,
            "renders": recovery.renders,
            "seconds": recovery.seconds,
        },
    )


def write_scene(recovery: Recovery, path: Path) -> None:
    """Write the recovered scene as .glb.

    Raises:
        SceneFileError: If the file cannot be written.
    """
    gltf.save_scene(recovery.scene, recovery.world, path)


def write_truth(
    scene: Scene,
    world: World,
    path: Path,
    *,
    image: str,
    engine: str,
    seed: int,
    visible_fraction: Sequence[float | None],
) -> None:
    """Write a sampled scene (B = 1) in the format of recovery.json, as the truth beside its picture.

    Args:
        scene: One scene of `world`.
        world: Whose assets it indexes.
        path: The file to write.
        image: File name of its picture.
        engine: Name of the engine that drew it.
        seed: Of the generator that drew it.
        visible_fraction: Per slot, None where unknown.

    Raises:
        OutputError: If the file cannot be written.
    """
    content = scene_json(scene, world)
    for slot, entry in zip(_filled(scene), content["objects"], strict=True):
        entry |= {"presence": 1.0, "visible_fraction": visible_fraction[slot], "uncertainty": {}}
    head = {"format": FORMAT, "image": image, "world": world_name(world), "engine": engine}
    tail = {"hypotheses": [], "loss": 0.0, "psnr": None, "renders": 1, "seconds": 0.0}
    write_json(path, {**head, "strategy": "truth", "seed": seed, **content, **tail})


def scene_json(scene: Scene, world: World) -> dict[str, Any]:
    """Camera, lights, background and objects of one scene (B = 1), as JSON writes them."""
    scene = scene.detach().to("cpu")
    camera = scene.camera
    world_from_camera = rigid(camera.rotation[0], camera.translation[0])
    camera_from_world = _OPENCV_FROM_OPENGL @ torch.linalg.inv(world_from_camera)
    objects = []
    for s in _filled(scene):
        asset = world.assets[int(scene.asset[0, s])]
        world_from_object = rigid(scene.rotation[0, s], scene.translation[0, s])
        scale = float(scene.scale[0, s])
        objects.append(
            {
                "asset": asset.name,
                "world_from_object": world_from_object.tolist(),
                "camera_from_object": (camera_from_world @ world_from_object).tolist(),
                "scale": scale,
                "size": (np.ptp(asset.vertices, axis=0).astype(float) * scale).tolist(),
                "colour_linear": scene.colour[0, s].tolist(),
            }
        )
    return {
        "camera": {
            "width": camera.width,
            "height": camera.height,
            "fx": float(camera.focal[0, 0]),
            "fy": float(camera.focal[0, 1]),
            "cx": float(camera.centre[0, 0]),
            "cy": float(camera.centre[0, 1]),
            "world_from_camera": world_from_camera.tolist(),
        },
        "lights": [
            {
                "type": "directional",
                "direction": scene.light.direction[0].tolist(),  # towards the light, in the world
                "intensity": float(scene.light.intensity[0]),
                "ambient": float(scene.light.ambient[0]),
            }
        ],
        "background": scene.background[0].tolist(),
        "objects": objects,
    }


def rigid(rotation: Float[Tensor, "4"], translation: Float[Tensor, "3"]) -> Float[Tensor, "4 4"]:
    """The 4x4 matrix of a quaternion xyzw and a translation [m], in float64."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = roma.unitquat_to_rotmat(torch.nn.functional.normalize(rotation.double(), dim=0))
    matrix[:3, 3] = translation.double()
    return matrix


def world_name(world: World) -> str:
    """What `World.load` takes to load the world again: a bundled name or a file; empty if it has none."""
    source = Path(world.source)
    return source.parent.name if source.parent.parent == Path(scenes.__file__).parent else world.source


def load_start(path: Path | str, world: World) -> Scene:
    """The scene (B = 1) in a recovery.json or a scene.glb, to start a search from.

    What the world knows (a fixed camera, fixed colours) is the world's; what is free comes from the file.

    Raises:
        RecoveryFileError, SceneFileError: If the file cannot be read, names an asset that the world does not
            have, or has more objects than the world allows.
    """
    found = load_scene(path, world)
    zoom = world.camera.height / found.camera.height
    found = replace(found, camera=replace(found.camera, focal=found.camera.focal * zoom))
    template = replace(world.empty(), asset=found.asset)
    return world.unpack(world.pack(found), like=template)


def load_scene(path: Path | str, world: World) -> Scene:
    """The scene (B = 1) in a recovery.json or a scene.glb, as the file says it.

    Raises:
        RecoveryFileError, SceneFileError: As `load_start`.
    """
    path = Path(path)
    if not path.is_file():
        raise RecoveryFileError(f"{path}: there is no such file")
    if path.suffix.lower() == ".glb":
        return gltf.load_scene(path, world)
    return scene_of(read_recovery(path), world, path)


def world_of(path: Path | str) -> str:
    """What `World.load` takes for the world of a recovery.json or a scene.glb; empty where there is none.

    Raises:
        RecoveryFileError, SceneFileError: If the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise RecoveryFileError(f"{path}: there is no such file")
    if path.suffix.lower() == ".glb":
        return gltf.world_of(path)
    return str(read_recovery(path).get("world", ""))


def read_recovery(path: Path) -> dict[str, Any]:
    """The content of a recovery.json, its format checked.

    Raises:
        RecoveryFileError: If it is no JSON or of another format.
    """
    return read_json(path, FORMAT)


def read_json(path: Path, form: str) -> dict[str, Any]:
    """The content of a JSON file whose "format" is `form`, such as "unrender-recovery/1".

    Raises:
        RecoveryFileError: If it is no JSON or of another format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecoveryFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise RecoveryFileError(f"{path}: is neither a .glb nor JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != form:
        kind = form.removeprefix("unrender-").split("/")[0]
        raise RecoveryFileError(f'{path}: is no {kind}: its "format" must be "{form}"')
    return content


def scene_of(content: dict[str, Any], world: World, path: Path) -> Scene:
    """The scene (B = 1) that `scene_json` wrote, in the slots of `world`; `path` is for messages.

    Raises:
        RecoveryFileError: If it is damaged, names an asset that the world does not have, or has more objects
            than the world allows.
    """
    names = [a.name for a in world.assets]
    try:
        objects, camera = content["objects"], content["camera"]
        for entry in objects:
            if entry["asset"] not in names:
                close = difflib.get_close_matches(str(entry["asset"]), names, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise RecoveryFileError(f"{path}: world {world.name} has no asset {entry['asset']!r}{hint}")
        scene = world.empty()
        if len(objects) > scene.slots:
            raise RecoveryFileError(
                f"{path}: has {len(objects)} objects, world {world.name} at most {scene.slots}"
            )
        light = content["lights"][0]
        eye = _numbers(camera["world_from_camera"], (4, 4))
        scene = replace(
            scene,
            camera=Camera(
                rotation=roma.rotmat_to_unitquat(eye[None, :3, :3]).float(),
                translation=eye[None, :3, 3].float(),
                focal=_numbers([[camera["fx"], camera["fy"]]], (1, 2)).float(),
                centre=_numbers([[camera["cx"], camera["cy"]]], (1, 2)).float(),
                width=int(_numbers(camera["width"], ())),
                height=int(_numbers(camera["height"], ())),
            ),
            light=Light(
                direction=_numbers([light["direction"]], (1, 3)).float(),
                intensity=_numbers([light["intensity"]], (1,)).float(),
                ambient=_numbers([light["ambient"]], (1,)).float(),
            ),
            background=_numbers([content["background"]], (1, 3)).float(),
        )
        for s, entry in enumerate(objects):
            pose = _numbers(entry["world_from_object"], (4, 4))
            scene.asset[0, s] = names.index(entry["asset"])
            scene.rotation[0, s] = roma.rotmat_to_unitquat(pose[:3, :3]).float()
            scene.translation[0, s] = pose[:3, 3].float()
            scene.scale[0, s] = _numbers(entry["scale"], ()).float()
            scene.colour[0, s] = _numbers(entry["colour_linear"], (3,)).float()
    except KeyError as error:
        raise RecoveryFileError(f"{path}: the key {error} is missing") from None
    except (TypeError, IndexError, ZeroDivisionError) as error:
        raise RecoveryFileError(f"{path}: is damaged ({error})") from None
    return scene


def intrinsics_of(path: Path) -> Intrinsics:
    """The intrinsics of the camera in a recovery.json.

    Raises:
        RecoveryFileError: If the file cannot be read or has none.
    """
    content = read_recovery(path)
    try:
        return Intrinsics(**{field.name: content["camera"][field.name] for field in fields(Intrinsics)})
    except (KeyError, TypeError) as error:
        raise RecoveryFileError(f"{path}: its camera cannot be read ({error})") from None


def _numbers(value: Any, shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """A float64 tensor of that shape, all finite; TypeError otherwise."""
    try:
        tensor = torch.tensor(value, dtype=torch.float64)
    except ValueError as error:
        raise TypeError(str(error)) from None
    if tuple(tensor.shape) != shape or not bool(tensor.isfinite().all()):
        raise TypeError(f"{list(shape)} finite numbers expected, got {value!r:.60}")
    return tensor


def _filled(scene: Scene) -> list[int]:
    return [s for s in range(scene.slots) if int(scene.asset[0, s]) >= 0]


def write_json(path: Path, content: dict[str, Any], *, indent: int | None = 1) -> None:
    """Write a JSON file whole or not at all, with null in place of numbers that JSON does not have.

    Raises:
        OutputError: If the file cannot be written.
    """
    with atomic(path) as temporary:
        text = json.dumps(_finite(content), indent=indent, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    """The same with null in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
