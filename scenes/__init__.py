"""What may be in a picture, and what is in it: assets, worlds, scenes, files. Knows no renderer."""

from scenes.asset import Asset, Symmetry
from scenes.scene import Camera, Light, Scene, stack
from scenes.world import CameraPrior, Interval, LightPrior, World
from scenes.worldfile import WorldError, bundled_worlds

__all__ = [
    "Asset",
    "Camera",
    "CameraPrior",
    "Interval",
    "Light",
    "LightPrior",
    "Scene",
    "Symmetry",
    "World",
    "WorldError",
    "bundled_worlds",
    "stack",
]
