"""differentiable(engine): a torch module whose pixels are the engine's and whose gradients are ours."""

import difflib
import math

import torch

from render.engine import Engine
from render.manual import EdgeGradients, SoftGradients

STRATEGIES = ("manual",)
OPERATORS = ("edge", "soft", "layers")
PICTURES = ("engine", "operator")


def differentiable(
    engine: Engine,
    strategy: str = "manual",
    *,
    operator: str = "edge",
    samples: int = 1,
    picture: str = "engine",
    sigma: float = 1.0,
    gamma: float = 0.02,
) -> torch.nn.Module:
    """Make an engine that gives no gradients differentiable.

    The forward pass is always the engine; the strategy supplies the backward pass. Two operators have soft
    pictures of their own, which may be asked for in the engine's place.

    Args:
        engine: Any engine.
        strategy: "manual": hand-written operators.
        operator: Of the manual strategy. Cast shadows are in the engine's pixels but in no gradient: they
            neither move nor darken with the light.

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
            asked. Compare it with pictures as soft as it is.
        sigma: Of "soft" and "layers": their width [px of the picture that is drawn], positive: a smaller
            picture of the same scene is softer in the scene. "soft": distance from a face's border at which
            coverage is 0.27 outside; it makes small triangles larger. "layers": standard deviation of the
            blur, better 0.7 or more. Cost grows with its square for "soft", hardly for "layers".
        gamma: Of "soft" and "layers": softness in depth, a difference of inverse depth [1/m], positive: 0.02
            is 2 cm at a distance of 1 m, 18 cm at 3 m. Scale it with your scene's inverse depths: what is
            hidden ten times as deep feels next to nothing.

    Returns:
        A module: `module(scene, size=None)` gives the pictures [B, H, W, 3] of `engine.render`, or the
        operator's, on the scene's device, sRGB-encoded, with gradients to whichever of the scene's rotation,
        translation, scale, colour, camera, light and background require them. `size` (H, W) [px] counts
        pixels after averaging. float32; the operator's own picture of a float64 scene is float64.

    Raises:
        ValueError: If there is no such strategy, operator or picture (the message suggests the nearest name),
            `samples` is below 1, `sigma` or `gamma` is not positive and finite, or the operator "edge" is
            asked for a picture of its own, or samples are for a picture that the engine does not draw.
    """
    _known("strategy", strategy, STRATEGIES)
    _known("operator", operator, OPERATORS)
    _known("picture", picture, PICTURES)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    for name, value in (("sigma", sigma), ("gamma", gamma)):
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if operator == "edge":
        if picture != "engine":
            raise ValueError("the operator 'edge' has no picture of its own; 'soft' and 'layers' have")
        return EdgeGradients(engine, samples=samples)
    if picture == "operator" and samples != 1:
        raise ValueError(f"samples are of the engine's picture, not of the operator's: got {samples}")
    return SoftGradients(engine, operator, picture=picture, samples=samples, sigma=sigma, gamma=gamma)


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no {what} {name!r}, only {', '.join(names)}{hint}")
