"""What is compared: strategies with their settings, and searches that need no gradients."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from inverse.compare.problems import Problems
from inverse.compare.race import Runner, descending
from inverse.compare.searches import evolving, playing
from render.blackbox import asked
from render.differentiable import differentiable
from render.engine import Engine
from render.manual import SoftGradients
from render.score import ScoreGradients, ScoreSettings
from render.surrogate import LocalSurrogate

_FEW = 16  # pictures of a gradient in races: more steps for the same budget
_MANY = 64  # pictures of which a smoothing strategy's sight is the mean

Maker = Callable[[Engine], torch.nn.Module]
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
    make: Maker | None = None
    seen: Sight | None = None
    note: str = ""


def methods() -> list[Method]:
    """Everything that runs on this machine, each with the settings that a user would begin with."""
    return [
        _gradients("manual, edge", partial(differentiable), _blurred),
        _gradients("manual, soft", partial(differentiable, operator="soft"), _operators),
        _gradients("manual, layers", partial(differentiable, operator="layers"), _operators),
        *_autodiff(),
        _gradients(
            "surrogate, local",
            partial(differentiable, strategy="surrogate", kind="local"),
            _smoothed,
            racing=partial(differentiable, strategy="surrogate", kind="local", samples=_FEW),
            note=f"in races a gradient has {_FEW} pictures in place of 64",
        ),
        _gradients(
            "score",
            partial(differentiable, strategy="score"),
            _smoothed,
            racing=partial(differentiable, strategy="score", settings=ScoreSettings(samples=_FEW)),
            note=f"in races a gradient has {_FEW} pictures in place of 64",
        ),
        *_without_gradients(),
    ]


def _gradients(
    name: str,
    make: Maker,
    seen: Sight,
    *,
    racing: Maker | None = None,
    own_pictures: bool = False,
    note: str = "",
) -> Method:
    return Method(name, descending(racing or make, own_pictures=own_pictures), make, seen, note)


def _autodiff() -> Iterator[Method]:
    for renderer in ("torch", "pytorch3d"):
        if renderer == "torch" or find_spec("pytorch3d"):
            make = partial(differentiable, strategy="autodiff", renderer=renderer)
            yield _gradients(
                f"autodiff, {renderer}", make, _own, own_pictures=True, note="races count its own pictures"
            )


def _without_gradients() -> Iterator[Method]:
    if find_spec("cma"):
        yield Method("CMA-ES", evolving, note="the best picture so far counts")
    if find_spec("stable_baselines3"):
        yield Method("PPO", playing, note="learns on the one picture; the best picture so far counts")


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
