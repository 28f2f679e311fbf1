"""Read a mesh file (glTF, OBJ, PLY, STL) as one asset: geometry, normals, colours, one texture, symmetry."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from scenes.asset import Asset, Symmetry
from scenes.shapes import Mesh, is_closed, merge, split_at_creases
from scenes.symmetry import find_symmetry

FORMATS = (".glb", ".gltf", ".obj", ".ply", ".stl")
LARGEST_TEXTURE = 1024  # [texels]; larger pictures are scaled down
LARGEST_COORDINATE = 1e9  # [m]; float32 geometry means nothing beyond
_BORDER = 8  # texels around each picture where several share one texture


class MeshError(ValueError):
    """A mesh cannot be used; the message is one line that names the file and says why."""


@dataclass(frozen=True)
class _Part:
    """One geometry of a file: its mesh, its picture, and whether the file says anything about its colour."""

    mesh: Mesh
    texture: UInt8[np.ndarray, "row column 3"] | None
    coloured: bool


def read_asset(
    path: str | Path,
    name: str | None = None,
    *,
    colour_free: bool | None = None,
    specular: float = 0.0,
    shininess: float = 32.0,
    crease_degrees: float = 40.0,
) -> Asset:
    """The asset in a mesh file, in the file's own frame and units (taken as metres).

    A file's whole scene graph becomes one rigid mesh. Normals are the file's own; where it has none, or they
    are unusable, surfaces are smooth where neighbours meet below `crease_degrees`. Colours are texture times
    material colour (glTF) or the first of them (OBJ), times vertex colours; PLY and OBJ vertex colours are
    taken as sRGB, all other numbers as linear. Transparency, metalness and further maps are left out.

    Args:
        path: A .glb, .gltf, .obj, .ply or .stl file.
        name: The asset's name; the file's, without its ending, when left out.
        colour_free: True where a scene's tint is unknown. When left out: where the file states no colour.
        specular: Strength of the highlight; see `Asset`.
        shininess: Its exponent.
        crease_degrees: Smallest angle [degrees] between neighbours that shows as an edge.

    Raises:
        MeshError: If the file is missing, is no mesh, has no faces, has vertices that are not finite or
            indices out of range, or has no extent.
    """
    path = Path(path)
    parts = [_part(*found, path, crease_degrees) for found in _geometries(path)]
    if not parts:
        raise MeshError(f"{path} holds no faces: a mesh of triangles is needed")
    mesh, texture = _join(parts, path)
    if not len(mesh.faces):
        raise MeshError(f"{path} has no face with an area: its corners are at one place or on one line")
    closed = is_closed(mesh.vertices, mesh.faces)
    faces = mesh.faces
    if closed and _volume(mesh.vertices, faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    normals = _facing_out(mesh.vertices, faces, mesh.normals)
    plain = texture is None and float(np.ptp(mesh.colours, axis=0).max()) < 1e-3
    return Asset(
        name=name if name is not None else path.stem,
        vertices=mesh.vertices,
        faces=faces,
        normals=normals,
        colours=mesh.colours,
        uv=None if texture is None else mesh.uv,
        texture=texture,
        specular=specular,
        shininess=shininess,
        closed=closed,
        colour_free=not any(p.coloured for p in parts) if colour_free is None else colour_free,
        symmetry=find_symmetry(mesh.vertices, faces) if plain else Symmetry(),
    )


def _geometries(path: Path) -> list[tuple[Any, Float[np.ndarray, "4 4"]]]:
    """Every triangle mesh in the file with its matrix world_from_geometry, both checked."""
    if not path.is_file():
        raise MeshError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    if path.suffix.lower() not in FORMATS:
        raise MeshError(f"{path} is not a mesh this program reads: {', '.join(FORMATS)}")
    if path.suffix.lower() == ".obj":
        _check_obj(path)
    import trimesh

    logging.getLogger("trimesh").setLevel(logging.CRITICAL)  # its warnings come back as our own errors
    try:
        scene = trimesh.load_scene(path, process=False)
        geometries = [(n, *scene.graph[n]) for n in scene.graph.nodes_geometry]
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MeshError(f"{path} cannot be read as a {path.suffix[1:]} mesh: {reason[:160]}") from None
    found = []
    for _, matrix, key in geometries:
        geometry = scene.geometry[key]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            _check(geometry, matrix, path)
            found.append((geometry, np.asarray(matrix, np.float64)))
    return found


def _check(geometry: Any, matrix: np.ndarray, path: Path) -> None:
    vertices, faces = np.asarray(geometry.vertices), np.asarray(geometry.faces)
    if faces.min() < 0 or faces.max() >= len(vertices):
        worst = int(faces.max() if faces.max() >= len(vertices) else faces.min())
        raise MeshError(f"{path} has a face index out of range: {worst}, with {len(vertices)} vertices")
    bad = int((~(np.abs(vertices) < LARGEST_COORDINATE)).any(1).sum())  # NaN compares false
    if bad:
        raise MeshError(f"{path} has {bad} of {len(vertices)} vertices that are not finite, or beyond 1e9")
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0:
        raise MeshError(f"{path} has a node whose matrix is not finite or flattens its mesh")


def _check_obj(path: Path) -> None:
    """OBJ counts from 1 and its readers let wrong indices through: check them in the text."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise MeshError(f"{path} cannot be read: {error.strerror or error}") from None
    count = sum(line.startswith(("v ", "v\t")) for line in lines)
    seen = 0
    for number, line in enumerate(lines, 1):
        seen += line.startswith(("v ", "v\t"))
        if not line.startswith(("f ", "f\t")):
            continue
        for corner in line.split("#")[0].split()[1:]:
            try:
                index = int(corner.split("/")[0])
            except ValueError:
                raise MeshError(f"{path} line {number}: {corner!r} is not a face's corner") from None
            if index == 0 or index > count or index < -seen:
                raise MeshError(
                    f"{path} line {number} has a face index out of range: {index}, with {count} vertices"
                )


def _part(geometry: Any, matrix: Float[np.ndarray, "4 4"], path: Path, crease_degrees: float) -> _Part:
    """One geometry in the file's world, split at creases where it brings no normals of its own."""
    vertices = np.asarray(geometry.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(geometry.faces, np.int64)
    if np.linalg.det(matrix[:3, :3]) < 0:  # a mirror turns the winding round
        faces = faces[:, ::-1]
    colours, coloured = _colours(geometry, path.suffix.lower())
    corner_colours = colours if len(colours) == len(faces) and colours.ndim == 3 else colours[faces]
    if colours.ndim == 3 and np.linalg.det(matrix[:3, :3]) < 0:
        corner_colours = colours[:, ::-1]
    uv, texture = _texture(geometry)
    corner_uv = np.zeros((*faces.shape, 2)) if uv is None else uv[faces]
    vertices = _weld_close(vertices)
    normals = _own_normals(geometry, matrix)
    if normals is None:
        points, index = np.unique(vertices.astype(np.float32), axis=0, return_inverse=True)
        mesh = split_at_creases(
            points,
            index.reshape(-1)[faces],
            uv=corner_uv,
            colours=corner_colours,
            crease_degrees=crease_degrees,
        )
    else:
        mesh = _unsplit(vertices, faces, normals, corner_uv, corner_colours)
    return _Part(mesh, texture, coloured)


def _unsplit(
    vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, uv: np.ndarray, colours: np.ndarray
) -> Mesh:
    """A mesh with the file's own normals; corners of one vertex that differ in colour are parted."""
    corner = faces.reshape(-1)
    rows = np.concatenate([corner[:, None], uv.reshape(-1, 2), colours.reshape(-1, 3)], 1)
    _, first, index = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    faces = index.reshape(-1, 3).astype(np.int32)
    kept = vertices[corner[first]].astype(np.float32)
    return Mesh(
        vertices=kept,
        faces=faces[_area(kept, faces) > 0],
        normals=normals[corner[first]].astype(np.float32),
        colours=colours.reshape(-1, 3)[first].astype(np.float32),
        uv=uv.reshape(-1, 2)[first].astype(np.float32),
    )


def _weld_close(vertices: Float[np.ndarray, "vertex 3"]) -> Float[np.ndarray, "vertex 3"]:
    """Vertices that lie within a millionth of the size of one another, made equal."""
    size = float(np.ptp(vertices, axis=0).max())
    if size == 0:
        return vertices
    _, first, index = np.unique(
        np.round(vertices / (1e-6 * size)), axis=0, return_index=True, return_inverse=True
    )
    return vertices[first[index.reshape(-1)]]


def _own_normals(geometry: Any, matrix: np.ndarray) -> Float[np.ndarray, "vertex 3"] | None:
    """The file's normals, turned into its world; None where it has none or one of them is unusable."""
    # `vertex_normals` would compute them: only what the reader stored came from the file.
    stored = geometry._cache.cache.get("vertex_normals")
    if stored is None or len(stored) != len(geometry.vertices):
        return None
    normals = np.asarray(stored, np.float64) @ np.linalg.inv(matrix[:3, :3])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    if not np.isfinite(normals).all() or (length < 1e-6).any():
        return None
    return np.asarray(normals / length)


def _colours(geometry: Any, suffix: str) -> tuple[np.ndarray, bool]:
    """Linear albedo per vertex [V, 3], or per face's corner [F, 3, 3], and whether the file states any."""
    visual, count = geometry.visual, len(geometry.vertices)
    white = np.ones((count, 3))
    if visual.kind == "face":
        return np.repeat(_linear(visual.face_colors, suffix)[:, None], 3, 1), True
    if visual.kind == "vertex":
        return _linear(visual.vertex_colors, suffix), True
    if visual.kind != "texture":
        return white, False
    material, stored = visual.material, visual.vertex_attributes.get("color")
    coloured = _picture(material) is not None or stored is not None
    if stored is not None and len(stored) == count:
        white = _linear(stored, suffix)
    factor = getattr(material, "baseColorFactor", None)
    if factor is None and coloured is False and "kd" in {k.lower() for k in getattr(material, "kwargs", {})}:
        factor = material.diffuse
    if factor is not None:
        white = white * (np.asarray(factor, np.float64)[:3] / 255)
    return white, coloured or factor is not None


def _linear(colours: np.ndarray, suffix: str) -> Float[np.ndarray, "n 3"]:
    """Stored vertex colours as linear albedo; glTF's are linear already."""
    scale = 255.0 if np.issubdtype(np.asarray(colours).dtype, np.integer) else 1.0
    value = np.asarray(colours, np.float64)[:, :3] / scale
    if suffix in (".glb", ".gltf"):
        return value
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _picture(material: Any) -> Any:
    """The material's colour picture (PIL), or None."""
    picture = getattr(material, "baseColorTexture", None)
    return picture if picture is not None else getattr(material, "image", None)


def _texture(geometry: Any) -> tuple[np.ndarray | None, UInt8[np.ndarray, "row column 3"] | None]:
    """Texture coordinates in glTF's sense [V, 2] and texels, or None for both."""
    uv = getattr(geometry.visual, "uv", None)
    picture = _picture(geometry.visual.material) if uv is not None else None
    if picture is None or uv is None or len(uv) != len(geometry.vertices):
        return None, None
    picture = picture.convert("RGB")
    if max(picture.size) > LARGEST_TEXTURE:
        picture.thumbnail((LARGEST_TEXTURE, LARGEST_TEXTURE))
    uv = np.nan_to_num(np.asarray(uv, np.float64), posinf=0.0, neginf=0.0)
    return uv * [1, -1] + [0, 1], np.asarray(picture)  # trimesh counts v upwards in every format


def _join(parts: list[_Part], path: Path) -> tuple[Mesh, UInt8[np.ndarray, "row column 3"] | None]:
    """One mesh and one texture of all parts; different pictures go side by side into one."""
    pictures: list[np.ndarray | None] = []
    which = []
    for part in parts:
        same = [k for k, p in enumerate(pictures) if _equal(p, part.texture)]
        which.append(same[0] if same else len(pictures))
        if not same:
            pictures.append(part.texture)
    if len(pictures) == 1:
        return merge([p.mesh for p in parts]), pictures[0]
    meshes = []
    height = max(len(p) for p in pictures if p is not None)
    cells = [_cell(p, height) for p in pictures]
    start = np.cumsum([0] + [c.shape[1] for c in cells])
    width, tall = start[-1], height + 2 * _BORDER
    for part, k in zip(parts, which, strict=True):
        uv = _inside(part.mesh, path) if part.texture is not None else np.full_like(part.mesh.uv, 0.5)
        inner = cells[k].shape[1] - 2 * _BORDER
        uv = (uv * [inner, height] + [start[k] + _BORDER, _BORDER]) / [width, tall]
        meshes.append(Mesh(**{**part.mesh.__dict__, "uv": uv.astype(np.float32)}))
    return merge(meshes), np.concatenate(cells, axis=1)


def _equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def _cell(picture: np.ndarray | None, height: int) -> UInt8[np.ndarray, "row column 3"]:
    """A picture scaled to `height`, its border repeated around it; white where there is none."""
    if picture is None:
        return np.full((height + 2 * _BORDER, 4 * _BORDER, 3), 255, np.uint8)
    if len(picture) != height:
        from PIL import Image

        width = max(1, round(picture.shape[1] * height / len(picture)))
        picture = np.asarray(Image.fromarray(picture).resize((width, height)))
    return np.pad(picture, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), mode="edge")


def _inside(mesh: Mesh, path: Path) -> Float[np.ndarray, "vertex 2"]:
    """The mesh's uv moved into [0, 1] by whole pictures."""
    uv = mesh.uv - np.floor(mesh.uv.min(0) + 1e-4)
    if uv.max() > 1 + 1e-3:
        raise MeshError(
            f"{path} repeats one of its several textures; bake them into one picture, or give the parts apart"
        )
    return np.asarray(uv)


def _area(vertices: np.ndarray, faces: Int[np.ndarray, "face 3"]) -> Float[np.ndarray, "face"]:
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def _volume(vertices: np.ndarray, faces: Int[np.ndarray, "face 3"]) -> float:
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def _facing_out(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Normals on the side from which their faces wind counter-clockwise."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    flat = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(faces.reshape(-1), np.repeat(flat[:, k], 3), len(vertices)) for k in range(3)], 1
    )
    inward = (total * normals).sum(1) < 0
    return np.where(inward[:, None], -normals, normals).astype(np.float32)
