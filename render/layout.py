"""Where everything stands in a batch of scenes, as the arrays that engines read; NumPy only."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from scenes.asset import Asset
from scenes.scene import Scene
from scenes.world import World

INSTANCE_FLOATS = 33  # rows of clip_from_object (16) and world_from_object (12), tint (3), layer, id
SCENE_FLOATS = 24  # SceneData in scenes.glsl
_NEAREST = (
    1e-3  # the near plane is at least this share of the far plane, which keeps depth tests exact to 1e-4
)
_SHADOW_REACH = 3.0  # scenery shades scenery within so many radii of the objects' bounding sphere


@dataclass(frozen=True)
class Layout:
    """Everything of B scenes with at most N = S + scenery instances, ready to be uploaded.

    Attributes:
        asset: Which of the assets followed by the scenery, -1 nothing, [B, N].
        instances: Float32 [B, N, INSTANCE_FLOATS]; the layer, INSTANCE_FLOATS - 2, is left 0.
        scenes: Float32 [B, SCENE_FLOATS].
    """

    asset: Int[np.ndarray, "batch instance"]
    instances: Float[np.ndarray, "batch instance 33"]
    scenes: Float[np.ndarray, "batch 24"]

    def part(self, which: slice) -> "Layout":
        """Some of the scenes."""
        return Layout(self.asset[which], self.instances[which], self.scenes[which])


class Arranger:
    """Makes Layouts of one world's scenes."""

    def __init__(self, world: World, shadow_size: int) -> None:
        everything = (*world.assets, *world.scenery)
        self._assets, self._scenery = len(world.assets), len(world.scenery)
        self._centre = np.array([a.centre for a in everything], np.float64).reshape(-1, 3)
        self._radius = np.array([a.radius for a in everything], np.float64)
        self._shadow_size = shadow_size
        self._reach = 1.0 if len(world.scenery) < 2 and all(map(_convex, world.scenery)) else _SHADOW_REACH

    def arrange(self, scene: Scene) -> Layout:
        """The scenes as arrays, the same for pictures of every size: all show the whole of the camera's.

        Raises:
            ValueError: If an asset is out of range, a number of a filled slot, the camera or the light is not
                finite, a scale or focal length not positive, or a rotation or the light's direction zero.
        """
        asset, position, turn, scale, tint = self._instances(scene)
        batch, count = asset.shape
        world_rows = np.concatenate([turn * scale[..., None, None], position[..., None]], -1)
        # Bounding spheres in the world; what is not there counts for nothing below.
        there = asset >= 0
        centre = position + scale[..., None] * np.einsum("bnij,bnj->bni", turn, self._centre[asset])
        radius = scale * self._radius[asset]
        clip_rows, eye = _projection(scene, centre, radius, there)
        clip_rows = np.matmul(clip_rows[:, None, :, :3], world_rows) + _last(clip_rows[:, None, :, 3])

        light = _unit("light.direction", _array("light.direction", scene.light.direction))
        shadow, texel = self._shadow(light, centre, radius, there)
        records = np.zeros((batch, count, INSTANCE_FLOATS), np.float32)
        records[..., :16] = clip_rows.reshape(batch, count, 16)
        records[..., 16:28] = world_rows.reshape(batch, count, 12)
        records[..., 28:31] = tint
        records[..., 32] = np.arange(count)
        block = np.concatenate(
            [
                light,
                _array("light.intensity", scene.light.intensity)[:, None],
                eye,
                _array("light.ambient", scene.light.ambient)[:, None],
                _array("background", scene.background),
                texel[:, None],
                shadow.reshape(batch, 12),
            ],
            axis=1,
        )
        return Layout(asset, records, block.astype(np.float32))

    def _instances(self, scene: Scene) -> tuple[np.ndarray, ...]:
        """Asset (-1: nothing), position, rotation, scale and tint of the slots, then of the scenery."""
        asset = scene.asset.detach().cpu().numpy()
        batch, slots = asset.shape
        if asset.size and (asset.min() < -1 or asset.max() >= self._assets):
            allowed = f"-1..{self._assets - 1}"
            raise ValueError(f"scene.asset must lie in {allowed}, got {asset.min()}..{asset.max()}")
        shape = (batch, slots + self._scenery)
        kinds = np.broadcast_to(np.arange(self._assets, self._assets + self._scenery), (batch, self._scenery))
        filled = asset >= 0
        position, turn, scale, tint = (
            np.zeros((*shape, 3)),
            np.zeros((*shape, 3, 3)),
            np.ones(shape),
            np.ones((*shape, 3)),
        )
        turn[:] = np.eye(3)
        position[:, :slots] = _array("translation", scene.translation, filled, 0.0)
        turn[:, :slots] = _matrices("rotation", _array("rotation", scene.rotation, filled, 0.5))
        scale[:, :slots] = _positive("scale", _array("scale", scene.scale, filled, 1.0))
        tint[:, :slots] = _array("colour", scene.colour, filled, 1.0)
        return np.concatenate([asset, kinds], 1), position, turn, scale, tint

    def _shadow(
        self, light: np.ndarray, centre: np.ndarray, radius: np.ndarray, there: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows of shadow_from_world [B, 3, 4] and the width of a texel [m], [B].

        The map looks along the light at the sphere around everything, or around the objects alone where these
        alone cast shadows. Its extent grows in steps and its origin is a whole number of texels, so that
        a small move of an object leaves the texels, and the other shadows, in place.
        """
        objects = there & (np.arange(there.shape[1]) < there.shape[1] - self._scenery)
        middle, extent = _sphere(centre, radius, there)
        near_middle, near_extent = _sphere(centre, radius, objects | (~objects.any(1, keepdims=True) & there))
        local = extent > self._reach * near_extent
        middle = np.where(local[:, None], near_middle, middle)
        extent = np.where(local, self._reach * near_extent, extent)
        extent = 2.0 ** (np.ceil(4.0 * np.log2(np.maximum(extent, 1e-6))) / 4.0)
        texel = 2.0 * extent / self._shadow_size

        up = np.where(np.abs(light[:, 1:2]) > 0.999, [[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]])
        column = np.cross(up, light)
        column /= np.linalg.norm(column, axis=1, keepdims=True)
        row = np.cross(light, column)
        matrix = np.zeros((len(light), 3, 4))
        for k, axis in enumerate((column, row)):
            origin = np.round((axis * middle).sum(1) / texel) * texel
            matrix[:, k, :3] = axis / (2.0 * extent[:, None])
            matrix[:, k, 3] = 0.5 - origin / (2.0 * extent)
        along = np.einsum("bni,bi->bn", centre, light)
        far = np.where(there, along - radius, np.inf).min(1, initial=np.inf)
        near = np.where(there, along + radius, -np.inf).max(1, initial=-np.inf)
        empty = ~there.any(1)
        far, near = np.where(empty, -1.0, far), np.where(empty, 1.0, near)
        margin = 0.01 * (near - far) + 4.0 * texel
        length = near - far + 2.0 * margin
        matrix[:, 2, :3] = -light / length[:, None]
        matrix[:, 2, 3] = (near + margin) / length
        return matrix, texel


def _convex(asset: Asset) -> bool:
    """True for a mesh that cannot shade itself: no vertex lies before the plane of a face."""
    corner = asset.vertices[asset.faces].astype(np.float64)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    vertices = np.unique(asset.vertices, axis=0)
    if len(normal) * len(vertices) > 10**7:
        return False  # large scenery is never convex, and this test grows with the square
    before = vertices @ normal.T - (corner[:, 0] * normal).sum(1)
    return bool(before.max(initial=0.0) <= 1e-4 * asset.radius)


def _projection(
    scene: Scene, centre: np.ndarray, radius: np.ndarray, there: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """clip_from_world [B, 4, 4], y down so that row 0 of the target is the picture's top; eyes [B, 3]."""
    camera = scene.camera
    focal = _positive("camera.focal", _array("camera.focal", camera.focal)) / [camera.width, camera.height]
    middle = _array("camera.centre", camera.centre) / [camera.width, camera.height]
    eye = _array("camera.translation", camera.translation)
    world_from_camera = _matrices("camera.rotation", _array("camera.rotation", camera.rotation))
    right, up, backward = (world_from_camera[:, :, k] for k in range(3))

    distance = -np.einsum("bni,bi->bn", centre - eye[:, None], backward)
    far = np.where(there, distance + radius, 0.0).max(1, initial=0.0)
    far = np.where(far > 0.0, far * 1.01, 1.0)
    near = np.where(there, distance - radius, np.inf).min(1, initial=np.inf)
    near = np.clip(near * 0.99, _NEAREST * far, 0.9 * far)

    rows = np.zeros((len(eye), 4, 3))
    rows[:, 0] = 2.0 * focal[:, :1] * right - (2.0 * middle[:, :1] - 1.0) * backward
    rows[:, 1] = -2.0 * focal[:, 1:] * up - (2.0 * middle[:, 1:] - 1.0) * backward
    rows[:, 2] = -((far + near) / (far - near))[:, None] * backward
    rows[:, 3] = -backward
    offset = -np.einsum("bij,bj->bi", rows, eye)
    offset[:, 2] -= 2.0 * far * near / (far - near)
    return np.concatenate([rows, offset[..., None]], -1), eye


def _sphere(centre: np.ndarray, radius: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sphere [B, 3], [B] around the spheres that are there; the unit sphere where none is."""
    far = np.where(there, radius, 0.0)[..., None]
    some = np.asarray(there.any(1))
    low = np.where(there[..., None], centre - far, np.inf).min(1, initial=np.inf)
    high = np.where(there[..., None], centre + far, -np.inf).max(1, initial=-np.inf)
    low, high = np.where(some[:, None], low, 0.0), np.where(some[:, None], high, 0.0)
    middle = (low + high) / 2.0
    reach = np.where(there, np.linalg.norm(centre - middle[:, None], axis=-1) + radius, 0.0)
    return middle, np.where(some, reach.max(1, initial=0.0), 1.0)


def _last(column: np.ndarray) -> np.ndarray:
    """Matrices [..., 4, 4] of zeros but for the last column."""
    return np.concatenate([np.zeros((*column.shape, 3)), column[..., None]], -1)


def _array(name: str, tensor: Tensor, filled: np.ndarray | None = None, blank: float = 0.0) -> np.ndarray:
    """The tensor in float64, checked to be finite; `blank` in slots not filled, which may hold anything."""
    values = tensor.detach().cpu().numpy().astype(np.float64)
    if filled is not None:
        values[~filled] = blank
    if not np.isfinite(values).all():
        where = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise ValueError(f"scene.{name} must be finite, got {values[where]} at {list(where)}")
    return values


def _positive(name: str, values: np.ndarray) -> np.ndarray:
    if not (values > 0.0).all():
        where = tuple(np.argwhere(~(values > 0.0))[0].tolist())
        raise ValueError(f"scene.{name} must be positive, got {values[where]:g} at {list(where)}")
    return values


def _unit(name: str, vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (length > 1e-6).all():
        where = np.argwhere(~(length[..., 0] > 1e-6))[0].tolist()
        raise ValueError(f"scene.{name} must not be zero, got {vectors[tuple(where)].tolist()} at {where}")
    return vectors / length


def _matrices(name: str, quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices of quaternions xyzw of any length but zero."""
    x, y, z, w = np.moveaxis(_unit(name, quaternions), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)
