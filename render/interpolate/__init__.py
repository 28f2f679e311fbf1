"""Perspective-correct attributes of what each pixel sees, differentiable in the attributes."""

from render.interpolate.operator import interpolate
from render.interpolate.reference import interpolate_reference

__all__ = ["interpolate", "interpolate_reference"]
