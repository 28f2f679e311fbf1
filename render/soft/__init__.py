"""Soft rasterization: pictures of triangles that are differentiable in everything."""

from render.soft.operator import soft_rasterize
from render.soft.reference import soft_rasterize_reference

__all__ = ["soft_rasterize", "soft_rasterize_reference"]
