"""Save one scene as a .glb that any glTF reader shows, and load it again exactly.

What glTF can say is said in glTF: a node per object with mesh, texture and pose, the camera, a directional
light (KHR_lights_punctual). What it cannot, and the exact float32 numbers of everything, is in the scene's
`extras` under "unrender"; loading reads those.
"""

import io
import json
import math
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from torch import Tensor

from scenes.asset import Asset
from scenes.scene import Camera, Light, Scene
from scenes.world import World

FORMAT = "unrender-scene/1"
_KEY = "unrender"


class SceneFileError(ValueError):
    """A scene file cannot be read or written; the message is one line that names the file and says why."""


def save_scene(scene: Scene, world: World, path: str | Path) -> None:
    """Write one scene as a binary glTF file, whole or not at all.

    The format's camera has no principal point, it knows no ambient light, and its light is in lux: a viewer
    shows nearly, not exactly, what the engines draw.

    Args:
        scene: A batch of one; index the batch to choose.
        world: The world whose assets `scene.asset` names.
        path: Where to write; an existing file is replaced.

    Raises:
        ValueError: If `scene` holds more than one scene.
        SceneFileError: If the file cannot be written.
    """
    if len(scene) != 1:
        raise ValueError(f"one scene can be saved in a file, got {len(scene)}: choose with scene[i]")
    content = _Writer().document(scene.detach().to("cpu"), world)
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).chmod(0o644)  # mkstemp's own mode keeps others from reading
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SceneFileError(f"{path} cannot be written: {error.strerror or error}") from None


def load_scene(path: str | Path, world: World) -> Scene:
    """The scene in a file that `save_scene` wrote, equal to the last bit of float32.

    Args:
        path: The .glb file.
        world: A world that has every asset the file names. The scene gets its slots: empty ones are added, or
            left out, as needed.

    Raises:
        SceneFileError: If the file is missing, is no .glb, was not written by this program, names an asset
            that the world does not have, or has more objects than the world's slots.
    """
    path = Path(path)
    stored = _extras(path)
    try:
        return _scene(stored, world, path)
    except (KeyError, TypeError, IndexError, RuntimeError, ValueError) as error:
        if isinstance(error, SceneFileError):
            raise
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise SceneFileError(f"{path} is damaged: its {_KEY!r} extras cannot be read ({reason})") from None


def world_of(path: str | Path) -> str:
    """What to hand to `World.load` for the world of a scene file; "" where that came from no world file.

    Raises:
        SceneFileError: As for `load_scene`.
    """
    return str(_extras(Path(path)).get("world_source", ""))


def _scene(stored: dict[str, Any], world: World, path: Path) -> Scene:
    objects, slots = stored["objects"], world.count[1]
    names = [a.name for a in world.assets]
    for entry in objects:
        if entry.get("asset", names[0]) not in names:
            raise SceneFileError(
                f"{path} holds {entry['asset']!r}; world {world.name} has only {', '.join(names)}"
            )
    if len(objects) > slots:
        objects = [o for o in objects if "asset" in o]
        if len(objects) > slots:
            raise SceneFileError(f"{path} holds {len(objects)} objects; world {world.name} has {slots} slots")
    blank = {"rotation": [0, 0, 0, 1], "translation": [0, 0, 0], "scale": 1, "colour": [1, 1, 1]}
    objects = objects + [blank] * (slots - len(objects))

    def rows(key: str) -> Tensor:
        return _numbers([o[key] for o in objects], key)

    camera, light = stored["camera"], stored["light"]
    return Scene(
        asset=torch.tensor([[names.index(o["asset"]) if "asset" in o else -1 for o in objects]]),
        rotation=rows("rotation").reshape(1, slots, 4),
        translation=rows("translation").reshape(1, slots, 3),
        scale=rows("scale").reshape(1, slots),
        colour=rows("colour").reshape(1, slots, 3),
        camera=Camera(
            rotation=_numbers(camera["rotation"], "rotation").reshape(1, 4),
            translation=_numbers(camera["translation"], "translation").reshape(1, 3),
            focal=_numbers(camera["focal"], "focal").reshape(1, 2),
            centre=_numbers(camera["centre"], "centre").reshape(1, 2),
            width=int(camera["width"]),
            height=int(camera["height"]),
        ),
        light=Light(
            direction=_numbers(light["direction"], "direction").reshape(1, 3),
            intensity=_numbers([light["intensity"]], "intensity"),
            ambient=_numbers([light["ambient"]], "ambient"),
        ),
        background=_numbers(stored["background"], "background").reshape(1, 3),
    )


def _numbers(values: Any, key: str) -> Tensor:
    numbers = torch.tensor(values, dtype=torch.float32)
    if not numbers.isfinite().all():
        raise ValueError(f"{key} is not finite")
    return numbers


def _extras(path: Path) -> dict[str, Any]:
    """This program's part of a .glb file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SceneFileError(f"{path} cannot be read: {error.strerror or error}") from None
    if data[:4] != b"glTF" or len(data) < 20:
        raise SceneFileError(f"{path} is not a .glb file")
    length, kind = struct.unpack("<I4s", data[12:20])
    try:
        if kind != b"JSON" or 20 + length > len(data):
            raise ValueError
        document = json.loads(data[20 : 20 + length])
        extras = document["scenes"][document.get("scene", 0)].get("extras", {})
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise SceneFileError(f"{path} is a damaged .glb file") from None
    stored = extras.get(_KEY) if isinstance(extras, dict) else None
    if not isinstance(stored, dict):
        raise SceneFileError(f"{path} holds no scene of this program: only files it wrote itself can be read")
    if stored.get("format") != FORMAT:
        raise SceneFileError(f"{path} has the format {stored.get('format')!r}; this version reads {FORMAT!r}")
    return stored


def _values(scene: Scene, world: World) -> dict[str, Any]:
    """Everything in the scene, as JSON; Python prints a float32 so that it is read back exactly."""
    from scenes.worldfile import bundled_worlds

    index = scene.asset[0].tolist()
    return {
        "format": FORMAT,
        "world": world.name,
        "world_source": world.name if world.name in bundled_worlds() else world.source,
        "objects": [
            {
                # An empty slot has no name: the writer drops keys with empty values.
                **({"asset": world.assets[index[s]].name} if index[s] >= 0 else {}),
                "rotation": scene.rotation[0, s].tolist(),
                "translation": scene.translation[0, s].tolist(),
                "scale": scene.scale[0, s].item(),
                "colour": scene.colour[0, s].tolist(),
            }
            for s in range(scene.slots)
        ],
        "camera": {
            "rotation": scene.camera.rotation[0].tolist(),
            "translation": scene.camera.translation[0].tolist(),
            "focal": scene.camera.focal[0].tolist(),
            "centre": scene.camera.centre[0].tolist(),
            "width": scene.camera.width,
            "height": scene.camera.height,
        },
        "light": {
            "direction": scene.light.direction[0].tolist(),
            "intensity": scene.light.intensity[0].item(),
            "ambient": scene.light.ambient[0].item(),
        },
        "background": scene.background[0].tolist(),
    }


def asset_glb(asset: Asset, tint: list[float]) -> bytes:
    """One asset in its own frame as the content of a .glb file, for viewers that pose it themselves.

    Args:
        asset: What to write.
        tint: Linear colour r, g, b in [0, 1] that multiplies its albedo.
    """
    writer = _Writer()
    writer.node(name=asset.name, mesh=writer.mesh(asset, asset.name, tint))
    return writer.finished(asset.name)


class _Writer:
    """Collects a document's buffer and its parts; one use writes one file."""

    def __init__(self) -> None:
        import pygltflib

        self.gltf = pygltflib
        self.root = pygltflib.GLTF2(
            asset=pygltflib.Asset(version="2.0", generator="unrender"),
            samplers=[pygltflib.Sampler(magFilter=9729, minFilter=9987, wrapS=10497, wrapT=10497)],
        )
        self.blob = bytearray()
        self.attributes: dict[str, tuple[Any, int]] = {}
        self.textures: dict[str, int] = {}

    def document(self, scene: Scene, world: World) -> bytes:
        """The whole file."""
        for asset in world.scenery:
            self.node(name=asset.name, mesh=self.mesh(asset, asset.name, [1.0, 1.0, 1.0]))
        for s, index in enumerate(scene.asset[0].tolist()):
            if index >= 0:
                asset = world.assets[index]
                self.node(
                    name=f"{asset.name}.{s}",
                    mesh=self.mesh(asset, f"{asset.name}.{s}", scene.colour[0, s].clamp(0, 1).tolist()),
                    rotation=scene.rotation[0, s].tolist(),
                    translation=scene.translation[0, s].tolist(),
                    scale=[scene.scale[0, s].item()] * 3,
                )
        self._camera(scene.camera)
        self._light(scene.light)
        return self.finished(world.name, {_KEY: _values(scene, world)})

    def finished(self, name: str, extras: dict[str, Any] | None = None) -> bytes:
        """The file of everything collected."""
        nodes = list(range(len(self.root.nodes)))
        self.root.scenes = [self.gltf.Scene(name=name, nodes=nodes, extras=extras or {})]
        self.root.scene = 0
        if self.blob:
            self.root.buffers = [self.gltf.Buffer(byteLength=len(self.blob))]
            self.root.set_binary_blob(bytes(self.blob))
        return b"".join(self.root.save_to_bytes())

    def node(self, **settings: Any) -> None:
        """Put something into the scene."""
        self.root.nodes.append(self.gltf.Node(**settings))

    def mesh(self, asset: Asset, name: str, tint: list[float]) -> int:
        """A mesh of the asset's geometry, which all its copies share, with a material of its own."""
        if asset.name not in self.attributes:
            self.attributes[asset.name] = self._geometry(asset)
        attributes, indices = self.attributes[asset.name]
        # Phong's exponent s is near a roughness of (2 / (s + 2))^(1/4) in glTF's model.
        rough = (2 / (asset.shininess + 2)) ** 0.25 if asset.specular > 0 else 1.0
        surface = self.gltf.PbrMetallicRoughness(
            baseColorFactor=[*tint, 1.0], metallicFactor=0.0, roughnessFactor=rough
        )
        if asset.texture is not None:
            surface.baseColorTexture = self.gltf.TextureInfo(index=self._texture(asset))
        material = self.gltf.Material(name=name, pbrMetallicRoughness=surface, doubleSided=not asset.closed)
        self.root.materials.append(material)
        primitive = self.gltf.Primitive(
            attributes=attributes, indices=indices, material=len(self.root.materials) - 1
        )
        self.root.meshes.append(self.gltf.Mesh(name=name, primitives=[primitive]))
        return len(self.root.meshes) - 1

    def _geometry(self, asset: Asset) -> tuple[Any, int]:
        attributes = self.gltf.Attributes(
            POSITION=self._accessor(asset.vertices, "VEC3", limits=True),
            NORMAL=self._accessor(asset.normals, "VEC3"),
        )
        if asset.uv is not None:
            attributes.TEXCOORD_0 = self._accessor(asset.uv, "VEC2")
        if not bool((asset.colours == 1).all()):
            attributes.COLOR_0 = self._accessor(asset.colours, "VEC3")
        return attributes, self._accessor(asset.faces.reshape(-1), "SCALAR")

    def _accessor(self, values: np.ndarray, kind: str, *, limits: bool = False) -> int:
        index = kind == "SCALAR"
        values = np.ascontiguousarray(values, np.uint32 if index else np.float32)
        # 34963 is an index buffer, 34962 one of vertices; 5125 is uint32, 5126 float32.
        view = self._view(values.tobytes(), target=34963 if index else 34962)
        accessor = self.gltf.Accessor(
            bufferView=view, componentType=5125 if index else 5126, count=len(values), type=kind
        )
        if limits:
            accessor.min, accessor.max = values.min(0).tolist(), values.max(0).tolist()
        self.root.accessors.append(accessor)
        return len(self.root.accessors) - 1

    def _view(self, data: bytes, *, target: int | None = None) -> int:
        start = len(self.blob)
        self.blob += data  # pygltflib pads the parts to multiples of 4 when it writes them
        view = self.gltf.BufferView(buffer=0, byteOffset=start, byteLength=len(data), target=target)
        self.root.bufferViews.append(view)
        return len(self.root.bufferViews) - 1

    def _texture(self, asset: Asset) -> int:
        if asset.name not in self.textures:
            from PIL import Image

            png = io.BytesIO()
            Image.fromarray(asset.texture).save(png, format="PNG")  # type: ignore[arg-type]  # callers have one
            view = self._view(png.getvalue())
            self.root.images.append(self.gltf.Image(name=asset.name, bufferView=view, mimeType="image/png"))
            self.root.textures.append(self.gltf.Texture(sampler=0, source=len(self.root.images) - 1))
            self.textures[asset.name] = len(self.root.textures) - 1
        return self.textures[asset.name]

    def _camera(self, camera: Camera) -> None:
        perspective = self.gltf.Perspective(
            aspectRatio=camera.width / camera.height * (camera.focal[0, 1] / camera.focal[0, 0]).item(),
            yfov=2 * math.atan(camera.height / 2 / camera.focal[0, 1].item()),
            znear=0.01,
        )
        self.root.cameras.append(self.gltf.Camera(name="camera", type="perspective", perspective=perspective))
        self.node(
            name="camera",
            camera=0,
            rotation=camera.rotation[0].tolist(),
            translation=camera.translation[0].tolist(),
        )

    def _light(self, light: Light) -> None:
        """The light's node shines along its -z; pi makes lux of a share of albedo on a Lambert surface."""
        name = "KHR_lights_punctual"
        entry = {"type": "directional", "name": "light", "intensity": math.pi * light.intensity[0].item()}
        self.root.extensionsUsed.append(name)
        self.root.extensions[name] = {"lights": [entry]}
        back = light.direction[0].double()
        side = torch.linalg.cross(torch.eye(3, dtype=torch.float64)[back.abs().argmin()], back)
        side = side / side.norm()
        turn = torch.stack([side, torch.linalg.cross(back, side), back], dim=1)
        self.node(
            name="light",
            rotation=roma.rotmat_to_unitquat(turn).tolist(),
            extensions={name: {"light": 0}},
        )
