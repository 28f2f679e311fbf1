"""What may be in a picture, and what is in it: assets, worlds, scenes, files. Knows no renderer."""

from scenes.asset import Asset, Symmetry
from scenes.frommeshes import from_meshes
from scenes.gltf import SceneFileError, load_scene, save_scene
from scenes.intrinsics import Intrinsics, IntrinsicsError, read_intrinsics
from scenes.meshfile import MeshError, read_asset
from scenes.scene import Camera, Light, Scene, stack
from scenes.tomltable import WorldError
from scenes.world import CameraPrior, Interval, LightPrior, World
from scenes.worldfile import bundled_worlds

__all__ = [
    "Asset",
    "Camera",
    "CameraPrior",
    "Interval",
    "Intrinsics",
    "IntrinsicsError",
    "Light",
    "LightPrior",
    "MeshError",
    "Scene",
    "SceneFileError",
    "Symmetry",
    "World",
    "WorldError",
    "bundled_worlds",
    "from_meshes",
    "load_scene",
    "read_asset",
    "read_intrinsics",
    "save_scene",
    "stack",
]
