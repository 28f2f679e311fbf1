"""differentiable(engine, strategy): a torch module that puts gradients behind an engine that gives none."""

import inspect
from typing import Any

import torch

from render.blackbox import Simulator
from render.checks import check_name, imported
from render.engine import Engine

# Imported when asked for: `unrender --help` must not wait for them.
_MAKERS = {
    "manual": "render.manual:manual",
    "autodiff": "render.autodiff:AutodiffGradients",
    "surrogate": "render.surrogate:surrogate",
    "score": "render.score:ScoreGradients",
}
STRATEGIES = tuple(_MAKERS)
_ASKING = ("surrogate", "score")  # they only ask and compare, so that they serve simulators too


def differentiable(engine: Engine | Simulator, strategy: str = "manual", **options: Any) -> torch.nn.Module:
    """Make an engine that gives no gradients differentiable.

    The forward pass is the engine, but for "autodiff"; the strategy supplies the backward pass.

    Args:
        engine: Any engine; for "surrogate" and "score" a `Simulator` too, a plain function of a vector.
        strategy: "manual": hand-written operators on the engine's pixels, `render.manual.manual`.

            "autodiff": soft rasterization in plain PyTorch or PyTorch3D; the picture is the soft one, the
            engine only gives world and size, `render.autodiff.AutodiffGradients`.

            "surrogate": a frozen network that imitates the engine, `render.surrogate.surrogate`.

            "score": the score-function estimator from perturbed pictures, `render.score.ScoreGradients`.

            "module:Class": a strategy of your own, a torch module made of the engine and the options.
        options: Of the strategy; the callable named above tells which there are.

    Returns:
        A module: `module(scene, size=None)` gives pictures [B, H, W, 3] as `engine.render`, on the scene's
        device, sRGB-encoded, with gradients to whichever of the scene's rotation, translation, scale, colour,
        camera, light and background require them ("surrogate" and "score": to those that the world has
        free). `size` (H, W) [px]; None: the engine's. For a simulator `module(theta)`, [B, P], gives its
        answers [B, ...].

    Raises:
        ValueError: If there is no such strategy or option (the message suggests the nearest name), an option
            is out of range, or a simulator is given to a strategy that differentiates pictures.
        EngineError: If a package that an option needs is missing.
    """
    check_strategy(strategy)
    if isinstance(engine, Simulator) and strategy in _MAKERS and strategy not in _ASKING:
        raise ValueError(
            f"the strategy {strategy!r} differentiates pictures of scenes, and a simulator draws none: "
            f"use {' or '.join(map(repr, _ASKING))}"
        )
    make = imported("strategy", _MAKERS.get(strategy, strategy))
    known = tuple(inspect.signature(make).parameters)[1:]
    for option in options:
        check_name(f"option of the strategy {strategy!r}", option, known)
    made: torch.nn.Module = make(engine, **options)
    return made


def check_strategy(name: str) -> None:
    """Raise ValueError, which says what would be right, for a name that `differentiable` does not take."""
    if ":" in name:
        imported("strategy", name)
    else:
        check_name("strategy", name, STRATEGIES)
