"""The strategy "manual": modules that put hand-written gradients behind an engine's pixels."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from render.checks import check_name, check_positive
from render.engine import Engine
from scenes.scene import Scene

OPERATORS = ("edge", "soft", "layers")
PICTURES = ("engine", "operator")

# The operators are imported where they run: Warp takes a second, and `unrender --help` must not wait for it.


def manual(
    engine: Engine,
    *,
    operator: str = "edge",
    samples: int = 1,
    picture: str = "engine",
    sigma: float = 1.0,
    gamma: float = 0.02,
) -> torch.nn.Module:
    """The engine's pixels with the gradients of a hand-written operator; see `render.differentiable`.

    Two operators have soft pictures of their own, which may be asked for in the engine's place.

    Args:
        engine: Any engine.
        operator: Cast shadows are in the engine's pixels but in no gradient: they neither move nor darken
            with the light.

            "edge": contour integral and image advection on the engine's own pixels for what moves, the
            visible surface's shading for colours, light and turning normals. What is hidden feels nothing.

            "soft": soft rasterization of all triangles, `render.soft.soft_rasterize`; also what is hidden
            within about `gamma`, and what is `sigma` away from a pixel. Large faces let the background
            through where they meet, as each covers half of a pixel there.

            "layers": each object drawn alone, blurred and composed softly, `render.layers.soft_layers`: what
            is hidden by another object feels it, more the larger `gamma`; what an object hides of itself does
            not.

            Both soft operators see the surface's lit colours at the corners of faces only, and of textures
            the mean around each corner, see `render.lit.lit_colours`: a texture's pattern gives no gradient
            to poses, as it does with "edge". They blend sRGB-encoded colours.
        samples: Engine's pictures are drawn this many times larger and averaged in linear light. With "edge",
            2 halves the gradient's error for four times the work: for a refinement's last phase. The soft
            operators draw at the size that is asked for in any case.
        picture: Of "soft" and "layers". "engine": the engine's pixels forward, the operator's gradient
            backward (straight-through): that of another picture, so that a loss is not exactly least where it
            vanishes. "operator": the operator's own picture, of which the gradient is that; the engine is not
            asked. Compare it with pictures as soft as it is; of a float64 scene it is float64.
        sigma: Of "soft" and "layers": their width [px of the picture that is drawn], positive: a smaller
            picture of the same scene is softer in the scene. "soft": distance from a face's border at which
            coverage is 0.27 outside; it makes small triangles larger. "layers": standard deviation of the
            blur, better 0.7 or more. Cost grows with its square for "soft", hardly for "layers".
        gamma: Of "soft" and "layers": softness in depth, a difference of inverse depth [1/m], positive: 0.02
            is 2 cm at a distance of 1 m, 18 cm at 3 m. Scale it with your scene's inverse depths: what is
            hidden ten times as deep feels next to nothing.

    Raises:
        ValueError: If there is no such operator or picture, `samples` is below 1, `sigma` or `gamma` is not
            positive and finite, the operator "edge" is asked for a picture of its own, or samples are for a
            picture that the engine does not draw.
    """
    check_name("operator", operator, OPERATORS)
    check_name("picture", picture, PICTURES)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    check_positive(sigma=sigma, gamma=gamma)
    if operator == "edge":
        if picture != "engine":
            raise ValueError("the operator 'edge' has no picture of its own; 'soft' and 'layers' have")
        return EdgeGradients(engine, samples=samples)
    if picture == "operator" and samples != 1:
        raise ValueError(f"samples are of the engine's picture, not of the operator's: got {samples}")
    return SoftGradients(engine, operator, picture=picture, samples=samples, sigma=sigma, gamma=gamma)


class EdgeGradients(torch.nn.Module):
    """The engine's pixels; the edge operator's gradients for motion, a shading model's for colours."""

    def __init__(self, engine: Engine, *, samples: int) -> None:
        super().__init__()
        self.engine = engine
        self.samples = samples

    def forward(
        self, scene: Scene, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch height width 3"]:
        """Pictures of the scenes; see `render.differentiable`.

        Raises:
            ValueError, EngineError: As the engine does.
        """
        height, width = self.engine.size if size is None else size
        fine = (height * self.samples, width * self.samples)
        image = self.engine.render(scene.detach(), size=fine).rgb.to(scene.translation.device)
        if torch.is_grad_enabled():
            image = self._with_gradients(image, scene.unit(), fine)
        return _average(image, self.samples)

    def _with_gradients(self, image: Tensor, scene: Scene, size: tuple[int, int]) -> Tensor:
        """The same image. What no gradient is asked of costs nothing."""
        from render.edge import edge_gradient
        from render.geometry import assemble
        from render.raster import rasterize
        from render.shading import encode_srgb, shade

        moves = _any(_moving(scene))
        lights = _any((scene.rotation, *_shining(scene)))
        if not (moves or lights):
            return image
        geometry = assemble(self.engine.world, scene, size)
        seen = rasterize(geometry.vertices, geometry.triangles, image_size=size)
        # Highlights wander over a surface that moves, even where it does not turn
        if lights or bool((geometry.specular > 0).any()):
            model = encode_srgb(shade(geometry, seen, scene, self.engine.world).clamp(0.0, 1.0))
            image = image + (model - model.detach())  # the model's slopes, the engine's values
        if moves:
            image = edge_gradient(image, geometry.vertices, geometry.triangles, raster=seen, antialiased=True)
        return image


class SoftGradients(torch.nn.Module):
    """A soft operator's gradients, behind the engine's pixels or behind its own."""

    def __init__(
        self, engine: Engine, operator: str, *, picture: str, samples: int, sigma: float, gamma: float
    ) -> None:
        super().__init__()
        self.engine = engine
        self.operator = operator
        self.picture = picture
        self.samples = samples
        self.sigma = sigma
        self.gamma = gamma

    def forward(
        self, scene: Scene, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch height width 3"]:
        """Pictures of the scenes; see `render.differentiable`.

        Raises:
            ValueError, EngineError: As the engine does; a ValueError too for an asset's index out of range.
        """
        height, width = size = self.engine.size if size is None else size
        if self.picture == "operator":
            return self.draw(scene, size)
        fine = (height * self.samples, width * self.samples)
        image = _average(self.engine.render(scene.detach(), size=fine).rgb, self.samples)
        image = image.to(scene.translation.device)
        if torch.is_grad_enabled() and _any((*_moving(scene), *_shining(scene))):
            drawn = self.draw(scene, size).to(image.dtype)
            image = image + (drawn - drawn.detach())  # the operator's slopes, the engine's values
        return image

    def draw(self, scene: Scene, size: tuple[int, int]) -> Float[Tensor, "batch height width 3"]:
        """The operator's own picture, of the scene's type."""
        from render.geometry import assemble
        from render.layers import soft_layers
        from render.lit import lit_colours
        from render.shading import encode_srgb
        from render.soft import soft_rasterize

        scene, (height, width) = scene.unit(), size
        geometry = assemble(self.engine.world, scene, size)
        colours = lit_colours(geometry, scene, self.engine.world)
        vertices = geometry.vertices
        background = encode_srgb(scene.background.clamp(0.0, 1.0)).to(vertices.dtype)
        if self.operator == "soft":
            return soft_rasterize(
                vertices,
                geometry.triangles,
                colours,
                image_size=size,
                sigma=self.sigma,
                gamma=self.gamma,
                background=background,
            )[0]
        # Layers fade at the border of what is drawn: draw more, and cut that off
        margin = math.ceil(3.0 * self.sigma)
        image, _ = soft_layers(
            vertices + vertices.new_tensor([margin, margin, 0.0]),
            geometry.triangles,
            colours,
            image_size=(height + 2 * margin, width + 2 * margin),
            sigma=self.sigma,
            gamma=self.gamma,
            background=background,
        )
        return image[:, margin : margin + height, margin : margin + width]


def _any(tensors: tuple[Tensor, ...]) -> bool:
    return any(t.requires_grad for t in tensors)


def _moving(scene: Scene) -> tuple[Tensor, ...]:
    """What moves points on the screen."""
    camera = scene.camera
    lens = (camera.rotation, camera.translation, camera.focal, camera.centre)
    return scene.rotation, scene.translation, scene.scale, *lens


def _shining(scene: Scene) -> tuple[Tensor, ...]:
    """What changes colours where nothing moves."""
    light = scene.light
    return scene.colour, scene.background, light.direction, light.intensity, light.ambient


def _average(image: Tensor, samples: int) -> Float[Tensor, "batch height width 3"]:
    """Means over squares of pixels, in linear light as the engines themselves average.

    The gradient is that of the mean of encoded values: an edge that crosses a whole pixel then changes it by
    its contrast, as it should. The curve's own slope at a pixel or two of an edge is far from that, most in
    the dark.
    """
    if samples == 1:
        return image

    from render.shading import decode_srgb, encode_srgb

    batch, height, width, channels = image.shape
    blocks = image.view(batch, height // samples, samples, width // samples, samples, channels)
    slopes, values = blocks.mean((2, 4)), encode_srgb(decode_srgb(blocks.detach()).mean((2, 4)))
    return values + (slopes - slopes.detach())
