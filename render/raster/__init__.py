"""Our own hard rasterizer: which triangle each pixel sees, how far, and where on it."""

from render.raster.operator import Raster, nearest, rasterize
from render.raster.reference import rasterize_reference

__all__ = ["Raster", "nearest", "rasterize", "rasterize_reference"]
