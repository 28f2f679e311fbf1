"""The imitator: a network that draws a world's scenes as an engine does, object by object."""

from render.surrogate.imitator.files import load_imitator, save_imitator
from render.surrogate.imitator.network import Drawing, Imitator

__all__ = ["Drawing", "Imitator", "load_imitator", "save_imitator"]
