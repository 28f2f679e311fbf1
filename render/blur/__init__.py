"""Gaussian blur of pictures and of their differences: the softness of the losses."""

from render.blur.operator import blurred_squared_error, gaussian_blur
from render.blur.reference import gaussian_blur_reference

__all__ = ["blurred_squared_error", "gaussian_blur", "gaussian_blur_reference"]
