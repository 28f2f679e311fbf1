"""What may be in a picture, and what is in it: assets, worlds, scenes, files. Knows no renderer."""

from scenes.asset import Asset, Symmetry
from scenes.gltf import SceneFileError, load_scene, save_scene
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
    "Light",
    "LightPrior",
    "MeshError",
    "Scene",
    "SceneFileError",
    "Symmetry",
    "World",
    "WorldError",
    "bundled_worlds",
    "load_scene",
    "read_asset",
    "save_scene",
    "stack",
]
