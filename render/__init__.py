"""From scenes to pictures, and the ways to differentiate through them."""

from render.blackbox import Simulator
from render.differentiable import differentiable
from render.engine import Engine, EngineError, Frame, open_engine

__all__ = ["Engine", "EngineError", "Frame", "Simulator", "differentiable", "open_engine"]
