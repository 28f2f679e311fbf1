"""Asset: one rigid thing that may be in a picture, with its mesh, material and symmetry."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, UInt8


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The turns that leave an asset's look (shape and texture) as it is.

    Attributes:
        rotations: Discrete turns, identity included, shape [K, 3, 3].
        axis: Unit axis of full revolution in the object's frame, shape [3], or None.
        sphere: True where every rotation leaves the asset as it is.
        centre: The point [m] in the object's frame about which all of these turn, shape [3]. Seldom
            other than zero: a mesh from a file may be round about another point than its origin.
    """

    rotations: Float[np.ndarray, "turn 3 3"] = field(
        default_factory=lambda: np.eye(3, dtype=np.float32)[None]
    )
    axis: Float[np.ndarray, "3"] | None = None
    sphere: bool = False
    centre: Float[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3, np.float32))

    @property
    def trivial(self) -> bool:
        """True where only the identity leaves the asset as it is."""
        return len(self.rotations) == 1 and self.axis is None and not self.sphere


@dataclass(frozen=True, eq=False)
class Asset:
    """One rigid object: mesh in metres in its own frame, material, symmetry. Immutable.

    Vertices are split where normals, colours or uv differ between faces; `weld` names the
    position each vertex shares with its copies, which is what the mesh's topology is made of.
    Faces wind counter-clockwise seen from outside.

    Attributes:
        name: Unique within a world.
        vertices: Positions [m] in the object's frame, y up, float32 [V, 3].
        faces: Vertex indices, int32 [F, 3].
        normals: Unit normals, float32 [V, 3].
        colours: Linear albedo in [0, 1], float32 [V, 3]. Multiplies the texture.
        uv: Texture coordinates, (0, 0) at the top-left texel's corner (glTF), float32 [V, 2], or None.
        texture: sRGB-encoded texels, row 0 at v = 0, uint8 [h, w, 3], or None. Repeats outside [0, 1].
        specular: Strength of the Blinn-Phong highlight in linear light, at least 0.
        shininess: Its exponent, at least 1.
        closed: True for a watertight mesh: back faces are never seen and may be culled.
        colour_free: True where a scene's tint of this asset is unknown; else the tint is white.
        symmetry: Turns that leave the look as it is.
    """

    name: str
    vertices: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]
    normals: Float[np.ndarray, "vertex 3"]
    colours: Float[np.ndarray, "vertex 3"]
    uv: Float[np.ndarray, "vertex 2"] | None = None
    texture: UInt8[np.ndarray, "row column 3"] | None = None
    specular: float = 0.0
    shininess: float = 32.0
    closed: bool = False
    colour_free: bool = False
    symmetry: Symmetry = field(default_factory=Symmetry)

    @cached_property
    def weld(self) -> Int[np.ndarray, "vertex"]:
        """Index of the shared position of each vertex, int32 [V]; equal where positions are bit-equal."""
        _, index = np.unique(self.vertices, axis=0, return_inverse=True)
        return index.reshape(-1).astype(np.int32)

    @cached_property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Middle of the bounding box [m] in the object's frame."""
        return np.asarray((self.vertices.max(0) + self.vertices.min(0)) / 2)

    @cached_property
    def radius(self) -> float:
        """Largest distance [m] of a vertex from `centre`."""
        return float(np.linalg.norm(self.vertices - self.centre, axis=1).max())
