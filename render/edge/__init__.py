"""The edge operator: gradients of any renderer's pictures with respect to the vertices."""

from render.edge.operator import edge_gradient
from render.edge.reference import edge_gradient_reference

__all__ = ["edge_gradient", "edge_gradient_reference"]
