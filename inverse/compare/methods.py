"""What is compared: strategies with their settings, and searches that need no gradients."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.compare.problems import Problems
from inverse.compare.race import Runner, descending
from inverse.compare.searches import evolving
from render.blackbox import asked
from render.differentiable import differentiable
from render.engine import Engine
from render.manual import SoftGradients
from render.score import ScoreGradients
from render.surrogate import LocalSurrogate

_MANY = 64  # pictures of which a smoothing strategy's sight is the mean

Sight = Callable[[torch.nn.Module, Problems, float], Float[Tensor, "row column 3"]]


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        name: For people.
        run: How it runs a race.
        make: The module that gives gradients, None where there is none.
        seen: The picture that its gradient is of, of one problem and for a loss blurred by some pixels.
        note: What readers of the table must know.
    """

    name: str
    run: Runner
    make: Callable[[Engine], torch.nn.Module] | None = None
    seen: Sight | None = None
    note: str = ""


def methods() -> list[Method]:
    """Everything that runs on this machine."""
    return [
        _gradients("manual, edge", lambda engine: differentiable(engine), _blurred),
        _gradients("manual, soft", lambda engine: differentiable(engine, operator="soft"), _operators),
        _gradients("manual, layers", lambda engine: differentiable(engine, operator="layers"), _operators),
        _gradients("score", lambda engine: differentiable(engine, "score"), _smoothed),
        Method("CMA-ES", evolving, note="no gradients; the best picture so far counts"),
    ]


def _gradients(
    name: str,
    make: Callable[[Engine], torch.nn.Module],
    seen: Sight,
    *,
    own_pictures: bool = False,
    note: str = "",
) -> Method:
    return Method(name, descending(make, own_pictures=own_pictures), make, seen, note)


def _own(module: torch.nn.Module, one: Problems, sigma: float) -> Tensor:
    """The module's own picture."""
    with torch.no_grad():
        image: Tensor = module(one.start, (one.picture.shape[1], one.picture.shape[2]))[0]
    return image


def _blurred(module: torch.nn.Module, one: Problems, sigma: float) -> Tensor:
    """The module's picture, blurred as the loss is."""
    from render.blur import gaussian_blur

    margin = math.ceil(3.0 * sigma)  # so that the border does not darken
    image = _own(module, one, sigma).permute(2, 0, 1)[None]
    wide = torch.nn.functional.pad(image, (margin,) * 4, mode="replicate")[0].permute(1, 2, 0)
    return gaussian_blur(wide[None].contiguous(), sigma)[0, margin:-margin, margin:-margin]


def _operators(module: torch.nn.Module, one: Problems, sigma: float) -> Tensor:
    """A soft operator's own picture, behind the engine's."""
    assert isinstance(module, SoftGradients)
    with torch.no_grad():
        return module.draw(one.start, (one.picture.shape[1], one.picture.shape[2]))[0]


def _smoothed(module: torch.nn.Module, one: Problems, sigma: float) -> Tensor:
    """The mean of pictures like those that the gradient is estimated from."""
    assert isinstance(module, ScoreGradients | LocalSurrogate)
    theta, box = asked(module.source, one.start, (one.picture.shape[1], one.picture.shape[2]))
    noise = torch.randn(1, _MANY, theta.shape[1], generator=torch.Generator().manual_seed(0))
    width = box.width * (box.high - box.low)
    return box.observe(theta[:, None] + width * noise * box.active[:, None]).value[0].mean(0)
