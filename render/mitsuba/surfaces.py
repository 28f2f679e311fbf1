"""A world's assets as Mitsuba's meshes and materials."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from render.engine import EngineError
from render.mitsuba.variant import load
from scenes.asset import Asset
from scenes.world import World

_COLOUR = "vertex_colour"


@dataclass(frozen=True, eq=False)
class _Part:
    """Faces of one material.

    Attributes:
        rows: Which of the asset's vertices they use, [V].
        faces: Indices into `rows`, uint32 [F, 3].
        texels: Linear texture times the part's own colour, float32 [h, w, 3], or None: colours are the
            vertices' own.
    """

    asset: Asset
    rows: Int[np.ndarray, "vertex"]
    faces: Int[np.ndarray, "face 3"]
    texels: Float[np.ndarray, "row column 3"] | None


class Surfaces:
    """Makes meshes of a world's assets. Textures are decoded once, and their materials kept.

    Made and used while the variant is "scalar_rgb".
    """

    def __init__(self, world: World) -> None:
        """Prepare the assets, then the scenery.

        Raises:
            EngineError: If an asset has a texture and colours that change within a face.
        """
        self._parts = [_parts(asset) for asset in (*world.assets, *world.scenery)]
        self._plain: dict[int, Any] = {}  # materials without a tint, by the part's identity

    def meshes(
        self, index: int, world_from_object: Float[np.ndarray, "3 4"], tint: Float[np.ndarray, "3"]
    ) -> list[Any]:
        """One or more meshes of asset `index`, whose rotation times scale and position are given."""
        return [self._mesh(part, world_from_object, tint) for part in self._parts[index]]

    def _mesh(self, part: _Part, world_from_object: np.ndarray, tint: np.ndarray) -> Any:
        import mitsuba

        asset, linear = part.asset, world_from_object[:, :3]
        properties = mitsuba.Properties()
        properties["bsdf"] = self._material(part, tint)
        mesh: Any = mitsuba.Mesh(
            asset.name,
            len(part.rows),
            len(part.faces),
            props=properties,
            has_vertex_normals=True,
            has_vertex_texcoords=part.texels is not None,
        )
        if part.texels is None:
            mesh.add_attribute(_COLOUR, 3, _flat(asset.colours[part.rows] * tint))
        values = mitsuba.traverse(mesh)
        values["vertex_positions"] = _flat(asset.vertices[part.rows] @ linear.T + world_from_object[:, 3])
        normals = asset.normals[part.rows] @ linear.T
        values["vertex_normals"] = _flat(normals / np.linalg.norm(normals, axis=1, keepdims=True))
        values["faces"] = part.faces.reshape(-1)
        if part.texels is not None:
            values["vertex_texcoords"] = _flat(asset.uv[part.rows])  # type: ignore[index]  # textured: it is there
        values.update()
        return mesh

    def _material(self, part: _Part, tint: np.ndarray) -> Any:
        """The part's material; one for all copies of it that have no tint of their own."""
        if part.texels is not None and bool((tint != 1.0).any()):
            return _bsdf(part, tint)
        if id(part) not in self._plain:
            self._plain[id(part)] = _bsdf(part, tint)
        return self._plain[id(part)]


def _bsdf(part: _Part, tint: np.ndarray) -> Any:
    """A matt surface; a glossy asset's is mixed with a rough mirror.

    A share w of the light goes to the mirror, which the matt surface loses. Seen square-on with the light
    behind the eye, the mirror's Beckmann lobe of roughness alpha, alpha^2 = 2 / (shininess + 2) as in Blinn
    and Phong's, returns w * intensity / (4 alpha^2): w is chosen for that to be specular * intensity.
    """
    import mitsuba

    reflectance: dict[str, Any] = {"type": "mesh_attribute", "name": _COLOUR}
    if part.texels is not None:
        bitmap = mitsuba.Bitmap(part.texels * tint.astype(np.float32))
        reflectance = {"type": "bitmap", "bitmap": bitmap, "raw": True}  # raw: linear already
    surface: dict[str, Any] = {"type": "diffuse", "reflectance": reflectance}
    asset = part.asset
    if asset.specular > 0.0:
        alpha = (2.0 / (asset.shininess + 2.0)) ** 0.5
        mirror = {"type": "roughconductor", "material": "none", "distribution": "beckmann", "alpha": alpha}
        share = min(1.0, 4.0 * alpha**2 * asset.specular)
        surface = {"type": "blendbsdf", "weight": share, "matt": surface, "mirror": mirror}
    return load({"type": "twosided", "surface": surface})


def _parts(asset: Asset) -> list[_Part]:
    """The asset, cut where its texture is multiplied by one colour or another: Mitsuba has no product."""
    if asset.texture is None or asset.uv is None:
        return [_Part(asset, np.arange(len(asset.vertices)), asset.faces.astype(np.uint32), None)]
    from render.shading import decode_srgb

    of_face = asset.colours[asset.faces]
    if np.ptp(of_face, axis=1).max() > 1e-3:
        raise EngineError(
            f"{asset.name} has a texture and vertex colours that change within a face, which mitsuba cannot "
            "multiply: bake the colours into the texture"
        )
    texels = decode_srgb(torch.from_numpy(asset.texture.copy()).float() / 255.0).numpy()
    colours, which = np.unique(of_face[:, 0].round(3), axis=0, return_inverse=True)
    parts = []
    for k, colour in enumerate(colours):
        rows, faces = np.unique(asset.faces[which.reshape(-1) == k], return_inverse=True)
        parts.append(_Part(asset, rows, faces.reshape(-1, 3).astype(np.uint32), texels * colour))
    return parts


def _flat(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).reshape(-1)
