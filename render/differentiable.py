"""differentiable(engine): a torch module whose pixels are the engine's and whose gradients are ours."""

import difflib
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from render.engine import Engine
from scenes.scene import Scene

STRATEGIES = ("manual",)
OPERATORS = ("edge",)


def differentiable(
    engine: Engine, strategy: str = "manual", *, operator: str = "edge", samples: int = 1
) -> torch.nn.Module:
    """Make an engine that gives no gradients differentiable.

    The forward pass is always the engine; the strategy supplies the backward pass.

    Args:
        engine: Any engine.
        strategy: "manual": hand-written operators on the engine's own pixels.
        operator: Of the manual strategy; "edge": contour integral and image advection for what moves, the
            visible surface's shading for colours, light and turning normals. Cast shadows are in the pixels
            but not in the gradients: they neither move nor darken with the light.
        samples: Pictures are drawn this many times larger and averaged in linear light. 2 halves the
            gradient's error for four times the work: for a refinement's last phase.

    Returns:
        A module: `module(scene, size=None)` gives the pictures [B, H, W, 3] of `engine.render`, with
        gradients to whichever of the scene's rotation, translation, scale, colour, camera, light and
        background require them. `size` (H, W) [px] counts pixels after averaging.

    Raises:
        ValueError: If there is no such strategy or operator (the message suggests the nearest name), or
            `samples` is below 1.
    """
    _known("strategy", strategy, STRATEGIES)
    _known("operator", operator, OPERATORS)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    return Manual(engine, samples=samples)


class Manual(torch.nn.Module):
    """The engine's pixels; the edge operator's gradients for motion, a shading model's for colours."""

    def __init__(self, engine: Engine, *, samples: int = 1) -> None:
        super().__init__()
        self.engine = engine
        self.samples = samples

    def forward(
        self, scene: Scene, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch height width 3"]:
        """Pictures of the scenes; see `differentiable`.

        Raises:
            ValueError, EngineError: As the engine does.
        """
        height, width = self.engine.size if size is None else size
        fine = (height * self.samples, width * self.samples)
        image = self.engine.render(scene.detach(), size=fine).rgb.to(scene.translation.device)
        if torch.is_grad_enabled():
            image = self._with_gradients(image, _unit(scene), fine)
        return image if self.samples == 1 else _average(image, self.samples)

    def _with_gradients(self, image: Tensor, scene: Scene, size: tuple[int, int]) -> Tensor:
        """The same image. What no gradient is asked of costs nothing."""
        # Warp takes a second to import, and `unrender --help` must not wait for it
        from render.edge import edge_gradient
        from render.geometry import assemble
        from render.raster import rasterize
        from render.shading import encode_srgb, shade

        camera, light = scene.camera, scene.light
        lens = (camera.rotation, camera.translation, camera.focal, camera.centre)
        moves = _any((scene.rotation, scene.translation, scene.scale, *lens))
        glows = (light.direction, light.intensity, light.ambient)
        lights = _any((scene.rotation, scene.colour, scene.background, *glows))
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


def _any(tensors: tuple[Tensor, ...]) -> bool:
    return any(t.requires_grad for t in tensors)


def _unit(scene: Scene) -> Scene:
    """The scene with quaternions and the light's direction of unit length, as engines see it."""
    camera = replace(scene.camera, rotation=normalize(scene.camera.rotation, dim=-1))
    light = replace(scene.light, direction=normalize(scene.light.direction, dim=-1))
    return replace(scene, rotation=normalize(scene.rotation, dim=-1), camera=camera, light=light)


def _average(image: Tensor, samples: int) -> Float[Tensor, "batch height width 3"]:
    """Means over squares of pixels, in linear light as the engines themselves average.

    The gradient is that of the mean of encoded values: an edge that crosses a whole pixel then changes it by
    its contrast, as it should. The curve's own slope at a pixel or two of an edge is far from that, most in
    the dark.
    """
    from render.shading import decode_srgb, encode_srgb

    batch, height, width, channels = image.shape
    blocks = image.view(batch, height // samples, samples, width // samples, samples, channels)
    slopes, values = blocks.mean((2, 4)), encode_srgb(decode_srgb(blocks.detach()).mean((2, 4)))
    return values + (slopes - slopes.detach())


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no {what} {name!r}, only {', '.join(names)}{hint}")
