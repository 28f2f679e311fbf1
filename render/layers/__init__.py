"""Blurred layers, composed softly: gradients that also reach what is hidden."""

from render.layers.operator import soft_layers, soft_over
from render.layers.reference import soft_layers_reference, soft_over_reference

__all__ = ["soft_layers", "soft_layers_reference", "soft_over", "soft_over_reference"]
