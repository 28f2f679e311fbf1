"""From scenes to pictures, and the ways to differentiate through them."""

from render.differentiable import differentiable
from render.engine import Engine, EngineError, Frame, open_engine

__all__ = ["Engine", "EngineError", "Frame", "differentiable", "open_engine"]
