"""Sketcher: draws one object per window, thousands of windows at a time, and compares them with a picture."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from inverse.sketch import kernels as k
from render import launch
from render.compilation import load
from scenes import Asset, World

_POWER = 1.0 / 2.2
_COARSE_FACES = 1500
_WORTH_THREADS = 64  # sketches or pixels; below, threads cost more than they save


@dataclass(frozen=True)
class View:
    """The part of a picture that sketches are drawn into: pinhole intrinsics of a grid of pixels."""

    focal: tuple[float, float]  # [px]
    centre: tuple[float, float]  # [px]
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Sketch:
    """N drawn windows.

    Attributes:
        inverse_depth: [N, W, W] 1/m, 0 where nothing is.
        normal: In camera axes, float16 [N, W, W, 3]; undefined where nothing is.
        albedo: Encoded as a power 1 / 2.2 of linear light, float16 [N, W, W, 3]; undefined where nothing is.
        origin: Top-left pixel (x, y) of each window, int32 [N, 2].
        asset: int32 [N].
    """

    inverse_depth: Float[Tensor, "sketch row column"]
    normal: Float[Tensor, "sketch row column 3"]
    albedo: Float[Tensor, "sketch row column 3"]
    origin: Int[Tensor, "sketch 2"]
    asset: Int[Tensor, "sketch"]


@dataclass(frozen=True, eq=False)
class Footprints:
    """Many sketches, each kept as the list of pixels it covers; P pixels in all."""

    starts: Int[Tensor, "sketch+1"]
    pixel: Int[Tensor, "covered"]
    inverse_depth: Float[Tensor, "covered"]
    normal: Float[Tensor, "covered 3"]
    albedo: Float[Tensor, "covered 3"]
    tinted: Int[Tensor, "sketch"]

    def __len__(self) -> int:
        """Number of sketches."""
        return len(self.starts) - 1


@dataclass(frozen=True, eq=False)
class Lamp:
    """The light in camera axes, linear: direction [3], intensity, ambient."""

    direction: Float[Tensor, "3"]
    intensity: float
    ambient: float

    @property
    def vector(self) -> Any:
        """(direction, intensity) as Warp wants it."""
        return wp.vec4(*[float(v) for v in self.direction], float(self.intensity))

    @property
    def dark(self) -> float:
        """Encoded brightness of a white surface in shadow."""
        return self.ambient**_POWER


class Sketcher:
    """The assets of a world, ready to be sketched on the CPU. Every call is deterministic.

    Args:
        world: Whose assets.
        exposed: False where the light's strength is unknown: then assets of known colour get a tint as well,
            which stands for exposure.
    """

    def __init__(self, world: World, *, exposed: bool = True) -> None:
        load(k.__name__, "cpu")
        fine = [_arrays(a) for a in world.assets]
        coarse = [
            _clustered(a) if len(a.faces) > _COARSE_FACES else arrays
            for a, arrays in zip(world.assets, fine, strict=True)
        ]
        self._meshes = {True: _upload(coarse, world.assets), False: _upload(fine, world.assets)}
        self._texels = {side: _textures(world.assets, side) for side in (32, 64)}
        self.tinted = torch.tensor([a.colour_free or not exposed for a in world.assets], dtype=torch.int32)
        bounds = torch.tensor([[c.low, c.high] for c in world.colour]).clamp_min(0.0) ** _POWER
        self.tint_low, self.tint_high = wp.vec3(*bounds[:, 0].tolist()), wp.vec3(*bounds[:, 1].tolist())

    def draw(
        self,
        asset: Int[Tensor, "sketch"],
        linear: Float[Tensor, "sketch 3 3"],
        translation: Float[Tensor, "sketch 3"],
        view: View,
        *,
        window: int,
        origin: Int[Tensor, "sketch 2"] | None = None,
        coarse: bool = False,
    ) -> Sketch:
        """Draw N objects, each alone.

        Args:
            asset: Index into the world's assets.
            linear: camera_from_object, scale included.
            translation: Object's origin in camera axes [m].
            view: What is drawn.
            window: Side of the windows [px].
            origin: Their top-left pixels; None puts each round its object.
            coarse: Draw simplified meshes.
        """
        count = len(asset)
        mesh = self._meshes[coarse]
        texels = self._texels[32 if window <= 24 else 64]
        asset = asset.to(torch.int32).contiguous()
        place = origin is None
        sketch = Sketch(
            torch.empty(count, window, window),
            torch.empty(count, window, window, 3, dtype=torch.float16),
            torch.empty(count, window, window, 3, dtype=torch.float16),
            torch.empty(count, 2, dtype=torch.int32)
            if origin is None
            else origin.to(torch.int32).contiguous(),
            asset,
        )
        linear, translation = linear.float().contiguous(), translation.float().contiguous()
        vertices_most = int(mesh["vertex_counts"][asset.unique().long()].max()) if count else 1

        def part(a: int, b: int) -> None:
            chunk = max(1, min(b - a, 2_000_000 // max(vertices_most, window * window)))
            screen = torch.empty(chunk, vertices_most, 3)
            face = torch.empty(chunk, window, window, dtype=torch.int32)
            for i in range(a, b, chunk):
                j = min(b, i + chunk)
                wp.launch(
                    k.draw,
                    dim=j - i,
                    inputs=[
                        _view(asset[i:j]),
                        _view(linear[i:j], wp.mat33),
                        _view(translation[i:j], wp.vec3),
                        wp.vec2(*view.focal),
                        wp.vec2(*view.centre),
                        view.height,
                        view.width,
                        window,
                        int(place),
                        *mesh["arrays"],
                        texels,
                        _view(screen, wp.vec3),
                        _view(face),
                        _view(sketch.origin[i:j], wp.vec2i),
                    ],
                    outputs=[
                        _view(sketch.inverse_depth[i:j]),
                        _view(sketch.normal[i:j], wp.vec3h),
                        _view(sketch.albedo[i:j], wp.vec3h),
                    ],
                    device="cpu",
                )

        _parallel(part, count)
        return sketch

    def footprints(self, sketch: Sketch, view: View) -> Footprints:
        """The pixels that sketches cover, without the empty rest of their windows."""
        n, i, j = (sketch.inverse_depth > 0).nonzero(as_tuple=True)
        x, y = sketch.origin[n, 0] + j, sketch.origin[n, 1] + i
        counts = torch.bincount(n, minlength=len(sketch.asset))
        starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
        return Footprints(
            starts.int(),
            (y * view.width + x).int().contiguous(),
            sketch.inverse_depth[n, i, j].contiguous(),
            sketch.normal[n, i, j].contiguous(),
            sketch.albedo[n, i, j].contiguous(),
            self.tinted[sketch.asset.long()].contiguous(),
        )

    def shade(self, footprints: Footprints, lamp: Lamp) -> Float[Tensor, "covered 3"]:
        """Encoded colours of all footprints under a light, white tint, float16."""
        colour = torch.empty_like(footprints.albedo)

        def part(a: int, b: int) -> None:
            wp.launch(
                k.shade,
                dim=b - a,
                inputs=[
                    _view(footprints.normal[a:b], wp.vec3h),
                    _view(footprints.albedo[a:b], wp.vec3h),
                    lamp.vector,
                    float(lamp.ambient),
                ],
                outputs=[_view(colour[a:b], wp.vec3h)],
                device="cpu",
            )

        _parallel(part, len(colour))
        return colour

    def score(
        self,
        footprints: Footprints,
        colour: Float[Tensor, "covered 3"],
        chosen: Int[Tensor, "candidate"] | None,
        target: "Target",
        rest: "Rest",
    ) -> Float[Tensor, "candidate"]:
        """Change of the number of wrong pixels when each sketch is laid over the rest; negative is better.

        `colour` is of all footprints under the lamp, see `shade`; what lies in the rest's shadow is darker.
        """
        if chosen is None:
            chosen = torch.arange(len(footprints), dtype=torch.int32)
        chosen = chosen.to(torch.int32).contiguous()
        change, shown = torch.empty(len(chosen)), torch.empty_like(colour)

        def part(a: int, b: int) -> None:
            wp.launch(
                k.score,
                dim=b - a,
                inputs=[
                    _view(chosen[a:b]),
                    _view(footprints.starts),
                    _view(footprints.pixel),
                    _view(footprints.inverse_depth),
                    _view(footprints.albedo, wp.vec3h),
                    _view(colour, wp.vec3h),
                    _view(footprints.tinted),
                    self.tint_low,
                    self.tint_high,
                    _view(target.image.reshape(-1, 3), wp.vec3),
                    _view(target.mask.reshape(-1)),
                    _view(rest.image[0].reshape(-1, 3), wp.vec3),
                    _view(rest.inverse_depth[0].reshape(-1)),
                    target.image.shape[1],
                    rest.shadow.struct,
                    target.tau**2,
                    target.mask_weight,
                    _view(shown, wp.vec3h),
                ],
                outputs=[_view(change[a:b])],
                device="cpu",
            )

        _parallel(part, len(chosen))
        return change

    def residual(
        self,
        sketch: Sketch,
        rest_index: Int[Tensor, "sketch"],
        lamp: Lamp,
        target: "Target",
        rest: "Rest",
        *,
        block: int,
    ) -> tuple[Float[Tensor, "sketch row column 4"], Float[Tensor, "sketch 3"]]:
        """Drawn minus target (rgb, then coverage minus mask), means of block x block pixels; the tints."""
        count, window = sketch.inverse_depth.shape[:2]
        out = torch.empty(count, window // block, window // block, 4)
        tint = torch.empty(count, 3)
        scratch = torch.empty_like(sketch.albedo)
        tinted = self.tinted[sketch.asset.long()].contiguous()
        rest_index = rest_index.to(torch.int32).contiguous()

        def part(a: int, b: int) -> None:
            wp.launch(
                k.residual,
                dim=b - a,
                inputs=[
                    _view(sketch.inverse_depth[a:b]),
                    _view(sketch.normal[a:b], wp.vec3h),
                    _view(sketch.albedo[a:b], wp.vec3h),
                    _view(sketch.origin[a:b], wp.vec2i),
                    _view(rest_index[a:b]),
                    _view(tinted[a:b]),
                    self.tint_low,
                    self.tint_high,
                    lamp.vector,
                    float(lamp.ambient),
                    _view(target.image, wp.vec3),
                    _view(target.mask),
                    _view(rest.image, wp.vec3),
                    _view(rest.inverse_depth),
                    rest.shadow.struct,
                    block,
                    target.tau**2,
                    _view(scratch[a:b], wp.vec3h),
                ],
                outputs=[_view(tint[a:b], wp.vec3), _view(out[a:b], wp.vec4)],
                device="cpu",
            )

        _parallel(part, count)
        return out, tint


@dataclass(frozen=True, eq=False)
class Target:
    """The picture at the size that sketches are compared at.

    Attributes:
        image: Encoded rgb [H, W, 3].
        mask: Share of each pixel that objects cover, [H, W]; zeros where unknown.
        mask_weight: Weight of the mask's squared error against rho; 0 where the mask is unknown.
        tau: Length of a colour difference that counts as half a wrong pixel.
    """

    image: Float[Tensor, "height width 3"]
    mask: Float[Tensor, "height width"]
    mask_weight: float
    tau: float


@dataclass(frozen=True, eq=False)
class Shadow:
    """What objects throw on others behind them in the light: a shadow map (Williams 1978).

    What a pixel (x, y) shows at an inverse depth d lies at (a / c, b / c) of the map, where (a, b, c) =
    `matrix` (x, y, 1) + d `offset`, at an inverse depth d / c from the lamp.

    Attributes:
        inverse_depth: Of what the lamp sees [1/m], 0 where that is nothing, [S, S].
        matrix: [3, 3].
        offset: [3].
        least: Ratio of inverse depths from which on a thing lies behind another.
        dark: Encoded brightness of a white surface in it.
    """

    inverse_depth: Float[Tensor, "row column"]
    matrix: Float[Tensor, "3 3"]
    offset: Float[Tensor, "3"]
    least: float = 1.0
    dark: float = 1.0

    @staticmethod
    def none() -> "Shadow":
        """Of no object."""
        return Shadow(torch.zeros(1, 1), torch.zeros(3, 3), torch.zeros(3))

    @property
    def struct(self) -> Any:
        """As the kernels want it."""
        struct = k.Shadow()
        struct.inverse_depth = _view(self.inverse_depth)
        struct.matrix = wp.mat33(*self.matrix.flatten().tolist())
        struct.offset = wp.vec3(*self.offset.tolist())
        struct.least, struct.dark = self.least, self.dark
        return struct


@dataclass(frozen=True, eq=False)
class Rest:
    """M explanations of the picture without the object in question.

    Attributes:
        image: Encoded rgb [M, H, W, 3].
        inverse_depth: Of its objects and of scenery that can hide one, 0 where nothing is, [M, H, W].
        shadow: Of the objects of all of them.
    """

    image: Float[Tensor, "rest height width 3"]
    inverse_depth: Float[Tensor, "rest height width"]
    shadow: Shadow = field(default_factory=Shadow.none)


def _view(tensor: Tensor, dtype: Any = None) -> Any:
    return launch.view(tensor.contiguous(), dtype)


def _parallel(run: Callable[[int, int], None], count: int) -> None:
    """Run run(a, b) over equal parts of range(count), one per thread: Warp runs a CPU launch on one."""
    threads = 1 if count < _WORTH_THREADS else launch.host_threads()
    if count:
        launch.in_threads(threads, lambda t: run(*launch.part(t, threads, count)))


def _arrays(asset: Asset) -> tuple[np.ndarray, ...]:
    uv = np.zeros((len(asset.vertices), 2), np.float32) if asset.uv is None else asset.uv
    return asset.vertices, asset.normals, asset.colours, uv, asset.faces


def _clustered(asset: Asset) -> tuple[np.ndarray, ...]:
    """A simpler mesh: vertices in one cell of a grid become their mean (Rossignac and Borrel 1993)."""
    cell = np.floor((asset.vertices - asset.centre) / (asset.radius / 10.0)).astype(np.int64)
    facing = np.argmax(np.abs(asset.normals), 1) * 2 + (
        np.take_along_axis(asset.normals, np.argmax(np.abs(asset.normals), 1)[:, None], 1)[:, 0] > 0
    )
    _, index = np.unique(np.column_stack([cell, facing]), axis=0, return_inverse=True)
    index = index.reshape(-1)
    count = np.bincount(index)[:, None]

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.zeros((len(count), values.shape[1]))
        np.add.at(total, index, values)
        return (total / count).astype(np.float32)

    vertices, normals, colours, uv, faces = _arrays(asset)
    faces = index[faces].astype(np.int32)
    keep = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return mean(vertices), mean(normals), mean(colours), mean(uv), faces[keep]


def _upload(meshes: list[tuple[np.ndarray, ...]], assets: tuple[Asset, ...]) -> dict[str, Any]:
    spans, vertex, face, texture = [], 0, 0, 0
    for mesh, asset in zip(meshes, assets, strict=True):
        textured = texture if asset.texture is not None else -1
        spans.append((vertex, len(mesh[0]), face, len(mesh[4]), textured, int(asset.closed)))
        vertex, face, texture = (
            vertex + len(mesh[0]),
            face + len(mesh[4]),
            texture + (asset.texture is not None),
        )
    joined = [np.concatenate([m[i] for m in meshes]) for i in range(5)]
    types = (wp.vec3, wp.vec3, wp.vec3, wp.vec2, wp.vec3i)
    joined[2] = np.clip(joined[2], 0.0, 1.0) ** _POWER
    arrays: list[Any] = [wp.array(a, dtype=t, device="cpu") for a, t in zip(joined, types, strict=True)]
    return {
        "arrays": [*arrays, wp.array(np.array(spans, np.int32), dtype=wp.int32, device="cpu")],
        "vertex_counts": torch.tensor([len(m[0]) for m in meshes]),
    }


def _textures(assets: tuple[Asset, ...], side: int) -> Any:
    """All textures at one small size, averaged in linear light."""
    stack = []
    for asset in assets:
        if asset.texture is not None:
            encoded = torch.from_numpy(asset.texture.astype(np.float32) / 255.0)
            linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
            small = torch.nn.functional.adaptive_avg_pool2d(linear.permute(2, 0, 1), side)
            stack.append(small.permute(1, 2, 0) ** _POWER)
    texels = torch.stack(stack) if stack else torch.ones(1, side, side, 3)
    return wp.array(texels.numpy(), dtype=wp.vec3, device="cpu")
