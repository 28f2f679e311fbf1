"""A module that draws scenes softly, differentiated by autograd."""

from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from render.attributes import Attributes
from render.checks import check_name, check_positive
from render.engine import Engine
from render.geometry import Geometry
from scenes.scene import Camera, Light, Scene

RENDERERS = ("torch", "pytorch3d")

T = TypeVar("T", Scene, Camera, Light)

_REACH = 9.2**0.5  # faces end where coverage is 1e-4, as those of the operator "soft" do
_FAR = 1e9  # [m] a number beyond says nothing


class Renderer(Protocol):
    """Draws lit triangles softly."""

    def __call__(
        self,
        geometry: Geometry,
        colours: Attributes,
        camera: Camera,
        *,
        background: Float[Tensor, "batch channel"],
        sigma: float,
        gamma: float,
        reach: float,
    ) -> Float[Tensor, "batch height width channel"]:
        """Pictures of the geometry's size; colours of corners and background are sRGB-encoded."""
        ...


class AutodiffGradients(torch.nn.Module):
    """Soft pictures, with the gradients that automatic differentiation gives of them.

    The picture is the soft one in the forward pass too: the engine is not asked, it gives world and size.
    Compare it with pictures as soft as it is.

    With "torch" it is the picture of the manual strategy's operator "soft" with `picture="operator"`: the
    same formula, lit colours at the corners of faces, and end of faces at 3 sigma. What differs is who found
    the derivatives, PyTorch, and the price. Gradients of gradients can be had, and float64.

    Objects, cameras and lights with numbers that are not finite are left out: such an object is not drawn,
    nor anything before such a camera; such a light or background is black. Their gradients are zero.

    Cost of a picture with the gradient of all poses [CPU ms, median over 12 random scenes; greatest peak of
    memory, MB], on one thread, sigma 1 px, float32:

    ===========  ============  =============  ===============  ================
    renderer     cube, 64 px   cube, 128 px   tabletop, 64 px  tabletop, 128 px
    ===========  ============  =============  ===============  ================
    "torch"      20,   1       30,    6       80,     37       140,    60
    "pytorch3d"  200,  6                      2000,  145       4500,  690
    ===========  ============  =============  ===============  ================

    The operator "soft" takes a half of "torch" for the cube, a fourth to a sixth for the tabletop.
    """

    def __init__(
        self, engine: Engine, *, renderer: str = "torch", sigma: float = 1.0, gamma: float = 0.02
    ) -> None:
        """Choose how to draw.

        Args:
            engine: Any engine.
            renderer: "torch": plain PyTorch, `render.soft.soft_rasterize_reference`. "pytorch3d": its
                cameras, rasterizer and blending, where it is installed, see `render.autodiff.pytorch3d`.
            sigma: Softness of borders [px of the picture], positive; see `render.soft.soft_rasterize`.
            gamma: Softness in depth, a difference of inverse depth [1/m], positive.

        Raises:
            ValueError: If there is no such renderer, or `sigma` or `gamma` is not positive and finite.
            EngineError: If the renderer is "pytorch3d" and PyTorch3D cannot be imported.
        """
        check_name("renderer", renderer, RENDERERS)
        check_positive(sigma=sigma, gamma=gamma)
        super().__init__()
        self.engine = engine
        self.renderer = renderer
        self.sigma = sigma
        self.gamma = gamma
        self._draw: Renderer = _with_torch
        if renderer == "pytorch3d":
            from render.autodiff import pytorch3d

            pytorch3d.require()
            self._draw = pytorch3d.draw

    def forward(
        self, scene: Scene, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch height width 3"]:
        """Pictures of the scenes; see `render.differentiable`.

        Raises:
            ValueError: If an asset's index is out of range or the size is not positive.
        """
        from render.geometry import assemble
        from render.lit import lit_colours
        from render.shading import encode_srgb

        world = self.engine.world
        scene = _finite(scene).unit()
        geometry = assemble(world, scene, self.engine.size if size is None else size)
        return self._draw(
            geometry,
            lit_colours(geometry, scene, world),
            scene.camera,
            background=encode_srgb(scene.background.clamp(0.0, 1.0)).to(geometry.vertices.dtype),
            sigma=self.sigma,
            gamma=self.gamma,
            reach=_REACH,
        )


def _with_torch(
    geometry: Geometry,
    colours: Attributes,
    camera: Camera,
    *,
    background: Tensor,
    sigma: float,
    gamma: float,
    reach: float,
) -> Float[Tensor, "batch height width channel"]:
    """A `Renderer`; the geometry has been seen by the camera already."""
    from render.soft import soft_rasterize_reference

    return soft_rasterize_reference(
        geometry.vertices,
        geometry.triangles,
        colours,
        image_size=geometry.size,
        sigma=sigma,
        gamma=gamma,
        background=background,
        reach=reach,
    )[0]


def _finite(scene: Scene) -> Scene:
    """The scene with zeros for objects, cameras, lights and backgrounds that are not finite.

    An object of size 0 and the picture of a camera whose rotation is 0 show nothing.
    """
    camera = _or_zeros(scene.camera, ("rotation", "translation", "focal", "centre"), 1)
    light = _or_zeros(scene.light, ("direction", "intensity", "ambient"), 1)
    scene = _or_zeros(scene, ("rotation", "translation", "scale", "colour"), 2)
    return replace(_or_zeros(scene, ("background",), 1), camera=camera, light=light)


def _or_zeros(part: T, names: tuple[str, ...], axes: int) -> T:
    """A part with zeros for each item that is not finite in one of the tensors named.

    Items lie along so many axes. `where` keeps their zeros from the gradients.
    """
    tensors = {name: getattr(part, name) for name in names}
    numbers = [t if t.ndim > axes else t[..., None] for t in tensors.values()]
    sound = torch.stack([(n.detach().abs() < _FAR).all(-1) for n in numbers]).all(0)
    kept: dict[str, Any] = {
        name: torch.where(sound if t.ndim == axes else sound[..., None], t, 0.0)
        for name, t in tensors.items()
    }
    return replace(part, **kept)
