"""The edge operator: gradients of any renderer's pictures with respect to the vertices."""

from render.edge.operator import edge_gradient
from render.edge.reference import edge_gradient_reference
from render.edge.topology import Topology, build_topology, topology

__all__ = ["Topology", "build_topology", "edge_gradient", "edge_gradient_reference", "topology"]
