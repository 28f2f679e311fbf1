"""The bundled game engine, on OpenGL."""

from render.opengl.engine import OpenGLEngine

__all__ = ["OpenGLEngine"]
